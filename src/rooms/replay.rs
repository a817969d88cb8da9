//! Tells a new message from one that was seen before, in bounded memory.
//!
//! gossipsub remembers message ids for [`limits::GOSSIP_SEEN_TTL`] only. Behind it stands this filter: an
//! author's timestamps rise, so per author the latest few and a floor below them decide, like the sliding
//! window of IPsec (RFC 4303, section 3.4.3) but over sparse numbers.

use std::collections::{HashMap, HashSet, VecDeque};

use libp2p::PeerId;

use super::clock::Timestamp;
use crate::limits;

/// What the filter says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen.
    Fresh,
    /// Seen before.
    Duplicate,
    /// So old that nobody can say whether it was seen.
    Stale,
}

/// The filter: all authors that were heard lately.
#[derive(Default)]
pub struct Replay {
    authors: HashMap<PeerId, Window>,
    /// Rises by one with every message, to find the author that was silent longest.
    turn: u64,
}

/// The same for messages that carry a number instead of a time, as plain rooms' do: some programs count, some
/// draw it at random, so all that can be done is to remember the latest [`limits::PLAIN_SEEN`].
#[derive(Default)]
pub struct Seen {
    known: HashSet<(PeerId, u64)>,
    order: VecDeque<(PeerId, u64)>,
}

