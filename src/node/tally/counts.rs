//! The counters. Plain numbers of 64 bits in the node's loop: nobody else writes them.

use std::{collections::BTreeMap, time::Duration};

use super::{Dial, Ears, Fate, Outcome, Recall, Way, ears::Heard};
use crate::rooms::Room;

/// What was counted since the start; of a room, since it was joined.
#[derive(Default)]
pub(crate) struct Tally {
    rooms: BTreeMap<Room, InRoom>,
    ears: Ears,
    dials: [u64; DIALS.len()],
    rtt: Histogram,
    punches: [[u64; OUTCOMES.len()]; WAYS.len()],
    recalls: [u64; RECALLS.len()],
    queries: [[u64; 2]; 2],
}

#[derive(Default)]
struct InRoom {
    published: u64,
    published_bytes: u64,
    fates: [u64; FATES.len()],
}

/// What was counted in a room.
#[derive(Clone, Debug)]
pub struct RoomCounts {
    /// Copies that peers sent, also of what was known.
    pub received: u64,
    /// Of their data.
    pub received_bytes: u64,
    /// What this node has said, announcements included.
    pub published: u64,
    pub published_bytes: u64,
    /// What became of messages: `accepted`, `known`, `stale`, `invalid` and `unknown`.
    pub fates: [(&'static str, u64); FATES.len()],
}

/// Names in the order of [`Fate`].
const FATES: [&str; 5] = ["accepted", "known", "stale", "invalid", "unknown"];

/// In the order of [`Dial`].
const DIALS: [&str; 7] =
    ["connected", "no_answer", "refused", "unreachable", "wrong_peer", "denied", "failed"];

/// In the order of [`Way`]; a build without STUN has the first.
const WAYS: [&str; 5] = ["dcutr", "prediction", "guessing", "walk", "unplanned"];

/// In the order of [`Outcome`].
const OUTCOMES: [&str; 3] = ["opened", "missed", "failed"];

/// In the order of [`Recall`].
const RECALLS: [&str; 3] = ["asked", "answered", "recovered"];

/// Round-trip times by the classes of [`Histogram::BOUNDS`].
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// The last one is of what is above all bounds.
    classes: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Upper bounds in seconds, inclusive: a LAN, a country, a continent, the world, and links that are full.
    pub const BOUNDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 1.0, 3.0];

    /// Takes one in.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let class = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.classes[class] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// Seconds, summed up.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// How many are in each class, not in those below it: upper bound and number. The last bound is infinite.
    pub fn classes(&self) -> impl Iterator<Item = (f64, u64)> {
        Self::BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.classes)
    }
}

impl Tally {
    /// For gossipsub to keep.
    pub(crate) fn ears(&self) -> Ears {
        self.ears.clone()
    }

    pub(crate) fn joined(&mut self, room: &Room) {
        self.rooms.entry(room.clone()).or_default();
        self.ears.joined(room);
    }

    pub(crate) fn left(&mut self, room: &Room) {
        self.rooms.remove(room);
        self.ears.left(room);
    }

