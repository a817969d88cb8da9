//! The address book: where peers may be reached, who says so, and how dialling them has gone.
//!
//! Anybody can fill it with words, so words are weighed by who said them ([`Source`]). What we know ourselves comes
//! before a peer's own word, and that before hearsay: in what is dialled first, and in what stays when there is no
//! more place. Every kind of word has a quota of its own below the whole, so that a flood of one displaces no other.

mod entry;
mod peer;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use self::{entry::Entry, peer::Peer};
use super::file::SavedPeer;
use crate::{
    discovery::scope::{self, Networks, Prefix},
    limits,
};

/// Who says that a peer has an address, the least credible first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A third party, in answer to a lookup.
    Dht,
    /// Somebody in the LAN.
    Mdns,
    /// The peer itself, signed, through the gossip of a room that we are in.
    Member,
    /// The peer itself, over a connection of its own.
    Identify,
    /// We, in an earlier run.
    Saved,
    /// We: it was there when we dialled.
    Dialled,
    /// The operator. Such an address may be anywhere.
    Operator,
}

/// The addresses of peers, and when they may be dialled. See the module.
///
/// Addresses go in with or without `/p2p/PEER` at their end, are kept without, and come out with it, as both the
/// swarm (which takes either) and people like them.
#[derive(Debug)]
pub struct Book {
    me: PeerId,
    networks: Networks,
    /// At most [`limits::BOOK_PEERS`].
    peers: BTreeMap<PeerId, Peer>,
    generation: u32,
}

/// How much is in the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub peers: usize,
    pub addresses: usize,
    /// Peers that we reached at some time, in this run or an earlier one.
    pub reached: usize,
}

impl Book {
    /// An empty book of the node `me`, which has no networks yet: only public addresses may be dialled.
    pub fn new(me: PeerId) -> Self {
        Self { me, networks: Networks::default(), peers: BTreeMap::new(), generation: 0 }
    }

    /// The networks of this machine are these now. Addresses that were told are judged by them when they come in
    /// and again when they are to be dialled.
    pub fn set_networks(&mut self, networks: Networks) {
        self.networks = networks;
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Somebody says that `peer` has these addresses. What is no address for us, or not of this peer, is left out.
    ///
    /// With [`Source::Identify`] and [`Source::Member`] they are all that the peer has: what it said there before,
    /// and does not any more, is forgotten, unless others say it. [`Source::Member`] says besides that it is in a
    /// room with us ([`Self::note_room_member`]). [`Source::Dialled`] is for [`Self::connected`] to say.
    pub fn learn(
        &mut self,
        peer: PeerId,
        addrs: impl IntoIterator<Item = Multiaddr>,
        source: Source,
        now: Instant,
    ) {
        if peer == self.me {
            return;
        }
        // A long list is cut: looking at it costs us time, and sending it costs nothing.
        let addrs = addrs.into_iter().take(4 * limits::BOOK_ADDRESSES);
        let mut addrs: Vec<_> = addrs.filter_map(|addr| self.admit(peer, addr, source)).collect();
        addrs.truncate(limits::BOOK_ADDRESSES);
        let before = self.worth_saving(&peer);
        let is_own_word = matches!(source, Source::Identify | Source::Member);
        if is_own_word && let Some(known) = self.peers.get_mut(&peer) {
            known.retract(source, |addr| !addrs.contains(addr));
        }
        if addrs.is_empty() {
            self.drop_if_empty(&peer);
        } else {
            let known = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
            known.is_member |= source == Source::Member;
            for addr in addrs {
                known.learn(addr, source, now);
            }
            self.shrink(peer);
        }
        self.note_change(&peer, before);
    }

    /// It is not said any more that `peer` has `addr`, as when mDNS bids goodbye. `None`: any address.
    pub fn forget_source(&mut self, peer: PeerId, addr: Option<&Multiaddr>, source: Source) {
        let before = self.worth_saving(&peer);
        let addr = addr.map(|addr| without_peer(addr.clone(), peer));
        if let Some(known) = self.peers.get_mut(&peer) {
            known.retract(source, |known| addr.as_ref().is_none_or(|addr| addr == known));
        }
        self.drop_if_empty(&peer);
        self.note_change(&peer, before);
    }

    /// The addresses to dial now, best first, at most [`limits::DIAL_ADDRESSES`], each with `/p2p/PEER` at its
    /// end. `None` while it is connected, being dialled, backing off, unknown, or has none that may be dialled.
    ///
    /// After dialling say [`Self::dialing`], and then [`Self::connected`] or [`Self::failed`].
    pub fn due(&self, peer: PeerId, now: Instant) -> Option<Vec<Multiaddr>> {
        self.next_due(peer).filter(|at| *at <= now)?;
        let with_peer = |entry: &Entry| entry.addr.clone().with_p2p(peer).ok();
        let best = self.peers.get(&peer)?.best(&self.networks);
        Some(best.into_iter().filter_map(with_peer).take(limits::DIAL_ADDRESSES).collect())
    }

    /// All addresses of `peer` that may be dialled, best first, each with `/p2p/PEER` at its end, whatever its state.
    pub fn dialable(&self, peer: PeerId) -> Vec<Multiaddr> {
        let with_peer = |entry: &Entry| entry.addr.clone().with_p2p(peer).ok();
        let best = self.peers.get(&peer).map(|known| known.best(&self.networks)).unwrap_or_default();
        best.into_iter().filter_map(with_peer).collect()
    }

    /// When `peer` may be dialled: a time that has passed if it may be now. `None` as with [`Self::due`], but for
    /// backing off.
    pub fn next_due(&self, peer: PeerId) -> Option<Instant> {
        self.peers.get(&peer)?.next_due(&self.networks)
    }

    /// A dial of `peer` is under way, whoever wanted it.
    pub fn dialing(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.dialing();
        }
    }