impl Seen {
    /// Remembers a message: `false` if it was known.
    pub fn insert(&mut self, author: PeerId, number: u64) -> bool {
        if !self.known.insert((author, number)) {
            return false;
        }
        self.order.push_back((author, number));
        if self.order.len() > limits::PLAIN_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The timestamps of one author.
struct Window {
    /// The latest timestamps, rising.
    seen: VecDeque<Timestamp>,
    /// Everything up to this one is stale.
    floor: Timestamp,
    /// Everything beyond this one is of an earlier life, and stale.
    ceiling: Timestamp,
    /// [`Replay::turn`] at the author's last fresh message.
    last: u64,
}

impl Replay {
    /// Judges a message of `author` at `time`, and remembers it when it is fresh. `now` is the time of the room,
    /// against which the first message of an unknown author is judged. `is_live`: the author itself handed it to us.
    /// That is no replay, however old it seems: so an author whose clock was wrong, and is not any more, is heard.
    ///
    /// Call it only for messages whose signature holds: it must not be possible to speak for others here.
    pub fn check(&mut self, author: PeerId, time: Timestamp, now: Timestamp, is_live: bool) -> Verdict {
        if !self.authors.contains_key(&author) {
            let floor = if is_live { now.min(time) } else { now }.back(limits::STALE_AFTER);
            if time <= floor && !is_live {
                return Verdict::Stale;
            }
            self.make_room();
            self.authors.insert(author, Window::above(floor));
        }
        let Some(window) = self.authors.get_mut(&author) else { return Verdict::Stale };
        if is_live && window.is_of_another_life(time) {
            *window = Window { ceiling: time.ahead(limits::CLOCK_AHEAD), ..Window::above(time.previous()) };
        }
        let verdict = window.check(time);
        if verdict == Verdict::Fresh {
            self.turn += 1;
            window.last = self.turn;
        }
        verdict
    }

    /// Whether [`Self::check`] would find nothing new in a message of `author` at `time` that somebody hands on. Anybody
    /// may ask, for messages that are not proven, too.
    pub fn knows(&self, author: &PeerId, time: Timestamp) -> bool {
        let is_known = |window: &Window| time <= window.floor || window.seen.binary_search(&time).is_ok();
        self.authors.get(author).is_some_and(is_known)
    }

    /// Number of authors remembered.
    pub fn authors(&self) -> usize {
        self.authors.len()
    }

    fn make_room(&mut self) {
        if self.authors.len() < limits::AUTHORS {
            return;
        }
        // An eighth at a time, so that a stream of new authors does not search the table for each.
        let mut turns: Vec<u64> = self.authors.values().map(|w| w.last).collect();
        let (_, oldest, _) = turns.select_nth_unstable(limits::AUTHORS / 8);
        let oldest = *oldest;
        self.authors.retain(|_, w| w.last > oldest);
    }
}

impl Window {
    /// Nothing was seen yet.
    fn above(floor: Timestamp) -> Self {
        Window { seen: VecDeque::new(), floor, ceiling: Timestamp::from_bits(u64::MAX), last: 0 }
    }

    /// Whether the clock of the author has jumped: this is far behind what it said before, and would be stale, or it
    /// is beyond what could be of this life.
    fn is_of_another_life(&self, time: Timestamp) -> bool {
        time > self.ceiling || time <= self.floor.back(limits::STALE_AFTER)
    }

    fn check(&mut self, time: Timestamp) -> Verdict {
        if time <= self.floor || time > self.ceiling {
            return Verdict::Stale;
        }
        let at = match self.seen.back() {
            Some(latest) if *latest >= time => match self.seen.binary_search(&time) {
                Ok(_) => return Verdict::Duplicate,
                Err(at) => at,
            },
            _ => self.seen.len(),
        };
        self.seen.insert(at, time);
        self.ceiling = self.ceiling.max(time.ahead(limits::CLOCK_AHEAD));
        if self.seen.len() > limits::REPLAY_WINDOW
            && let Some(evicted) = self.seen.pop_front()
        {
            self.floor = self.floor.max(evicted);
        }
        Verdict::Fresh
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: u64 = 1_790_000_000_000;

    fn t(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_message_is_fresh_once() {
        let (mut replay, ada) = (Replay::default(), PeerId::random());
        assert_eq!(replay.check(ada, t(NOON), t(NOON), false), Verdict::Fresh);
        assert_eq!(replay.check(ada, t(NOON), t(NOON), false), Verdict::Duplicate);
        assert_eq!(replay.check(ada, t(NOON - 5), t(NOON), false), Verdict::Fresh);
        assert_eq!(replay.check(ada, t(NOON - 5), t(NOON), false), Verdict::Duplicate);
    }

    #[test]
    fn what_fell_out_of_the_window_is_stale_for_ever() {
        let (mut replay, ada) = (Replay::default(), PeerId::random());
        for i in 0..=limits::REPLAY_WINDOW as u64 {
            assert_eq!(replay.check(ada, t(NOON + i), t(NOON), false), Verdict::Fresh);
        }
        assert_eq!(replay.check(ada, t(NOON), t(NOON), false), Verdict::Stale);
        assert_eq!(replay.check(ada, t(NOON + 1), t(NOON), false), Verdict::Duplicate);
    }

    #[test]
    fn an_unknown_author_from_long_ago_is_stale() {
        let (mut replay, ada) = (Replay::default(), PeerId::random());
        let old = NOON - limits::STALE_AFTER.as_millis() as u64;
        assert_eq!(replay.check(ada, t(old), t(NOON), false), Verdict::Stale);
        assert_eq!(replay.check(ada, t(old + 1), t(NOON), false), Verdict::Fresh);
    }

    #[test]
    fn an_author_whose_clock_was_wrong_is_heard_when_it_speaks_itself() {
        let (mut replay, ada, future) = (Replay::default(), PeerId::random(), 2 * NOON);
        let mut hear = |time, is_live| replay.check(ada, t(time), t(NOON), is_live);
        for i in 0..=limits::REPLAY_WINDOW as u64 {
            assert_eq!(hear(future + i, i == 0), Verdict::Fresh);
        }
        assert_eq!(hear(NOON, false), Verdict::Stale, "anybody may hand on what is old");
        assert_eq!(hear(NOON, true), Verdict::Fresh);
        assert_eq!(hear(NOON, true), Verdict::Duplicate);
        assert_eq!(hear(NOON - 1, false), Verdict::Stale);
        assert_eq!(hear(NOON + 1, false), Verdict::Fresh, "from then on, by whomever");
        assert_eq!(hear(future, false), Verdict::Stale, "its earlier life does not come back");
        assert_eq!(hear(future + 1000, true), Verdict::Fresh, "unless it says so");
    }

    #[test]
    fn a_stranger_with_a_wrong_clock_is_heard_when_it_speaks_itself() {
        let (mut replay, ada) = (Replay::default(), PeerId::random());
        assert_eq!(replay.check(ada, t(1000), t(NOON), true), Verdict::Fresh);
        assert_eq!(replay.check(ada, t(1001), t(NOON), false), Verdict::Fresh);
        assert_eq!(replay.check(ada, t(NOON), t(NOON), false), Verdict::Fresh, "its clock was set");
        assert_eq!(replay.check(ada, t(500), t(NOON), true), Verdict::Fresh, "and is in 1970 again");
    }

    #[test]
    fn authors_are_bounded_and_the_silent_go_first() {
        let mut replay = Replay::default();
        let first = PeerId::random();
        replay.check(first, t(NOON), t(NOON), false);
        for i in 0..3 * limits::AUTHORS as u64 {
            replay.check(first, t(NOON + 1 + i), t(NOON), false);
            replay.check(PeerId::random(), t(NOON), t(NOON), false);
            assert!(replay.authors() <= limits::AUTHORS);
        }
        assert_eq!(
            replay.check(first, t(NOON), t(NOON), false),
            Verdict::Stale,
            "the busy author is still known"
        );
    }

    #[test]
    fn numbers_are_remembered_for_a_while() {
        let (mut seen, ada) = (Seen::default(), PeerId::random());
        assert!(seen.insert(ada, 7) && !seen.insert(ada, 7));
        for number in 100..100 + limits::PLAIN_SEEN as u64 {
            assert!(seen.insert(ada, number));
        }
        assert_eq!(seen.order.len(), limits::PLAIN_SEEN);
        assert_eq!(seen.known.len(), limits::PLAIN_SEEN);
        assert!(seen.insert(ada, 7), "forgotten by now");
    }

    proptest! {
        #[test]
        fn nothing_is_fresh_twice(times in proptest::collection::vec(0u64..400, 1..800)) {
            let (mut replay, ada) = (Replay::default(), PeerId::random());
            let mut fresh = HashSet::new();
            for time in times {
                if replay.check(ada, t(NOON + time), t(NOON), false) == Verdict::Fresh {
                    prop_assert!(fresh.insert(time));
                }
            }
        }
    }
}
