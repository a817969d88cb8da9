//! The server's side of circuit relay v2: peers that nobody can dial get a reservation, and others reach them through
//! circuits, which carry what neither the relay nor anybody else can read.
//!
//! ```text
//!   source ──HOP: CONNECT target──▶ relay ──STOP: CONNECT source──▶ target, who has a reservation
//!   source ◀────────────── the two streams, joined ───────────────▶ target
//! ```
//! libp2p's own server refuses to prolong reservations while it is full, leaves circuits open that nobody can close,
//! lets one peer be the end of any number, knows no networks, and can be brought to panic. So this is another one.
//! Source: libp2p/specs, relay/circuit-v2.md. Vouchers, which nobody checks, are left out.

mod circuit;
mod connection;
mod message;
mod places;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, ExternalAddresses, FromSwarm, NetworkBehaviour, NotifyHandler,
        Stream, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

pub use self::places::Limits;
use self::{
    connection::{Asked, Coming, Connection, Heard, Order},
    places::{CircuitId, Places, Refusal},
};
use crate::{
    discovery::scope::{self, Networks},
    limits,
    nat::circuit::proto::Status,
};

/// The relay.
pub struct Behaviour {
    me: PeerId,
    limits: Limits,
    places: Places,
    /// Connected peers.
    peers: HashMap<PeerId, Peer>,
    /// Sources whose target is being told.
    waiting: HashMap<CircuitId, Stream>,
    /// Peers that have a place, as far as the node was told.
    holders: HashSet<PeerId>,
    /// The networks of this machine, whose machines are not counted.
    networks: Networks,
    external: ExternalAddresses,
    /// For the swarm. Each is an answer to something that a connection said.
    queue: VecDeque<ToSwarm<Event, Order>>,
    /// Fires when the next reservation is over.
    timer: Delay,
    due: Option<Instant>,
    waker: Option<Waker>,
}

/// A connected peer.
#[derive(Default)]
struct Peer {
    connections: HashMap<ConnectionId, Option<IpAddr>>,
    /// See [`Places::may_ask`].
    pace: Option<Instant>,
}

/// What the node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer has a reservation or is an end of a circuit, and was not before.
    Holds(PeerId),
    /// A peer has nothing here any more.
    Lost(PeerId),
}

impl Behaviour {
    pub fn new(me: PeerId, limits: Limits) -> Self {
        Self {
            me,
            limits,
            places: Places::new(limits),
            peers: HashMap::new(),
            waiting: HashMap::new(),
            holders: HashSet::new(),
            networks: Networks::default(),
            external: ExternalAddresses::default(),
            queue: VecDeque::new(),
            timer: Delay::never(),
            due: None,
            waker: None,
        }
    }

