//! Every bound of the program, with its unit and its reason.
//!
//! The machine that sets the scale is a home router with 64 MB of RAM, of which a guest such as warren
//! may use a quarter. Where two bounds depend on each other a `const` assertion below says how.

mod discovery;
mod nat;
mod transport;
mod web;

use std::time::Duration;

pub use self::{discovery::*, nat::*, transport::*, web::*};

// ---- rooms and messages -------------------------------------------------------------------------

/// Rooms a node may be in at once. Each costs a mesh, so a heartbeat's work grows with it.
pub const ROOMS: usize = 64;

/// Bytes of a room name. A room is a gossipsub topic and its name travels with every message.
pub const ROOM_NAME_BYTES: usize = 64;

/// Bytes of a nickname, UTF-8.
pub const NICK_BYTES: usize = 32;

/// Bytes of a message's text, UTF-8: some pages; a file belongs elsewhere.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Bytes of a public key in libp2p's protobuf form: 36 for ed25519, 37 for secp256k1.
pub const KEY_BYTES: usize = 64;

/// Bytes of a signature: 64 for ed25519, up to 72 for secp256k1 (DER).
pub const SIGNATURE_BYTES: usize = 96;

/// Bytes of a whole envelope. Anything longer is refused before it is looked at.
pub const ENVELOPE_BYTES: usize = TEXT_BYTES + 1024;

/// Bytes of one gossipsub RPC that we accept. gossipsub compares its whole read buffer with this, and a
/// peer may put several messages into one RPC, so it is well above [`ENVELOPE_BYTES`]; it is libp2p's default.
pub const GOSSIP_RPC_BYTES: usize = 64 * 1024;

const _: () =
    assert!(ENVELOPE_BYTES >= TEXT_BYTES + NICK_BYTES + ROOM_NAME_BYTES + KEY_BYTES + SIGNATURE_BYTES + 64);
const _: () = assert!(GOSSIP_RPC_BYTES >= 3 * ENVELOPE_BYTES);

/// How long gossipsub remembers a message id. It has no bound by count: at the 500 messages/s that a router
/// can check this is 10,000 ids, about 1.5 MB. What comes back later meets [`REPLAY_WINDOW`].
pub const GOSSIP_SEEN_TTL: Duration = Duration::from_secs(20);

/// Peers in a room's mesh, and with that about how often each message comes. Unit: peers. gossipsub's D, D_low and
/// D_high: a mesh below the second is filled up to the first, one above the third cut down to it.
///
/// libp2p has 6, 5 and 12, with which meshes have 7 and a message comes 6.2 times; each copy is a share of the CPU time
/// and of the uplink. Where a third of the nodes go at once, one in 240 loses a whole mesh of 5 until the next heartbeat;
/// what it misses is offered by others, or asked for.
pub const MESH: [usize; 3] = [5, 4, 8];

const _: () = assert!(MESH[1] < MESH[0] && MESH[0] <= ROOM_NEIGHBOURS && MESH[2] <= ROOM_LINKS);

/// Between two heartbeats of gossipsub, each of which wakes the node. They repair meshes and offer messages
/// to those outside of them (IHAVE), so who missed one gets it this much later. New members are grafted at
/// once.
pub const GOSSIP_HEARTBEAT: Duration = Duration::from_secs(2);

/// Before the first heartbeat: a newcomer's mesh is repaired early.
pub const GOSSIP_FIRST_HEARTBEAT: Duration = Duration::from_secs(1);

/// Heartbeats that gossipsub keeps whole messages for, to answer IWANT and to forward what we accept: 2 to 4
/// s.
pub const GOSSIP_HISTORY: usize = 2;

/// Messages waiting for one peer. A full queue is the publisher's back-pressure: 512 chat lines of about
/// 350 bytes are 180 kB, and 512 of the largest 9 MB, the most that one stuck peer can make us hold.
pub const GOSSIP_QUEUE: usize = 512;

/// How long a message may wait in that queue. Long, because the queue is bounded by count: a slow link
/// should deliver late rather than never.
pub const GOSSIP_QUEUE_TTL: Duration = Duration::from_secs(60);

/// Authors whose clocks are remembered to tell a replayed message from a new one. The one that was silent
/// longest is forgotten first. At most `AUTHORS * (REPLAY_WINDOW * 8 + 100)` bytes: 1.2 MB.
pub const AUTHORS: usize = 1024;

/// Latest timestamps remembered per author. A message older than all of them is stale, so this is how far
/// gossip may reorder one author's messages.
pub const REPLAY_WINDOW: usize = 128;

/// Messages of plain rooms remembered by author and number, about 100 bytes each.
pub const PLAIN_SEEN: usize = 4096;

