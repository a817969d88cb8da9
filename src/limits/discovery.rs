//! Bounds of finding others, and of the company that a node keeps.

use std::time::Duration;

use super::*;

// ---- DHT ----------------------------------------------------------------------------------------

/// Peers in the routing table. Unit: peers, of about 1 kB each.
///
/// The table of a network of a million nodes has [`DHT_BUCKET`] peers in each of about 17 buckets, in the public DHT 20.
pub const DHT_TABLE: usize = 320;

/// Peers in the routing table whose public addresses share an IPv4 /24 or an IPv6 /48. Unit: peers.
///
/// Addresses are what an attacker has to pay for: to fill a table takes as many prefixes as honest peers have.
pub const DHT_PER_PREFIX: usize = 4;

/// Dials that fail, one after the other, before a peer leaves the routing table. Unit: dials.
pub const DHT_FAILURES: u8 = 2;

/// Addresses of a peer in the routing table, or in a record. Unit: addresses.
///
/// QUIC and TCP over IPv4 and IPv6, outside and inside.
pub const DHT_ADDRESSES: usize = 8;

/// Provider records kept for others. Unit: records, of up to 800 bytes: 1.6 MB.
pub const DHT_RECORDS: usize = 2048;

/// Providers kept for one key, and taken from one answer. Unit: peers.
///
/// A room needs some [`ROOM_NEIGHBOURS`]; the rest is for those that are gone by then.
pub const DHT_PROVIDERS_PER_KEY: usize = 32;

/// Keys that one provider may have here. Unit: keys. As many as it may have rooms.
pub const DHT_KEYS_PER_PROVIDER: usize = ROOMS;

/// Bytes of a key: a multihash of SHA-256 has 34, one of SHA-512 66.
pub const DHT_KEY_BYTES: usize = 72;

/// How long a record is kept unless it is renewed. Unit: time.
///
/// Members come and go: one that is gone is dialled in vain for this long.
pub const DHT_RECORD_TTL: Duration = Duration::from_secs(60 * 60);

/// Between the first two announcements of a room; each time after that is twice as long ... Unit: time.
///
/// An announcement dials those of the [`DHT_REPLICATION`] nodes that are no neighbours: 60 kB. While the node gets
/// to know the DHT it announces again anyway, whenever the nodes that it knows have doubled.
pub const DHT_PROVIDE_FIRST: Duration = Duration::from_secs(5 * 60);

/// ... up to this. Unit: time. Two renewals may be lost before the record expires.
pub const DHT_PROVIDE_MOST: Duration = Duration::from_secs(20 * 60);

/// Between the first two lookups of a room that has too few neighbours, doubling ... Unit: time.
pub const DHT_LOOKUP_FIRST: Duration = Duration::from_secs(2);

/// ... up to this. Unit: time. A lookup asks about ten nodes, most of which have to be dialled for it: 60 kB.
pub const DHT_LOOKUP_MOST: Duration = Duration::from_secs(10 * 60);

/// A room that has enough neighbours is announced and looked up again no sooner than this, whatever has changed: the
/// nodes that are known have doubled, or this one is to be reached elsewhere. Unit: time; half of it less or more by lot.
///
/// Each time dials up to 24 nodes. When 67 start together, the DHT that each knows doubles six times in half a minute,
/// and each is to be reached elsewhere twice. Its members hear of that by gossip.
pub const DHT_CALM: Duration = Duration::from_secs(120);

/// Between two lookups of a room that has enough neighbours. Unit: time.
///
/// How long a room may stay in two parts that do not know of each other.
pub const DHT_LOOKUP_SATISFIED: Duration = Duration::from_secs(20 * 60);

/// Queries for rooms at once. Unit: queries, each with up to [`DHT_PATHS`] requests under way.
pub const DHT_QUERIES: usize = 4;

/// Disjoint paths of a query. Unit: paths. Kademlia's alpha.
pub const DHT_PATHS: usize = 3;

