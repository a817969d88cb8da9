//! When to ask the STUN servers again.
//!
//! At the start, when addresses change, in time for those who need fresh ports, and otherwise rarely. An idle node
//! has one wake-up in several minutes from this.

use std::time::{Duration, Instant};

use super::client::Depth;
use crate::limits;

/// One for all families: they are checked together.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// When the next check begins, if there is anybody to ask.
    due: Option<Instant>,
    /// When the last one did.
    last: Option<Instant>,
    /// The next check looks at everything.
    is_full: bool,
    /// Somebody needs fresh ports until then.
    wished_until: Option<Instant>,
    /// When the ports of the last check go stale.
    stale: Option<Instant>,
    /// Checks in a row that nobody answered.
    failures: u32,
    /// When behaviour was last looked at.
    last_full: Option<Instant>,
}

impl Schedule {
    /// The first check is due at once.
    pub fn new(now: Instant) -> Self {
        Schedule {
            due: Some(now),
            last: None,
            is_full: true,
            wished_until: None,
            stale: None,
            failures: 0,
            last_full: None,
        }
    }

    /// When [`Self::begin`] or [`Self::rest`] should be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// There is nobody to ask, or no socket: nothing is due before [`Self::changed`].
    pub fn rest(&mut self) {
        self.due = None;
        self.is_full = true;
    }

    /// Whether somebody is going to use the outside ports soon.
    pub fn is_wished(&self, now: Instant) -> bool {
        self.wished_until.is_some_and(|until| now < until)
    }

    /// Our addresses changed, or the servers did: all may be different now.
    pub fn changed(&mut self, now: Instant) {
        self.is_full = true;
        self.failures = 0;
        self.stale = None;
        self.due.get_or_insert(now + limits::STUN_CHECK);
        self.not_later_than(now + limits::STUN_SETTLE, now);
    }

    /// Somebody is going to use the outside ports within [`limits::STUN_WISH`].
    pub fn wish_fresh(&mut self, now: Instant) {
        self.wished_until = Some(now + limits::STUN_WISH);
        let due = self.stale.map_or(now, |stale| stale.checked_sub(limits::STUN_AHEAD).unwrap_or(now));
        self.not_later_than(due.max(now), now);
    }

    /// The check begins, and is this deep. `random`, from 0 to 1, spreads the nodes of a place over time.
    pub fn begin(&mut self, now: Instant, random: f64) -> Depth {
        // Well within the time that a verdict is believed, so that it never lapses for want of a look.
        let is_overdue = self.last_full.is_none_or(|at| now.duration_since(at) >= limits::STUN_KIND / 2);
        let depth = if self.is_full || is_overdue { Depth::Full } else { Depth::Light };
        if depth == Depth::Full {
            self.last_full = Some(now);
        }
        (self.last, self.is_full, self.stale) = (Some(now), false, None);
        self.due = Some(now + jitter(limits::STUN_CHECK, random));
        depth
    }

    /// The check found something, and its ports go stale then.
    pub fn succeeded(&mut self, stale: Instant, now: Instant) {
        self.failures = 0;
        self.stale = Some(stale);
        if self.wished_until.is_some_and(|until| stale < until) {
            self.not_later_than(stale.checked_sub(limits::STUN_AHEAD).unwrap_or(now), now);
        }
    }

    /// Nobody was asked or nobody answered.
    pub fn failed(&mut self, now: Instant, random: f64) {
        let pause = limits::STUN_RETRY.saturating_mul(1 << self.failures.min(16)).min(limits::STUN_CHECK);
        self.failures = self.failures.saturating_add(1);
        self.is_full = true;
        self.not_later_than(now + jitter(pause, random), now);
    }

    fn not_later_than(&mut self, due: Instant, now: Instant) {
        let least = self.last.map_or(now, |last| last + limits::STUN_CHECK_LEAST);
        // Who rests goes on resting.
        self.due = self.due.map(|before| before.min(due.max(least)));
    }
}

/// From three quarters to all of a time.
fn jitter(time: Duration, random: f64) -> Duration {
    time.mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &Schedule) -> Instant {
        schedule.due().expect("something is due")
    }

    fn after_a_check(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(now);
        assert_eq!((due(&schedule), schedule.begin(now, 0.0)), (now, Depth::Full));
        schedule.succeeded(now + limits::STUN_FRESH, now);
        schedule
    }

    #[test]
    fn an_idle_node_asks_rarely_and_lightly() {
        let now = Instant::now();
        let mut schedule = after_a_check(now);
        assert_eq!(due(&schedule), now + limits::STUN_CHECK);
        let now = due(&schedule);
        assert_eq!(schedule.begin(now, 1.0), Depth::Light);
        assert_eq!(due(&schedule), now + limits::STUN_CHECK * 3 / 4);
    }

    #[test]
    fn the_behaviour_is_looked_at_again_before_it_is_forgotten() {
        let start = Instant::now();
        let mut schedule = after_a_check(start);
        loop {
            let now = due(&schedule);
            assert!(now < start + limits::STUN_KIND);
            if schedule.begin(now, 0.0) == Depth::Full {
                break;
            }
            schedule.succeeded(now + limits::STUN_FRESH, now);
        }
    }

    #[test]
    fn changed_addresses_bring_a_full_check_soon_but_not_a_storm() {
        let now = Instant::now();
        let mut schedule = after_a_check(now);
        schedule.changed(now + Duration::from_secs(1));
        assert_eq!(due(&schedule), now + limits::STUN_CHECK_LEAST);
        let later = now + Duration::from_secs(60);
        let mut schedule = after_a_check(now);
        schedule.changed(later);
        assert_eq!(due(&schedule), later + limits::STUN_SETTLE);
        assert_eq!(schedule.begin(due(&schedule), 0.0), Depth::Full);
    }

    #[test]
    fn who_needs_fresh_ports_gets_them_before_they_are_stale() {
        let start = Instant::now();
        let mut schedule = after_a_check(start);
        schedule.wish_fresh(start + Duration::from_secs(10));
        let mut checks = 0;
        loop {
            let (now, last) = (due(&schedule), schedule.last.expect("there was one"));
            if now > last + limits::STUN_FRESH {
                break;
            }
            assert_eq!(now, last + limits::STUN_FRESH - limits::STUN_AHEAD);
            assert_eq!(schedule.begin(now, 0.5), Depth::Light);
            schedule.succeeded(now + limits::STUN_FRESH, now);
            checks += 1;
        }
        assert_eq!(checks, 5, "then the wish has lapsed");
    }

    #[test]
    fn stale_ports_are_refreshed_at_once_when_somebody_needs_them() {
        let start = Instant::now();
        let mut schedule = after_a_check(start);
        let now = start + Duration::from_secs(100);
        schedule.wish_fresh(now);
        assert_eq!(due(&schedule), now);
    }

    #[test]
    fn without_anybody_to_ask_nothing_is_due() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.rest();
        schedule.wish_fresh(now);
        assert_eq!(schedule.due(), None);
        schedule.changed(now);
        assert_eq!(schedule.due(), Some(now + limits::STUN_SETTLE));
    }

    #[test]
    fn silence_is_met_with_patience() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            schedule.begin(now, 0.0);
            schedule.failed(now, 0.0);
            pauses.push((due(&schedule) - now).as_secs());
            now = due(&schedule);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
