//! Circuit relay v2, the client's half: a relay is asked for a place, where others reach this node, and for circuits
//! to those who have a place there.
//!
//! ```text
//!   Transport ── Request ──▶ Behaviour ── Ask ──▶ Handler, on a direct connection to a relay
//!       ▲  dial: a circuit       │  dials the relay,      │  hop: RESERVE, CONNECT (ours)
//!       │  listen: a place       │  keeps the places      │  stop: CONNECT (the relay's)
//!       └────── Arrival ─────────┴──────── Told ──────────┘
//! ```
//! A place is a listener of the swarm at `<relay>/p2p-circuit`. The relay says until when it holds a place by *its* wall
//! clock. Nothing here depends on that: a router may have booted in 1970, and a relay too. It is a hint for when to
//! renew, if it makes sense, and renewing is left to who knows how many places are wanted
//! ([`relays`](super::relays)).
//!
//! Source: libp2p/specs, relay/circuit-v2.md.

mod behaviour;
mod handler;
pub(super) mod proto;
mod transport;
mod wire;

use std::io;

use futures::channel::{mpsc, oneshot};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, core::transport::ListenerId, multiaddr::Protocol};

pub use self::{
    behaviour::{Behaviour, Event},
    transport::Transport,
};
use crate::limits;

/// What a relay is asked by.
pub const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// What a relay brings a circuit by.
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// The two halves, for the node `local`: the transport's raw streams are for it to secure and to multiplex.
pub fn new(local: PeerId) -> (Transport, Behaviour) {
    let (requests, asked) = mpsc::channel(limits::CIRCUIT_REQUESTS);
    (Transport::new(requests), Behaviour::new(local, asked))
}

/// Why there is no circuit, or no place at a relay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("'{addr}' {why}")]
    Address { addr: Multiaddr, why: &'static str },
    #[error("the peer is no relay")]
    NoRelay,
    #[error("the relay cannot be reached: {0}")]
    Unreachable(String),
    #[error("the relay refuses: {0}")]
    Refused(proto::Status),
    #[error("the relay sent a message of type {0} when it was not its turn")]
    Turn(u32),
    #[error("the relay says neither whose circuit it brings nor whether it agrees")]
    Incomplete,
    #[error("the relay took longer than {} s", limits::CIRCUIT_TIMEOUT.as_secs())]
    Late,
    #[error("the connection to the relay was closed")]
    Gone,
}

/// What the transport wants. Dropping a sender says that it is not to be.
enum Request {
    Listen { listener: ListenerId, relay: Relay, to: mpsc::Sender<Arrival> },
    Dial { relay: Relay, peer: PeerId, reply: Reply },
}

/// Who waits for a circuit.
type Reply = oneshot::Sender<Result<Stream, Error>>;

/// What comes to a listener.
enum Arrival {
    /// There is a place for it, and these addresses lead there.
    Place(Vec<Multiaddr>),
    /// There is none.
    Refused(Error),
    Circuit {
        local_addr: Multiaddr,
        peer: PeerId,
        stream: Stream,
    },
}

/// A relay, and where it can be reached.
#[derive(Clone, Debug, PartialEq)]
struct Relay {
    peer: PeerId,
    /// With the peer ID at the end.
    addr: Multiaddr,
}

impl Relay {
    /// What the relay does for a node: `<relay>/p2p-circuit`.
    fn circuit(&self) -> Multiaddr {
        self.addr.clone().with(Protocol::P2pCircuit)
    }
}

/// Reads `<relay>/p2p-circuit` and whom it leads to. `None`: it is another kind of address.
///
/// # Errors
/// [`Error::Address`] if it leads nowhere.
fn parse(addr: &Multiaddr) -> Option<Result<(Relay, Option<PeerId>), Error>> {
    let is_circuit = |part: &Protocol| *part == Protocol::P2pCircuit;
    let mut parts = addr.iter();
    let relay: Multiaddr = parts.by_ref().take_while(|part| !is_circuit(part)).collect();
    if relay.len() == addr.len() {
        return None;
    }
    let wrong = |why| Some(Err(Error::Address { addr: addr.clone(), why }));
    let rest: Vec<Protocol> = parts.collect();
    let mut peers = relay.iter().filter_map(peer_of);
    let (Some(peer), None) = (peers.next(), peers.next()) else {
        return wrong("does not name one relay by its peer ID");
    };
    if relay.iter().last().and_then(peer_of).is_none() || relay.iter().count() == 1 {
        return wrong("does not say where the relay is");
    }
    let relay = Relay { peer, addr: relay };
    match rest[..] {
        [] => Some(Ok((relay, None))),
        [Protocol::P2p(target)] => Some(Ok((relay, Some(target)))),
        _ => wrong("names no peer behind the relay"),
    }
}

fn peer_of(part: Protocol<'_>) -> Option<PeerId> {
    match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
