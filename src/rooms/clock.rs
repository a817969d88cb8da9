//! A hybrid logical clock: wall-clock milliseconds that never run backwards and follow what others say.
//!
//! A router without a clock chip boots in 1970. Ordering messages by its wall clock alone would put all it
//! says before everything that was said; so each message carries a [`Timestamp`], and a node that hears a
//! later one continues from there. (Kulkarni et al., "Logical Physical Clocks", 2014.) And what it may have given out
//! before the machine lost its clock again is kept in a file: [`Reserve`].

mod reserve;

pub use self::reserve::{Reserve, load, save};

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::limits;

/// 48 bits of milliseconds since 1970 and 16 bits that count within one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// The clock of one node.
#[derive(Debug)]
pub struct Clock {
    /// The latest timestamp given out or followed.
    latest: Timestamp,
    /// What neighbours say of themselves: the latest time among them, and when that was.
    neighbours: Option<(Timestamp, Instant)>,
}

/// No wall clock of a machine that runs this program can be before this (2025-01-01), so one that is has
/// not been set since boot.
const PLAUSIBLE_MS: u64 = 1_735_689_600_000;

/// Nor after this (2100-01-01). Whoever says so is not followed, even by one who knows no better: it would never come
/// back from there.
const LAST_PLAUSIBLE_MS: u64 = 4_102_444_800_000;

impl Timestamp {
    /// From its 64 bits on the wire.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A timestamp at `ms` milliseconds since 1970.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms << 16)
    }

    /// The 64 bits on the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970, as the author's clock had it.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// This timestamp, `by` later.
    pub fn ahead(self, by: Duration) -> Self {
        Self(self.0.saturating_add((by.as_millis() as u64) << 16))
    }

    /// The last timestamp before this one.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// This timestamp, `by` earlier.
    pub fn back(self, by: Duration) -> Self {
        Self(self.0.saturating_sub((by.as_millis() as u64) << 16))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.0 & 0xffff)
    }
}

impl Clock {
    /// A clock that starts at `wall`.
    pub fn new(wall: SystemTime) -> Self {
        Self { latest: Timestamp::from_ms(ms(wall)), neighbours: None }
    }

    /// Goes on from there, if that is later: an earlier life of this node may have been there.
    pub fn begin_at(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
    }

    /// Goes by the wall clock again. Whoever calls it is sure that all later times were wrong: peers take what comes
    /// then for another life of this node.
    pub fn go_back(&mut self, wall: SystemTime) {
        self.latest = Timestamp::from_ms(ms(wall));
    }

    /// The latest timestamp given out or followed.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// The next timestamp: later than all before it, and not behind `wall`.
    pub fn tick(&mut self, wall: SystemTime) -> Timestamp {
        let wall = Timestamp::from_ms(ms(wall));
        self.latest = wall.max(Timestamp(self.latest.0.saturating_add(1)));
        self.latest
    }

    /// What the clock would say now, without moving it.
    pub fn now(&self, wall: SystemTime) -> Timestamp {
        self.latest.max(Timestamp::from_ms(ms(wall)))
    }

    /// A neighbour says what time it is: it made this timestamp and handed it to us just now.
    pub fn told(&mut self, time: Timestamp, now: Instant) {
        self.neighbours = Some((time.max(self.neighbours_at(now).unwrap_or_default()), now));
    }

    /// The time of the room, against which what others hand on is judged: our own, unless all neighbours are behind
    /// it. Then it is most likely ours that is wrong: with a clock that is years ahead, everything would be old.
    pub fn room(&self, wall: SystemTime, now: Instant) -> Timestamp {
        let own = self.now(wall);
        self.neighbours_at(now).map_or(own, |theirs| theirs.min(own))
    }

    /// The latest of the neighbours' clocks.
    fn neighbours_at(&self, now: Instant) -> Option<Timestamp> {
        self.neighbours.map(|(time, told)| time.ahead(now.saturating_duration_since(told)))
    }

