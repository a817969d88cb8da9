//! At which relays this node has a reservation, and at which it wants one. Pure.
//!
//! A node that others cannot dial is reached through a relay, on which it reserves a place. It keeps two, on
//! different relays: when one dies the other is there at once. Those that the operator named come first.
//!
//! libp2p's relay client renews a reservation by comparing the relay's wall clock with its own. A router that
//! boots in the past would wait for decades, so renewals are made here, by a clock that only runs forward: the
//! place is asked for once more, and the old listener is closed when the new one has it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId};

use crate::limits;

/// The relays that are known.
#[derive(Debug, Default)]
pub struct Relays {
    known: BTreeMap<PeerId, Relay>,
    /// How many reservations there shall be.
    wanted: usize,
}

#[derive(Debug)]
struct Relay {
    /// Where it is, with its peer ID at the end.
    addr: Multiaddr,
    /// By the operator.
    is_named: bool,
    state: State,
    /// The delay before the next try, if this one fails.
    delay: Duration,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Ask from this time on, if there is need.
    Idle(Instant),
    /// Asked for a place.
    Asking(ListenerId),
    /// It has one for us until it is asked again; at that time there is another listener for a while.
    Held { listener: ListenerId, renew: Instant, renewal: Option<ListenerId> },
}

/// What to do about the relays.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Listen at this relay's address; then say [`Relays::asked`] or [`Relays::refused`].
    Ask(PeerId, Multiaddr),
    /// Close this listener: another one stands in for it, or it is not needed.
    Close(ListenerId),
}

impl Relays {
    /// Those that the operator named. Each address ends with its peer ID.
    pub fn new(named: impl IntoIterator<Item = (PeerId, Multiaddr)>, now: Instant) -> Self {
        let mut relays = Relays::default();
        for (peer, addr) in named {
            relays.known.entry(peer).or_insert_with(|| Relay::new(addr, true, now));
        }
        relays
    }

    /// A connected peer is a relay.
    pub fn found(&mut self, peer: PeerId, addr: Multiaddr, now: Instant) {
        if self.known.len() < limits::RELAYS || self.forget_one() {
            self.known.entry(peer).or_insert_with(|| Relay::new(addr, false, now));
        }
    }

    /// How many reservations there shall be: none for a node that everybody can dial.
    pub fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    pub fn is_named(&self, peer: &PeerId) -> bool {
        self.known.get(peer).is_some_and(|relay| relay.is_named)
    }

    /// Whether there is a reservation at this relay, or one is asked for.
    pub fn is_used(&self, peer: &PeerId) -> bool {
        self.known.get(peer).is_some_and(|relay| !matches!(relay.state, State::Idle(_)))
    }

    /// Whether the first reservation may be about to come.
    pub fn is_awaited(&self) -> bool {
        self.wanted > 0 && !self.known.is_empty() && self.held().next().is_none()
    }

    /// Relays with a reservation.
    pub fn held(&self) -> impl Iterator<Item = PeerId> {
        let held = self.known.iter().filter(|(_, relay)| matches!(relay.state, State::Held { .. }));
        held.map(|(peer, _)| *peer)
    }

    /// What to do now, if anything. To be asked again until there is nothing.
    pub fn next(&mut self, now: Instant) -> Option<Action> {
        let used = self.known.values().filter(|relay| !matches!(relay.state, State::Idle(_))).count();
        if used > self.wanted {
            // Found ones go before named ones, those that are not sure before those that are.
            let surplus = self.known.values_mut().filter(|relay| !matches!(relay.state, State::Idle(_)));
            let surplus =
                surplus.min_by_key(|relay| (relay.is_named, matches!(relay.state, State::Held { .. })));
            return surplus.and_then(|relay| relay.give_up(now)).map(Action::Close);
        }
        let is_due = |relay: &Relay| match relay.state {
            State::Idle(at) => at <= now && used < self.wanted,
            State::Asking(_) => false,
            State::Held { renew, renewal, .. } => renew <= now && renewal.is_none(),
        };
        let due = self.known.iter().filter(|(_, relay)| is_due(relay));
        let (peer, relay) = due.min_by_key(|(_, relay)| (!relay.is_named, relay.delay))?;
        Some(Action::Ask(*peer, relay.addr.clone()))
    }