/// How long a query may take. Unit: time.
///
/// A dead peer costs its path a dial's time-out, and liars can name any number of them.
pub const DHT_QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Nodes that keep a record. Unit: nodes.
///
/// libp2p's 20 is for records that shall last 48 h; these are renewed three times before they expire.
pub const DHT_REPLICATION: usize = 8;

/// Nodes in one bucket of the routing table: Kademlia's k. Unit: nodes, of 320 bytes. libp2p has memory for all 256
/// buckets at once: 655 kB, and 1.6 MB with its own 20. BitTorrent's DHT has 8 as well.
pub const DHT_BUCKET: usize = DHT_REPLICATION;

/// Between two refreshes of the routing table. Unit: time.
pub const DHT_REFRESH: Duration = Duration::from_secs(30 * 60);

/// Providers that are remembered while lookups run. Unit: peers, 39 bytes each.
pub const DHT_FOUND: usize = DHT_QUERIES * DHT_PROVIDERS_PER_KEY;

/// A node that is reached elsewhere now says so, but not more often than this. Unit: time.
///
/// The addresses of a relay or an interface come within milliseconds of each other.
pub const DHT_MOVED: Duration = Duration::from_millis(500);

/// How long a node waits for an address at a relay before it tells of itself without. Unit: time.
///
/// A reservation takes about three round trips from the connection to the relay.
pub const DHT_PROVIDE_HELD: Duration = Duration::from_secs(1);

/// Dials for lookups at once, and each minute. Unit: dials.
///
/// Joining takes some 30; what liars can make a node dial is this.
pub const DHT_DIALS: u8 = 60;

/// Dials for the upkeep of the routing table at once, and each minute. Unit: dials.
///
/// In a room of 67 that started together it dialled everybody within half a minute.
pub const DHT_UPKEEP_DIALS: u8 = 4;

/// How long a peer that could not be reached is not dialled for lookups. Unit: time.
///
/// With 5 of 35 nodes gone, a newcomer dialled them 37 to 76 times in its first three minutes.
pub const DHT_REST: Duration = Duration::from_secs(120);

/// Peers that rest so. Unit: peers, of about 60 bytes. As many as the budget lets be dialled in that time, and some.
pub const DHT_RESTING: usize = 256;

const _: () =
    assert!(DHT_RESTING >= (DHT_DIALS + DHT_UPKEEP_DIALS) as usize * (1 + DHT_REST.as_secs() as usize / 60));
const _: () = assert!(DHT_PROVIDE_MOST.as_secs() * 3 <= DHT_RECORD_TTL.as_secs());
const _: () = assert!(DHT_LOOKUP_FIRST.as_secs() < DHT_LOOKUP_MOST.as_secs());
const _: () = assert!(3 * DHT_CALM.as_secs() / 2 < DHT_PROVIDE_FIRST.as_secs());
const _: () = assert!(DHT_QUERIES * DHT_PATHS < PENDING_OUTBOUND as usize);
const _: () = assert!(DHT_PROVIDERS_PER_KEY > 4 * ROOM_NEIGHBOURS);

// ---- whom to be connected with ------------------------------------------------------------------

/// Members of a room that a node wants as neighbours. Unit: peers. One more than its mesh has ([`MESH`]).
pub const ROOM_NEIGHBOURS: usize = 6;

/// Peers remembered per room as possible neighbours. Unit: peers, of about 60 bytes.
pub const CANDIDATES: usize = 64;

/// Peers of the local network to be connected with, whatever rooms they are in. Unit: peers.
pub const LAN_PEERS: usize = 16;

/// Peers of the local network that are remembered. Unit: peers.
pub const LAN_KNOWN: usize = 256;

/// How long a peer of the local network that is in no room of ours is left alone. Unit: time.
pub const STRANGER_REST: Duration = Duration::from_secs(15 * 60);

