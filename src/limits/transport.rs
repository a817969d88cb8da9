//! Bounds of the transports and of the resolution of names.

use std::time::Duration;

use super::*;

// ---- TCP ----------------------------------------------------------------------------------------

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

/// The kernel asks the other end of a silent TCP connection after this whether it is there. Unit: time.
///
/// Nobody here is woken for that. It costs both ends about 100 bytes, and each of them asks.
pub const TCP_KEEP_IDLE: Duration = Duration::from_secs(9);

/// It asks again after this when there is no answer: three times before [`TCP_UNACKED`] ends it. Unit: time.
pub const TCP_KEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How long a TCP connection lives without an answer, be it to data or, on a silent one, counted from the
/// last thing that was heard. Unit: time.
///
/// The kernel looks when it would ask again, so a silent connection ends 15 s after its link. Whoever speaks
/// into the silence just before that begins anew: 29 s. An outage of 6 s is always survived, and of 14 s
/// while talking.
pub const TCP_UNACKED: Duration = Duration::from_secs(14);

/// Bytes of netlink messages read at once. The kernel makes its messages fit; netlink(7) asks for 8192 at
/// least.
pub const NETLINK_BYTES: usize = 8192;

/// Pause before the interface watcher is opened again after it broke. Unit: time.
///
/// Netlink breaks when the kernel is out of memory for it; a few seconds give it time to recover.
pub const INTERFACE_RETRY: Duration = Duration::from_secs(3);

const _: () = assert!(TCP_KEEP_IDLE.as_secs() + 2 * TCP_KEEP_INTERVAL.as_secs() < TCP_UNACKED.as_secs());
const _: () = assert!(2 * TCP_UNACKED.as_secs() + TCP_KEEP_INTERVAL.as_secs() <= DEAD_LINK.as_secs());
const _: () = assert!(TCP_ACCEPT_PAUSE.as_millis() < TCP_ACCEPT_PAUSE_MAX.as_millis());
const _: () = assert!(TCP_ACCEPT_PAUSE_MAX.as_millis() < TCP_DIAL_TIMEOUT.as_millis());
const _: () = assert!(TCP_DIAL_TIMEOUT.as_millis() < HANDSHAKE_TIMEOUT.as_millis());

// ---- names --------------------------------------------------------------------------------------

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

// ---- QUIC ---------------------------------------------------------------------------------------

/// Longest certificate that is looked at. Unit: bytes.
///
/// Ours has 400; one with an RSA key of 8,192 bits, for a host with another such, would have 4,300.
pub const QUIC_CERTIFICATE_BYTES: usize = 8 * 1024;

/// A clock that shows less than this is wrong. Unit: seconds since 1970; this is the start of 2026.
///
/// Routers without a clock chip boot in 1970, or whenever their firmware was built, and may stay there.
pub const CLOCK_FLOOR: u64 = 1_767_225_600;

// The certificate reader knows no longer lengths than two bytes hold.
const _: () = assert!(QUIC_CERTIFICATE_BYTES <= u16::MAX as usize);

/// Streams that a peer may have open on one QUIC connection. Unit: streams. As with yamux.
pub const QUIC_STREAMS: u32 = YAMUX_STREAMS as u32;

/// Bytes of one stream that may be under way or wait to be read. Unit: bytes.
///
/// 256 KiB, as yamux begins with: fifteen of the largest messages, and 5 MB/s at 50 ms.
pub const QUIC_STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of all streams of one connection, likewise. Unit: bytes.
///
/// What a hostile peer can make one connection hold: a sixteenth of what it could with yamux. A flood of
/// all [`CONNECTIONS`] at once would be 50 MB, but an honest node reads what it gets, and holds nothing.
pub const QUIC_WINDOW: u32 = 512 * 1024;

/// Bytes of one connection that may be written and not acknowledged. Unit: bytes.
///
/// The other half of [`QUIC_WINDOW`]: more would not get through to a peer like us.
pub const QUIC_SEND_WINDOW: u64 = 512 * 1024;

/// Bytes of handshake that may arrive out of order. Unit: bytes. A libp2p handshake has about 1,500.
pub const QUIC_CRYPTO_BUFFER: usize = 8 * 1024;

/// A QUIC connection that is silent for so long is lost. Unit: time.
///
/// It begins anew with the first thing we say into the silence (RFC 9000, section 10.1), so a link that dies
/// is noticed within this and a keep-alive's time. What we say is repeated at intervals that double, so an
/// outage of half this time is survived.
pub const QUIC_IDLE: Duration = Duration::from_secs(15);

/// A QUIC connection that we began says something after being silent for so long. Unit: time.
///
/// RFC 4787, REQ-5, wants NATs to keep a UDP mapping for 2 minutes; many home routers give it 30 s. So one
/// keep-alive may be lost with all its repetitions, and the next still comes in time.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(13);