    /// What it gives from now on. Who has a place keeps it; what one circuit may take counts for peers that connect from
    /// now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.places.set_limits(limits);
    }

    /// The networks of this machine: who is in them is not counted.
    pub fn set_networks(&mut self, networks: Networks) {
        self.networks = networks;
    }

    /// Whether a peer has a reservation or is an end of a circuit.
    pub fn has(&self, peer: &PeerId) -> bool {
        self.holders.contains(peer)
    }

    /// Whether there is a circuit between two peers, whoever of them made it.
    pub fn joins(&self, one: PeerId, other: PeerId) -> bool {
        self.places.joins(one, other)
    }

    /// Reservations and circuits now.
    pub fn given(&self) -> [u32; 2] {
        [self.places.reservations() as u32, self.places.circuits() as u32]
    }

    /// How many have.
    pub fn holders(&self) -> usize {
        self.holders.len()
    }

    fn on_asked(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream, asked: Asked) {
        let now = Instant::now();
        self.expire(now);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let ip = known.connections.get(&connection).copied().flatten();
        let origin = ip.filter(|ip| !self.networks.is_neighbour(*ip));
        let allowed = match self.places.may_ask(&mut known.pace, origin, now) {
            true => Ok(()),
            false => Err(Refusal::TooFast),
        };
        let answer = match asked {
            Asked::Reserve => {
                allowed.and_then(|()| self.places.reserve((peer, connection), origin, now)).map(|()| {
                    let addrs = self.addresses();
                    message::reserved(addrs, limits::RELAY_RESERVATION, &self.limits)
                })
            }
            Asked::Connect(target) => {
                let own = self.places.reserved_at(&target);
                let open = self.peers.get(&target).map(|peer| &peer.connections);
                let to = open.and_then(|open| {
                    own.filter(|id| open.contains_key(id)).or_else(|| open.keys().next().copied())
                });
                match allowed.and_then(|()| self.places.connect((peer, connection), origin, target, to)) {
                    Ok(circuit) => return self.tell(circuit, peer, stream),
                    Err(refusal) => Err(refusal),
                }
            }
        };
        let bytes = answer.unwrap_or_else(|refusal| {
            log::debug!(
                "{peer} gets no place ({refusal:?}) beside {} reservations and {} circuits",
                self.places.reservations(),
                self.places.circuits()
            );
            message::refused(status(refusal))
        });
        self.order(peer, connection, Order::Answer(stream, bytes));
        self.note([peer]);
    }

    /// Tells the target of a new circuit that somebody comes.
    fn tell(&mut self, circuit: CircuitId, source: PeerId, stream: Stream) {
        let Some([_, (target, connection)]) = self.places.ends(circuit) else { return };
        self.waiting.insert(circuit, stream);
        self.order(target, connection, Order::Tell(Coming { circuit, source }));
        self.note([source, target]);
    }

    fn on_taken(&mut self, circuit: CircuitId, target: Option<Stream>) {
        let Some(target) = target else { return self.close(circuit) };
        let Some([(peer, connection), _]) = self.places.ends(circuit) else { return };
        if let Some(source) = self.waiting.remove(&circuit) {
            self.order(peer, connection, Order::Carry { circuit, source, target });
        }
    }

    /// A circuit is over, or came to nothing.
    fn close(&mut self, circuit: CircuitId) {
        let Some([source, target]) = self.places.close(circuit) else { return };
        if let Some(stream) = self.waiting.remove(&circuit) {
            let bytes = message::refused(Status::CONNECTION_FAILED);
            self.order(source.0, source.1, Order::Answer(stream, bytes));
        }
        self.note([source.0, target.0]);
    }

    fn expire(&mut self, now: Instant) {
        let late = self.places.expire(now);
        self.note(late);
    }

    fn gone(&mut self, peer: PeerId, connection: ConnectionId) {
        for circuit in self.places.over((peer, connection)) {
            self.close(circuit);
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.remove(&connection);
            if known.connections.is_empty() {
                self.peers.remove(&peer);
                self.places.leave(&peer);
            }
        }
        self.note([peer]);
    }

    /// Tells the node if these have a place now, or have none any more.
    fn note(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            let event = match self.places.has(&peer) {
                true => self.holders.insert(peer).then_some(Event::Holds(peer)),
                false => self.holders.remove(&peer).then_some(Event::Lost(peer)),
            };
            self.queue.extend(event.map(ToSwarm::GenerateEvent));
        }
        self.wake();
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, order: Order) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: order });
        self.wake();
    }

    /// There is something for the swarm.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Where this relay is.
    fn addresses(&self) -> impl Iterator<Item = Multiaddr> {
        let with_peer = |addr: &Multiaddr| match addr.iter().last() {
            Some(Protocol::P2p(_)) => Some(addr.clone()),
            _ => addr.clone().with_p2p(self.me).ok(),
        };
        self.external.iter().filter_map(with_peer).take(limits::RELAY_ADDRESSES)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Connection;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let is_relayed = scope::is_circuit(local) || scope::is_circuit(remote);
        Ok(Connection::new(self.limits, is_relayed))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Connection::new(self.limits, scope::is_circuit(addr)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.external.on_swarm_event(&event);
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                let peer = self.peers.entry(made.peer_id).or_default();
                // Over another relay there are no circuits, in either direction.
                if !made.endpoint.is_relayed() {
                    let ip = scope::ip_of(made.endpoint.get_remote_address());
                    peer.connections.insert(made.connection_id, ip);
                }
            }
            FromSwarm::ConnectionClosed(closed) => self.gone(closed.peer_id, closed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, heard: THandlerOutEvent<Self>) {
        match heard {
            Heard::Asked(stream, asked) => self.on_asked(peer, id, stream, asked),
            Heard::Taken(circuit, stream) => self.on_taken(circuit, stream),
            Heard::Over(circuit) => self.close(circuit),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Poll::Ready(event);
            }
            let due = self.places.next_due();
            if due != self.due {
                self.due = due;
                self.timer.set(due);
            }
            if Pin::new(&mut self.timer).poll(cx).is_pending() {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.due = None;
            self.expire(Instant::now());
        }
    }
}

fn status(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Full | Refusal::TooFast => Status::RESOURCE_LIMIT_EXCEEDED,
        Refusal::NoReservation => Status::NO_RESERVATION,
        Refusal::Itself => Status::PERMISSION_DENIED,
    }
}
