//! What is to happen, in order of time; what is due at one time happens in the order in which it was added.
//!
//! Millions of things are under way at once, nearly all of them due within a second. They lie unsorted in slots of time;
//! a slot is sorted when its turn comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Simulated time. Unit: microseconds since the start.
pub(crate) type Micros = u64;

/// Width of a slot. Unit: microseconds.
const SLOT: Micros = 256;

/// Slots ahead that are kept apart: a second of them. Unit: slots.
const SLOTS: usize = 4096;

pub(crate) struct Queue<E> {
    /// What was due in the current slot when its turn came, the next one last.
    current: Vec<Entry<E>>,
    /// What was added for that time, or an earlier one, since then.
    late: BinaryHeap<Reverse<Numbered<E>>>,
    /// What is due in the slots to come, in the order in which it was added: slot `n` is at `n % SLOTS`.
    slots: Vec<Vec<Entry<E>>>,
    /// What is due behind them.
    far: BinaryHeap<Reverse<Numbered<E>>>,
    /// Lists that were slots: memory is for what is under way, not for every slot's busiest time.
    spare: Vec<Vec<Entry<E>>>,
    /// Number of the current slot since the start.
    slot: u64,
    added: u64,
    len: usize,
}

struct Entry<E> {
    at: Micros,
    event: E,
}

struct Numbered<E> {
    at: Micros,
    nth: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Queue {
            current: Vec::new(),
            late: BinaryHeap::new(),
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            far: BinaryHeap::new(),
            spare: Vec::new(),
            slot: 0,
            added: 0,
            len: 0,
        }
    }

    pub(crate) fn add(&mut self, at: Micros, event: E) {
        self.len += 1;
        match (at / SLOT).saturating_sub(self.slot) {
            ahead @ 1.. if ahead < SLOTS as u64 => self.add_to_slot(Entry { at, event }),
            ahead => {
                self.added += 1;
                let entry = Reverse(Numbered { at, nth: self.added, event });
                if ahead == 0 { self.late.push(entry) } else { self.far.push(entry) }
            }
        }
    }

    /// The next event and its time, if there is one.
    pub(crate) fn next(&mut self) -> Option<(Micros, E)> {
        if self.len == 0 {
            return None;
        }
        while self.current.is_empty() && self.late.is_empty() {
            self.turn();
        }
        self.len -= 1;
        // Of two at one time the late one was added later.
        let is_late = match (self.current.last(), self.late.peek()) {
            (Some(entry), Some(Reverse(late))) => late.at < entry.at,
            (entry, _) => entry.is_none(),
        };
        match is_late {
            true => self.late.pop().map(|Reverse(late)| (late.at, late.event)),
            false => self.current.pop().map(|entry| (entry.at, entry.event)),
        }
    }

    /// The next slot has its turn, and what is due in the one that comes into reach goes there: it was added before
    /// anything else in that slot.
    fn turn(&mut self) {
        self.slot += 1;
        let due = std::mem::take(&mut self.slots[self.slot as usize % SLOTS]);
        let over = std::mem::replace(&mut self.current, due);
        if over.capacity() > 0 {
            self.spare.push(over);
        }
        // Both keep the order of what is due at one time: the first of it becomes the last.
        self.current.reverse();
        self.current.sort_by_key(|entry| Reverse(entry.at));
        let reach = self.slot + SLOTS as u64 - 1;
        while self.far.peek().is_some_and(|Reverse(entry)| entry.at / SLOT <= reach) {
            let Some(Reverse(Numbered { at, event, .. })) = self.far.pop() else { break };
            self.add_to_slot(Entry { at, event });
        }
    }

    fn add_to_slot(&mut self, entry: Entry<E>) {
        let slot = &mut self.slots[(entry.at / SLOT) as usize % SLOTS];
        if slot.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            *slot = spare;
        }
        slot.push(entry);
    }
}

impl<E> PartialEq for Numbered<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.nth) == (other.at, other.nth)
    }
}

impl<E> Eq for Numbered<E> {}

impl<E> PartialOrd for Numbered<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Numbered<E> {
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
