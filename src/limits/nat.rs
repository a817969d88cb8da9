//! Bounds of reaching and being reached through NATs.

use std::time::Duration;

use super::*;

// ---- warren nat ---------------------------------------------------------------------------------

/// How long `warren nat` looks around at the most. Unit: time. The tests of filtering take 2.5 s.
pub const SURVEY: Duration = Duration::from_secs(6);

/// How long it waits for the other IP family, and for the router at least. Unit: time.
pub const SURVEY_REST: Duration = Duration::from_secs(3);

// ---- relays -------------------------------------------------------------------------------------

/// Reservations of a node that others cannot dial. Unit: relays. One may die.
pub const RESERVATIONS: usize = 2;

/// Relays that are remembered. Unit: relays.
pub const RELAYS: usize = 32;

/// How long a reservation is held before it is asked for anew. Unit: time.
///
/// Relays give an hour by custom; ours give that too. The second try still comes in time.
pub const RELAY_RENEW: Duration = Duration::from_secs(25 * 60);

/// A relay that did not renew a reservation is asked again after half of what is left of it, but after this at least.
/// Unit: time.
pub const RELAY_RENEW_LEAST: Duration = Duration::from_secs(10);

/// Lifetimes of a reservation that can be believed. Unit: time. Who is told another one has a clock that is wrong, or
/// the relay has.
pub const RELAY_LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(24 * 60 * 60);

/// Addresses of a relay that it says it has. Unit: addresses. Two carriers, in two IP families, of a few networks.
pub const RELAY_ADDRESSES: usize = 16;

/// Requests for circuits and places that are not yet taken up. Unit: requests, a few words each.
pub const CIRCUIT_REQUESTS: usize = 64;

/// Circuits that have come and were not yet taken. Unit: circuits, for each relay.
pub const CIRCUIT_ARRIVALS: usize = 16;

/// Circuits that are just coming through one relay. Unit: circuits, each a stream with at most one message.
pub const CIRCUITS_COMING: usize = 16;

/// A message to or from a relay. Unit: bytes. Source: libp2p/specs, relay/circuit-v2.md, which says 4 KiB.
pub const CIRCUIT_MESSAGE_BYTES: usize = 4096;

/// What a relay may take to answer. Unit: time. It has to ask the other peer, which may be twice around the world.
pub const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// After a relay was lost it is asked again in so long; each time after that is twice as long ...
pub const RELAY_RETRY_FIRST: Duration = Duration::from_secs(1);

/// ... up to this. Unit: time. Knocking at a dead QUIC port costs 6 kB.
pub const RELAY_RETRY_MOST: Duration = Duration::from_secs(15 * 60);

// What `warren relay` gives, unless the operator says otherwise, suits a machine with 64 MB of RAM. `warren-bench
// relay-load` measures what each of these costs: bench/README.md has the figures.

/// Peers that can be reached through `warren relay`. Unit: reservations, each a connection.
pub const RELAY_RESERVATIONS: u64 = 256;

/// The most of them that can be asked for. Each takes a file descriptor, and networks are counted one by one.
pub const RELAY_RESERVATIONS_MOST: u64 = 4096;

/// How long a reservation lasts. Unit: time. An hour, as everywhere.
pub const RELAY_RESERVATION: Duration = Duration::from_secs(60 * 60);

/// Circuits through `warren relay` at once. Unit: circuits.
///
/// One that chats holds nothing. One that says more than its target takes, or than the relay can encrypt, fills the
/// windows of its streams (yamux begins with 256 KiB in each direction) until [`RELAY_STALL`]: all of these at once
/// would be 32 MB, and the half that one hostile network can get, in one direction, 8 MB.
pub const RELAY_CIRCUITS: u64 = 64;

/// The most of them that can be asked for. Likewise.
pub const RELAY_CIRCUITS_MOST: u64 = 2048;

/// Circuits from one peer, and as many to one. Unit: circuits. A room of eight behind the worst of NATs.
pub const RELAY_CIRCUITS_PER_PEER: u64 = 16;

