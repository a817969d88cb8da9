//! Stands in for the crate `futures-timer`, which gives libp2p's crates their timers (see `[patch.crates-io]`
//! in the root manifest).
//!
//! The original has a thread of its own and wakes it for every timer that is made. gossipsub makes one per
//! message and recipient, to notice messages that wait for too long, so that is a switch of threads per
//! message. Here all timers are in one table, one [`drive`]r sleeps until the earliest, and a new timer
//! wakes it only if it is earlier still. A timer that nobody has polled costs nothing at all.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use async_io::Timer;

/// Done after a time. Polled again after that, it is done still.
pub struct Delay {
    due: Instant,
    /// Its place in the table, once it was polled.
    entry: Option<Key>,
    /// Who polled it last: to be woken after a [`reset`](Self::reset), too.
    waker: Option<Waker>,
}

/// Timers are ordered by time; the number tells those of one instant apart.
type Key = (Instant, usize);

/// All timers of the process that are waited for.
static TABLE: Mutex<Table> =
    Mutex::new(Table { waiting: BTreeMap::new(), next: 0, driver: None, armed: None, driven: false });

struct Table {
    waiting: BTreeMap<Key, Waker>,
    /// The number of the next timer.
    next: usize,
    /// Wakes the driver.
    driver: Option<Waker>,
    /// When the driver wakes by itself.
    armed: Option<Instant>,
    /// Somebody drives.
    driven: bool,
}

impl Delay {
    /// Done `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self { due: after(duration), entry: None, waker: None }
    }

    /// Done `duration` from now instead, and whoever polled it last is woken then, even if it was done before.
    /// gossipsub relies on that: it resets its heartbeat without polling it, and with the original crate the
    /// heart of an idle node stops.
    pub fn reset(&mut self, duration: Duration) {
        self.forget();
        self.due = after(duration);
        self.entry = self.waker.clone().map(|waker| table().insert(self.due, waker));
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            self.forget();
            return Poll::Ready(());
        }
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if self.entry.is_none() || !known {
            self.forget();
            self.waker = Some(cx.waker().clone());
            self.entry = Some(table().insert(self.due, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Delay {
    fn forget(&mut self) {
        if let Some(key) = self.entry.take() {
            table().waiting.remove(&key);
        }
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

/// Wakes timers for as long as it is polled. A program makes it before the first timer and runs it beside its
/// other tasks; without it, the first timer starts a thread that does so.
pub fn drive() -> impl Future<Output = ()> + Send {
    table().driven = true;
    let guard = Undriven;
    let mut timer = Timer::never();
    poll_fn(move |cx| {
        let _held = &guard;
        loop {
            let (due, armed) = table().turn(cx.waker());
            // Outside of the lock: a waker may do anything, such as dropping another timer.
            due.into_iter().for_each(Waker::wake);
            match armed {
                Some(at) => timer.set_at(at),
                None => timer = Timer::never(),
            }
            if Pin::new(&mut timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
}

/// When the driver is gone, the next timer finds another one.
struct Undriven;

impl Drop for Undriven {
    fn drop(&mut self) {
        let mut table = table();
        (table.driven, table.driver, table.armed) = (false, None, None);
    }
}

impl Table {
    fn insert(&mut self, due: Instant, waker: Waker) -> Key {
        let key = (due, self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(key, waker);
        if !self.driven {
            // Where no thread can be had, the next timer tries again.
            let thread = thread::Builder::new().name("timers".into());
            self.driven = thread.spawn(|| smol::future::block_on(drive())).is_ok();
        } else if self.armed.is_none_or(|armed| due < armed)
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
        key
    }

    /// Takes out the timers that are due, and says when the next one is.
    fn turn(&mut self, driver: &Waker) -> (Vec<Waker>, Option<Instant>) {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        self.armed = self.waiting.first_key_value().map(|((at, _), _)| *at);
        self.driver = Some(driver.clone());
        (due, self.armed)
    }
}

fn table() -> MutexGuard<'static, Table> {
    // Nothing under the lock leaves the table half done.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time that the clock cannot hold is never; thirty years are as good.
fn after(duration: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early() {
        smol::block_on(async {
            let start = Instant::now();
            let (late, soon) = (Delay::new(Duration::from_millis(60)), Delay::new(Duration::from_millis(20)));
            smol::future::or(
                async {
                    late.await;
                    panic!("the late one was first");
                },
                soon,
            )
            .await;
            assert!(start.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn an_earlier_timer_wakes_the_driver() {
        smol::block_on(async {
            let mut long = Delay::new(Duration::from_secs(3600));
            assert!(smol::future::poll_once(&mut long).await.is_none());
            Delay::new(Duration::from_millis(10)).await;
        });
    }

    #[test]
    fn a_timer_can_be_reset_and_polled_after_its_end() {
        smol::block_on(async {
            let mut delay = Delay::new(Duration::from_secs(3600));
            assert!(smol::future::poll_once(&mut delay).await.is_none());
            delay.reset(Duration::from_millis(5));
            (&mut delay).await;
            (&mut delay).await;
            delay.reset(Duration::from_secs(3600));
            assert!(smol::future::poll_once(&mut delay).await.is_none());
        });
    }

    #[test]
    fn a_reset_wakes_who_polled_before() {
        smol::block_on(async {
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
    fn a_dropped_timer_leaves_the_table() {
        smol::block_on(async {
            let far = Duration::from_secs(7777);
            let mut delay = Delay::new(far);
            assert!(smol::future::poll_once(&mut delay).await.is_none());
            let key = delay.entry.expect("registered");
            drop(delay);
            assert!(!table().waiting.contains_key(&key));
        });
    }

    #[test]
    fn the_longest_time_is_no_panic() {
        let mut delay = Delay::new(Duration::MAX);
        assert!(smol::block_on(smol::future::poll_once(&mut delay)).is_none());
    }
}
