//! Bounds of the ways through a NAT.

use std::time::Duration;

// ---- port mapping -------------------------------------------------------------------------------

/// Mappings asked for at once. A node wants one for TCP and one for UDP.
pub const PORTMAP_MAPPINGS: usize = 8;

/// How long a mapping is asked for. Unit: time.
///
/// Renewed at half of it. A node that dies without a word leaves its port open for no longer than this.
pub const PORTMAP_LEASE: Duration = Duration::from_secs(3600);

/// The longest lease believed in; a gateway may be replaced, and then the next renewal is how we notice.
pub const PORTMAP_LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The least time until a renewal: a gateway that grants a second at a time is not asked twice a second.
///
/// RFC 6887, section 11.2.1, has 4 s between two requests for a renewal; this is for the first.
pub const PORTMAP_RENEWAL_MIN: Duration = Duration::from_secs(2);

/// The longest time until a UPnP mapping is asked for again. Unit: time.
///
/// UPnP has no epoch, so this is how long a gateway that lost its mappings in a restart goes unnoticed.
pub const PORTMAP_UPNP_RENEWAL: Duration = Duration::from_secs(600);

/// Waits for an answer before a request is sent again, in the first phase: 1.75 s in all.
///
/// As NAT-PMP begins (RFC 6886, section 3.1). A gateway is a millisecond away; one that is silent for so long, and
/// has never said anything, does not speak the protocol.
pub const PORTMAP_QUICK: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];

/// The first and the longest wait after that, for a gateway that has answered before (RFC 6887, section 8.1.1).
pub const PORTMAP_RETRY: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(1024)];

/// Pause after no protocol has worked; each further one is twice as long, up to the longest of [`PORTMAP_RETRY`].
pub const PORTMAP_PAUSE: Duration = Duration::from_secs(64);

/// The shortest and the longest time that an error is taken to last, whatever its lifetime says (RFC 6887, section
/// 7.2: the client should have a limit; 30 minutes is its long lifetime, 30 seconds its short one).
pub const PORTMAP_ERROR: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(1800)];

/// After a gateway has announced a restart, requests are spread over this time (RFC 6887, section 14.1.3).
pub const PORTMAP_ANNOUNCED: Duration = Duration::from_secs(5);

/// After addresses or routes have changed, the gateway is looked up when it has been quiet for so long. Unit: time.
pub const PORTMAP_SETTLE: Duration = Duration::from_millis(500);

/// How long releasing all mappings may take at the end. What is not released by then ends with its lease.
pub const PORTMAP_RELEASE: Duration = Duration::from_secs(1);

/// Events waiting for the node. The mapper waits when they are full.
pub const PORTMAP_EVENTS: usize = 16;

/// Datagrams handled before other tasks run.
pub const PORTMAP_TURNS: usize = 16;

/// Bytes of a datagram from the gateway: PCP has at most 1100 (RFC 6887, section 7), SSDP fits an Ethernet frame.
pub const PORTMAP_DATAGRAM_BYTES: usize = 1500;

// ---- UPnP ---------------------------------------------------------------------------------------

/// How long answers to a search are awaited. Unit: time. They come within a second (`MX: 1`) of either of two searches.
pub const UPNP_SEARCH: Duration = Duration::from_millis(2500);

/// Pause before the search is sent again, as datagrams get lost in a WLAN.
pub const UPNP_SEARCH_AGAIN: Duration = Duration::from_millis(1000);

/// Datagrams looked at in answer to a search; many devices answer for each of their parts.
pub const UPNP_ANSWERS: usize = 64;

/// Descriptions fetched: a gateway has one, or one per version.
pub const UPNP_LOCATIONS: usize = 4;

/// Services that a description may list; those of routers list about ten.
pub const UPNP_SERVICES: usize = 32;

/// Connections to the Internet that are asked for their address; a gateway has one or two.
pub const UPNP_CONNECTIONS: usize = 4;

/// Bytes of an address in a description.
pub const UPNP_URL_BYTES: usize = 256;

/// Bytes of an HTTP answer, head and body. Descriptions of routers have 3 to 20 kB.
pub const UPNP_HTTP_BYTES: usize = 64 * 1024;

/// Bytes of the head of it, and of the line before a chunk.
pub const UPNP_HEAD_BYTES: usize = 4096;

/// How long one HTTP request may take. Unit: time. Slow routers need a second for a mapping.
pub const UPNP_HTTP: Duration = Duration::from_secs(5);

/// How long one thing to do may take with all its requests. Unit: time.
pub const UPNP_JOB: Duration = Duration::from_secs(20);

/// External ports tried when those before are somebody else's.
pub const UPNP_PORTS: usize = 6;

const _: () = assert!(PORTMAP_LEASE.as_secs() < PORTMAP_LEASE_MAX.as_secs());
const _: () = assert!(2 * PORTMAP_UPNP_RENEWAL.as_secs() < PORTMAP_LEASE.as_secs());
const _: () = assert!(PORTMAP_PAUSE.as_secs() < PORTMAP_RETRY[1].as_secs());
const _: () = assert!(UPNP_HEAD_BYTES < UPNP_HTTP_BYTES && UPNP_HTTP.as_secs() < UPNP_JOB.as_secs());
const _: () = assert!(UPNP_SEARCH_AGAIN.as_millis() + 1000 < UPNP_SEARCH.as_millis());
