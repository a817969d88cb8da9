//! Stands in for the crate `futures-timer`, which gives libp2p's crates their timers (see `[patch.crates-io]`
//! in the root manifest), and has the timers of warren itself.
//!
//! The original has a thread of its own and wakes it for every timer that is made. gossipsub makes one per
//! message and recipient, to notice messages that wait for too long, so that is a switch of threads per
//! message. Here all timers are in one table, and [`block_on`] sleeps no longer than until the earliest of
//! them. So a timer that fires costs one wake-up, and to set one costs none. A timer that nobody has polled
//! costs nothing at all. Programs that do without [`block_on`] get a thread for it.
#![forbid(unsafe_code)]

mod driver;
mod table;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

pub use self::driver::block_on;
use self::table::Key;

/// Done after a time. Polled again after that, it is done still.
pub struct Delay {
    /// `None` is never.
    due: Option<Instant>,
    /// Its place in the table, once it was polled.
    entry: Option<Key>,
    /// Who polled it last: to be woken after a [`reset`](Self::reset), too.
    waker: Option<Waker>,
}

impl Delay {
    /// Done `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self::until(Instant::now().checked_add(duration))
    }

    /// Done at a time.
    pub fn at(due: Instant) -> Self {
        Self::until(Some(due))
    }

    /// Not done before it is reset.
    pub fn never() -> Self {
        Self::until(None)
    }

    /// Done `duration` from now instead, and whoever polled it last is woken then, even if it was done before.
    /// gossipsub relies on that: it resets its heartbeat without polling it, and with the original crate the
    /// heart of an idle node stops.
    pub fn reset(&mut self, duration: Duration) {
        // A time that the clock cannot hold is never.
        self.set(Instant::now().checked_add(duration));
    }

    /// The same with a time; `None` is never.
    pub fn set(&mut self, due: Option<Instant>) {
        self.forget();
        self.due = due;
        self.enter();
    }

    fn until(due: Option<Instant>) -> Self {
        Self { due, entry: None, waker: None }
    }

    fn enter(&mut self) {
        if let (Some(due), Some(waker)) = (self.due, &self.waker) {
            self.entry = Some(driver::insert(due, waker.clone()));
        }
    }

    fn forget(&mut self) {
        if let Some(key) = self.entry.take() {
            driver::remove(&key);
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.forget();
            return Poll::Ready(());
        }
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if self.entry.is_none() || !known {
            self.forget();
            self.waker = Some(cx.waker().clone());
            self.enter();
        }
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").field("due", &self.due).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::mpsc, thread};

    use smol::future::{or, pending, poll_once};

    use super::*;

    /// Every test with a thread that drives by itself, and with one that finds another driver.
    fn each_way(test: impl AsyncFn()) {
        block_on(test());
        smol::block_on(test());
    }

    const FAR: Duration = Duration::from_secs(3600);

    #[test]
    fn timers_fire_in_order_and_not_early() {
        each_way(async || {
            let start = Instant::now();
            let (late, soon) = (Delay::new(Duration::from_millis(60)), Delay::new(Duration::from_millis(20)));
            let late = async {
                late.await;
                panic!("the late one was first");
            };
            or(late, soon).await;
            assert!(start.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn an_earlier_timer_wakes_the_driver() {
        each_way(async || {
            let mut long = Delay::new(FAR);
            assert!(poll_once(&mut long).await.is_none());
            Delay::new(Duration::from_millis(10)).await;
        });
    }

    #[test]
    fn a_timer_set_by_another_thread_wakes_the_driver() {
        let (done, is_done) = smol::channel::bounded::<()>(1);
        let sleeper = thread::spawn(move || {
            block_on(async {
                let mut long = Delay::new(FAR);
                assert!(poll_once(&mut long).await.is_none());
                is_done.recv().await.expect("a word");
            });
        });
        // Somebody drives, be it the sleeper or a thread of another test.
        smol::block_on(Delay::new(Duration::from_millis(10)));
        done.try_send(()).expect("it waits");
        sleeper.join().expect("it wakes");
    }

    #[test]
    fn the_timers_of_a_driver_that_ended_go_on() {
        let mut delay = Delay::new(Duration::from_millis(20));
        block_on(async { assert!(poll_once(&mut delay).await.is_none()) });
        smol::block_on(delay);
    }

    #[test]
    fn a_wake_up_from_another_thread_is_never_lost() {
        for _ in 0..2_000 {
            let (parker, unparker) = parking::pair();
            let (send, receive) = mpsc::channel::<Waker>();
            let waking = thread::spawn(move || {
                let waker = receive.recv().expect("a waker");
                unparker.unpark();
                waker.wake();
            });
            let mut first = true;
            block_on(poll_fn(|cx| {
                if std::mem::take(&mut first) {
                    send.send(cx.waker().clone()).expect("it waits");
                    parker.park();
                    return Poll::Pending;
                }
                Poll::Ready(())
            }));
            waking.join().expect("no panic");
        }
    }

    #[test]
    fn timers_of_many_threads_all_fire() {
        let threads = (0..8).map(|n| {
            thread::spawn(move || {
                each_way(async || {
                    for i in 0..50 {
                        Delay::new(Duration::from_micros((n * 37 + i * 91) % 1500)).await;
                    }
                });
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    }

    #[test]
    fn a_timer_can_be_reset_and_polled_after_its_end() {
        each_way(async || {
            let mut delay = Delay::new(FAR);
            assert!(poll_once(&mut delay).await.is_none());
            delay.reset(Duration::from_millis(5));
            (&mut delay).await;
            (&mut delay).await;
            delay.reset(FAR);
            assert!(poll_once(&mut delay).await.is_none());
        });
    }

    #[test]
    fn a_reset_wakes_who_polled_before() {
        each_way(async || {
            let mut delay = Delay::new(Duration::from_millis(5));
            let mut rounds = 0;
            // Polled only when woken, and never again after a reset: as gossipsub does.
            poll_fn(|cx| {
                if Pin::new(&mut delay).poll(cx).is_ready() {
                    rounds += 1;
                    delay.reset(Duration::from_millis(5));
                }
                if rounds == 3 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
    }

    #[test]
    fn what_is_never_is_not_done_until_it_is_set() {
        each_way(async || {
            let mut delay = Delay::never();
            assert!(poll_once(&mut delay).await.is_none());
            delay.set(Some(Instant::now() + Duration::from_millis(5)));
            (&mut delay).await;
            delay.set(None);
            assert!(poll_once(&mut delay).await.is_none());
        });
    }

    #[test]
    fn a_dropped_timer_leaves_the_table() {
        each_way(async || {
            let mut delay = Delay::new(FAR * 2);
            assert!(poll_once(&mut delay).await.is_none());
            let key = delay.entry.expect("registered");
            drop(delay);
            assert!(!driver::is_waited_for(&key));
        });
    }

    #[test]
    fn the_longest_time_is_no_panic() {
        let mut delay = Delay::new(Duration::MAX);
        assert!(smol::block_on(poll_once(&mut delay)).is_none());
    }

    #[test]
    fn a_future_that_panics_leaves_the_timers_to_others() {
        let panicking = thread::spawn(|| {
            block_on(async {
                Delay::new(Duration::from_millis(1)).await;
                panic!("as it should");
            })
        });
        assert!(panicking.join().is_err());
        smol::block_on(or(Delay::new(Duration::from_millis(5)), pending()));
    }
}
