//! Every bound of the program, with its unit and its reason.
//!
//! The machine that sets the scale is a home router with 64 MB of RAM, of which a guest such as warren
//! may use a quarter. Where two bounds depend on each other a `const` assertion below says how.

use std::time::Duration;

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

/// The least time between two presence announcements of ours in one room.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);

/// How often a member repeats that it is there: 30 quiet members cost a node about 5 kB a minute.
pub const PRESENCE_REPEAT: Duration = Duration::from_secs(5 * 60);

/// How long a member that is no neighbour may be silent: two announcements may get lost.
pub const MEMBER_SILENCE: Duration = Duration::from_secs(16 * 60);

/// About how many members answer a newcomer, so that a large room does not answer with a storm.
pub const PRESENCE_ANSWERS: usize = 16;

/// Members wait up to this long, at random, before they answer a newcomer.
pub const PRESENCE_DELAY: Duration = Duration::from_secs(2);

/// Members remembered per room for the list of who is there.
pub const MEMBERS: usize = 512;

const _: () = assert!(MEMBER_SILENCE.as_secs() > 3 * PRESENCE_REPEAT.as_secs());

// ---- connections --------------------------------------------------------------------------------

/// Connections that are established at once, in both directions. At about 80 kB each: 8 MB.
pub const CONNECTIONS: u32 = 100;

/// Connections to one peer: two happen when both dial at the same time.
pub const CONNECTIONS_PER_PEER: u32 = 2;

/// How long two connections to one peer are left alone: identify and the exchange of subscriptions are done
/// by then.
pub const SURPLUS_GRACE: Duration = Duration::from_secs(5);

/// How long no message must have come or gone before the worse of two connections is closed: longer than any
/// message is under way.
pub const SURPLUS_QUIET: Duration = Duration::from_secs(2);

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

/// A publisher whose peers' queues are full tries again after this long. Each try costs a signature, 75 µs on a
/// PC. A peer that checks 10,000 messages a second makes 100 places in this time and still has 400 to go.
pub const PUBLISH_RETRY: Duration = Duration::from_millis(10);

/// A publisher gives up when its peers' queues have been full without a break for so long.
pub const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);

/// Messages given to `--publish`.
pub const PUBLISH_AT_START: usize = 16;

/// How long the node may take to say goodbye when it ends.
pub const GOODBYE: Duration = Duration::from_millis(500);

// ---- files --------------------------------------------------------------------------------------

/// Bytes of a key file: a protobuf key of 68 bytes, RSA keys of other programs up to some kB.
pub const KEY_FILE_BYTES: u64 = 16 * 1024;

/// Bytes of a configuration file.
pub const CONFIG_FILE_BYTES: u64 = 256 * 1024;

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
