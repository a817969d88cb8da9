//! At which relays this node has a reservation, and at which it wants one. Pure.
//!
//! A node that others cannot dial is reached through a relay, on which it reserves a place. It keeps two, on
//! different relays: when one dies the other is there at once. Those that the operator named come first.
//!
//! When a reservation is to be renewed is decided by a clock that only runs forward: by its lifetime if that is known,
//! and otherwise by what relays give by custom.

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
    /// Where the operator says that it is.
    named: Option<Multiaddr>,
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
    /// It has one for us, and is to be asked to hold it for longer.
    Held { listener: ListenerId, renew: Renew, ends: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Renew {
    At(Instant),
    /// It was asked.
    Asked,
}

impl Renew {
    fn is_due(self, now: Instant) -> bool {
        matches!(self, Renew::At(at) if at <= now)
    }
}

/// What to do about the relays.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Listen at this relay's address; then say [`Relays::asked`] or [`Relays::refused`].
    Ask(PeerId, Multiaddr),
    /// Ask the relay to hold the place of this listener for longer; then say [`Relays::accepted`] or
    /// [`Relays::not_renewed`].
    Renew(ListenerId),
    /// Close this listener: it is not needed, or the relay has forgotten it by now.
    Close(ListenerId),
}

impl Relays {
    /// Those that the operator named. Each address ends with its peer ID.
    pub fn new(named: impl IntoIterator<Item = (PeerId, Multiaddr)>, now: Instant) -> Self {
        let mut relays = Relays::default();
        for (peer, addr) in named {
            relays.known.entry(peer).or_insert_with(|| Relay::new(addr.clone(), Some(addr), now));
        }
        relays
    }

    /// The operator names others. Those that are not named any more, or elsewhere, are given up: returns their
    /// listeners, to be closed.
    pub fn rename(
        &mut self,
        named: impl IntoIterator<Item = (PeerId, Multiaddr)>,
        now: Instant,
    ) -> Vec<ListenerId> {
        let mut fresh = Relays::new(named, now).known;
        let mut closed = Vec::new();
        self.known.retain(|peer, relay| {
            let named = fresh.get(peer).map(|relay| relay.addr.clone());
            let stays = match &named {
                Some(addr) => *addr == relay.addr || relay.named.as_ref() == Some(addr),
                None => relay.named.is_none(),
            };
            relay.named = named;
            if !stays {
                closed.extend(relay.give_up(now));
            }
            stays
        });
        fresh.retain(|peer, _| !self.known.contains_key(peer));
        self.known.append(&mut fresh);
        closed
    }

    /// A connected peer is a relay. If it is known and has moved, it is asked there.
    pub fn found(&mut self, peer: PeerId, addr: Multiaddr, now: Instant) {
        if let Some(relay) = self.known.get_mut(&peer) {
            if let State::Idle(at) = &mut relay.state
                && relay.addr != addr
            {
                (relay.addr, *at) = (addr, now);
            }
            return;
        }
        if self.known.len() < limits::RELAYS || self.forget_one() {
            self.known.insert(peer, Relay::new(addr, None, now));
        }
    }