    /// There is a connection to `peer`. `dialled`: the address where we reached it; `None` if it reached us.
    ///
    /// To be said of every connection, whoever wanted it.
    pub fn connected(&mut self, peer: PeerId, dialled: Option<&Multiaddr>, now: Instant) {
        if peer == self.me {
            return;
        }
        let before = self.worth_saving(&peer);
        let known = self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        known.connected(now);
        if let Some(addr) = dialled.map(|addr| without_peer(addr.clone(), peer)) {
            // Names are not kept: what they stand for is the operator's to say, and he does at every start.
            let keep = is_kept(&addr);
            known.reached(addr, keep, now);
        }
        self.shrink(peer);
        self.note_change(&peer, before);
    }

    /// A dial of `peer` failed, at the addresses `tried`: those in `DialError::Transport`; none if it could not even
    /// start, or after [`Self::somebody_else_at`]. Also to be said, after [`Self::connected`], of the addresses that
    /// failed beside the one that did not; then nothing but those counts. `jitter` is random in
    /// 0..1. Returns the time until it may be dialled again, if the peer is in the book and not connected.
    pub fn failed<'a>(
        &mut self,
        peer: PeerId,
        tried: impl IntoIterator<Item = &'a Multiaddr>,
        now: Instant,
        jitter: f64,
    ) -> Option<Duration> {
        let before = self.worth_saving(&peer);
        let known = self.peers.get_mut(&peer)?;
        for addr in tried {
            known.missed_at(&without_peer(addr.clone(), peer));
        }
        let delay = known.failed(now, jitter);
        self.note_change(&peer, before);
        delay
    }

    /// Somebody else was at the address where we dialled `peer`. It is forgotten unless the operator gave it.
    /// To be said beside [`Self::failed`].
    pub fn somebody_else_at(&mut self, peer: PeerId, addr: &Multiaddr) {
        let before = self.worth_saving(&peer);
        let addr = without_peer(addr.clone(), peer);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.entries.retain(|entry| entry.addr != addr || entry.sources.has(Source::Operator));
        }
        self.drop_if_empty(&peer);
        self.note_change(&peer, before);
    }

    /// The last connection to `peer` is gone. It may be dialled again after a while; soon, if it was there for
    /// long. `jitter` is random in 0..1.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.disconnected(now, jitter);
        }
        self.drop_if_empty(&peer);
    }

    /// `peer` is in a room with us, so it is worth keeping. Has no effect on a peer that is not in the book.
    pub fn note_room_member(&mut self, peer: PeerId) {
        let before = self.worth_saving(&peer);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.is_member = true;
        }
        self.note_change(&peer, before);
    }

    /// Takes in what an earlier run saved. It is due at `now`.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = SavedPeer>, now: Instant) {
        let saved = saved.into_iter().take(limits::SAVED_PEERS).zip((0..limits::SAVED_PEERS as u64).rev());
        for (SavedPeer { peer, addrs, missed }, rank) in saved {
            let generation = self.generation;
            self.learn(peer, addrs, Source::Saved, now);
            if let Some(known) = self.peers.get_mut(&peer) {
                known.missed = missed.saturating_add(1);
                // So that they are in the same order when they are saved again.
                known.news = now + Duration::from_nanos(rank);
            }
            // What came from the file need not go there again.
            self.generation = generation;
        }
    }

    /// What to save, the most valuable first: at most [`limits::SAVED_PEERS`] peers that we reached in this run or
    /// an earlier one, or that were in a room with us and gave addresses themselves.
    pub fn saved(&self) -> Vec<SavedPeer> {
        let mut worth: Vec<_> = self.peers.iter().filter(|(_, known)| known.is_worth_saving()).collect();
        // Connected in this run, and then the latest run; reached rather than only told; the latest news.
        worth.sort_by_key(|(peer, known)| {
            (
                known.missed,
                Reverse(known.last_reached()),
                Reverse(known.is_member),
                Reverse(known.news),
                **peer,
            )
        });
        let mut crowds: HashMap<Prefix, usize> = HashMap::new();
        let (first, rest): (Vec<_>, Vec<_>) =
            worth.into_iter().partition(|(_, known)| match known.owner(&self.networks) {
                Some(owner) => {
                    let crowd = crowds.entry(owner).or_default();
                    *crowd += 1;
                    *crowd <= limits::SAVED_PREFIX_PEERS
                }
                None => true,
            });
        let save = |(peer, known): (&PeerId, &Peer)| SavedPeer {
            peer: *peer,
            addrs: known.saved_addrs(*peer),
            missed: known.missed,
        };
        first.into_iter().chain(rest).take(limits::SAVED_PEERS).map(save).collect()
    }

    /// Grows with everything that changes what is worth saving. Two that are equal mean: nothing did.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Peers in the book: with those that have no address but are connected, or have failed lately.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// The peers with an address, and who says so at best.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, Source)> {
        self.peers.iter().filter_map(|(peer, known)| Some((*peer, known.source()?)))
    }

    /// All addresses of a peer, whether they may be dialled or not, with who says so at best.
    pub fn addresses(&self, peer: PeerId) -> impl Iterator<Item = (&Multiaddr, Source)> {
        let entries = self.peers.get(&peer).into_iter().flat_map(|known| &known.entries);
        entries.filter_map(|entry| Some((&entry.addr, entry.sources.best()?)))
    }

    pub fn count(&self) -> Count {
        let known = self.peers.values();
        Count {
            peers: self.peers.len(),
            addresses: known.clone().map(|known| known.entries.len()).sum(),
            reached: known.filter(|known| known.entries.iter().any(Entry::has_been_reached)).count(),
        }
    }

    /// The address as it is kept, if it may be.
    fn admit(&self, peer: PeerId, addr: Multiaddr, source: Source) -> Option<Multiaddr> {
        let addr = without_peer(addr, peer);
        let is_allowed = match source {
            Source::Operator => addr.len() <= limits::ADDRESS_BYTES && names_nobody_else(&addr),
            // We were there once. Where we are now decides when it is to be dialled.
            Source::Saved | Source::Dialled => is_kept(&addr),
            _ => is_kept(&addr) && self.networks.may_dial(&addr),
        };
        let is_through_us = addr.iter().any(|part| part == Protocol::P2p(self.me));
        (is_allowed && !is_through_us).then_some(addr)
    }

    fn drop_if_empty(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(Peer::is_forgettable) {
            self.peers.remove(peer);
        }
    }

    /// Brings the book back within its bounds after there was news of `peer`.
    fn shrink(&mut self, peer: PeerId) {
        let Some(source) = self.peers.get(&peer).and_then(Peer::source) else {
            return self.evict_beyond(limits::BOOK_PEERS, |_| true);
        };
        if source == Source::Dht
            && let Some(owner) = self.peers.get(&peer).and_then(|known| known.owner(&self.networks))
        {
            self.shrink_owner(owner);
        }
        if let Some(quota) = quota(source) {
            self.evict_beyond(quota, |known| known.source() == Some(source));
        }
        self.evict_beyond(limits::BOOK_PEERS, |_| true);
    }

    /// Of hearsay about peers in one network the first stays, unless it proved wrong: a flood of later words
    /// changes nothing.
    fn shrink_owner(&mut self, owner: Prefix) {
        let is_there =
            |known: &Peer| known.source() == Some(Source::Dht) && known.owner(&self.networks) == Some(owner);
        let there: Vec<_> = self.peers.iter().filter(|(_, known)| is_there(known)).collect();
        if there.len() > limits::BOOK_PREFIX_PEERS {
            let worst = there
                .into_iter()
                .filter(|(_, known)| !known.is_pinned())
                .max_by_key(|(peer, known)| (known.failures, known.news, **peer))
                .map(|(peer, _)| *peer);
            worst.and_then(|peer| self.peers.remove(&peer));
        }
    }

    /// Evicts the worst of those that count until there are no more than `most`.
    fn evict_beyond(&mut self, most: usize, counts: impl Fn(&Peer) -> bool) {
        while self.peers.len() > most && self.peers.values().filter(|known| counts(known)).count() > most {
            let Some(worst) = self.worst(&counts) else { return };
            let before = self.worth_saving(&worst);
            self.peers.remove(&worst);
            self.note_change(&worst, before);
        }
    }

    /// Who goes first: of those known from the least credible source the one who failed most; who is in the most
    /// crowded network; who was no member; whom we heard of first.
    fn worst(&self, counts: impl Fn(&Peer) -> bool) -> Option<PeerId> {
        let may_go = |known: &Peer| counts(known) && !known.is_pinned();
        let least = self.peers.values().filter(|known| may_go(known)).map(Peer::source).min()?;
        let candidates = self.peers.iter().filter(|(_, known)| known.source() == least && may_go(known));
        let mut crowds: HashMap<Prefix, usize> = HashMap::new();
        for owner in candidates.clone().filter_map(|(_, known)| known.owner(&self.networks)) {
            *crowds.entry(owner).or_default() += 1;
        }
        let crowd = |known: &Peer| {
            let owner = known.owner(&self.networks);
            owner.and_then(|owner| crowds.get(&owner).copied()).unwrap_or(1)
        };
        let order = |known: &Peer| {
            let failures = known.failures.min(limits::BOOK_TRIES);
            (Reverse(failures), Reverse(crowd(known)), known.is_member, known.news)
        };
        candidates.min_by_key(|(_, known)| order(known)).map(|(peer, _)| *peer)
    }

    /// What would be saved of a peer, in a number. The order of the peers is left out: it changes all the time.
    fn worth_saving(&self, peer: &PeerId) -> Option<u64> {
        let known = self.peers.get(peer).filter(|known| known.is_worth_saving())?;
        let worth = known.entries.iter().filter(|entry| entry.is_worth_saving());
        let hash = |entry: &Entry| {
            let mut hasher = DefaultHasher::new();
            (&entry.addr, entry.has_been_reached()).hash(&mut hasher);
            hasher.finish()
        };
        // Restoring has added one, so up to here the file says the same.
        Some(worth.map(hash).fold(u64::from(known.missed > 1), u64::wrapping_add))
    }

    fn note_change(&mut self, peer: &PeerId, before: Option<u64>) {
        if self.worth_saving(peer) != before {
            self.generation = self.generation.wrapping_add(1);
        }
    }
}

/// How many peers may be in the book that are known from this source at best. What we know ourselves and what the
/// operator says is bounded by the size of the book only.
fn quota(source: Source) -> Option<usize> {
    match source {
        Source::Dht => Some(limits::BOOK_DHT_PEERS),
        Source::Mdns => Some(limits::BOOK_MDNS_PEERS),
        Source::Member => Some(limits::BOOK_MEMBER_PEERS),
        Source::Identify => Some(limits::BOOK_IDENTIFY_PEERS),
        Source::Saved => Some(limits::SAVED_PEERS),
        Source::Dialled | Source::Operator => None,
    }
}

/// The address without `/p2p/PEER` at its end.
fn without_peer(mut addr: Multiaddr, peer: PeerId) -> Multiaddr {
    if super::peer_of(&addr) == Some(peer) {
        addr.pop();
    }
    addr
}

/// Whether an address without its peer is one that a book may keep.
fn is_kept(addr: &Multiaddr) -> bool {
    addr.len() <= limits::ADDRESS_BYTES && names_nobody_else(addr) && scope::is_transport_address(addr)
}

/// Whether an address without its peer is that of another peer.
fn names_nobody_else(addr: &Multiaddr) -> bool {
    super::peer_of(addr).is_none()
}
