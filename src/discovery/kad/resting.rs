//! Peers that could not be reached a moment ago. Pure.

use std::{collections::HashMap, time::Instant};

use libp2p::PeerId;

use crate::limits;

/// Peers that lookups do not dial for now: others go on naming one that left for as long as they have not
/// noticed, in every answer, and every query would wait for it again.
#[derive(Default)]
pub(super) struct Resting(HashMap<PeerId, Instant>);

impl Resting {
    /// It could not be reached.
    pub(super) fn missed(&mut self, peer: PeerId, now: Instant) {
        if self.0.len() >= limits::DHT_RESTING {
            self.0.retain(|_, until| *until > now);
        }
        // When all places are taken, liars have seen to it; then the budget for dials has to do.
        if self.0.len() < limits::DHT_RESTING {
            self.0.insert(peer, now + limits::DHT_REST);
        }
    }

    /// It is there.
    pub(super) fn met(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    pub(super) fn has(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_missed_rests_until_the_time_is_over_or_it_is_met() {
        let (mut resting, now) = (Resting::default(), Instant::now());
        let [gone, back] = std::array::from_fn(|_| PeerId::random());
        resting.missed(gone, now);
        resting.missed(back, now);
        resting.met(&back);
        assert!(resting.has(&gone, now) && !resting.has(&back, now));
        assert!(!resting.has(&gone, now + limits::DHT_REST));
    }

    #[test]
    fn places_are_bounded_and_become_free() {
        let (mut resting, now) = (Resting::default(), Instant::now());
        (0..2 * limits::DHT_RESTING).for_each(|_| resting.missed(PeerId::random(), now));
        assert_eq!(resting.0.len(), limits::DHT_RESTING);
        resting.missed(PeerId::random(), now + limits::DHT_REST);
        assert_eq!(resting.0.len(), 1);
    }
}
