//! The peers that were heard of: bounded, and forgotten in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use super::{Segment, pace::Pace};
use crate::{discovery::mdns::Event, limits};

/// All peers whose announcements have not expired.
#[derive(Debug, Default)]
pub(super) struct Known {
    peers: BTreeMap<PeerId, Peer>,
    /// When the first of all lives ends or wants to be asked about.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    /// Who told of it last.
    source: IpAddr,
    addrs: BTreeMap<Multiaddr, Life>,
}

/// How long an address is good for.
#[derive(Debug)]
struct Life {
    segment: Segment,
    expires: Instant,
    /// When to ask whether it is still there, unless it was announced again by then.
    ask: Option<Instant>,
}

/// An announcement whose addresses were found fit.
pub(super) struct Heard {
    pub(super) peer: PeerId,
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) ttl: u32,
    pub(super) segment: Segment,
    pub(super) source: IpAddr,
}

impl Known {
    /// When [`Self::expire`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Remembers what was announced. `news` is what its source may still bring up.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        news: &mut Pace,
        now: Instant,
        events: &mut impl Extend<Event>,
    ) {
        if heard.ttl == 0 {
            self.goodbye(&heard, now);
        } else if self.peers.contains_key(&heard.peer) || (!heard.addrs.is_empty() && news.take(now)) {
            if !self.peers.contains_key(&heard.peer) && !self.make_place(heard.source, events) {
                return;
            }
            events.extend(self.remember(heard, news, now));
        }
        self.find_due();
    }

    /// The news in it, if any.
    fn remember(&mut self, heard: Heard, news: &mut Pace, now: Instant) -> Option<Event> {
        let ttl = Duration::from_secs(heard.ttl.into()).clamp(limits::MDNS_TTL_LEAST, limits::MDNS_TTL_MOST);
        let known = self.peers.entry(heard.peer);
        let is_new = matches!(known, std::collections::btree_map::Entry::Vacant(_));
        let known = known.or_insert_with(|| Peer { source: heard.source, addrs: BTreeMap::new() });
        known.source = heard.source;
        let mut found = is_new;
        // One piece of news for all addresses that came at once: they are dialled together.
        let mut may = is_new.then_some(true);
        for addr in heard.addrs {
            if !known.addrs.contains_key(&addr) {
                if !*may.get_or_insert_with(|| news.take(now)) {
                    continue;
                }
                known.make_place();
                found = true;
            }
            let life = Life { segment: heard.segment, expires: now + ttl, ask: Some(now + ttl.mul_f64(0.9)) };
            known.addrs.insert(addr, life);
        }
        found.then(|| Event::Found { peer: heard.peer, addrs: known.addrs.keys().cloned().collect() })
    }

    /// A peer that ends may be starting again, so it is not forgotten at once (RFC 6762, section 10.1).
    fn goodbye(&mut self, heard: &Heard, now: Instant) {
        let Some(known) = self.peers.get_mut(&heard.peer) else { return };
        for addr in &heard.addrs {
            if let Some(life) = known.addrs.get_mut(addr) {
                life.expires = life.expires.min(now + limits::MDNS_ANSWER_PACE);
                life.ask = None;
            }
        }
    }

    /// Whether there is place for one more peer from `source`. Who brought the most makes way for who brought
    /// fewer, so that a flood from some sources leaves place for the peers of others.
    fn make_place(&mut self, source: IpAddr, events: &mut impl Extend<Event>) -> bool {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.peers.values().for_each(|peer| *counts.entry(peer.source).or_default() += 1);
        let own = counts.get(&source).copied().unwrap_or_default();
        if own >= limits::MDNS_PEERS_PER_SOURCE {
            return false;
        }
        if self.peers.len() < limits::MDNS_PEERS {
            return true;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > own + 1);
        let Some((greedy, _)) = most else { return false };
        let of_greedy = self.peers.iter().filter(|(_, peer)| peer.source == greedy);
        let Some(oldest) = of_greedy.min_by_key(|(_, peer)| peer.expires()).map(|(peer, _)| *peer) else {
            return false;
        };
        self.peers.remove(&oldest);
        events.extend([Event::Gone { peer: oldest }]);
        true
    }

    /// Forgets what is past its time. Returns where something will be so soon, and asking might help.
    pub(super) fn expire(&mut self, now: Instant, events: &mut impl Extend<Event>) -> BTreeSet<Segment> {
        let mut ask = BTreeSet::new();
        if self.due.is_none_or(|due| due > now) {
            return ask;
        }
        for life in self.peers.values_mut().flat_map(|peer| peer.addrs.values_mut()) {
            if life.ask.is_some_and(|at| at <= now) {
                life.ask = None;
                ask.insert(life.segment);
            }
        }
        self.retain(|life| life.expires > now, events);
        ask
    }

    /// Forgets what was heard on a segment that is no more.
    pub(super) fn leave(&mut self, segment: Segment, events: &mut impl Extend<Event>) {
        self.retain(|life| life.segment != segment, events);
    }

    fn retain(&mut self, keep: impl Fn(&Life) -> bool, events: &mut impl Extend<Event>) {
        self.peers.retain(|peer, known| {
            known.addrs.retain(|_, life| keep(life));
            if known.addrs.is_empty() {
                events.extend([Event::Gone { peer: *peer }]);
            }
            !known.addrs.is_empty()
        });
        self.find_due();
    }

    fn find_due(&mut self) {
        let lives = self.peers.values().flat_map(|peer| peer.addrs.values());
        self.due = lives.map(|life| life.ask.map_or(life.expires, |ask| ask.min(life.expires))).min();
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let most = self.peers.values().map(|peer| peer.addrs.len()).max().unwrap_or_default();
        (self.peers.len(), most)
    }
}

impl Peer {
    fn expires(&self) -> Option<Instant> {
        self.addrs.values().map(|life| life.expires).max()
    }

    /// The address that ends first makes way for a new one.
    fn make_place(&mut self) {
        if self.addrs.len() >= limits::MDNS_PEER_ADDRESSES {
            let first = self.addrs.iter().min_by_key(|(_, life)| life.expires).map(|(addr, _)| addr.clone());
            if let Some(first) = first {
                self.addrs.remove(&first);
            }
        }
    }
}