/// How far behind the room's clock the first message of an unknown author may be. Beyond it a replay from
/// long ago cannot be told from a newcomer with a wrong clock, and counts as stale.
pub const STALE_AFTER: Duration = Duration::from_secs(10 * 60);

/// How far ahead of a plausible local clock another node's clock may be and still be followed.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead a neighbour's clock may be and still be followed by a node that may never have had a right one: its
/// firmware is so old at the most.
pub const CLOCK_BEHIND: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How far ahead of its clock a node writes down what it may say until then. After a power cut on a machine without a
/// clock chip its messages are at the most so much ahead; after a clean end they are not.
pub const CLOCK_RESERVE: Duration = Duration::from_secs(6 * 60 * 60);

/// The next stretch is written down when so little of the last one is left.
pub const CLOCK_LEFT: Duration = Duration::from_secs(10 * 60);

/// The stretch of a node that only counts, because its wall clock is behind. Each millisecond has 65,536 numbers.
pub const CLOCK_COUNT: Duration = Duration::from_secs(1);

/// A wall clock that is so much off what it should have come to has been set.
pub const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Writes that may follow each other at once, since a clock that comes right at boot takes two or three, besides the
/// one at the start and the one at a clean end. Unit: writes.
pub const CLOCK_SAVES: u32 = 3;

/// One more is allowed after this. Unit: time. So flash sees five small writes a day, whatever others say.
pub const CLOCK_SAVE_EVERY: Duration = Duration::from_secs(5 * 60 * 60);

/// Bytes of the file that they go to.
pub const CLOCK_FILE_BYTES: u64 = 1024;

const _: () = assert!(CLOCK_SAVE_EVERY.as_secs() < CLOCK_RESERVE.as_secs() - CLOCK_LEFT.as_secs());
const _: () = assert!(CLOCK_RESERVE.as_secs() < CLOCK_AHEAD.as_secs());

/// The least time between two presence announcements of ours in one room.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);

/// How often a member repeats that it is there: 30 quiet members cost a node about 5 kB a minute.
pub const PRESENCE_REPEAT: Duration = Duration::from_secs(10 * 60);

/// How long a member that is no neighbour may be silent: two announcements may get lost.
pub const MEMBER_SILENCE: Duration = Duration::from_secs(32 * 60);

/// About how many members answer a newcomer, so that a large room does not answer with a storm.
pub const PRESENCE_ANSWERS: usize = 16;

/// Members wait up to this long, at random, before they answer a newcomer.
pub const PRESENCE_DELAY: Duration = Duration::from_secs(2);

/// Members remembered per room for the list of who is there.
pub const MEMBERS: usize = 512;

const _: () = assert!(MEMBER_SILENCE.as_secs() > 3 * PRESENCE_REPEAT.as_secs());

// ---- what was missed -----------------------------------------------------------------------------

/// How long messages are kept for those who missed them: until a dead connection is noticed ([`DEAD_LINK`]), and
/// time to find another way.
pub const RECALL_AGE: Duration = Duration::from_secs(120);

/// Messages kept for that, of all rooms: two minutes of four lines a second.
pub const RECALL_MESSAGES: usize = 512;

/// Bytes of their envelopes: chat lines have about 300 each. A node holds this much again for each answer under way.
pub const RECALL_BYTES: usize = 160 * 1024;

/// Bytes of a request: 8 for each message that is known, and the rest.
pub const RECALL_REQUEST_BYTES: usize = 8 * RECALL_MESSAGES + 2 * ROOM_NAME_BYTES;

/// Bytes of an answer: up to 4 around each envelope.
pub const RECALL_ANSWER_BYTES: usize = RECALL_BYTES + 4 * RECALL_MESSAGES;

/// Questions and answers under way. Unit: streams, each with a task.
pub const RECALLS_AT_ONCE: usize = 8;

/// How long one may take: as an agreement through a relay.
pub const RECALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer is asked once more after this: it may have gone on speaking into the dead connection.
pub const RECALL_AGAIN: Duration = Duration::from_secs(2);

/// What is asked for when one of two connections was closed in good order. Unit: time. What was said before that has come.
pub const RECALL_CLOSED: Duration = Duration::from_secs(10);

/// A peer is answered after so long at the earliest. Unit: time since the last answer.
pub const RECALL_REST: Duration = Duration::from_millis(500);

/// Recalled messages looked at before others have their turn: each takes a check of its signature.
pub const RECALL_TURN: usize = 8;

const _: () = assert!(RECALL_AGE.as_secs() >= 2 * DEAD_LINK.as_secs());
const _: () =
    assert!(RECALL_BYTES >= 4 * ENVELOPE_BYTES && RECALL_REST.as_millis() < RECALL_AGAIN.as_millis());