    /// How many reservations there shall be: none for a node that everybody can dial.
    pub fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    pub fn is_named(&self, peer: &PeerId) -> bool {
        self.known.get(peer).is_some_and(|relay| relay.named.is_some())
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
            let surplus = surplus
                .min_by_key(|relay| (relay.named.is_some(), matches!(relay.state, State::Held { .. })));
            return surplus.and_then(|relay| relay.give_up(now)).map(Action::Close);
        }
        if let Some(renewal) = self.renewal(now) {
            return Some(renewal);
        }
        let is_due = |relay: &Relay| matches!(relay.state, State::Idle(at) if at <= now);
        let due = self.known.iter().filter(|(_, relay)| used < self.wanted && is_due(relay));
        let (peer, relay) = due.min_by_key(|(_, relay)| (relay.named.is_none(), relay.delay))?;
        Some(Action::Ask(*peer, relay.addr.clone()))
    }

    fn renewal(&mut self, now: Instant) -> Option<Action> {
        self.known.values_mut().find_map(|relay| match &mut relay.state {
            State::Held { listener, ends, .. } if *ends <= now => {
                let listener = *listener;
                relay.state = State::Idle(now);
                Some(Action::Close(listener))
            }
            State::Held { listener, renew, .. } if renew.is_due(now) => {
                *renew = Renew::Asked;
                Some(Action::Renew(*listener))
            }
            _ => None,
        })
    }

    /// When [`Self::next`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let used = self.known.values().filter(|relay| !matches!(relay.state, State::Idle(_))).count();
        let due = |relay: &Relay| match relay.state {
            State::Idle(at) => (used < self.wanted).then_some(at),
            State::Asking(_) => None,
            State::Held { renew: Renew::At(at), ends, .. } => Some(at.min(ends)),
            State::Held { renew: Renew::Asked, ends, .. } => Some(ends),
        };
        self.known.values().filter_map(due).min()
    }

    /// The swarm listens at it now, which begins with asking for a place.
    pub fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(relay) = self.known.get_mut(peer) {
            relay.state = State::Asking(listener);
        }
    }

    /// It could not even be asked.
    pub fn refused(&mut self, peer: &PeerId, now: Instant, jitter: f64) {
        if let Some(relay) = self.known.get_mut(peer) {
            relay.fail(now, jitter);
        }
    }

    /// It has a place for us, or holds it for longer: for this time, if that is known.
    pub fn accepted(&mut self, peer: &PeerId, lifetime: Option<Duration>, now: Instant) {
        let Some(relay) = self.known.get_mut(peer) else { return };
        let (State::Asking(listener) | State::Held { listener, .. }) = relay.state else { return };
        let lifetime = lifetime.unwrap_or(limits::RELAY_RESERVATION);
        let renew = Renew::At(now + limits::RELAY_RENEW.min(lifetime / 2));
        relay.state = State::Held { listener, renew, ends: now + lifetime };
        relay.delay = limits::RELAY_RETRY_FIRST;
    }

    /// It did not hold the place for longer. Until it ends the relay is asked again.
    pub fn not_renewed(&mut self, listener: ListenerId, now: Instant) {
        for relay in self.known.values_mut() {
            if let State::Held { listener: held, renew, ends } = &mut relay.state
                && *held == listener
            {
                let left = ends.saturating_duration_since(now);
                let pause = (left / 2).clamp(limits::RELAY_RENEW_LEAST, limits::RELAY_RETRY_MOST);
                *renew = Renew::At(now + pause);
            }
        }
    }

    /// A listener is closed: the relay is gone, or has no place. Returns the relay and the time until it is asked
    /// again, if the listener was at one and this was not our wish.
    pub fn closed(&mut self, closed: ListenerId, now: Instant, jitter: f64) -> Option<(PeerId, Duration)> {
        let (peer, relay) = self.known.iter_mut().find(|(_, relay)| match relay.state {
            State::Idle(_) => false,
            State::Asking(listener) | State::Held { listener, .. } => listener == closed,
        })?;
        Some((*peer, relay.fail(now, jitter)))
    }

    /// Makes place for another one.
    fn forget_one(&mut self) -> bool {
        let idle = |relay: &Relay| relay.named.is_none() && matches!(relay.state, State::Idle(_));
        let worst = self.known.iter().filter(|(_, relay)| idle(relay)).max_by_key(|(_, relay)| relay.delay);
        match worst.map(|(peer, _)| *peer) {
            Some(worst) => self.known.remove(&worst).is_some(),
            None => false,
        }
    }
}

impl Relay {
    fn new(addr: Multiaddr, named: Option<Multiaddr>, now: Instant) -> Self {
        Relay { addr, named, state: State::Idle(now), delay: limits::RELAY_RETRY_FIRST }
    }

