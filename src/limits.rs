//! Every bound of the program, with its unit and its reason.

use std::time::Duration;

/// Connections the kernel may hold for one TCP listener before we accept them. Unit: connections.
///
/// One turn of the loop accepts them all; 256 covers a burst of a whole lab starting at once, and costs
/// nothing while it is not used. The kernel caps it at `net.core.somaxconn`.
pub const TCP_LISTEN_BACKLOG: i32 = 256;

/// How long a TCP dial may take. Unit: time.
///
/// Linux repeats a SYN after 1, 3 and 7 seconds, so ten seconds are four tries; who has not answered by
/// then is better asked again later, when the reconnecting back-off says so.
pub const TCP_DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause of a listener that could not accept because a resource ran out. Unit: time.
///
/// It doubles with every failure in a row. A tenth of a second is unnoticeable to a peer and lets
/// connections that are about to close give their descriptors back.
pub const TCP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest such pause. Unit: time.
///
/// A process that stays out of descriptors then wakes (and logs) once in five seconds, which is still well
/// below the time after which a dialling peer gives up.
pub const TCP_ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Connections that may die in the backlog, one after the other, before the listener pauses. Unit: connections.
///
/// Each failed `accept` takes one of them out of the backlog, so the loop ends by itself; the bound is for a
/// kernel that keeps reporting the same error.
pub const TCP_ACCEPT_SKIPS: usize = 64;

/// Pause before the interface watcher is opened again after it broke. Unit: time.
///
/// Netlink breaks when the kernel is out of memory for it; a few seconds give it time to recover.
pub const INTERFACE_RETRY: Duration = Duration::from_secs(3);

const _: () = assert!(TCP_ACCEPT_PAUSE.as_millis() < TCP_ACCEPT_PAUSE_MAX.as_millis());
const _: () = assert!(TCP_ACCEPT_PAUSE_MAX.as_millis() < TCP_DIAL_TIMEOUT.as_millis());