    /// When [`Self::next`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let used = self.known.values().filter(|relay| !matches!(relay.state, State::Idle(_))).count();
        let due = |relay: &Relay| match relay.state {
            State::Idle(at) => (used < self.wanted).then_some(at),
            State::Asking(_) => None,
            State::Held { renew, renewal, .. } => renewal.is_none().then_some(renew),
        };
        self.known.values().filter_map(due).min()
    }

    /// The swarm listens at it now, which begins with asking for a place.
    pub fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(relay) = self.known.get_mut(peer) {
            match &mut relay.state {
                State::Held { renewal, .. } => *renewal = Some(listener),
                state => *state = State::Asking(listener),
            }
        }
    }

    /// It could not even be asked.
    pub fn refused(&mut self, peer: &PeerId, now: Instant, jitter: f64) {
        if let Some(relay) = self.known.get_mut(peer) {
            relay.fail(now, jitter);
        }
    }

    /// It has a place for us. Returns the listener that is not needed any more, if this was a renewal.
    pub fn accepted(&mut self, peer: &PeerId, now: Instant) -> Option<ListenerId> {
        let relay = self.known.get_mut(peer)?;
        let (listener, old) = match relay.state {
            State::Idle(_) => return None,
            State::Asking(listener) => (listener, None),
            State::Held { listener, renewal: Some(renewal), .. } => (renewal, Some(listener)),
            State::Held { listener, renewal: None, .. } => (listener, None),
        };
        relay.state = State::Held { listener, renew: now + limits::RELAY_RENEW, renewal: None };
        relay.delay = limits::RELAY_RETRY_FIRST;
        old
    }

    /// A listener is closed: the relay is gone, or has no place. Returns the relay and the time until it is asked
    /// again, if the listener was at one and this was not our wish.
    pub fn closed(&mut self, closed: ListenerId, now: Instant, jitter: f64) -> Option<(PeerId, Duration)> {
        let (peer, relay) = self.known.iter_mut().find(|(_, relay)| match relay.state {
            State::Idle(_) => false,
            State::Asking(listener) => listener == closed,
            State::Held { listener, renewal, .. } => listener == closed || renewal == Some(closed),
        })?;
        match &mut relay.state {
            // The reservation itself lasts, and is asked for again soon.
            State::Held { renewal, renew, .. } if *renewal == Some(closed) => {
                (*renewal, *renew) = (None, now + limits::RELAY_RETRY_MOST);
                None
            }
            // The new one may still be granted.
            State::Held { renewal: Some(renewal), .. } => {
                relay.state = State::Asking(*renewal);
                None
            }
            _ => Some((*peer, relay.fail(now, jitter))),
        }
    }

    /// Makes place for another one.
    fn forget_one(&mut self) -> bool {
        let idle = |relay: &Relay| !relay.is_named && matches!(relay.state, State::Idle(_));
        let worst = self.known.iter().filter(|(_, relay)| idle(relay)).max_by_key(|(_, relay)| relay.delay);
        match worst.map(|(peer, _)| *peer) {
            Some(worst) => self.known.remove(&worst).is_some(),
            None => false,
        }
    }
}

impl Relay {
    fn new(addr: Multiaddr, is_named: bool, now: Instant) -> Self {
        Relay { addr, is_named, state: State::Idle(now), delay: limits::RELAY_RETRY_FIRST }
    }

    /// Waits for the current delay, less up to a half of it, and doubles the next one.
    fn fail(&mut self, now: Instant, jitter: f64) -> Duration {
        let delay = self.delay.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        self.state = State::Idle(now + delay);
        self.delay = (self.delay * 2).min(limits::RELAY_RETRY_MOST);
        delay
    }

