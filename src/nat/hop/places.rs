//! Who has which place at a relay: reservations and circuits, and how many more anybody gets. Pure.
//!
//! Keys cost nothing and addresses cost something, so places are shared between networks, not peers, and by what is
//! left instead of by fixed portions: a network gets one more place only while more are free than it has. So each
//! takes half of what others left at most, and whoever comes from elsewhere finds a place: one hostile network leaves
//! half, and of 256 places five of them, one after the other, leave 8. One address gets a third at most, which leaves
//! its neighbours something. Many homes behind the address of one CGNAT are honest, and are served as long as there is
//! room. Who has a place keeps it: nobody who comes later takes it away.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{PeerId, swarm::ConnectionId};

use crate::{discovery::scope::Prefix, limits};

/// What a relay gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers that can be reached through it.
    pub reservations: usize,
    /// Circuits at once.
    pub circuits: usize,
    /// Circuits from one peer, and as many to one.
    pub circuits_per_peer: usize,
    /// How long a circuit lasts. Unit: time.
    pub circuit_time: Duration,
    /// Bytes through one circuit, both directions together.
    pub circuit_bytes: u64,
}

/// Names a circuit.
pub(super) type CircuitId = u32;

/// The end of a circuit.
pub(super) type End = (PeerId, ConnectionId);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// None is left, or none for this network.
    Full,
    /// The peer that is meant has no reservation here.
    NoReservation,
    /// A peer wants to reach itself.
    Itself,
    /// Too many requests came lately.
    TooFast,
}

/// Where somebody is. `None`: in a network of ours, which is not counted.
type Origin = Option<IpAddr>;

#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    reservations: HashMap<PeerId, Reservation>,
    circuits: HashMap<CircuitId, Circuit>,
    next: CircuitId,
    /// When the allowance of a network's owner is whole again; see [`Places::may_ask`].
    paces: BTreeMap<Prefix, Instant>,
}

#[derive(Debug)]
struct Reservation {
    origin: Origin,
    /// Over which it was asked for last: circuits come over this one. A peer may have another one for a moment that
    /// speaks of nothing else than what it was made for, as AutoNAT's.
    connection: ConnectionId,
    until: Instant,
}

#[derive(Debug)]
struct Circuit {
    source: End,
    target: End,
    /// Where the source is: it wanted the circuit.
    origin: Origin,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reservations: limits::RELAY_RESERVATIONS as usize,
            circuits: limits::RELAY_CIRCUITS as usize,
            circuits_per_peer: limits::RELAY_CIRCUITS_PER_PEER as usize,
            circuit_time: Duration::from_secs(limits::RELAY_CIRCUIT_MINUTES * 60),
            circuit_bytes: limits::RELAY_CIRCUIT_MIB << 20,
        }
    }
}

impl Limits {
    /// Connections that a relay may have at once: those of any node, and one for each that can have a place.
    pub fn connections(&self) -> u32 {
        limits::CONNECTIONS.saturating_add((self.reservations + self.circuits) as u32)
    }
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            reservations: HashMap::new(),
            circuits: HashMap::new(),
            next: 0,
            paces: BTreeMap::new(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn reservations(&self) -> usize {
        self.reservations.len()
    }

    pub(super) fn circuits(&self) -> usize {
        self.circuits.len()
    }

    /// Whether a peer has a reservation, or is an end of a circuit.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.reservations.contains_key(peer)
            || self.circuits.values().any(|circuit| circuit.source.0 == *peer || circuit.target.0 == *peer)
    }

    /// Whether there is a circuit between two peers, whoever of them made it.
    pub(super) fn joins(&self, one: PeerId, other: PeerId) -> bool {
        let ends = self.circuits.values().map(|circuit| (circuit.source.0, circuit.target.0));
        ends.into_iter().any(|ends| ends == (one, other) || ends == (other, one))
    }

    /// Whether a request from there comes slowly enough: [`limits::RELAY_BURST_PER_OWNER`] at once, and one more each
    /// [`limits::RELAY_PACE_PER_OWNER`]. `pace` is the peer's own, likewise.
    pub(super) fn may_ask(&mut self, pace: &mut Option<Instant>, origin: Origin, now: Instant) -> bool {
        let own = next_pace(*pace, limits::RELAY_BURST_PER_PEER, limits::RELAY_PACE_PER_PEER, now);
        let Some(own) = own else { return false };
        if let Some(ip) = origin {
            let owner = Prefix::of_owner(ip);
            let last = self.paces.get(&owner).copied();
            let next = next_pace(last, limits::RELAY_BURST_PER_OWNER, limits::RELAY_PACE_PER_OWNER, now);
            let Some(next) = next else { return false };
            if last.is_none() && self.paces.len() >= limits::RELAY_OWNERS {
                self.paces.retain(|_, whole| *whole > now);
            }
            // Still full: the one that has used least of its allowance gets the rest back.
            if last.is_none() && self.paces.len() >= limits::RELAY_OWNERS {
                let least = self.paces.iter().min_by_key(|(_, whole)| **whole).map(|(owner, _)| *owner);
                least.map(|owner| self.paces.remove(&owner));
            }
            self.paces.insert(owner, next);
        }
        *pace = Some(own);
        true
    }