/// The most of them that can be asked for: each is a stream, beside those that a node needs for itself.
pub const RELAY_CIRCUITS_PER_PEER_MOST: u64 = YAMUX_STREAMS as u64 - 8;

/// How long a circuit lasts. Unit: minutes. A conversation; who still needs it makes a new one.
pub const RELAY_CIRCUIT_MINUTES: u64 = 6 * 60;

/// The most that can be asked for. Unit: minutes. A week.
pub const RELAY_CIRCUIT_MINUTES_MOST: u64 = 7 * 24 * 60;

/// What one circuit carries, both directions together. Unit: MiB. 100,000 chat messages, but no films.
pub const RELAY_CIRCUIT_MIB: u64 = 64;

/// The most that can be asked for. Unit: MiB. A tebibyte.
pub const RELAY_CIRCUIT_MIB_MOST: u64 = 1 << 20;

/// Requests of one peer that may come at once; and how long one more takes after that.
pub const RELAY_BURST_PER_PEER: u32 = 30;

/// See [`RELAY_BURST_PER_PEER`]. Unit: time.
pub const RELAY_PACE_PER_PEER: Duration = Duration::from_secs(10);

/// The same for all peers of an IPv4 /24 or IPv6 /48, behind which may be a quarter of a town.
pub const RELAY_BURST_PER_OWNER: u32 = 512;

/// See [`RELAY_BURST_PER_OWNER`]. Unit: time.
pub const RELAY_PACE_PER_OWNER: Duration = Duration::from_millis(500);

/// Networks whose pace is remembered. Unit: networks, about 60 bytes each.
pub const RELAY_OWNERS: usize = 1024;

/// Requests of one connection under way. Unit: requests, each a stream.
pub const RELAY_REQUESTS: usize = NEGOTIATING_STREAMS;

/// How long each step of making a circuit or a reservation may take. Unit: time. A message through a slow link.
pub const RELAY_PATIENCE: Duration = Duration::from_secs(20);

/// Bytes read at once from one end of a circuit. As many are held while the other end takes none.
pub const RELAY_BUFFER: usize = 16 * 1024;

/// How often a circuit reads before others have their turn: 64 KiB, half a millisecond of encryption on a router.
pub const RELAY_READS: usize = 4;

/// A circuit with something to say to an end that takes nothing is over after so long. Unit: time.
pub const RELAY_STALL: Duration = Duration::from_secs(30);

const _: () =
    assert!(RELAY_CIRCUITS_PER_PEER < RELAY_CIRCUITS && RELAY_BURST_PER_PEER < RELAY_BURST_PER_OWNER);
const _: () = assert!(RELAY_CIRCUITS_PER_PEER <= RELAY_CIRCUITS_PER_PEER_MOST);
const _: () = assert!(RELAY_BURST_PER_OWNER as u64 > RELAY_RESERVATIONS + RELAY_CIRCUITS);
const _: () = assert!(RELAY_ADDRESSES * (ADDRESS_BYTES + 3) + 64 < CIRCUIT_MESSAGE_BYTES);
const _: () = assert!(RELAY_RENEW.as_secs() + RELAY_RETRY_MOST.as_secs() < RELAY_RESERVATION.as_secs());

// ---- AutoNAT ------------------------------------------------------------------------------------

/// Addresses of ours that are tested. Unit: addresses. Two of each IP family and transport.
pub const AUTONAT_CANDIDATES: usize = 8;

/// Servers remembered. Unit: peers, connected ones that offer to dial others back.
pub const AUTONAT_SERVERS: usize = 32;

/// Servers that have to agree, of so many owners, where there are so many.
pub const AUTONAT_VOICES: usize = 2;

/// Rounds in a row that have to say otherwise before something else is believed.
pub const AUTONAT_CONTRARY: u32 = 2;

/// Questions under way. Unit: streams.
pub const AUTONAT_ASKING: usize = 2;

/// How long one may take. Unit: time. Servers take up to 10 s for a dial, and may want 100 kB before.
pub const AUTONAT_ASK: Duration = Duration::from_secs(25);

/// An address is tested again after so long; twice as long each time that nothing has changed ...
pub const AUTONAT_REST: Duration = Duration::from_secs(5 * 60);

