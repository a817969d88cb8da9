//! What is to happen, in order of time; what is due at one time happens in the order in which it was added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Simulated time. Unit: microseconds since the start.
pub(crate) type Micros = u64;

/// Width of a slot. Unit: microseconds.
const SLOT: Micros = 1000;

/// Slots ahead that are kept apart: most of what is added is due within some of them. Unit: slots.
const SLOTS: usize = 4096;

pub(crate) struct Queue<E> {
    /// What is due in the current slot, or was added for earlier.
    current: BinaryHeap<Reverse<Entry<E>>>,
    /// What is due in the slots to come, unsorted: slot `n` is at `n % SLOTS`.
    slots: Vec<Vec<Entry<E>>>,
    /// What is due behind them.
    far: BinaryHeap<Reverse<Entry<E>>>,
    /// Number of the current slot since the start.
    slot: u64,
    added: u64,
    len: usize,
}

struct Entry<E> {
    at: Micros,
    nth: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Queue {
            current: BinaryHeap::new(),
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            far: BinaryHeap::new(),
            slot: 0,
            added: 0,
            len: 0,
        }
    }

    pub(crate) fn add(&mut self, at: Micros, event: E) {
        self.added += 1;
        self.len += 1;
        let entry = Entry { at, nth: self.added, event };
        match (at / SLOT).saturating_sub(self.slot) {
            0 => self.current.push(Reverse(entry)),
            ahead if ahead < SLOTS as u64 => self.slots[(at / SLOT) as usize % SLOTS].push(entry),
            _ => self.far.push(Reverse(entry)),
        }
    }

    /// The next event and its time, if there is one.
    pub(crate) fn next(&mut self) -> Option<(Micros, E)> {
        if self.len == 0 {
            return None;
        }
        while self.current.is_empty() {
            self.slot += 1;
            let slot = &mut self.slots[self.slot as usize % SLOTS];
            self.current.extend(slot.drain(..).map(Reverse));
            let reach = self.slot + SLOTS as u64 - 1;
            while self.far.peek().is_some_and(|Reverse(entry)| entry.at / SLOT <= reach) {
                let Some(Reverse(entry)) = self.far.pop() else { break };
                match entry.at / SLOT <= self.slot {
                    true => self.current.push(Reverse(entry)),
                    false => self.slots[(entry.at / SLOT) as usize % SLOTS].push(entry),
                }
            }
        }
        self.len -= 1;
        self.current.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.nth) == (other.at, other.nth)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_adding() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut queue, mut heap) = (Queue::new(), BinaryHeap::new());
        let mut now = 0;
        for n in 0..20_000u64 {
            let ahead = [0, 300, 40_000, 9_000_000][rng.usize(..4)];
            let at = now + rng.u64(..=ahead);
            queue.add(at, n);
            heap.push(Reverse((at, n)));
            if n % 3 != 0 {
                let Reverse(expected) = heap.pop().expect("as many");
                assert_eq!(queue.next(), Some(expected));
                now = expected.0;
            }
        }
        while let Some(Reverse(expected)) = heap.pop() {
            assert_eq!(queue.next(), Some(expected));
        }
        assert_eq!(queue.next(), None);
    }
}