/// Longest time between two dials of a bootstrap peer while every room has neighbours. Unit: time.
///
/// A QUIC dial into the void is five datagrams of 1,200 bytes: every minute, that was half of an idle node's traffic.
pub const REDIAL_CALM: Duration = Duration::from_secs(10 * 60);

const _: () = assert!(REDIAL_CALM.as_secs() > REDIAL_MOST.as_secs());

/// How long a peer that we dial or are connected with may take to turn out to be in a room, and is counted as if it
/// were, before another is dialled in its place. Unit: time.
///
/// A handshake and a subscription take three round trips.
pub const PROMISING: Duration = Duration::from_secs(2);

/// How long somebody may be said to be in a room without being heard there before it is dialled although there are
/// neighbours enough: the room may be in two parts. Unit: time.
///
/// When 30 nodes start together, everybody is unheard: each dialled all of its room. Members say that they are there
/// every [`PRESENCE_INTERVAL`] at most while others come.
pub const UNHEARD: Duration = Duration::from_secs(30);

/// Dials under way to become connected with those one wants. Unit: dials.
pub const WISH_DIALS: usize = 8;

/// Peers to be connected with while nobody is found in a room: any of them may lead to its members. Unit: peers.
pub const LONELY_LINKS: usize = 8;

/// How long a peer that we dialled and that is in no room of ours is kept. Unit: time.
///
/// Long enough for identify, subscriptions and a lookup that asks it again; keeping a connection for as long as
/// the next lookup is away costs more than dialling again.
pub const STRANGER: Duration = Duration::from_secs(60);

/// Addresses that a member tells its rooms. Unit: addresses.
pub const PRESENCE_ADDRESSES: usize = 8;

const _: () = assert!(UNHEARD.as_secs() > PRESENCE_INTERVAL.as_secs() + PRESENCE_DELAY.as_secs());
const _: () = assert!(WISH_DIALS + DHT_QUERIES * DHT_PATHS <= PENDING_OUTBOUND as usize);
const _: () = assert!(CANDIDATES > DHT_PROVIDERS_PER_KEY);

// ---- address book and connection marks ----------------------------------------------------------

/// Peers in the address book, connected ones included. Unit: peers. At 8 addresses of about 120 bytes: 500 kB.
pub const BOOK_PEERS: usize = 512;

/// Addresses kept of one peer: QUIC and TCP, IPv4 and IPv6, in the LAN and outside. Unit: addresses.
pub const BOOK_ADDRESSES: usize = 8;

/// Those among them that only third parties told, so that some place is left for its own. Unit: addresses. Two
/// relays, and QUIC and TCP over both families.
pub const BOOK_HEARSAY_ADDRESSES: usize = 6;

/// Those among them where we reached it, so that there is some place for news of it. Unit: addresses.
pub const BOOK_REACHED_ADDRESSES: usize = 4;

/// Longest address that is kept. Unit: bytes, binary. A circuit through an IPv6 relay over QUIC has 72.
pub const ADDRESS_BYTES: usize = 128;

/// Peers of the book that are known by third parties in the DHT only. Unit: peers.
pub const BOOK_DHT_PEERS: usize = 128;

/// Peers of the book that are known by mDNS at best. Unit: peers. Whoever is in the LAN can invent them.
pub const BOOK_MDNS_PEERS: usize = 64;

/// Peers of the book that are known by what they said through gossip at best. Unit: peers. Keys cost nothing.
pub const BOOK_MEMBER_PEERS: usize = 128;

/// Peers of the book that are known by what they said over a connection of theirs at best. Unit: peers.
pub const BOOK_IDENTIFY_PEERS: usize = 128;

/// Peers known by the DHT only whose addresses are all in one IPv4 /24 or IPv6 /48. Unit: peers.
///
/// One who owns such a network can invent as many as he likes. Our own networks are exempt.
pub const BOOK_PREFIX_PEERS: usize = 4;