    /// Waits for the current delay, less up to a half of it, and doubles the next one. Where the operator says that it
    /// is, it may be again.
    fn fail(&mut self, now: Instant, jitter: f64) -> Duration {
        if let Some(named) = &self.named {
            self.addr = named.clone();
        }
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
            relays.accepted(peer, None, now);
        }
        assert_eq!((relays.held().count(), relays.is_awaited()), (2, false));
        assert_eq!(relays.next_due(), Some(now + limits::RELAY_RENEW));
    }

    #[test]
    fn those_that_are_named_no_longer_are_given_up() {
        let (now, [one, two, found]) = (Instant::now(), [(); 3].map(|()| PeerId::random()));
        let mut relays = relays(&[one, two], 2, now);
        relays.found(found, addr(found), now);
        let asked = ask(&mut relays, now);
        relays.accepted(&one, None, now);
        let of_two = asked.iter().find(|(peer, _)| *peer == two).expect("it was asked").1;
        let third = PeerId::random();
        let closed = relays.rename([(one, addr(one)), (third, addr(third))], now);
        assert_eq!(closed, [of_two]);
        assert_eq!(relays.held().collect::<Vec<_>>(), [one], "what is named still is not touched");
        assert_eq!(ask(&mut relays, now)[0].0, third);
        assert!(!relays.is_named(&two) && !relays.is_named(&found));
        let elsewhere =
            "/ip4/203.0.113.9/tcp/4001".parse::<Multiaddr>().expect("valid").with_p2p(one).expect("new");
        assert_eq!(relays.rename([(one, elsewhere.clone())], now).len(), 2);
        assert_eq!(relays.next(now), Some(Action::Ask(one, elsewhere)));
    }

    #[test]
    fn a_dead_relay_is_replaced_at_once_and_asked_again_later() {
        let (now, [one, two]) = (Instant::now(), [(); 2].map(|()| PeerId::random()));
        let mut relays = relays(&[one, two], 1, now);
        let asked = ask(&mut relays, now);
        let [(first, listener)] = asked[..] else { panic!("one is wanted: {asked:?}") };
        relays.accepted(&first, None, now);
        let (gone, delay) = relays.closed(listener, now, 0.0).expect("it was held");
        assert_eq!((gone, delay), (first, limits::RELAY_RETRY_FIRST));
        let asked = ask(&mut relays, now);
        assert!(asked.len() == 1 && asked[0].0 != first);
    }

    /// One relay that holds a place, and its listener.
    fn held(lifetime: Option<Duration>, now: Instant) -> (Relays, PeerId, ListenerId) {
        let one = PeerId::random();
        let mut relays = relays(&[one], 1, now);
        let listener = ask(&mut relays, now)[0].1;
        relays.accepted(&one, lifetime, now);
        (relays, one, listener)
    }

    #[test]
    fn a_place_is_held_for_longer_in_time() {
        let now = Instant::now();
        let (mut relays, one, listener) = held(None, now);
        let later = now + limits::RELAY_RENEW;
        assert_eq!(relays.next_due(), Some(later));
        assert_eq!(relays.next(later - Duration::from_secs(1)), None);
        assert_eq!(relays.next(later), Some(Action::Renew(listener)));
        assert_eq!(relays.next(later), None, "once is enough");
        relays.accepted(&one, None, later);
        assert_eq!(relays.next_due(), Some(later + limits::RELAY_RENEW));
        let (relays, ..) = held(Some(Duration::from_secs(120)), now);
        assert_eq!(relays.next_due(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_renewal_that_fails_is_tried_again_while_the_place_lasts() {
        let (now, mut tries) = (Instant::now(), 0);
        let (mut relays, one, listener) = held(None, now);
        let end = now + limits::RELAY_RESERVATION;
        let mut at = now;
        while at < end {
            at = relays.next_due().expect("something is to come");
            match relays.next(at) {
                Some(Action::Renew(renewed)) => {
                    assert_eq!((renewed, relays.held().count()), (listener, 1));
                    relays.not_renewed(listener, at);
                    tries += 1;
                }
                Some(Action::Close(closed)) => assert_eq!((closed, at), (listener, end)),
                other => panic!("{other:?}"),
            }
        }
        assert!((3..100).contains(&tries), "{tries}");
        assert_eq!(relays.closed(listener, end, 0.0), None, "this was our wish");
        assert_eq!(ask(&mut relays, end)[0].0, one);
    }

    #[test]
    fn a_relay_that_moves_is_asked_where_it_is() {
        let (now, one) = (Instant::now(), PeerId::random());
        let mut relays = relays(&[one], 1, now);
        let listener = ask(&mut relays, now)[0].1;
        relays.accepted(&one, None, now);
        relays.closed(listener, now, 0.0);
        assert_eq!(relays.next(now), None, "it is left alone for a while");
        let moved: Multiaddr = format!("/ip4/203.0.113.9/tcp/4001/p2p/{one}").parse().expect("valid");
        relays.found(one, moved.clone(), now);
        assert_eq!(relays.next(now), Some(Action::Ask(one, moved)));
        let listener = ask(&mut relays, now)[0].1;
        let (_, delay) = relays.closed(listener, now, 0.0).expect("it was asked");
        assert_eq!(relays.next(now + delay), Some(Action::Ask(one, addr(one))), "as the operator says");
    }

    #[test]
    fn who_can_be_dialled_needs_none() {
        let (now, one) = (Instant::now(), PeerId::random());
        let mut relays = relays(&[one], 2, now);
        let listener = ask(&mut relays, now)[0].1;
        relays.accepted(&one, None, now);
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