/// ... up to this. Unit: time. A test is two connections, about 12 kB.
pub const AUTONAT_REST_MOST: Duration = Duration::from_secs(60 * 60);

/// After a round that says otherwise, or with fewer voices than there are now, the next one comes so soon.
pub const AUTONAT_AGAIN: Duration = Duration::from_secs(15);

/// Between two rounds at least, whoever comes through a relay although we can be dialled. Unit: time.
pub const AUTONAT_DOUBT: Duration = Duration::from_secs(60);

/// Wait after addresses changed: routes and leases come one after the other.
pub const AUTONAT_SETTLE: Duration = Duration::from_secs(2);

/// Between two questions to the same server. Unit: time.
pub const AUTONAT_SERVER_PAUSE: Duration = Duration::from_secs(1);

/// A server that has no time, or does not answer, is left alone for so long; twice as long each time after that.
pub const AUTONAT_SERVER_RETRY: Duration = Duration::from_secs(60);

/// A round waits for a server that will have time so soon.
pub const AUTONAT_PATIENCE: Duration = Duration::from_secs(5);

/// How long this node has to be found reachable before it gives up its places at relays. Unit: time.
pub const AUTONAT_SURE: Duration = Duration::from_secs(60);

/// Bytes that we pay for one test at most, and the least that a server asks of others: as the specification has it.
pub const AUTONAT_DATA_MOST: u32 = 100_000;

/// See [`AUTONAT_DATA_MOST`].
pub const AUTONAT_DATA_LEAST: u32 = 30_000;

/// Bytes that we pay in one [`AUTONAT_PAID_PERIOD`].
pub const AUTONAT_PAID_MOST: u32 = 1_000_000;

/// See [`AUTONAT_PAID_MOST`]. Unit: time.
pub const AUTONAT_PAID_PERIOD: Duration = Duration::from_secs(60 * 60);

/// Bytes of one piece of that. As the specification has it.
pub const AUTONAT_DATA_PIECE: usize = 4096;

/// Messages in which a server wants to be paid at the most. Pieces of 4096 bytes would be 25.
pub const AUTONAT_DATA_MESSAGES: usize = 1000;

/// Bytes of one message: a piece, or fifty addresses.
pub const AUTONAT_MESSAGE_BYTES: usize = 8192;

/// Addresses of a request that are looked at.
pub const AUTONAT_ADDRESSES: usize = 64;

/// Dial-backs that wait to be read. Unit: streams, each for [`AUTONAT_HANDOVER`].
pub const AUTONAT_BACKS: usize = 4;

/// Requests that a server serves at once. Unit: streams, each with a dial.
pub const AUTONAT_SERVING: usize = 8;

/// How long an asker may take to say what it wants, and to pay. Unit: time.
pub const AUTONAT_RECEIVE: Duration = Duration::from_secs(10);

/// How long a dial for somebody may take. Unit: time. libp2p's clients wait for 10 s.
pub const AUTONAT_DIAL: Duration = Duration::from_secs(6);

/// How long it may take to hand the nonce over, and to read one. Unit: time. Four messages.
pub const AUTONAT_HANDOVER: Duration = Duration::from_secs(3);

/// Requests of one peer at once; and how long one more takes after that.
pub const AUTONAT_BURST_PER_PEER: u32 = 16;

/// See [`AUTONAT_BURST_PER_PEER`]. Unit: time.
pub const AUTONAT_RATE_PER_PEER: Duration = Duration::from_secs(25);

/// The same for all peers of one owner (an IPv4 /24, an IPv6 /48).
pub const AUTONAT_BURST_PER_OWNER: u32 = 64;

/// See [`AUTONAT_BURST_PER_OWNER`]. Unit: time.
pub const AUTONAT_RATE_PER_OWNER: Duration = Duration::from_secs(6);

/// The same for all together: in the long run 2 dials a second, of 6 kB each.
pub const AUTONAT_BURST: u32 = 128;

/// See [`AUTONAT_BURST`]. Unit: time.
pub const AUTONAT_RATE: Duration = Duration::from_millis(500);

/// Peers, and owners, whose allowance is remembered. One that is whole again need not be.
pub const AUTONAT_ASKERS: usize = 1024;