/// Failed dials in a row after which an address that never worked is forgotten. Unit: dials.
///
/// With the delays below these are two minutes. What worked once, in this run or an earlier one, stays: it may be
/// our own link that is down.
pub const BOOK_TRIES: u32 = 7;

/// Failed dials in a row after which an address goes behind those that have not failed so often. Unit: dials.
pub const BOOK_DOUBT: u32 = 3;

/// Dials of a peer in the book begin with [`REDIAL_FIRST`] between them, double, and end with this. Unit: time.
pub const BOOK_REDIAL_MOST: Duration = Duration::from_secs(5 * 60);

/// A new address from the operator or from the LAN cuts a delay short, but not below this time after the last
/// try. Unit: time. A liar in the LAN would have us dial the neighbours so often.
pub const BOOK_NEWS: Duration = Duration::from_secs(10);

/// Addresses of one peer that are dialled at once. Unit: addresses. Wrong ones cost their owners a packet or two.
pub const DIAL_ADDRESSES: usize = 8;

/// Peers in the saved address book. Unit: peers. One of them has to be there when a router comes back.
pub const SAVED_PEERS: usize = 64;

/// Addresses saved of one peer. Unit: addresses.
pub const SAVED_ADDRESSES: usize = 4;

/// Peers of one IPv4 /24 or IPv6 /48 that are saved before others have had their turn. Unit: peers.
pub const SAVED_PREFIX_PEERS: usize = 8;

/// Bytes of the saved address book that are read. Unit: bytes. The longest lines we write have about 300.
pub const SAVED_FILE_BYTES: u64 = 96 * 1024;

/// Time from something worth saving to the first save: one who crashes at once has not much to lose.
pub const SAVE_FIRST: Duration = Duration::from_secs(60);

/// Least time between two saves, except at a clean end. Unit: time. Flash wears out: 48 small writes a day.
pub const SAVE_EVERY: Duration = Duration::from_secs(30 * 60);

/// Above so many connections some are closed. Unit: connections.
pub const CONNECTIONS_HIGH: usize = 80;

/// Down to so many. Unit: connections. The difference is for newcomers until the next round.
pub const CONNECTIONS_LOW: usize = 64;

/// A connection may show for so long what it is good for before it can be closed. Unit: time.
pub const CONNECTION_YOUNG: Duration = Duration::from_secs(10);

/// Neighbours in a room beyond which connections that we began are closed again, but for those of its mesh. Unit: peers.
///
/// A mesh and as many again for gossip. Lookups dial whoever is near a key, and in a room of 67 that was everybody: 66
/// connections a node, which cost more than all that was said.
pub const ROOM_LINKS: usize = 12;

const _: () = assert!(ROOM_LINKS >= 2 * ROOM_NEIGHBOURS && ROOM_LINKS < CONNECTIONS_LOW);

/// Inbound connections from one IPv4 address or IPv6 /64. Unit: connections. A home, or some homes of a CGNAT.
///
/// Twice as many while there are fewer than [`CONNECTIONS_LOW`] in all: a test fleet behind one NAT shall get in
/// while nobody else wants the places, and above [`CONNECTIONS_HIGH`] it gives them back first.
pub const INBOUND_PER_HOST: usize = 16;

/// Inbound connections from one IPv4 /24 or IPv6 /48. Unit: connections. Doubled likewise.
pub const INBOUND_PER_PREFIX: usize = 32;

/// How long the kernel may take for a list of our addresses. Unit: time. It takes microseconds; this is for a
/// kernel that drops the question.
pub const NETLINK_TIMEOUT: Duration = Duration::from_millis(100);

/// Parts of that list that are read before we give up. Unit: parts of up to [`NETLINK_BYTES`], 100 addresses each.
pub const NETLINK_ANSWERS: usize = 64;

