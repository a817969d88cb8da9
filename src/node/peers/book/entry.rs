//! One address of a peer: who says so, and how dialling it has gone.

use std::{cmp::Reverse, net::IpAddr, time::Instant};

use libp2p::Multiaddr;

use super::Source;
use crate::{
    discovery::scope::{self, Networks, Prefix},
    limits,
};

/// An address of a peer.
#[derive(Debug)]
pub(super) struct Entry {
    /// Without the peer at its end.
    pub(super) addr: Multiaddr,
    /// Who says so; never empty for long.
    pub(super) sources: Sources,
    /// When we last reached it there in this run.
    pub(super) reached: Option<Instant>,
    /// Dials that failed since then.
    pub(super) failures: u32,
    learnt: Instant,
    /// The machine, and the network of its owner; `None` behind a relay. Here because it is looked at often.
    pub(super) place: Option<(IpAddr, Prefix)>,
}

/// Several may say the same, and each may take it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources(u8);

impl Sources {
    pub(super) fn add(&mut self, source: Source) {
        self.0 |= bit(source);
    }

    pub(super) fn remove(&mut self, source: Source) {
        self.0 &= !bit(source);
    }

    pub(super) fn has(self, source: Source) -> bool {
        self.0 & bit(source) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The most credible one.
    pub(super) fn best(self) -> Option<Source> {
        match u8::BITS - self.0.leading_zeros() {
            0 => None,
            1 => Some(Source::Dht),
            2 => Some(Source::Mdns),
            3 => Some(Source::Member),
            4 => Some(Source::Identify),
            5 => Some(Source::Saved),
            6 => Some(Source::Dialled),
            _ => Some(Source::Operator),
        }
    }
}

/// [`Source`] is in the order of the bits.
fn bit(source: Source) -> u8 {
    1 << source as u8
}

impl Entry {
    pub(super) fn new(addr: Multiaddr, source: Source, now: Instant) -> Self {
        let mut sources = Sources::default();
        sources.add(source);
        let place = scope::ip_of(&addr).map(|ip| (ip, Prefix::of_owner(ip)));
        Self { addr, sources, reached: None, failures: 0, learnt: now, place }
    }

    /// The operator's addresses may be anywhere. Others that worked once are judged too: the machine may be in
    /// another network by now.
    pub(super) fn may_dial(&self, networks: &Networks) -> bool {
        self.sources.has(Source::Operator) || networks.may_dial(&self.addr)
    }

    /// Only third parties say so.
    pub(super) fn is_hearsay(&self) -> bool {
        self.sources.best() <= Some(Source::Mdns)
    }

    /// We reached the peer there, in this run or an earlier one.
    pub(super) fn has_been_reached(&self) -> bool {
        self.sources.has(Source::Dialled) || self.sources.has(Source::Saved)
    }

    /// It is not forgotten for failing: it may be our own link that is down, or the peer's.
    pub(super) fn has_worked(&self) -> bool {
        self.has_been_reached() || self.sources.has(Source::Operator)
    }

    /// Of a peer that is worth saving: we reached it, or it is the peer's own word.
    pub(super) fn is_worth_saving(&self) -> bool {
        let own_word = self.sources.has(Source::Identify) || self.sources.has(Source::Member);
        (self.has_been_reached() || own_word) && scope::is_transport_address(&self.addr)
    }

    /// Which is dialled first: the least. Credible ones that do not fail come before hearsay that does not, and
    /// that before credible ones that do, for a peer may have moved. QUIC goes before TCP as in the transport.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let is_in_doubt = self.failures >= limits::BOOK_DOUBT;
        let rank = match self.sources.best() {
            Some(Source::Operator | Source::Dialled) => 0,
            Some(Source::Identify | Source::Member | Source::Saved) => 1,
            Some(Source::Mdns | Source::Dht) | None => 2,
        };
        let is_quic = scope::is_quic(&self.addr);
        let is_relayed = scope::is_circuit(&self.addr);
        let newest = (Reverse(self.reached), Reverse(self.learnt));
        (is_in_doubt, rank, self.failures, is_relayed, newest, !is_quic)
    }

    /// Which is given up first when there is no more place: the least.
    pub(super) fn standing(&self) -> impl Ord + use<> {
        (self.class(), Reverse(self.failures), self.reached, self.learnt)
    }

    /// Whether this one goes when there is place for it or `new` only. Hearsay does not replace hearsay that has
    /// not failed yet: a flood of it changes nothing. A peer's own word of now replaces that of before.
    pub(super) fn gives_way_to(&self, new: &Entry) -> bool {
        match new.is_hearsay() {
            true => self.is_hearsay() && self.failures > 0,
            false => self.class() <= new.class(),
        }
    }

    /// What is said of it: by third parties, by the peer, by us, or by the operator.
    fn class(&self) -> u8 {
        match self.sources.best() {
            None => 0,
            Some(Source::Dht | Source::Mdns) => 1,
            Some(Source::Member | Source::Identify) => 2,
            Some(Source::Saved | Source::Dialled) => 3,
            Some(Source::Operator) => 4,
        }
    }
}