const _: () = assert!(AUTONAT_REST.as_secs() < AUTONAT_REST_MOST.as_secs() && AUTONAT_VOICES > 0);
const _: () = assert!(AUTONAT_DATA_LEAST < AUTONAT_DATA_MOST && AUTONAT_DATA_MOST < AUTONAT_PAID_MOST);
const _: () = assert!(AUTONAT_DATA_PIECE + 16 < AUTONAT_MESSAGE_BYTES && AUTONAT_MESSAGE_BYTES < 1 << 14);
const _: () =
    assert!(AUTONAT_DIAL.as_secs() + AUTONAT_HANDOVER.as_secs() < 10 && AUTONAT_ASK.as_secs() > 2 * 10);
const _: () =
    assert!(AUTONAT_BURST_PER_PEER < AUTONAT_BURST_PER_OWNER && AUTONAT_BURST_PER_OWNER < AUTONAT_BURST);
// Within the time that an allowance takes to be whole again, so many at most can use up a part of theirs.
const _: () = assert!(
    AUTONAT_BURST as u128
        + AUTONAT_RATE_PER_OWNER.as_millis() * AUTONAT_BURST_PER_OWNER as u128 / AUTONAT_RATE.as_millis()
        <= AUTONAT_ASKERS as u128
);
const _: () = assert!(
    AUTONAT_BURST as u128
        + AUTONAT_RATE_PER_PEER.as_millis() * AUTONAT_BURST_PER_PEER as u128 / AUTONAT_RATE.as_millis()
        <= AUTONAT_ASKERS as u128
);

// ---- direct connections ------------------------------------------------------------------------

/// How long the agreement on a direct connection may take. Unit: time. Four messages through a relay.
pub const DCUTR_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses told in it, and taken from it. Unit: addresses.
pub const DCUTR_ADDRESSES: usize = 8;

/// Bytes of one of its messages. Unit: bytes. As libp2p has it.
pub const DCUTR_MESSAGE_BYTES: usize = 4096;

/// Attempts at a direct connection beside one relayed connection. Unit: attempts.
pub const DCUTR_ATTEMPTS: u32 = 6;

/// Between the first two; each time after that is four times as long. Unit: time.
pub const DCUTR_RETRY: Duration = Duration::from_secs(2);

/// An attempt that needs to know more of our NAT waits for so long ... Unit: time.
pub const DCUTR_POSTPONE: Duration = Duration::from_millis(500);

/// ... and so often. A check of the NAT takes 3 s.
pub const DCUTR_POSTPONED: u32 = 10;

/// Agreements under way. Unit: agreements, each a stream and a task.
pub const DCUTR_AT_ONCE: usize = 16;

const _: () = assert!(DCUTR_ADDRESSES * (ADDRESS_BYTES + 3) + 8 < DCUTR_MESSAGE_BYTES);

/// How long a relay may take to say where it sees a peer. Unit: time. A punch waits for that, and its holes do not last.
pub const WITNESS_TIMEOUT: Duration = Duration::from_secs(2);

/// A question to such a relay. Unit: bytes. A peer ID of 40 and an address of 16.
pub const WITNESS_BYTES: usize = 64;

/// Questions that such a relay answers at once. Unit: questions, each a stream and a task.
pub const WITNESSED_AT_ONCE: usize = 32;

// ---- STUN ---------------------------------------------------------------------------------------

/// First pause before a STUN request is repeated; it doubles each time. RFC 8489, section 6.2.1.
pub const STUN_RTO: Duration = Duration::from_millis(500);

/// Times that a request is sent (Rc). RFC 8489, section 6.2.1.
pub const STUN_SENDS: u32 = 7;

/// Pauses of [`STUN_RTO`] after the last of them (Rm): a server that is silent is given up after 39.5 s. Same source.
pub const STUN_LAST_WAIT: u32 = 16;

/// Times that a request is sent whose answer a NAT may be keeping from us, or that goes to an address which only
/// a server told us: of three, on a path that loses one in ten both ways, all are lost in 0.7 % of the tests.
pub const STUN_TEST_SENDS: u32 = 3;

