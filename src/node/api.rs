//! All that the outside may know of a node: [`Command`]s go in, one [`Answer`] each comes back, and
//! [`Event`]s come out to whoever listens. Faces are written against this module and nothing else of the node.

use std::time::Duration;

use async_channel::{Receiver, Sender};
use libp2p::{Multiaddr, PeerId};

pub use super::feed::{Feed, Listener};
#[cfg(feature = "metrics")]
pub use super::snapshot::{By, InRoom, Look, Snapshot};
#[cfg(feature = "metrics")]
pub use super::tally::{Histogram, RoomCounts};
#[cfg(feature = "autonat")]
use crate::nat::autonat::client::Verdict;
#[cfg(feature = "stun")]
use crate::nat::meaning::Meaning;
use crate::{
    config::Changes,
    limits,
    rooms::{Nick, Room},
};

/// Something that a face asks of the node.
#[derive(Clone, Debug)]
pub enum Command {
    /// Say something in a room; without one, in the first room joined.
    Send { room: Option<Room>, text: String, action: bool },
    /// Enter a room.
    Join(Room),
    /// Leave a room.
    Leave(Room),
    /// Dial an address, once.
    Connect(Multiaddr),
    /// Close all connections to a peer.
    Disconnect(PeerId),
    /// Take another nickname.
    Nick(Nick),
    /// Who is connected?
    Peers,
    /// Which rooms am I in, with whom?
    Rooms,
    /// Who am I, and where can I be reached?
    WhoAmI,
    /// What was counted so far?
    Stats,
    /// [`Command::WhoAmI`] and [`Command::Stats`] in one.
    Status,
    /// What is known of the NAT, and of who can dial this node?
    Nat,
    /// Read the configuration file again.
    Reload,
    /// End the node.
    Quit,
}

/// What the node answers when it did what was asked.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done, or under way.
    Done,
    /// The message is on its way to at least one peer; its id is the SHA-256 of the gossip data.
    Sent { room: Room, id: MessageId },
    /// To [`Command::Peers`].
    Peers(Vec<PeerInfo>),
    /// To [`Command::Rooms`].
    Rooms(Vec<RoomInfo>),
    /// To [`Command::WhoAmI`].
    WhoAmI(WhoAmI),
    /// To [`Command::Stats`].
    Stats(Box<Stats>),
    /// To [`Command::Status`].
    Status(WhoAmI, Box<Stats>),
    /// To [`Command::Nat`].
    Nat(NatInfo),
    /// To [`Command::Reload`].
    Reloaded(Changes),
}

/// Why the node did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("nobody else is in room '{0}' yet; the message was not sent")]
    NoPeers(Room),
    #[error("not in room '{0}'; join it first")]
    NotInRoom(Room),
    #[error("in no room; join one first")]
    NoRoom,
    #[error("already in {most} rooms; leave one first", most = limits::ROOMS)]
    TooManyRooms,
    #[error("a text of {0} bytes is too long; at most {most} fit in a message", most = limits::TEXT_BYTES)]
    TextTooLong(usize),
    #[error("a message cannot be empty")]
    EmptyText,
    #[error("a plain room knows no actions; send text")]
    NoActions,
    #[error("cannot dial '{addr}': {why}")]
    Dial { addr: Multiaddr, why: String },
    #[error("not connected to {0}")]
    NotConnected(PeerId),
    #[error("the message could not be published: {0}")]
    Publish(String),
    #[error("not reloaded, and nothing has changed: {0}")]
    Reload(String),
    #[error("the node is shutting down")]
    Ended,
}