/// The same for a connection that we accepted. Unit: time.
///
/// So much longer that the other end's keep-alive comes before ours is due: one of the two is enough, and
/// each wakes both ends twice. It is for the dialler to keep the NAT mapping: the packets from inside count.
pub const QUIC_KEEP_ALIVE_ACCEPTED: Duration = Duration::from_millis(14_500);

/// How long a QUIC handshake may take, dialled or accepted. Unit: time. The same patience as with TCP.
pub const QUIC_HANDSHAKE_TIMEOUT: Duration = TCP_DIAL_TIMEOUT;

/// Inbound handshakes per socket above which an address must prove that it receives. Unit: handshakes.
///
/// The proof (Retry) costs an honest peer a round trip, so a lab that starts together is spared.
pub const QUIC_RETRY_ABOVE: usize = 12;

/// Inbound handshakes per socket above which others are turned away. Unit: handshakes.
///
/// Each holds a TLS session and its buffers, about 25 kB: 600 kB.
pub const QUIC_HALF_OPEN: usize = 24;

/// Answers without a connection that wait for the socket. Unit: datagrams, of at most 1,200 bytes.
pub const QUIC_REPLIES: usize = 32;

/// Buffers for one receiving system call. Unit: buffers.
///
/// With GRO each has room for 64 KiB, which is address space rather than memory: pages that no datagram
/// touched cost nothing.
pub const QUIC_RECEIVE_BUFFERS: usize = 8;

/// Receiving system calls before anything else gets its turn. Unit: calls.
///
/// Four full ones without GRO are 32 datagrams, about a millisecond of decryption on a router.
pub const QUIC_RECEIVE_CALLS: usize = 4;

/// Sending system calls before anything else gets its turn. Unit: calls, of [`QUIC_SEGMENTS`] datagrams.
pub const QUIC_SEND_CALLS: usize = 32;

/// Datagrams of one connection in one sending system call. Unit: datagrams.
///
/// What congestion control lets out as a burst (RFC 9002, section 7.7), and 15 kB of buffer.
pub const QUIC_SEGMENTS: usize = 10;

/// Errors of a receiving socket, one after the other, before it pauses. Unit: errors.
///
/// Each is about one datagram; the bound is for a kernel that keeps reporting the same one.
pub const QUIC_RECEIVE_ERRORS: usize = 16;

/// How long such a pause is. Unit: time.
pub const QUIC_RECEIVE_PAUSE: Duration = Duration::from_secs(1);

/// Head start of a QUIC dial over the TCP dials of the same peer. Unit: time. RFC 8305, section 5.
pub const QUIC_HEAD_START: Duration = DNS_DIAL_STAGGER;

/// Shortest and longest time between two packets that open a way through our NAT. Unit: time.
///
/// As the DCUtR specification wants it.
pub const PUNCH_INTERVAL: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// How long a hole is punched before it is given up. Unit: time.
///
/// The other side dials as we begin, give or take a round trip; upstream libp2p waits as long.
pub const PUNCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of such a packet, which are random. Unit: bytes. As upstream libp2p has it.
pub const PUNCH_BYTES: usize = 64;

/// Datagrams that are not QUIC waiting for the one who asked for them. Unit: datagrams.
pub const SIDE_DATAGRAMS: usize = 64;

/// Longest such datagram. Unit: bytes. STUN messages stay below this on every path (RFC 8489, section 6.1).
pub const SIDE_BYTES: usize = 548;

const _: () = assert!(QUIC_STREAM_WINDOW <= QUIC_WINDOW && QUIC_WINDOW as u64 <= QUIC_SEND_WINDOW);
const _: () = assert!(QUIC_STREAM_WINDOW as usize > 2 * GOSSIP_RPC_BYTES);
const _: () = assert!(QUIC_WINDOW as usize * 16 <= YAMUX_STREAMS * 256 * 1024);
const _: () = assert!(QUIC_KEEP_ALIVE.as_millis() + 1000 < QUIC_KEEP_ALIVE_ACCEPTED.as_millis());
const _: () = assert!(QUIC_KEEP_ALIVE_ACCEPTED.as_millis() + QUIC_IDLE.as_millis() < DEAD_LINK.as_millis());
const _: () = assert!(QUIC_KEEP_ALIVE_ACCEPTED.as_millis() < QUIC_IDLE.as_millis());
const _: () = assert!(2 * QUIC_KEEP_ALIVE.as_secs() < 30);
const _: () = assert!(QUIC_RETRY_ABOVE < QUIC_HALF_OPEN && QUIC_HALF_OPEN <= PENDING_INBOUND as usize);
const _: () = assert!(PUNCH_TIMEOUT.as_millis() < QUIC_HANDSHAKE_TIMEOUT.as_millis());
