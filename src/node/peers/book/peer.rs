//! What the book knows of one peer.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::{Source, entry::Entry};
use crate::{
    discovery::scope::{Networks, Prefix},
    limits,
};

/// What is known of one peer. It has an address, or is connected, or has failed so that its delay is remembered.
#[derive(Debug)]
pub(super) struct Peer {
    /// At most [`limits::BOOK_ADDRESSES`].
    pub(super) entries: Vec<Entry>,
    state: State,
    /// The delay before the next dial, if this one fails.
    delay: Duration,
    /// When the last dial failed.
    failed: Option<Instant>,
    /// Dials that failed since the last that did not.
    pub(super) failures: u32,
    /// When we last heard something of it that was not known before, and not hearsay; at first, anything.
    pub(super) news: Instant,
    /// It was in a room with us.
    pub(super) is_member: bool,
    /// Starts of this node since it was last connected.
    pub(super) missed: u32,
}

#[derive(Debug, PartialEq)]
enum State {
    /// It may be dialled from this time on.
    Waiting(Instant),
    Dialing,
    /// Connected since.
    Connected(Instant),
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            state: State::Waiting(now),
            delay: limits::REDIAL_FIRST,
            failed: None,
            failures: 0,
            news: now,
            is_member: false,
            missed: 0,
        }
    }

    /// When it may be dialled. `None` while that makes no sense: it is connected, being dialled, or has no address
    /// for it.
    pub(super) fn next_due(&self, networks: &Networks) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => self.entries.iter().any(|entry| entry.may_dial(networks)).then_some(at),
            State::Dialing | State::Connected(_) => None,
        }
    }

    pub(super) fn dialing(&mut self) {
        if !matches!(self.state, State::Connected(_)) {
            self.state = State::Dialing;
        }
    }

    /// There is a connection, since `now` if it is the first.
    pub(super) fn connected(&mut self, now: Instant) {
        if !matches!(self.state, State::Connected(_)) {
            self.state = State::Connected(now);
        }
        self.failures = 0;
        self.missed = 0;
    }

    /// There is no connection any more. One that lasted is no reason to wait for long.
    pub(super) fn disconnected(&mut self, now: Instant, jitter: f64) {
        if let State::Connected(since) = self.state {
            if now.saturating_duration_since(since) >= limits::REDIAL_SETTLED {
                self.delay = limits::REDIAL_FIRST;
            }
            self.wait(now, jitter);
        }
    }

    /// A dial failed. Returns the time until the next may begin; `None` if there is a connection nevertheless.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        if matches!(self.state, State::Connected(_)) {
            return None;
        }
        self.failed = Some(now);
        self.failures = self.failures.saturating_add(1);
        Some(self.wait(now, jitter))
    }

    /// Whether there is anything to remember.
    pub(super) fn is_forgettable(&self) -> bool {
        self.entries.is_empty() && !matches!(self.state, State::Connected(_)) && self.failures == 0
    }

    /// Takes an address in, at the cost of a worse one if there is no more place.
    pub(super) fn learn(&mut self, addr: Multiaddr, source: Source, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.addr == addr) {
            entry.sources.add(source);
            return;
        }
        let new = Entry::new(addr, source, now);
        let is_hearsay = new.is_hearsay();
        let hearsay = self.entries.iter().filter(|entry| entry.is_hearsay()).count();
        let is_full = self.entries.len() >= limits::BOOK_ADDRESSES
            || is_hearsay && hearsay >= limits::BOOK_HEARSAY_ADDRESSES;
        if is_full {
            let worst = self.entries.iter().enumerate().filter(|(_, entry)| entry.gives_way_to(&new));
            let worst = worst.min_by_key(|(_, entry)| entry.standing()).map(|(i, _)| i);
            let Some(worst) = worst else { return };
            self.entries.swap_remove(worst);
        }
        self.entries.push(new);
        if !is_hearsay {
            self.news = now;
        }
        // The operator waits for it, and in the LAN a dial costs little.
        if let (State::Waiting(at), Source::Operator | Source::Mdns) = (&mut self.state, source) {
            let soon = self.failed.map_or(now, |failed| now.max(failed + limits::BOOK_NEWS));
            *at = soon.min(*at);
        }
    }

    /// Of the addresses that worked once, those that did longest ago go, or a peer that moves had no place for new
    /// ones some day.
    fn keep_reached_few(&mut self) {
        while self.entries.iter().filter(|entry| entry.has_been_reached()).count()
            > limits::BOOK_REACHED_ADDRESSES
        {
            let reached = self.entries.iter_mut().filter(|entry| entry.has_been_reached());
            let Some(oldest) = reached.min_by_key(|entry| entry.standing()) else { return };
            oldest.sources.remove(Source::Saved);
            oldest.sources.remove(Source::Dialled);
            self.entries.retain(|entry| !entry.sources.is_empty());
        }
    }

    /// It is not said any more that the peer has the addresses for which `gone` is true.
    pub(super) fn retract(&mut self, source: Source, gone: impl Fn(&Multiaddr) -> bool) {
        self.entries.retain_mut(|entry| {
            if gone(&entry.addr) {
                entry.sources.remove(source);
            }
            !entry.sources.is_empty()
        });
    }

    /// We reached the peer at this address; `keep` it if it is new.
    pub(super) fn reached(&mut self, addr: Multiaddr, keep: bool, now: Instant) {
        if keep {
            self.learn(addr.clone(), Source::Dialled, now);
        }
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.addr == addr) {
            entry.reached = Some(now);
            entry.failures = 0;
        }
        self.keep_reached_few();
    }

    /// A dial of this address failed.
    pub(super) fn missed_at(&mut self, addr: &Multiaddr) {
        self.entries.retain_mut(|entry| {
            if entry.addr == *addr {
                entry.failures = entry.failures.saturating_add(1);
            }
            entry.failures < limits::BOOK_TRIES || entry.has_worked()
        });
    }

    /// Waits for the current delay, less up to a half of it, and doubles the next one.
    pub(super) fn wait(&mut self, now: Instant, jitter: f64) -> Duration {
        let delay = self.delay.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        self.state = State::Waiting(now + delay);
        self.delay = (self.delay * 2).min(limits::BOOK_REDIAL_MOST);
        delay
    }

    /// The addresses that may be dialled, best first.
    pub(super) fn best(&self, networks: &Networks) -> Vec<&Entry> {
        let mut best: Vec<_> = self.entries.iter().filter(|entry| entry.may_dial(networks)).collect();
        best.sort_by_key(|entry| entry.order());
        best
    }

    /// The most credible source of any of its addresses.
    pub(super) fn source(&self) -> Option<Source> {
        self.entries.iter().filter_map(|entry| entry.sources.best()).max()
    }

    /// The network that all its addresses are in, unless it is ours: the owner of one network can have invented
    /// it. `None` if they are in several, or somewhere behind a relay.
    pub(super) fn owner(&self, networks: &Networks) -> Option<Prefix> {
        let (ip, owner) = self.entries.first()?.place?;
        let is_same = |entry: &Entry| entry.place.is_some_and(|(_, other)| other == owner);
        (self.entries.iter().all(is_same) && !networks.is_on_link(ip)).then_some(owner)
    }

    /// Is not evicted, whatever comes.
    pub(super) fn is_pinned(&self) -> bool {
        matches!(self.state, State::Connected(_) | State::Dialing)
    }

    pub(super) fn last_reached(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.reached).max()
    }

    pub(super) fn is_worth_saving(&self) -> bool {
        let reached = self.entries.iter().any(Entry::has_been_reached);
        reached || self.is_member && self.entries.iter().any(Entry::is_worth_saving)
    }

    pub(super) fn saved_addrs(&self, peer: PeerId) -> Vec<Multiaddr> {
        let mut entries: Vec<_> = self.entries.iter().filter(|entry| entry.is_worth_saving()).collect();
        entries.sort_by_key(|entry| entry.order());
        let with_peer = |entry: &Entry| entry.addr.clone().with_p2p(peer).ok();
        entries.into_iter().filter_map(with_peer).take(limits::SAVED_ADDRESSES).collect()
    }
}