/// SHA-256 of a message's gossip data.
pub type MessageId = [u8; 32];

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The node runs. The first event.
    Started(WhoAmI),
    /// It accepts connections at this address, which ends with its peer ID.
    Listening(Multiaddr),
    /// It does so no longer.
    ListeningStopped(Multiaddr),
    /// A peer is connected (reported for its first connection).
    PeerConnected { peer: PeerId, addr: Multiaddr, inbound: bool, is_relayed: bool },
    /// A peer is now reached directly, or only through a relay, and it was the other way before.
    PathChanged { peer: PeerId, addr: Multiaddr, is_relayed: bool },
    /// A peer is no longer connected (reported for its last connection).
    PeerDisconnected { peer: PeerId, cause: String },
    /// Somebody is in a room.
    MemberJoined { room: Room, peer: PeerId, nick: Option<Nick> },
    /// Somebody in a room has a name, or a new one.
    MemberRenamed { room: Room, peer: PeerId, nick: Nick },
    /// Somebody left a room.
    MemberLeft { room: Room, peer: PeerId, nick: Option<Nick> },
    /// Somebody said something.
    Message(Message),
    /// What kind of NAT this node is behind, as far as is known now.
    #[cfg(feature = "stun")]
    Nat(Meaning),
    /// Whether others can dial this node, and where, as far as those say who have tried.
    #[cfg(feature = "autonat")]
    Reachability { verdict: Verdict, addrs: Vec<Multiaddr> },
    /// Something that was asked for failed later, or an operator should know about it.
    Trouble(String),
    /// The node has ended. The last event.
    Stopped,
}

/// A message as shown.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was said.
    pub room: Room,
    /// Who said it; unknown for unsigned messages of other programs in plain rooms.
    pub author: Option<PeerId>,
    /// What the author wants to be called; none in plain rooms.
    pub nick: Option<Nick>,
    /// The text as the author wrote it: it may contain anything a `String` can.
    pub text: String,
    /// Shown as "nick text" instead of "nick: text".
    pub action: bool,
    /// Milliseconds since 1970 by the author's clock; by ours in plain rooms.
    pub time_ms: u64,
    /// SHA-256 of the gossip data.
    pub id: MessageId,
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its peer ID.
    pub peer: PeerId,
    /// The last name it used in any room.
    pub nick: Option<Nick>,
    /// Its addresses, one a connection.
    pub addrs: Vec<Multiaddr>,
    /// Whether it dialled us.
    pub inbound: bool,
    /// Whether all of them go through relays.
    pub is_relayed: bool,
    /// The latest round-trip time.
    pub rtt: Option<Duration>,
    /// What program it says it is.
    pub agent: Option<String>,
}

/// A room that the node is in.
#[derive(Clone, Debug)]
pub struct RoomInfo {
    /// Its name.
    pub room: Room,
    /// Who else is there, with their names.
    pub members: Vec<(PeerId, Option<Nick>)>,
    /// Peers in the gossipsub mesh of the room.
    pub mesh: usize,
}

/// How the node stands to the world outside.
#[derive(Clone, Debug, Default)]
pub struct NatInfo {
    /// What kind of NAT there is, an entry for each family of addresses that is known.
    #[cfg(feature = "stun")]
    pub nats: Vec<Meaning>,
    /// Whether others can dial this node, as far as those say who have tried.
    #[cfg(feature = "autonat")]
    pub verdict: Verdict,
    /// Relays that hold a place for this node.
    pub relays: Vec<PeerId>,
}

/// The node itself.
#[derive(Clone, Debug)]
pub struct WhoAmI {
    /// Its peer ID.
    pub peer: PeerId,
    /// Its nickname.
    pub nick: Nick,
    /// Where it accepts connections.
    pub listening: Vec<Multiaddr>,
    /// Where others say they see it, or the operator says it is.
    pub external: Vec<Multiaddr>,
    /// Its rooms; the first is where a message without a room goes.
    pub rooms: Vec<Room>,
}

