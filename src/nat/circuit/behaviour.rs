//! The half in the swarm's behaviour: connections to relays, and the places there.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{StreamExt, channel::mpsc};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{ListenerId, PortUse},
    },
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, ListenerClosed,
        NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{
    Arrival, Error, Relay, Request,
    handler::{Ask, Handler, Order, Told},
    wire,
};

/// Asks relays for places and circuits. Needs its [`Transport`](super::Transport) in the same swarm.
pub struct Behaviour {
    local: PeerId,
    requests: mpsc::Receiver<Request>,
    /// Direct connections, by peer; the oldest first.
    pub(super) connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// Relays that are dialled on somebody's behalf: by which dial, and what for.
    dialing: HashMap<PeerId, (ConnectionId, Vec<Ask>)>,
    places: HashMap<ListenerId, Held>,
    actions: VecDeque<Action>,
    waker: Option<Waker>,
}

type Action = ToSwarm<Event, Order>;

/// A place at a relay, or the wish for one.
struct Held {
    relay: Relay,
    /// The connection at which circuits come, or over which the relay was asked.
    connection: Option<ConnectionId>,
    /// The relay agreed, on this connection.
    is_granted: bool,
    /// Others may know that we are there.
    is_told: bool,
    to: mpsc::Sender<Arrival>,
}

/// What the node should know of its places at relays. That one is lost is the end of its listener.
#[derive(Debug)]
pub enum Event {
    /// The relay holds a place for this long, if it can be said.
    Granted { relay: PeerId, lifetime: Option<Duration>, is_renewal: bool },
    /// It did not hold it for longer when asked to.
    NotRenewed { listener: ListenerId, error: Error },
}

impl Behaviour {
    pub(super) fn new(local: PeerId, requests: mpsc::Receiver<Request>) -> Self {
        Behaviour {
            local,
            requests,
            connections: HashMap::new(),
            dialing: HashMap::new(),
            places: HashMap::new(),
            actions: VecDeque::new(),
            waker: None,
        }
    }