// ---- connections --------------------------------------------------------------------------------

/// Connections that are established at once, in both directions. At about 80 kB each: 8 MB.
pub const CONNECTIONS: u32 = 100;

/// Connections to one peer: two happen when both dial at the same time, as many through relays, and a direct one
/// that comes of it may be two as well.
pub const CONNECTIONS_PER_PEER: u32 = 5;

/// How long two connections to one peer are left alone: identify and the exchange of subscriptions are done
/// by then.
pub const SURPLUS_GRACE: Duration = Duration::from_secs(5);

/// How long no message must have come or gone before the worse of two connections is closed, where the peer cannot
/// be asked for what is lost by that: longer than any message is under way.
pub const SURPLUS_QUIET: Duration = Duration::from_secs(2);

/// A peer that dials us after we have been connected for so long has lost its end of the connection. Unit: time.
///
/// Two that dial each other at the same time get two connections within the time that a dial may take.
pub const SECOND_LIFE: Duration = Duration::from_secs(15);

const _: () = assert!(SECOND_LIFE.as_millis() > TCP_DIAL_TIMEOUT.as_millis());

/// Inbound connections still in their handshake.
pub const PENDING_INBOUND: u32 = 32;

/// Outbound connections still in their handshake.
pub const PENDING_OUTBOUND: u32 = 32;

/// Streams on one yamux connection: gossipsub, identify and ping use 5. Each may buffer 256 KiB (the
/// protocol's initial window), so a hostile peer can fill 8 MiB of a connection.
pub const YAMUX_STREAMS: usize = 32;

/// Inbound streams of one connection still negotiating their protocol.
pub const NEGOTIATING_STREAMS: usize = 16;

const _: () = assert!(NEGOTIATING_STREAMS < YAMUX_STREAMS);

/// How long a dial with its handshakes (TCP, Noise, yamux) may take, and the handshakes of an inbound
/// connection: each is a round trip or two, so this is for the slowest links there are.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that no protocol uses is closed after this. Long: a bootstrap peer without a common room is
/// idle and wanted, and [`CONNECTIONS`] bounds what others can make us keep.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two pings on a connection, the first of which comes at once and tells the round-trip time. Dead
/// links are the transports' business, see [`DEAD_LINK`]; later pings are for a peer whose machine lives, and
/// acknowledges what TCP brings, while its program stands still. With the pong and what QUIC adds, each wakes
/// either end three times, so they are rare.
pub const PING_INTERVAL: Duration = Duration::from_secs(120);

/// How long a ping may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long opening a stream may take; libp2p-swarm's default, which the ping protocol does not change.
pub const PING_STREAM: Duration = Duration::from_secs(10);

/// What a person can count on: a link that was cut is noticed within this, and so is a peer whose machine is
/// gone.
pub const DEAD_LINK: Duration = Duration::from_secs(30);

/// Likewise: a peer that stands still behind a link that lives is noticed within this, with QUIC within
/// [`DEAD_LINK`]. libp2p's ping keeps the first failure to itself, waits for [`PING_INTERVAL`] again, and
/// then asks for a new stream, for which the swarm gives it [`PING_STREAM`].
pub const HUNG_PEER: Duration = Duration::from_secs(260);

const _: () = assert!(
    2 * PING_INTERVAL.as_secs() + PING_TIMEOUT.as_secs() + PING_STREAM.as_secs() < HUNG_PEER.as_secs()
);

/// Between two identify exchanges on a long-lived connection; changes of address are pushed at once.
pub const IDENTIFY_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Addresses given with `--bootstrap`, `--listen` or `--external`, each.
pub const ADDRESSES: usize = 64;

/// Reconnecting to a bootstrap peer starts with this delay and doubles ...
pub const REDIAL_FIRST: Duration = Duration::from_secs(1);

/// ... up to this one, with up to a half of it taken off at random, for ever.
pub const REDIAL_MOST: Duration = Duration::from_secs(60);

/// A connection must have lasted this long before its loss counts as news and the delay starts over.
pub const REDIAL_SETTLED: Duration = Duration::from_secs(30);

// ---- faces --------------------------------------------------------------------------------------

/// Bytes of one line of input: a command with the longest text, every byte escaped as `\u00xx`.
pub const LINE_BYTES: usize = 6 * TEXT_BYTES + 4096;

/// Depth of nesting in a JSON line: commands are flat, and the parser recurses.
pub const JSON_DEPTH: usize = 16;

/// Commands on their way to the node. A face waits when this is full.
pub const COMMANDS: usize = 32;