/// Counters since the start. 32 bits, because that is what every target can count in; they wrap around.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Messages of ours taken by gossipsub.
    pub sent: u32,
    /// Messages shown.
    pub delivered: u32,
    /// Messages that gossipsub no longer remembered but we did.
    pub duplicate: u32,
    /// Messages too old to tell whether they are new.
    pub stale: u32,
    /// Messages whose signature does not hold.
    pub forged: u32,
    /// Messages that are no envelope (in plain rooms: no UTF-8).
    pub malformed: u32,
    /// Messages longer than an envelope may be.
    pub oversized: u32,
    /// Messages of a version or kind that this program does not know.
    pub unknown: u32,
    /// Messages of ours that gossipsub gave up on because a peer was too slow.
    pub dropped: u32,
    /// Dials that ended in a connection.
    pub dials: u32,
    /// Dials that failed.
    pub dial_failures: u32,
    /// Inbound connections that failed before they were established.
    pub inbound_failures: u32,
    /// Connections now.
    pub connections: u32,
    /// Peers in the address book now.
    pub known: u32,
    /// Peers in the routing table of the DHT now.
    pub routes: u32,
    /// Reservations that this relay holds now.
    pub reservations: u32,
    /// Circuits through this relay now.
    pub circuits: u32,
    /// Since the start.
    pub uptime: Duration,
}

/// A face's end of the line to the node. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: Sender<Request>,
    /// Beside the queue of requests, which may be held up by a peer that takes no messages.
    stop: Sender<()>,
    /// Likewise: just then somebody will want to look.
    #[cfg(feature = "metrics")]
    looks: Sender<Look>,
    feed: Feed,
}

/// The node's end of all handles.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) requests: Receiver<Request>,
    pub(super) stop: Receiver<()>,
    #[cfg(feature = "metrics")]
    pub(super) looks: Receiver<Look>,
}

/// A command with the way back for its answer.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes. Nobody may be waiting for it any more.
    pub answer: Sender<Result<Answer, Refusal>>,
}

impl Handle {
    /// A handle, and the node's end of it.
    pub(super) fn new(feed: Feed) -> (Self, Inbox) {
        let (requests, requests_in) = async_channel::bounded(limits::COMMANDS);
        let (stop, stop_in) = async_channel::bounded(1);
        #[cfg(feature = "metrics")]
        let (looks, looks_in) = async_channel::bounded(1);
        let handle = Self {
            requests,
            stop,
            #[cfg(feature = "metrics")]
            looks,
            feed,
        };
        let inbox = Inbox {
            requests: requests_in,
            stop: stop_in,
            #[cfg(feature = "metrics")]
            looks: looks_in,
        };
        (handle, inbox)
    }

    /// Asks the node something and waits for its answer. Waits, too, while too many commands are under way:
    /// this is the back-pressure that paces a publisher.
    pub async fn ask(&self, command: Command) -> Result<Answer, Refusal> {
        let answer = self.submit(command).await?;
        answer.recv().await.unwrap_or(Err(Refusal::Ended))
    }

    /// Hands the node a command and returns where its answer will come: for faces that send the next one
    /// before the last is answered. Answers come in the order of the commands.
    pub async fn submit(&self, command: Command) -> Result<Receiver<Result<Answer, Refusal>>, Refusal> {
        let (answer, receiver) = async_channel::bounded(1);
        self.requests.send(Request { command, answer }).await.map_err(|_| Refusal::Ended)?;
        Ok(receiver)
    }

    /// Ends the node now, whatever is still under way. [`Command::Quit`] waits for its turn.
    pub fn stop(&self) {
        // A full channel means that it has been told.
        let _ = self.stop.try_send(());
    }

    /// Waits until the node has ended.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// All that the node counts, as of now; `None` when it has ended.
    #[cfg(feature = "metrics")]
    pub async fn look(&self) -> Option<Box<Snapshot>> {
        let (answer, receiver) = async_channel::bounded(1);
        self.looks.send(answer).await.ok()?;
        receiver.recv().await.ok()
    }

    /// Listens to all events from now on.
    pub fn listen(&self) -> Listener {
        self.feed.listen(limits::EVENT_BYTES)
    }

    /// The same for one of several who may be slow: no more than so many bytes wait for it.
    pub fn listen_within(&self, bytes: usize) -> Listener {
        self.feed.listen(bytes)
    }
}