    /// Its listener, which is not needed any more.
    fn give_up(&mut self, now: Instant) -> Option<ListenerId> {
        match std::mem::replace(&mut self.state, State::Idle(now)) {
            State::Idle(_) => None,
            State::Asking(listener) | State::Held { listener, .. } => Some(listener),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(peer: PeerId) -> Multiaddr {
        format!("/ip4/203.0.113.1/tcp/4001/p2p/{peer}").parse().expect("valid")
    }

    fn relays(named: &[PeerId], wanted: usize, now: Instant) -> Relays {
        let mut relays = Relays::new(named.iter().map(|peer| (*peer, addr(*peer))), now);
        relays.want(wanted);
        relays
    }

    /// Asks whom it wants to ask, and returns them with their listeners.
    fn ask(relays: &mut Relays, now: Instant) -> Vec<(PeerId, ListenerId)> {
        let mut asked = Vec::new();
        while let Some(Action::Ask(peer, _)) = relays.next(now) {
            let listener = ListenerId::next();
            relays.asked(&peer, listener);
            asked.push((peer, listener));
        }
        asked
    }

    #[test]
    fn two_are_asked_and_named_ones_first() {
        let (now, [one, two, three]) = (Instant::now(), [(); 3].map(|()| PeerId::random()));
        let mut relays = relays(&[two], 2, now);
        relays.found(one, addr(one), now);
        relays.found(three, addr(three), now);
        let asked = ask(&mut relays, now);
        assert_eq!((asked.len(), asked[0].0), (2, two));
        assert_eq!((relays.held().count(), relays.is_awaited()), (0, true));
        for (peer, _) in &asked {
            assert_eq!(relays.accepted(peer, now), None);
        }
        assert_eq!((relays.held().count(), relays.is_awaited()), (2, false));
        assert_eq!(relays.next_due(), Some(now + limits::RELAY_RENEW));
    }

    #[test]
    fn a_dead_relay_is_replaced_at_once_and_asked_again_later() {
        let (now, [one, two]) = (Instant::now(), [(); 2].map(|()| PeerId::random()));
        let mut relays = relays(&[one, two], 1, now);
        let asked = ask(&mut relays, now);
        let [(first, listener)] = asked[..] else { panic!("one is wanted: {asked:?}") };
        relays.accepted(&first, now);
        let (gone, delay) = relays.closed(listener, now, 0.0).expect("it was held");
        assert_eq!((gone, delay), (first, limits::RELAY_RETRY_FIRST));
        let asked = ask(&mut relays, now);
        assert!(asked.len() == 1 && asked[0].0 != first);
    }

    #[test]
    fn a_renewal_replaces_the_listener() {
        let (now, one) = (Instant::now(), PeerId::random());
        let mut relays = relays(&[one], 1, now);
        let old = ask(&mut relays, now)[0].1;
        relays.accepted(&one, now);
        let later = now + limits::RELAY_RENEW;
        assert_eq!(ask(&mut relays, later - Duration::from_secs(1)), []);
        let new = ask(&mut relays, later)[0].1;
        assert_eq!(relays.accepted(&one, later), Some(old));
        assert_eq!(relays.closed(old, later, 0.0), None, "this was our wish");
        assert!(relays.closed(new, later, 0.0).is_some());
    }

    #[test]
    fn a_failed_renewal_is_tried_again_while_the_reservation_lasts() {
        let (now, one) = (Instant::now(), PeerId::random());
        let mut relays = relays(&[one], 1, now);
        ask(&mut relays, now);
        relays.accepted(&one, now);
        let later = now + limits::RELAY_RENEW;
        let new = ask(&mut relays, later)[0].1;
        assert_eq!(relays.closed(new, later, 0.0), None);
        assert_eq!(relays.held().count(), 1);
        assert_eq!(relays.next_due(), Some(later + limits::RELAY_RETRY_MOST));
    }

    #[test]
    fn who_can_be_dialled_needs_none() {
        let (now, one) = (Instant::now(), PeerId::random());
        let mut relays = relays(&[one], 2, now);
        let listener = ask(&mut relays, now)[0].1;
        relays.accepted(&one, now);
        relays.want(0);
        assert_eq!(relays.next(now), Some(Action::Close(listener)));
        assert_eq!((relays.next(now), relays.next_due()), (None, None));
    }

    #[test]
    fn there_are_bounds() {
        let now = Instant::now();
        let mut relays = relays(&[], 0, now);
        for _ in 0..1000 {
            let peer = PeerId::random();
            relays.found(peer, addr(peer), now);
        }
        assert_eq!(relays.known.len(), limits::RELAYS);
    }
}