/// Pauses of [`STUN_RTO`] after the last of those: the test is over after 2.5 s.
pub const STUN_TEST_LAST_WAIT: u32 = 2;

/// Times that a request goes out before a verdict no longer waits for its answer: 1.5 s.
pub const STUN_SETTLED_SENDS: u32 = 3;

/// STUN servers asked in one IP family. Two tell a mapping's kind; the others are for those that are down.
pub const STUN_SERVERS: usize = 4;

/// STUN servers that may be named, in all.
pub const STUN_SERVER_NAMES: usize = 16;

/// Servers remembered for not answering: two addresses of each family for each name.
pub const STUN_SILENT: usize = 4 * STUN_SERVER_NAMES;

/// Requests under way in one IP family: one for each server, two tests of filtering and three of mapping.
pub const STUN_TRANSACTIONS: usize = STUN_SERVERS + 2 + 3;

/// What a client has to tell and nobody has asked for yet. Each request ends in one of these, and each check in
/// two more.
pub const STUN_EVENTS: usize = 4 * STUN_TRANSACTIONS;

/// Attributes of one STUN message that are looked at; binding responses have about six.
pub const STUN_ATTRIBUTES: usize = 32;

/// Unknown attributes that one error names. Each takes two bytes of the answer and took four of the request.
pub const STUN_UNKNOWN: usize = 8;

/// How long outside ports can be predicted from those seen: NATs forget after 30 s (RFC 4787 wants 120, the Linux
/// kernel has 30), less the time to make use of it.
pub const STUN_FRESH: Duration = Duration::from_secs(27);

/// How long the kind of a NAT is believed that could not be seen again. It changes when the router does.
pub const STUN_KIND: Duration = Duration::from_secs(60 * 60);

/// Silence towards an address after which a NAT lets nothing in from there: the longest of the common timeouts
/// for two-way traffic is 300 s. Before that, a test of filtering from there would find the door open.
pub const STUN_QUIET: Duration = Duration::from_secs(330);

/// Addresses for which that silence is remembered.
pub const STUN_QUIET_ADDRESSES: usize = 16;

/// Between two checks when nothing happens and nobody asks: from three quarters of this to all of it, at random.
/// A check is a datagram to each server and back, 500 bytes.
pub const STUN_CHECK: Duration = Duration::from_secs(5 * 60);

/// Between two checks at least, whatever happens: longer than a test of filtering takes.
pub const STUN_CHECK_LEAST: Duration = Duration::from_secs(5);

/// Wait after addresses changed: routes and leases come one after the other.
pub const STUN_SETTLE: Duration = Duration::from_millis(500);

/// Before fresh ports go stale a check begins by so much, so that its answers come in time.
pub const STUN_AHEAD: Duration = Duration::from_secs(3);

/// First pause after a check that nobody answered; it doubles up to [`STUN_CHECK`].
pub const STUN_RETRY: Duration = Duration::from_secs(10);

/// For how long one wish for fresh ports counts: each is a check every 24 s, and who still wants it can say so.
pub const STUN_WISH: Duration = Duration::from_secs(2 * 60);

/// Distance of outside ports, one after the other, up to which a NAT counts as sequential. Of two random ports so
/// near to each other there is one pair in 2,000.
pub const STUN_SPREAD: u16 = 15;

/// Answers per second of a STUN server to one owner (an IPv4 /24, an IPv6 /48), in the long run.
pub const STUN_OWNER_RATE: u32 = 4;

/// Answers to one owner at once: two whole checks, with repetitions.
pub const STUN_OWNER_BURST: u32 = 24;

/// Answers per second to all: about 20 kB/s is the most that anybody can have us send to somebody else.
pub const STUN_RATE: u32 = 100;

/// Answers to all at once.
pub const STUN_BURST: u32 = 200;

/// Owners whose allowance is remembered. One that is whole again need not be.
pub const STUN_OWNERS: usize = 1024;

/// The longest answer of a STUN server, in bytes: three IPv6 addresses of 24, a fingerprint of 8, a header of 20.
pub const STUN_ANSWER_BYTES: usize = 20 + 3 * 24 + 8;

