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

/// Connections that may die in the backlog, one after the other, before the listener pauses.
/// Unit: connections.
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

/// Name servers taken from `resolv.conf`. Unit: servers.
///
/// As many as glibc and musl take (`MAXNS`).
pub const DNS_SERVERS: usize = 3;

/// How long one server has for one answer, unless `options timeout:N` says otherwise. Unit: time.
///
/// A home router that asks its provider answers within a fraction of a second; two seconds leave room for a
/// lost datagram on a mobile link without letting a dead first server cost much.
pub const DNS_TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often each server is asked, unless `options attempts:N` says otherwise. Unit: rounds.
///
/// The default of glibc and musl.
pub const DNS_TRIES: u32 = 2;

/// Most that `options attempts:N` can ask for. Unit: rounds. glibc caps at 5 as well.
pub const DNS_TRIES_MAX: u32 = 5;

/// How long one lookup may take, over all servers and rounds. Unit: time.
///
/// The same patience as for a TCP dial: who waits for the connection waits for both.
pub const DNS_LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the addresses of one IP family wait for those of the other. Unit: time.
///
/// RFC 8305 proposes 50 ms; slow home routers ask for the two families one after the other.
pub const DNS_OTHER_FAMILY: Duration = Duration::from_millis(200);

/// Datagrams that answer something else, after which a query is given up. Unit: datagrams.
///
/// Late answers to an earlier try of another program are rare. More of them is somebody guessing the
/// 16-bit id: he gets this many guesses per socket, 1 in 2,048.
pub const DNS_STRAYS: usize = 32;

/// Longest answer read from a datagram. Unit: bytes.
///
/// Without EDNS a server sends 512 at most; 1232 is what fits every path, for servers that know no better.
pub const DNS_UDP_BYTES: usize = 1232;

/// Longest answer read by TCP. Unit: bytes.
///
/// The protocol allows 65,535; sixteen TXT records of the longest kind are less than a tenth of that.
pub const DNS_TCP_BYTES: usize = 16 * 1024;

/// Addresses taken from one lookup. Unit: addresses.
///
/// More alternatives than can be dialled are of no use. Of the records for a `/dnsaddr`, those that match
/// are counted.
pub const DNS_ADDRESSES: usize = 16;

/// Lookups for one dialled address, those that `/dnsaddr` leads to included. Unit: lookups.
///
/// Ends cycles. Upstream libp2p has the same number.
pub const DNS_LOOKUPS: usize = 32;

/// Lookups under way for one dialled address. Unit: lookups.
///
/// Each has up to two sockets; together with the dials that is what a flood of names can cost.
pub const DNS_LOOKUPS_AT_ONCE: usize = 4;

/// Connections tried for one dialled address. Unit: connections. As in upstream libp2p.
pub const DNS_DIALS: usize = 16;

/// Head start of one connection attempt over the next. Unit: time.
///
/// RFC 8305, section 5, recommends 250 ms: longer than most round trips, shorter than what a person notices.
pub const DNS_DIAL_STAGGER: Duration = Duration::from_millis(250);

/// How much of `resolv.conf` is read. Unit: bytes. Three servers and some comments fit many times.
pub const DNS_RESOLV_CONF_BYTES: u64 = 16 * 1024;

/// How much of the hosts file is read, line by line. Unit: bytes.
///
/// Block lists make it long; this much is read in a few milliseconds, and never by the loop's thread.
pub const DNS_HOSTS_BYTES: u64 = 4 * 1024 * 1024;

const _: () = assert!(DNS_TRIES <= DNS_TRIES_MAX);
const _: () = assert!(DNS_TRY_TIMEOUT.as_millis() * 2 < DNS_LOOKUP_TIMEOUT.as_millis());
const _: () = assert!(DNS_UDP_BYTES < DNS_TCP_BYTES && DNS_TCP_BYTES <= u16::MAX as usize);
