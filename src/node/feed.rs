//! Events from one node to many readers, none of which can hold it up.
//!
//! Each reader has a queue of its own, bounded by count and by bytes. When it is full, new events are not
//! queued but counted, and the reader is told how many it missed at the place where they would have been.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::api::Event;
use crate::limits;

/// The node's end.
#[derive(Clone, Default)]
pub struct Feed(Arc<Mutex<Readers>>);

#[derive(Default)]
struct Readers {
    queues: Vec<Arc<Mutex<Queue>>>,
    /// Events lost so far, of all readers together.
    missed: u64,
}

/// A reader's end. Dropping it ends the subscription.
pub struct Listener(Arc<Mutex<Queue>>);

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event, shared by all readers.
    Event(Arc<Event>),
    /// So many events were lost here because the reader was too slow.
    Missed(usize),
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    /// Sum of [`size`] over `events`.
    bytes: usize,
    /// What that may be.
    most: usize,
    /// Events lost since the last one queued; reported once the queued ones are read.
    missed: usize,
    waker: Option<Waker>,
    /// The node has ended: nothing more will come.
    closed: bool,
}

impl Feed {
    /// Hands an event to every reader.
    pub fn publish(&self, event: Event) {
        let mut readers = lock(&self.0);
        // A queue that only we still hold has lost its reader.
        readers.queues.retain(|queue| Arc::strong_count(queue) > 1);
        let event = Arc::new(event);
        let missed = readers.queues.iter().filter(|queue| !lock(queue).push(&event)).count();
        readers.missed += missed as u64;
    }

    /// Events that readers were too slow for.
    pub fn missed(&self) -> u64 {
        lock(&self.0).missed
    }

    /// Tells every reader that nothing more will come.
    pub fn close(&self) {
        for queue in lock(&self.0).queues.drain(..) {
            let mut queue = lock(&queue);
            queue.closed = true;
            queue.wake();
        }
    }

    /// A new reader, from the next event on; no more than `most` bytes wait for it.
    pub fn listen(&self, most: usize) -> Listener {
        let queue = Arc::new(Mutex::new(Queue { most, ..Queue::default() }));
        lock(&self.0).queues.push(queue.clone());
        Listener(queue)
    }
}

impl Listener {
    /// The next event; `None` when the node has ended and all was read.
    pub async fn next(&self) -> Option<Item> {
        poll_fn(|cx| {
            let mut queue = lock(&self.0);
            match queue.pop() {
                Some(item) => Poll::Ready(Some(item)),
                None if queue.closed => Poll::Ready(None),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next event if there is one now.
    pub fn try_next(&self) -> Option<Item> {
        lock(&self.0).pop()
    }
}

impl Queue {
    /// `false`: the reader misses it.
    fn push(&mut self, event: &Arc<Event>) -> bool {
        let size = size(event);
        // Once events were lost, everything is lost until the reader has caught up: so the gap has one place.
        let full = self.events.len() >= limits::EVENTS || self.bytes + size > self.most;
        if full || self.missed > 0 {
            self.missed += 1;
            return false;
        }
        self.bytes += size;
        self.events.push_back(event.clone());
        self.wake();
        true
    }

    fn pop(&mut self) -> Option<Item> {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= size(&event);
            return Some(Item::Event(event));
        }
        // An empty queue after a burst need not keep the burst's memory.
        self.events.shrink_to(64);
        (self.missed > 0).then(|| Item::Missed(std::mem::take(&mut self.missed)))
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// About how many bytes an event holds.
fn size(event: &Event) -> usize {
    let text = match event {
        Event::Message(message) => message.text.len(),
        Event::Trouble(text) => text.len(),
        _ => 0,
    };
    size_of::<Event>() + text
}

/// The lock is held for a few lines that cannot panic, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(text: &str) -> Event {
        Event::Trouble(text.into())
    }

    fn text(item: Option<Item>) -> String {
        match item {
            Some(Item::Event(event)) => match &*event {
                Event::Trouble(text) => text.clone(),
                other => panic!("unexpected {other:?}"),
            },
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn every_reader_gets_every_event_from_its_start_on() {
        let feed = Feed::default();
        let early = feed.listen(limits::EVENT_BYTES);
        feed.publish(trouble("one"));
        let late = feed.listen(limits::EVENT_BYTES);
        feed.publish(trouble("two"));
        assert_eq!(text(early.try_next()), "one");
        assert_eq!(text(early.try_next()), "two");
        assert_eq!(text(late.try_next()), "two");
        assert!(late.try_next().is_none());
    }

    #[test]
    fn a_slow_reader_loses_events_and_is_told_how_many() {
        let feed = Feed::default();
        let reader = feed.listen(limits::EVENT_BYTES);
        for i in 0..limits::EVENTS + 3 {
            feed.publish(trouble(&i.to_string()));
        }
        for i in 0..limits::EVENTS {
            assert_eq!(text(reader.try_next()), i.to_string());
        }
        assert!(matches!(reader.try_next(), Some(Item::Missed(3))));
        assert_eq!(feed.missed(), 3);
        feed.publish(trouble("again"));
        assert_eq!(text(reader.try_next()), "again");
    }

    #[test]
    fn the_queue_is_bounded_by_bytes_too() {
        let feed = Feed::default();
        let reader = feed.listen(limits::EVENT_BYTES);
        let long = "x".repeat(limits::TEXT_BYTES);
        let fits = limits::EVENT_BYTES / (limits::TEXT_BYTES + size_of::<Event>());
        for _ in 0..fits + 5 {
            feed.publish(trouble(&long));
        }
        for _ in 0..fits {
            assert!(matches!(reader.try_next(), Some(Item::Event(_))));
        }
        assert!(matches!(reader.try_next(), Some(Item::Missed(5))));
    }

    #[test]
    fn a_closed_feed_ends_after_what_was_queued() {
        let feed = Feed::default();
        let reader = feed.listen(limits::EVENT_BYTES);
        feed.publish(trouble("last"));
        feed.close();
        smol::block_on(async {
            assert_eq!(text(reader.next().await), "last");
            assert!(reader.next().await.is_none());
        });
    }

    #[test]
    fn a_dropped_reader_costs_nothing_more() {
        let feed = Feed::default();
        drop(feed.listen(limits::EVENT_BYTES));
        feed.publish(trouble("x"));
        assert!(lock(&feed.0).queues.is_empty());
    }
}
