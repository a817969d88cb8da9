//! The threads that wait, one of which wakes timers.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use parking::Unparker;

use crate::table::{Key, Table};

/// All timers of the process that are waited for, and who wakes them.
static SHARED: Mutex<Shared> = Mutex::new(Shared { table: Table::new(), driver: Driver::None });

struct Shared {
    table: Table,
    driver: Driver,
}

/// The one thread that wakes timers, whosever they are.
enum Driver {
    /// The next timer gets itself one.
    None,
    /// It is awake or about to begin: it looks at the table before it sleeps.
    Awake,
    /// It sleeps, until this time if there is one. Whoever is due earlier wakes it.
    Asleep(Option<Instant>, Unparker),
}

/// Runs a future to its end. The thread sleeps while the future is not woken, and wakes the timers of the
/// whole process meanwhile, unless another thread does so already.
///
/// Should the future call this again, from inside, then the inner call waits in vain for timers: the outer
/// one is who wakes them.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    run(future, Role::take())
}

fn run<T>(future: impl Future<Output = T>, role: Option<Role>) -> T {
    let mut future = pin!(future);
    // Whoever wakes the future leaves a token here. Who parks takes the token and goes on at once, so nothing
    // is missed that happens between the poll and the sleep.
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        if role.is_none() {
            parker.park();
            continue;
        }
        // A statement of its own: in a `match`, the lock would be held during sleep.
        let bed = shared().lie_down(&unparker);
        let due = match bed {
            // The future is polled again, whether it is one of these that woke or not.
            Bed::Taken(due) => due,
            Bed::Free(until) => {
                match until {
                    Some(at) => _ = parker.park_deadline(at),
                    None => parker.park(),
                }
                shared().get_up()
            }
        };
        // Outside of the lock: a waker may do anything, such as dropping another timer.
        due.into_iter().for_each(Waker::wake);
    }
}

/// Has a waker woken when its time comes.
pub(crate) fn insert(due: Instant, waker: Waker) -> Key {
    let mut shared = shared();
    let key = shared.table.insert(due, waker);
    match &shared.driver {
        Driver::None => shared.start_thread(),
        Driver::Awake => {}
        Driver::Asleep(until, unparker) => {
            if until.is_none_or(|until| due < until) {
                unparker.unpark();
                shared.driver = Driver::Awake;
            }
        }
    }
    key
}

pub(crate) fn remove(key: &Key) {
    let waker = shared().table.remove(key);
    // Outside of the lock, for a waker's end may be the end of a task with timers of its own.
    drop(waker);
}

#[cfg(test)]
pub(crate) fn is_waited_for(key: &Key) -> bool {
    shared().table.contains(key)
}

/// What a driver finds when it wants to sleep.
enum Bed {
    /// Somebody is to be woken first.
    Taken(Vec<Waker>),
    /// It can sleep, until this time if there is one.
    Free(Option<Instant>),
}

impl Shared {
    fn lie_down(&mut self, unparker: &Unparker) -> Bed {
        let due = self.table.due(Instant::now());
        if !due.is_empty() {
            return Bed::Taken(due);
        }
        let until = self.table.next_due();
        // Said under the lock: what is inserted from here on, and due earlier, leaves a token.
        self.driver = Driver::Asleep(until, unparker.clone());
        Bed::Free(until)
    }

    fn get_up(&mut self) -> Vec<Waker> {
        self.driver = Driver::Awake;
        self.table.due(Instant::now())
    }

    /// For timers that nobody waits for otherwise. The thread remains.
    fn start_thread(&mut self) {
        let thread = thread::Builder::new().name("timers".into());
        // Where no thread can be had, the next timer tries again.
        self.driver = match thread.spawn(|| run(pending::<()>(), Some(Role))) {
            Ok(_) => Driver::Awake,
            Err(_) => Driver::None,
        };
    }
}

/// Held by the thread that drives.
struct Role;

impl Role {
    /// `None`: another thread has it.
    fn take() -> Option<Self> {
        let mut shared = shared();
        matches!(shared.driver, Driver::None).then(|| {
            shared.driver = Driver::Awake;
            Role
        })
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let mut shared = shared();
        shared.driver = Driver::None;
        if shared.table.next_due().is_some() {
            shared.start_thread();
        }
    }
}

fn shared() -> MutexGuard<'static, Shared> {
    // Nothing under the lock leaves the table half done.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}