    /// Follows the clock of another node, unless it is further ahead of a plausible wall clock than
    /// [`limits::CLOCK_AHEAD`]: one machine with a wrong clock shall not carry a room into the next century, nor one
    /// whose clock was never set. `is_doubtful`: ours may be such a one that began in the year when its firmware was
    /// made, and a neighbour says so itself; then the bound is [`limits::CLOCK_BEHIND`].
    pub fn follow(&mut self, other: Timestamp, wall: SystemTime, is_doubtful: bool) {
        let wall = ms(wall);
        let ahead = if is_doubtful { limits::CLOCK_BEHIND } else { limits::CLOCK_AHEAD };
        let far = wall.saturating_add(ahead.as_millis() as u64);
        if other.ms() <= if wall < PLAUSIBLE_MS { LAST_PLAUSIBLE_MS } else { far.min(LAST_PLAUSIBLE_MS) } {
            self.latest = self.latest.max(other);
        }
    }
}

fn ms(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64).min(u64::MAX >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_790_000_000_000;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn timestamps_rise_even_when_the_wall_clock_stands_still_or_falls() {
        let mut clock = Clock::new(at(NOON));
        let first = clock.tick(at(NOON));
        let second = clock.tick(at(NOON));
        let third = clock.tick(at(NOON - 60_000));
        assert!(first < second && second < third);
        assert_eq!(clock.tick(at(NOON + 5)).ms(), NOON + 5);
    }

    #[test]
    fn a_clock_that_was_never_set_follows_the_room() {
        let mut clock = Clock::new(at(1_000));
        clock.follow(Timestamp::from_ms(NOON), at(1_000), false);
        assert_eq!(clock.tick(at(2_000)).ms(), NOON);
    }

    #[test]
    fn a_plausible_clock_is_not_dragged_into_the_far_future() {
        let mut clock = Clock::new(at(NOON));
        clock.follow(Timestamp::from_bits(u64::MAX), at(NOON), false);
        assert_eq!(clock.tick(at(NOON + 1)).ms(), NOON + 1);
        clock.follow(Timestamp::from_ms(NOON + 60_000), at(NOON), false);
        assert_eq!(clock.tick(at(NOON + 1)).ms(), NOON + 60_000);
    }

    #[test]
    fn a_clock_that_stopped_with_its_firmware_follows_a_neighbour_for_some_years() {
        let far = NOON + limits::CLOCK_BEHIND.as_millis() as u64;
        let mut clock = Clock::new(at(NOON));
        clock.follow(Timestamp::from_ms(far + 1), at(NOON), true);
        assert_eq!(clock.tick(at(NOON + 1)).ms(), NOON + 1);
        clock.follow(Timestamp::from_ms(far), at(NOON), true);
        assert_eq!(clock.tick(at(NOON + 1)).ms(), far);
    }

    #[test]
    fn a_clock_that_is_ahead_of_all_neighbours_does_not_make_them_old() {
        let (mut clock, now, hour) = (Clock::new(at(10 * NOON)), Instant::now(), Duration::from_secs(3600));
        assert_eq!(clock.room(at(10 * NOON), now).ms(), 10 * NOON);
        clock.told(Timestamp::from_ms(NOON), now);
        assert_eq!(clock.room(at(10 * NOON), now).ms(), NOON);
        assert_eq!(clock.room(at(10 * NOON), now + hour).ms(), NOON + 3_600_000, "it goes on");
        clock.told(Timestamp::from_ms(NOON), now + hour);
        assert_eq!(clock.room(at(10 * NOON), now + hour).ms(), NOON + 3_600_000, "the latest of them counts");
        clock.told(Timestamp::from_ms(20 * NOON), now + hour);
        assert_eq!(
            clock.room(at(10 * NOON), now + hour).ms(),
            10 * NOON,
            "nobody carries us into the future"
        );
        assert_eq!(clock.tick(at(10 * NOON)).ms(), 10 * NOON);
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_dragged_to_the_end_of_time() {
        let mut clock = Clock::new(at(1_000));
        clock.follow(Timestamp::from_bits(u64::MAX), at(1_000), false);
        clock.follow(Timestamp::from_ms(LAST_PLAUSIBLE_MS + 1), at(1_000), false);
        assert_eq!(clock.tick(at(2_000)).ms(), 2_000);
    }

    #[test]
    fn the_last_timestamp_does_not_overflow() {
        let mut clock = Clock::new(at(0));
        clock.begin_at(Timestamp::from_bits(u64::MAX));
        assert_eq!(clock.tick(at(0)), Timestamp::from_bits(u64::MAX));
    }
}
