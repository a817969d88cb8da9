//! Who waits until when. No clock and no thread: times are arguments.

use std::{collections::BTreeMap, task::Waker, time::Instant};

/// Timers are ordered by time; the number tells those of one instant apart.
pub(crate) type Key = (Instant, usize);

pub(crate) struct Table {
    waiting: BTreeMap<Key, Waker>,
    /// The number of the next timer.
    next: usize,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn insert(&mut self, due: Instant, waker: Waker) -> Key {
        let key = (due, self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(key, waker);
        key
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Waker> {
        self.waiting.remove(key)
    }

    /// Takes out those whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        due
    }

    /// When the next one's time has come.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.waiting.contains_key(key)
    }
}
