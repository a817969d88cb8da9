//! Who has heard what of whom: what is lost, what comes twice, and when all is well again. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A line that has not been heard after so long is missed. Unit: time.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// What one member said, and what another one heard of it.
pub(super) struct Hearing<'a> {
    /// When each line was said: the first is line 1.
    pub(super) said: &'a [Instant],
    /// When a line of this number was heard.
    heard: HashMap<usize, Vec<Instant>>,
}

impl<'a> Hearing<'a> {
    /// `heard` are times and texts; a text is a number.
    pub(super) fn new(said: &'a [Instant], heard: &[(Instant, String)]) -> Self {
        let mut by_number: HashMap<usize, Vec<Instant>> = HashMap::new();
        for (at, text) in heard {
            if let Ok(number) = text.parse() {
                by_number.entry(number).or_default().push(*at);
            }
        }
        Hearing { said, heard: by_number }
    }

    /// Lines said in this time that were not heard.
    pub(super) fn lost(&self, from: Instant, to: Instant) -> Vec<usize> {
        let numbers = self.between(from, to).map(|(number, _)| number);
        numbers.filter(|number| !self.heard.contains_key(number)).collect()
    }

    /// Lines heard more often than once: the surplus.
    pub(super) fn repeated(&self) -> usize {
        self.heard.values().map(|times| times.len() - 1).sum()
    }

    /// Whether something was said in this time, and all of it was heard in time.
    pub(super) fn is_well(&self, from: Instant, to: Instant) -> bool {
        self.between(from, to).next().is_some()
            && self.between(from, to).all(|line| self.heard_in_time(line).is_some())
    }

    /// How long after `from` lines are heard in time, with no exception until `to`. `None`: never again.
    pub(super) fn recovered(&self, from: Instant, to: Instant) -> Option<Duration> {
        let Some((missed, _)) =
            self.between(from, to).filter(|line| self.heard_in_time(*line).is_none()).last()
        else {
            return Some(Duration::ZERO);
        };
        let mut later = self.between(from, to).filter(|(number, _)| *number > missed);
        later.find_map(|line| self.heard_in_time(line)).map(|at| at.saturating_duration_since(from))
    }

    fn heard_in_time(&self, (number, said): (usize, Instant)) -> Option<Instant> {
        let first = *self.heard.get(&number)?.first()?;
        (first <= said + LATE).then_some(first)
    }

    /// Numbers and times of the lines said in this time.
    fn between(&self, from: Instant, to: Instant) -> impl Iterator<Item = (usize, Instant)> {
        let lines = (1..).zip(self.said.iter().copied());
        lines.filter(move |(_, said)| (from..=to).contains(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten lines, one a second; `heard` are numbers and seconds.
    fn with<T>(heard: &[(usize, u64)], of: impl Fn(&Hearing<'_>, Instant) -> T) -> T {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let said: Vec<Instant> = (1..=10).map(after).collect();
        let heard: Vec<_> = heard.iter().map(|(number, at)| (after(*at), number.to_string())).collect();
        of(&Hearing::new(&said, &heard), start)
    }

    #[test]
    fn what_is_not_heard_is_lost_and_what_is_heard_again_is_counted() {
        let heard: Vec<_> = [1, 2, 2, 5, 6, 7, 8, 9, 10].map(|number| (number, number as u64)).into();
        let found = with(&heard, |hearing, start| {
            let to = |s| start + Duration::from_secs(s);
            let recovered = hearing.recovered(to(2), to(10));
            (hearing.lost(start, to(10)), hearing.repeated(), recovered, hearing.is_well(to(3), to(6)))
        });
        assert_eq!(found, (vec![3, 4], 1, Some(Duration::from_secs(3)), false));
    }

    #[test]
    fn what_comes_late_is_missed_and_not_lost() {
        let heard: Vec<_> =
            (1..=10).map(|number| (number, if number == 4 { 9 } else { number as u64 })).collect();
        let found = with(&heard, |hearing, start| {
            let to = |s| start + Duration::from_secs(s);
            (hearing.lost(start, to(10)), hearing.recovered(start, to(10)))
        });
        assert_eq!(found, (vec![], Some(Duration::from_secs(5))));
    }

    #[test]
    fn silence_is_no_recovery() {
        let found = with(&[(1, 1), (2, 2)], |hearing, start| {
            let to = |s| start + Duration::from_secs(s);
            (hearing.recovered(start, to(10)), hearing.is_well(to(11), to(12)), hearing.is_well(start, to(2)))
        });
        assert_eq!(found, (None, false, true));
    }
}