    pub(crate) fn published(&mut self, room: &Room, bytes: usize) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.published += 1;
            room.published_bytes += bytes as u64;
        }
    }

    pub(crate) fn heard(&mut self, room: &Room, fate: Fate) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.fates[fate as usize] += 1;
        }
    }

    pub(crate) fn dialled(&mut self, how: Dial) {
        self.dials[how as usize] += 1;
    }

    pub(crate) fn pinged(&mut self, time: Duration) {
        self.rtt.observe(time);
    }

    pub(crate) fn punched(&mut self, way: Way, outcome: Outcome) {
        self.punches[way as usize][outcome as usize] += 1;
    }

    pub(crate) fn recalled(&mut self, what: Recall) {
        self.recalls[what as usize] += 1;
    }

    /// A query in the DHT has ended: a lookup, or else an announcement.
    #[cfg(feature = "kad")]
    pub(crate) fn queried(&mut self, is_lookup: bool, succeeded: bool) {
        self.queries[usize::from(is_lookup)][usize::from(succeeded)] += 1;
    }

    pub(in crate::node) fn room(&self, room: &Room) -> RoomCounts {
        let Heard { copies, bytes } = self.ears.heard(room);
        let zero = InRoom::default();
        let counted = self.rooms.get(room).unwrap_or(&zero);
        RoomCounts {
            received: copies,
            received_bytes: bytes,
            published: counted.published,
            published_bytes: counted.published_bytes,
            fates: std::array::from_fn(|i| (FATES[i], counted.fates[i])),
        }
    }

    pub(in crate::node) fn rtt(&self) -> Histogram {
        self.rtt.clone()
    }

    pub(in crate::node) fn dials(&self) -> Vec<([&'static str; 1], u64)> {
        DIALS.iter().zip(self.dials).map(|(name, count)| ([*name], count)).collect()
    }

    pub(in crate::node) fn punches(&self) -> Vec<([&'static str; 2], u64)> {
        let outcomes = |(way, counts): (&&'static str, [u64; OUTCOMES.len()])| {
            let way = *way;
            OUTCOMES.iter().zip(counts).map(move |(outcome, count)| ([way, *outcome], count))
        };
        WAYS.iter().zip(self.punches).flat_map(outcomes).collect()
    }

    pub(in crate::node) fn recalls(&self) -> Vec<([&'static str; 1], u64)> {
        RECALLS.iter().zip(self.recalls).map(|(name, count)| ([*name], count)).collect()
    }

    pub(in crate::node) fn queries(&self) -> Vec<([&'static str; 2], u64)> {
        let [[provide_failed, provided], [lookup_failed, looked_up]] = self.queries;
        vec![
            (["lookup", "succeeded"], looked_up),
            (["lookup", "failed"], lookup_failed),
            (["provide", "succeeded"], provided),
            (["provide", "failed"], provide_failed),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_their_numbers_do() {
        assert_eq!(FATES[Fate::Unknown as usize], "unknown");
        assert_eq!(FATES[Fate::Known as usize], "known");
        assert_eq!(DIALS[Dial::Failed as usize], "failed");
        assert_eq!(DIALS[Dial::WrongPeer as usize], "wrong_peer");
        assert_eq!(WAYS[Way::Dcutr as usize], "dcutr");
        #[cfg(feature = "stun")]
        assert_eq!((WAYS[Way::Unplanned as usize], WAYS[Way::Walk as usize]), ("unplanned", "walk"));
        assert_eq!(OUTCOMES[Outcome::Failed as usize], "failed");
        assert_eq!(RECALLS[Recall::Recovered as usize], "recovered");
    }

    #[test]
    fn times_fall_into_classes_whose_bounds_belong_to_them() {
        let mut times = Histogram::default();
        for ms in [0, 1, 2, 3, 4, 3000, 3001] {
            times.observe(Duration::from_millis(ms));
        }
        let classes: Vec<(f64, u64)> = times.classes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(classes, [(0.001, 2), (0.003, 2), (0.01, 1), (3.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((times.count(), times.sum()), (7, 6.011));
    }

    #[test]
    fn a_room_that_was_left_counts_from_nothing() {
        let (mut tally, room): (_, Room) = (Tally::default(), "den".parse().expect("a name"));
        tally.published(&room, 9);
        tally.joined(&room);
        tally.published(&room, 5);
        tally.heard(&room, Fate::Stale);
        let counts = tally.room(&room);
        assert_eq!((counts.published, counts.published_bytes, counts.fates[2]), (1, 5, ("stale", 1)));
        tally.left(&room);
        tally.heard(&room, Fate::Stale);
        assert_eq!((tally.rooms.len(), tally.room(&room).published), (0, 0));
    }
}