    /// Asks the relay to hold a place for longer. The answer is an [`Event`].
    pub fn renew(&mut self, listener: ListenerId) {
        let Some(held) = self.places.get(&listener) else { return };
        let relay = held.relay.clone();
        self.ask(&relay, Ask::Place(listener));
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn ask(&mut self, relay: &Relay, ask: Ask) {
        let oldest = self.connections.get(&relay.peer).and_then(|ids| ids.first().copied());
        let connection = match ask {
            Ask::Circuit(..) => oldest,
            Ask::Place(listener) => {
                let Some(held) = self.places.get_mut(&listener) else { return };
                held.connection = held.connection.or(oldest);
                held.connection
            }
        };
        if let Some(connection) = connection {
            self.order(relay.peer, connection, Order::Ask(ask));
        } else if let Some((_, asks)) = self.dialing.get_mut(&relay.peer) {
            asks.push(ask);
        } else {
            // It may be being dialled elsewhere, where that will be long in failing, or be connected by a circuit, which
            // is no way to a circuit.
            let opts = DialOpts::peer_id(relay.peer).addresses(vec![relay.addr.clone()]);
            let opts = opts.condition(PeerCondition::Always).build();
            self.dialing.insert(relay.peer, (opts.connection_id(), vec![ask]));
            self.actions.push_back(ToSwarm::Dial { opts });
        }
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, order: Order) {
        let handler = NotifyHandler::One(connection);
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: order });
    }

    /// The same for all direct connections with a peer.
    fn order_all(&mut self, peer: PeerId, order: impl Fn() -> Order) {
        for connection in self.connections.get(&peer).cloned().unwrap_or_default() {
            self.order(peer, connection, order());
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Dial { relay, peer, reply } => self.ask(&relay, Ask::Circuit(peer, reply)),
            Request::Listen { listener, relay, to } => {
                let held =
                    Held { relay: relay.clone(), connection: None, is_granted: false, is_told: false, to };
                self.places.insert(listener, held);
                self.ask(&relay, Ask::Place(listener));
            }
        }
    }

    fn on_told(&mut self, relay: PeerId, connection: ConnectionId, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Circuit { peer, stream } => {
                let at = |held: &&mut Held| held.relay.peer == relay && held.is_granted;
                if let Some(held) = self.places.values_mut().find(at) {
                    let local_addr = held.relay.circuit();
                    // A full queue is closed streams, which the other end sees.
                    let _ = held.to.try_send(Arrival::Circuit { local_addr, peer, stream });
                }
            }
            Told::Place(listener, Ok(place)) => self.granted(relay, connection, listener, place),
            Told::Place(listener, Err(error)) => {
                let Some(held) = self.places.get_mut(&listener) else { return };
                if held.connection != Some(connection) {
                    return;
                }
                if held.is_granted {
                    let event = Event::NotRenewed { listener, error };
                    return self.actions.push_back(ToSwarm::GenerateEvent(event));
                }
                // There is always place for one.
                let _ = held.to.clone().try_send(Arrival::Refused(error));
                self.forget(listener);
            }
        }
    }

    fn granted(&mut self, peer: PeerId, connection: ConnectionId, listener: ListenerId, place: wire::Place) {
        let held = self.places.get_mut(&listener).filter(|held| held.connection == Some(connection));
        let Some(held) = held else {
            // Nobody wants it any more.
            let is_used = self.places.values().any(|held| held.connection == Some(connection));
            if !is_used {
                self.order(peer, connection, Order::Release);
            }
            return;
        };
        let is_renewal = std::mem::replace(&mut held.is_granted, true);
        self.order_all(peer, || Order::Welcome);
        let Some(held) = self.places.get_mut(&listener) else { return };
        if !std::mem::replace(&mut held.is_told, true) {
            let addrs = addresses(&held.relay, place.addrs);
            let _ = held.to.clone().try_send(Arrival::Place(addrs));
            self.actions.push_back(ToSwarm::ExternalAddrConfirmed(external(&held.relay, self.local)));
        }
        let lifetime = place.lifetime;
        let event = Event::Granted { relay: peer, lifetime, is_renewal };
        self.actions.push_back(ToSwarm::GenerateEvent(event));
    }

    /// A listener is no more, or is to be no more: it ends when its sender is dropped.
    fn forget(&mut self, listener: ListenerId) {
        let Some(held) = self.places.remove(&listener) else { return };
        if held.is_told {
            self.actions.push_back(ToSwarm::ExternalAddrExpired(external(&held.relay, self.local)));
        }
        self.order_all(held.relay.peer, || Order::Release);
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        self.connections.entry(peer).or_default().push(connection);
        if self.places.values().any(|held| held.relay.peer == peer && held.is_granted) {
            self.order(peer, connection, Order::Welcome);
        }
        let (_, asks) = self.dialing.remove(&peer).unwrap_or((connection, Vec::new()));
        for ask in asks {
            if let Ask::Place(listener) = ask
                && let Some(held) = self.places.get_mut(&listener)
            {
                held.connection = Some(connection);
            }
            self.order(peer, connection, Order::Ask(ask));
        }
    }

    /// A place is lost with the connection, unless there is another one to the same relay.
    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(ids) = self.connections.get_mut(&peer) else { return };
        ids.retain(|id| *id != connection);
        let other = ids.first().copied();
        if ids.is_empty() {
            self.connections.remove(&peer);
        }
        let of_it = self.places.iter().filter(|(_, held)| held.connection == Some(connection));
        let lost: Vec<ListenerId> = of_it.map(|(listener, _)| *listener).collect();
        for listener in lost {
            let Some(held) = self.places.get_mut(&listener) else { continue };
            (held.connection, held.is_granted) = (other, false);
            match other {
                Some(other) => self.order(peer, other, Order::Ask(Ask::Place(listener))),
                None => self.forget(listener),
            }
        }
    }

    fn dial_failed(&mut self, connection: ConnectionId, why: &DialError) {
        let of_it = self.dialing.iter().find(|(_, (dial, _))| *dial == connection);
        let Some((_, asks)) = of_it.map(|(peer, _)| *peer).and_then(|peer| self.dialing.remove(&peer)) else {
            return;
        };
        for ask in asks {
            let error = Error::Unreachable(why.to_string());
            match ask {
                // Who asked may have changed his mind.
                Ask::Circuit(_, reply) => drop(reply.send(Err(error))),
                Ask::Place(listener) => {
                    if let Some(held) = self.places.get_mut(&listener) {
                        let _ = held.to.try_send(Arrival::Refused(error));
                    }
                    self.forget(listener);
                }
            }
        }
    }
}

/// Where others reach `local` at a relay.
fn external(relay: &Relay, local: PeerId) -> Multiaddr {
    relay.circuit().with(Protocol::P2p(local))
}

/// The addresses at which a relay says that it is, each as one to listen at; the one that we know, if it says none.
pub(super) fn addresses(relay: &Relay, told: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut addrs: Vec<Multiaddr> = Vec::new();
    for addr in told {
        let Ok(addr) = addr.with_p2p(relay.peer) else { continue };
        let circuit = addr.with(Protocol::P2pCircuit);
        if super::parse(&circuit).is_some_and(|parsed| parsed.is_ok()) && !addrs.contains(&circuit) {
            addrs.push(circuit);
        }
    }
    if addrs.is_empty() {
        addrs.push(relay.circuit());
    }
    addrs
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) if !endpoint.is_relayed() => self.connected(peer_id, connection_id),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, error, .. }) => {
                self.dial_failed(connection_id, error);
            }
            FromSwarm::ListenerClosed(ListenerClosed { listener_id, .. }) => self.forget(listener_id),
            _ => return,
        }
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        told: THandlerOutEvent<Self>,
    ) {
        self.on_told(peer, connection, told);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.on_request(request),
                Poll::Ready(None) | Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}