    /// Gives a peer a reservation, or prolongs the one that it has, which is always possible. What is over has been
    /// ended before, see [`Self::expire`].
    pub(super) fn reserve(
        &mut self,
        (peer, connection): End,
        origin: Origin,
        now: Instant,
    ) -> Result<(), Refusal> {
        let until = now + limits::RELAY_RESERVATION;
        if let Some(reservation) = self.reservations.get_mut(&peer) {
            (reservation.connection, reservation.until) = (connection, until);
            return Ok(());
        }
        let taken = self.reservations.values().map(|reservation| reservation.origin);
        if !has_place(origin, self.limits.reservations, taken) {
            return Err(Refusal::Full);
        }
        self.reservations.insert(peer, Reservation { origin, connection, until });
        Ok(())
    }

    /// Over which connection a peer has its reservation.
    pub(super) fn reserved_at(&self, peer: &PeerId) -> Option<ConnectionId> {
        Some(self.reservations.get(peer)?.connection)
    }

    /// Gives a circuit from a peer at `origin` to a connection of another one.
    pub(super) fn connect(
        &mut self,
        source: End,
        origin: Origin,
        target: PeerId,
        connection: Option<ConnectionId>,
    ) -> Result<CircuitId, Refusal> {
        if source.0 == target {
            return Err(Refusal::Itself);
        }
        let Some(connection) = connection.filter(|_| self.reservations.contains_key(&target)) else {
            return Err(Refusal::NoReservation);
        };
        let all = self.circuits.values();
        let from_it = all.clone().filter(|circuit| circuit.source.0 == source.0).count();
        let to_it = all.clone().filter(|circuit| circuit.target.0 == target).map(|circuit| circuit.origin);
        if from_it >= self.limits.circuits_per_peer
            || !has_place(origin, self.limits.circuits_per_peer, to_it)
            || !has_place(origin, self.limits.circuits, all.map(|circuit| circuit.origin))
        {
            return Err(Refusal::Full);
        }
        while self.circuits.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.circuits.insert(id, Circuit { source, target: (target, connection), origin });
        Ok(id)
    }

    /// The ends of a circuit, its source first.
    pub(super) fn ends(&self, id: CircuitId) -> Option<[End; 2]> {
        self.circuits.get(&id).map(|circuit| [circuit.source, circuit.target])
    }

    /// A circuit is over. Its ends.
    pub(super) fn close(&mut self, id: CircuitId) -> Option<[End; 2]> {
        self.circuits.remove(&id).map(|circuit| [circuit.source, circuit.target])
    }

    /// The circuits over a connection.
    pub(super) fn over(&self, end: End) -> Vec<CircuitId> {
        let is_over = |circuit: &Circuit| circuit.source == end || circuit.target == end;
        self.circuits.iter().filter(|(_, circuit)| is_over(circuit)).map(|(id, _)| *id).collect()
    }

    /// A peer is gone, and its reservation with it.
    pub(super) fn leave(&mut self, peer: &PeerId) {
        self.reservations.remove(peer);
    }

    /// Ends what was not prolonged. Who had it.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let late = self.reservations.iter().filter(|(_, reservation)| reservation.until <= now);
        let late: Vec<PeerId> = late.map(|(peer, _)| *peer).collect();
        late.iter().for_each(|peer| self.leave(peer));
        late
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.reservations.values().map(|reservation| reservation.until).min()
    }
}

/// Whether there is one more place of `most` for somebody at `origin`, when `taken` are given.
fn has_place(origin: Origin, most: usize, taken: impl Iterator<Item = Origin>) -> bool {
    let (mut all, mut of_owner, mut of_host) = (0, 0, 0);
    let place = origin.map(|ip| (Prefix::of_owner(ip), Prefix::of_host(ip)));
    for other in taken {
        all += 1;
        if let (Some((owner, host)), Some(ip)) = (place, other) {
            of_owner += usize::from(owner.contains(ip));
            of_host += usize::from(host.contains(ip));
        }
    }
    let free = most.saturating_sub(all);
    of_owner < free && 2 * of_host < free
}

/// A leaky bucket: when it will be empty after one more request; `None` when that one is too much.
fn next_pace(empty: Option<Instant>, burst: u32, pace: Duration, now: Instant) -> Option<Instant> {
    let next = empty.map_or(now, |empty| empty.max(now)) + pace;
    (next <= now + burst * pace).then_some(next)
}

#[cfg(test)]
mod tests;