/// Sockets that one STUN server has: in each family two IP addresses with two ports.
pub const STUN_SOCKETS: usize = 8;

/// Datagrams, or other things, that the STUN driver handles before others have their turn.
pub const STUN_TURNS: usize = 8;

/// Wishes on their way to the STUN client. Later ones are lost: what they want is under way already.
pub const STUN_WISHES: usize = 16;

/// Verdicts and addresses that nobody has read yet. Later ones wait, and newer verdicts replace older ones.
pub const STUN_NEWS: usize = 16;

const _: () = assert!(STUN_ANSWER_BYTES <= SIDE_BYTES);
const _: () = assert!(STUN_SETTLED_SENDS < STUN_SENDS && STUN_TEST_SENDS <= STUN_SENDS);
const _: () = assert!(STUN_AHEAD.as_secs() < STUN_FRESH.as_secs() && STUN_FRESH.as_secs() < 30);
const _: () = assert!(STUN_FRESH.as_secs() - STUN_AHEAD.as_secs() > STUN_CHECK_LEAST.as_secs());
const _: () = assert!(STUN_QUIET.as_secs() < STUN_KIND.as_secs());
// Within the time that an allowance takes to be whole again, so many owners at most can use up a part of theirs.
const _: () =
    assert!((STUN_BURST + STUN_RATE * STUN_OWNER_BURST.div_ceil(STUN_OWNER_RATE)) as usize <= STUN_OWNERS);

// ---- guessing and prediction of ports ----------------------------------------------------------

/// Sockets that one behind a NAT with random ports opens. Unit: sockets, for [`PUNCH_PATIENCE`].
pub const PUNCH_SOCKETS: usize = 256;

/// Sockets that one behind a NAT with sequential ports opens. Unit: sockets.
pub const PUNCH_PREDICTED_SOCKETS: usize = 16;

/// Ports that the other side probes. Unit: datagrams. With [`PUNCH_SOCKETS`] they meet in 98.3 % of all cases; each
/// takes an entry in the tables of two NATs, which have room for some thousands.
pub const PUNCH_PROBES: usize = 1024;

/// Ports ahead of the last one seen that are probed when they are sequential. Unit: ports.
pub const PUNCH_PREDICTIONS: usize = 50;

/// Ports that each side goes through when both have sequential ones. Unit: datagrams in each of two rounds.
pub const PUNCH_WALK: usize = 512;

/// Datagrams for each number of ports that others may have taken meanwhile. Unit: datagrams.
pub const PUNCH_STAY: usize = 16;

/// How far behind the last port that was seen they begin: it may not have been the last one given. Unit: ports.
pub const PUNCH_STRAY_BACK: usize = 4;

/// Ports below this are not guessed: NATs leave them alone.
pub const PUNCH_LEAST_PORT: u16 = 1024;

/// Datagrams sent at once, and the pause after them: a thousand a second, which a home's uplink bears.
pub const PUNCH_BURST: usize = 20;

/// See [`PUNCH_BURST`]. Unit: time.
pub const PUNCH_PACE: Duration = Duration::from_millis(20);

/// Between two rounds of knocking by the opened sockets. Unit: time.
pub const PUNCH_REPEAT: Duration = Duration::from_millis(500);

/// Answers to a probe that met: one of them arrives.
pub const PUNCH_ANSWERS: usize = 3;

/// How long a punch may take. Unit: time. All probes take a second.
pub const PUNCH_PATIENCE: Duration = Duration::from_secs(4);

/// How long the same peer is left alone after one. Unit: time.
pub const PUNCH_REST: Duration = Duration::from_secs(60);

/// Sockets that won and wait to be dialled from. Unit: sockets.
pub const PUNCH_WON: usize = 4;

const _: () = assert!(PUNCH_PREDICTIONS * 4 <= PUNCH_PROBES && PUNCH_WALK * 2 <= PUNCH_PROBES);
const _: () = assert!(
    PUNCH_PROBES / PUNCH_BURST * (PUNCH_PACE.as_millis() as usize) * 2 < PUNCH_PATIENCE.as_millis() as usize
);

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