const _: () = assert!(
    BOOK_DHT_PEERS + BOOK_MDNS_PEERS + BOOK_MEMBER_PEERS + BOOK_IDENTIFY_PEERS + SAVED_PEERS <= BOOK_PEERS
);
const _: () = assert!(BOOK_PEERS > 4 * CONNECTIONS as usize && BOOK_PREFIX_PEERS < BOOK_DHT_PEERS);
const _: () = assert!(BOOK_HEARSAY_ADDRESSES < BOOK_ADDRESSES && DIAL_ADDRESSES <= BOOK_ADDRESSES);
const _: () = assert!(BOOK_HEARSAY_ADDRESSES < DIAL_ADDRESSES && BOOK_REACHED_ADDRESSES < DIAL_ADDRESSES);
const _: () = assert!(SAVED_ADDRESSES <= DIAL_ADDRESSES && SAVED_PREFIX_PEERS < SAVED_PEERS);
const _: () = assert!(SAVED_FILE_BYTES as usize >= 300 * SAVED_PEERS * SAVED_ADDRESSES);
const _: () = assert!(BOOK_DOUBT < BOOK_TRIES && REDIAL_FIRST.as_millis() < BOOK_REDIAL_MOST.as_millis());
const _: () = assert!(CONNECTIONS_LOW < CONNECTIONS_HIGH && CONNECTIONS_HIGH < CONNECTIONS as usize);
const _: () = assert!(INBOUND_PER_HOST < INBOUND_PER_PREFIX && 2 * INBOUND_PER_PREFIX <= CONNECTIONS_LOW);

// ---- mDNS ---------------------------------------------------------------------------------------

/// Interfaces with an IP family on which mDNS is spoken, each with a socket. Unit: sockets.
///
/// A router has a few; what a container host has beyond that are networks without people.
pub const MDNS_SEGMENTS: usize = 32;

/// Bytes of a datagram of ours. Unit: bytes.
///
/// The least MTU of IPv6 (1,280) less the headers of IPv6 and UDP: it is never cut in pieces, in either family and
/// over any Wi-Fi. Eight addresses fit.
pub const MDNS_DATAGRAM_BYTES: usize = 1280 - 40 - 8;

/// Bytes of a datagram that we read; upstream libp2p has the same. Longer ones are malformed to us.
pub const MDNS_RECEIVE_BYTES: usize = 4096;

/// Addresses that we announce on one segment. Unit: addresses. TCP and QUIC at four of them.
pub const MDNS_OWN_ADDRESSES: usize = 8;

/// Addresses remembered of one peer. Unit: addresses.
pub const MDNS_PEER_ADDRESSES: usize = 8;

/// Peers remembered. Unit: peers, of about 1 kB with all their addresses: 256 kB.
pub const MDNS_PEERS: usize = 256;

/// Peers remembered from one source address. Unit: peers. So many nodes may share a machine.
pub const MDNS_PEERS_PER_SOURCE: usize = 16;

/// Source addresses whose datagrams are counted. Unit: addresses. All others share one account.
pub const MDNS_SOURCES: usize = 64;

/// A source that was silent for so long makes place for another. Unit: time.
pub const MDNS_SOURCE_SILENCE: Duration = Duration::from_secs(60);

/// Datagrams of one source that are read: so many at once ...
pub const MDNS_SOURCE_BURST: u32 = 40;

/// ... and one more in each such time, 20 per second. A home's busiest device sends fewer. Unit: time.
pub const MDNS_SOURCE_PACE: Duration = Duration::from_millis(50);

/// Peers that one source can bring up as new, at once: a machine full of nodes that starts ...
pub const MDNS_NEW_BURST: u32 = 32;

/// ... and one more in each such time. Each may cost a dial: six a second, if [`MDNS_SOURCES`] all lie. Unit: time.
pub const MDNS_NEW_PACE: Duration = Duration::from_secs(10);

/// Unicast answers to plain resolvers on one segment: so many at once ...
pub const MDNS_LEGACY_BURST: u32 = 5;

