//! The peers that were heard of: bounded, and forgotten in time.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use super::{Segment, pace::Pace};
use crate::{discovery::mdns::Event, limits};

/// All peers whose announcements have not expired. They are few, and heard of rarely: lists are fast enough, and
/// each kind of map would be some kB of program.
#[derive(Debug, Default)]
pub(super) struct Known {
    peers: Vec<Peer>,
    /// When the first of all lives ends or wants to be asked about.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    /// Who told of it last.
    source: IpAddr,
    addrs: Vec<Life>,
}

/// How long an address is good for.
#[derive(Debug)]
struct Life {
    addr: Multiaddr,
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
        } else if let Some(at) = self.position(heard.peer) {
            events.extend(self.peers[at].hear(heard, false, news, now));
        } else if !heard.addrs.is_empty() && news.take(now) && self.make_place(heard.source, events) {
            let mut peer = Peer { id: heard.peer, source: heard.source, addrs: Vec::new() };
            events.extend(peer.hear(heard, true, news, now));
            self.peers.push(peer);
        }
        self.find_due();
    }

    fn position(&self, id: PeerId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// A peer that ends may be starting again, so it is not forgotten at once (RFC 6762, section 10.1).
    fn goodbye(&mut self, heard: &Heard, now: Instant) {
        let Some(at) = self.position(heard.peer) else { return };
        for life in self.peers[at].addrs.iter_mut().filter(|life| heard.addrs.contains(&life.addr)) {
            life.expires = life.expires.min(now + limits::MDNS_ANSWER_PACE);
            life.ask = None;
        }
    }

    /// Whether there is place for one more peer from `source`. Who brought the most makes way for who brought
    /// fewer, so that a flood from some sources leaves place for the peers of others.
    fn make_place(&mut self, source: IpAddr, events: &mut impl Extend<Event>) -> bool {
        let count = |source: IpAddr| self.peers.iter().filter(|peer| peer.source == source).count();
        let own = count(source);
        if own >= limits::MDNS_PEERS_PER_SOURCE {
            return false;
        }
        if self.peers.len() < limits::MDNS_PEERS {
            return true;
        }
        let greedy = self.peers.iter().map(|peer| peer.source).max_by_key(|source| count(*source));
        let Some(greedy) = greedy.filter(|greedy| count(*greedy) > own + 1) else { return false };
        let of_greedy = self.peers.iter().enumerate().filter(|(_, peer)| peer.source == greedy);
        let Some((oldest, _)) = of_greedy.min_by_key(|(_, peer)| peer.expires()) else { return false };
        events.extend([Event::Gone { peer: self.peers.swap_remove(oldest).id }]);
        true
    }

    /// Forgets what is past its time. Returns where something will be so soon, and asking might help.
    pub(super) fn expire(&mut self, now: Instant, events: &mut impl Extend<Event>) -> Vec<Segment> {
        let mut ask = Vec::new();
        if self.due.is_none_or(|due| due > now) {
            return ask;
        }
        for life in self.peers.iter_mut().flat_map(|peer| &mut peer.addrs) {
            if life.ask.is_some_and(|at| at <= now) {
                life.ask = None;
                ask.push(life.segment);
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
        self.peers.retain_mut(|peer| {
            peer.addrs.retain(&keep);
            if peer.addrs.is_empty() {
                events.extend([Event::Gone { peer: peer.id }]);
            }
            !peer.addrs.is_empty()
        });
        self.find_due();
    }

    fn find_due(&mut self) {
        let lives = self.peers.iter().flat_map(|peer| &peer.addrs);
        self.due = lives.map(|life| life.ask.map_or(life.expires, |ask| ask.min(life.expires))).min();
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let most = self.peers.iter().map(|peer| peer.addrs.len()).max().unwrap_or_default();
        (self.peers.len(), most)
    }
}

impl Peer {
    /// Remembers its addresses. Returns the news, if any.
    fn hear(&mut self, heard: Heard, is_new: bool, news: &mut Pace, now: Instant) -> Option<Event> {
        let ttl = Duration::from_secs(heard.ttl.into()).clamp(limits::MDNS_TTL_LEAST, limits::MDNS_TTL_MOST);
        self.source = heard.source;
        let mut found = is_new;
        // One piece of news for all addresses that came at once: they are dialled together.
        let mut may = is_new.then_some(true);
        for addr in heard.addrs {
            let known = self.addrs.iter().position(|life| life.addr == addr);
            if let Some(at) = known {
                self.addrs.swap_remove(at);
            } else if *may.get_or_insert_with(|| news.take(now)) {
                self.make_place();
                found = true;
            } else {
                continue;
            }
            let (expires, ask) = (now + ttl, Some(now + ttl.mul_f64(0.9)));
            self.addrs.push(Life { addr, segment: heard.segment, expires, ask });
        }
        found.then(|| Event::Found {
            peer: self.id,
            addrs: self.addrs.iter().map(|life| life.addr.clone()).collect(),
        })
    }

    fn expires(&self) -> Option<Instant> {
        self.addrs.iter().map(|life| life.expires).max()
    }

    /// The address that ends first makes way for a new one.
    fn make_place(&mut self) {
        let first = self.addrs.iter().enumerate().min_by_key(|(_, life)| life.expires).map(|(at, _)| at);
        if let Some(first) = first.filter(|_| self.addrs.len() >= limits::MDNS_PEER_ADDRESSES) {
            self.addrs.swap_remove(first);
        }
    }
}