/// Things that the node handles before it lets the connections' tasks run.
pub const TURNS_BEFORE_YIELD: usize = 16;

/// Events waiting for one slow reader; later ones are lost and counted.
pub const EVENTS: usize = 8192;

/// Bytes of events waiting for one slow reader, by the size of their texts.
pub const EVENT_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(EVENT_BYTES > 16 * ENVELOPE_BYTES);

/// Clients of the control socket at once. Who is one too many is told so.
pub const CONTROL_CLIENTS: usize = 8;

/// Bytes of events waiting for one client of the control socket, by the size of their texts: about 3,000 chat lines.
/// Together they may hold 8 MB.
pub const CONTROL_EVENT_BYTES: usize = 1024 * 1024;

/// Answers waiting for one client of the control socket; while there are so many it is not read from. The longest, of
/// [`ROOMS`] with [`MEMBERS`] each, has some MB.
pub const CONTROL_ANSWERS: usize = 4;

const _: () = assert!(CONTROL_EVENT_BYTES > 16 * ENVELOPE_BYTES);

/// One of several who write rests for so long after some kB, so that the node has its turn: each may bring 16 MB/s. So
/// does who writes a line that does not end.
pub const TURN_REST: Duration = Duration::from_millis(1);

/// Connections to the control socket that the kernel keeps until they are accepted.
pub const CONTROL_BACKLOG: i32 = 64;

/// The control socket rests for so long after it failed to accept, as when there are no more file descriptors.
pub const CONTROL_REST: Duration = Duration::from_secs(1);

/// Another node that starts may be looking at the same path; this one waits so long for it to be done ...
pub const CONTROL_LOCK: Duration = Duration::from_millis(50);

/// ... so many times.
pub const CONTROL_LOCK_TRIES: usize = 20;

/// `warren ctl` gives a node up that is silent for so long. A publisher may wait for [`PUBLISH_PATIENCE`].
pub const CONTROL_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of the longest line that `warren ctl` takes: all rooms with all members at 300 bytes each.
pub const CONTROL_LINE_BYTES: usize = ROOMS * MEMBERS * 300;

const _: () = assert!(CONTROL_PATIENCE.as_secs() > PUBLISH_PATIENCE.as_secs());

/// A publisher whose peers' queues are full tries again after this long, then twice as long, and so on. A peer that
/// checks 10,000 messages a second makes 100 places in this time and still has 400 to go.
pub const PUBLISH_RETRY: Duration = Duration::from_millis(10);

/// The longest of these. Each try leaves an offer of the message with gossipsub, for others to ask for.
pub const PUBLISH_RETRY_MOST: Duration = Duration::from_millis(1280);

/// A publisher gives up when its peers' queues have been full without a break for so long.
pub const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);

/// Messages given to `--publish`.
pub const PUBLISH_AT_START: usize = 16;

/// How long the node may take to say goodbye when it ends.
pub const GOODBYE: Duration = Duration::from_millis(500);

// ---- HTTP ----------------------------------------------------------------------------------------

/// HTTP connections at once. For one more the oldest is closed: a scraper opens another, and who does nothing with
/// his keeps nobody out. At [`HTTP_HEAD_BYTES`] and an answer of some 20 kB each: half a megabyte.
pub const HTTP_CONNECTIONS: usize = 16;

/// Bytes of a request's head: scrapers and browsers send about 500.
pub const HTTP_HEAD_BYTES: usize = 8 * 1024;

/// Header fields of a request.
pub const HTTP_HEADERS: usize = 64;

/// How long a request's head may take from its first byte to its last.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may be idle before its first request, and between two: longer than a scraper's interval.
pub const HTTP_IDLE: Duration = Duration::from_secs(90);

/// How long an answer may take, from the question to its last byte.
pub const HTTP_ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long the node may take to tell its numbers before it counts as standing still. Shorter than
/// [`HTTP_ANSWER_TIME`], so that this can be said.
pub const LOOK_TIME: Duration = Duration::from_secs(5);

const _: () = assert!(LOOK_TIME.as_secs() < HTTP_ANSWER_TIME.as_secs());

/// How long nobody is accepted after that has failed, as when there are no file descriptors left.
pub const HTTP_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const _: () = assert!(HTTP_IDLE.as_secs() > 60 && HTTP_HEAD_TIME.as_secs() < HTTP_IDLE.as_secs());

// ---- files --------------------------------------------------------------------------------------

/// Bytes of a key file: a protobuf key of 68 bytes, RSA keys of other programs up to some kB.
pub const KEY_FILE_BYTES: u64 = 16 * 1024;

/// Bytes of a configuration file.
pub const CONFIG_FILE_BYTES: u64 = 256 * 1024;