/// ... and one more in each such time. Their source may be forged, so this is what we can be made to send to
/// somebody who did not ask: 6 kB/s. Unit: time.
pub const MDNS_LEGACY_PACE: Duration = Duration::from_millis(200);

/// Datagrams received before anything else of the node gets its turn. Unit: datagrams.
pub const MDNS_DATAGRAMS_PER_TURN: usize = 32;

/// Datagrams received from all segments: so many at once ...
pub const MDNS_READ_BURST: u32 = 1000;

/// ... and one more in each such time, 5,000 per second: a small part of a router's time. Unit: time.
pub const MDNS_READ_PACE: Duration = Duration::from_micros(200);

/// How long nothing is received when there are more than that; what the kernel cannot keep is lost. Unit: time.
///
/// Its buffer holds about 200 datagrams, which is less than have become due by then, so the pace is kept.
pub const MDNS_READ_REST: Duration = Duration::from_millis(50);

/// Datagrams that wait to be sent. Unit: datagrams. One question, one answer and the unicast ones of each segment.
pub const MDNS_TRANSMITS: usize = MDNS_SEGMENTS * (2 + MDNS_LEGACY_BURST as usize);

/// Between two questions, at first (RFC 6762, section 5.2, wants one second at least) ...
pub const MDNS_QUERY_FIRST: Duration = Duration::from_secs(1);

/// ... growing by this factor each time; the section wants two at least. So they go out after 0, 1, 4, 13, 40 s ...
pub const MDNS_QUERY_GROWTH: u32 = 3;

/// ... and at last in each such time. Unit: time. Upstream libp2p has the same, and a record lives a minute longer.
pub const MDNS_QUERY_MOST: Duration = Duration::from_secs(5 * 60);

/// Questions that grew to this distance are left out when another node asks the same. Unit: time.
pub const MDNS_QUERY_SHARED: Duration = Duration::from_secs(60);

/// How long others may believe what we announced. Unit: time. As upstream libp2p has it.
pub const MDNS_TTL: Duration = Duration::from_secs(6 * 60);

/// How long we believe others at most, whatever they say. Unit: time.
pub const MDNS_TTL_MOST: Duration = Duration::from_secs(60 * 60);

/// And at least, unless they say goodbye: a short life is none of a peer that is to be dialled. Unit: time.
pub const MDNS_TTL_LEAST: Duration = Duration::from_secs(60);

/// The same record is multicast once per such time (RFC 6762, section 6), and a goodbye takes effect after it
/// (section 10.1). Unit: time.
pub const MDNS_ANSWER_PACE: Duration = Duration::from_secs(1);

/// Shortest and longest random delay of a question and of an answer that many may give (RFC 6762, sections 5.2
/// and 6). Unit: time.
pub const MDNS_DELAY: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(120)];

/// A segment whose socket cannot be had or broke is tried again after this. Unit: time.
pub const MDNS_RETRY: Duration = Duration::from_secs(30);

const _: () = assert!(MDNS_QUERY_GROWTH >= 2 && MDNS_QUERY_FIRST.as_secs() >= 1);
const _: () = assert!(MDNS_QUERY_SHARED.as_secs() < MDNS_QUERY_MOST.as_secs());
const _: () =
    assert!(MDNS_QUERY_MOST.as_secs() < MDNS_TTL.as_secs() && MDNS_TTL.as_secs() <= MDNS_TTL_MOST.as_secs());
const _: () =
    assert!(MDNS_PEERS_PER_SOURCE * 4 <= MDNS_PEERS && MDNS_PEERS_PER_SOURCE <= MDNS_NEW_BURST as usize);
const _: () = assert!(MDNS_DELAY[0].as_millis() < MDNS_DELAY[1].as_millis());
const _: () = assert!(MDNS_DATAGRAM_BYTES < MDNS_RECEIVE_BYTES);
