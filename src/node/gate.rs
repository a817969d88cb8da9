//! The gate: inbound connections are refused when there are enough from their network ([`Counts`]). A behaviour
//! that says nothing on any connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished, dummy,
    },
};

use super::crowd::{Counts, Denied};
use crate::{
    discovery::scope::{self, Networks, Prefix},
    limits,
};

/// Lets in, or not. A refusal reaches the swarm's owner as [`super::crowd::Denied`] within a `ListenError::Denied`.
///
/// Connections in their handshake count too: nobody can take all the places that there are for those. Who holds a
/// place at this relay does not count, with one connection: those places are bounded for themselves, and there are as
/// many connections more.
#[derive(Default)]
pub struct Gate {
    networks: Networks,
    counts: Counts,
    /// The inbound connections, in their handshake and after. As many as the swarm lets be.
    inbound: HashMap<ConnectionId, Inbound>,
    /// Peers with a place at this relay, each with its connection that does not count, if it came from elsewhere.
    holders: HashMap<PeerId, Option<ConnectionId>>,
    /// All that are established and count.
    established: usize,
}

/// An inbound connection.
struct Inbound {
    ip: IpAddr,
    /// Who it is, after the handshake.
    peer: Option<PeerId>,
}

impl Gate {
    /// The networks of this machine, whose machines are not counted.
    pub fn set_networks(&mut self, networks: Networks) {
        self.networks = networks;
    }

    /// A peer has a place at this relay.
    pub fn hold(&mut self, peer: PeerId) {
        self.holders.entry(peer).or_insert(None);
        self.excuse(peer);
    }

    /// A peer has none any more.
    pub fn lose(&mut self, peer: PeerId) {
        if let Some(Some(id)) = self.holders.remove(&peer)
            && let Some(inbound) = self.inbound.get(&id)
        {
            self.counts.add(inbound.ip);
            self.established += 1;
        }
    }

    /// Stops counting one connection of a holder, if all of them count.
    fn excuse(&mut self, peer: PeerId) {
        let Some(excused @ None) = self.holders.get_mut(&peer) else { return };
        if let Some((id, inbound)) = self.inbound.iter().find(|(_, inbound)| inbound.peer == Some(peer)) {
            *excused = Some(*id);
            self.counts.remove(inbound.ip);
            self.established = self.established.saturating_sub(1);
        }
    }

    fn closed(&mut self, id: ConnectionId, peer: PeerId) {
        if let Some(excused) = self.holders.get_mut(&peer)
            && *excused == Some(id)
        {
            *excused = None;
            self.inbound.remove(&id);
            return self.excuse(peer);
        }
        self.established = self.established.saturating_sub(1);
        self.forget(id);
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(inbound) = self.inbound.remove(&id) {
            self.counts.remove(inbound.ip);
        }
    }

    /// Whether somebody else has a handshake to begin before one more of these: a network gets one more only while
    /// more are free than it has.
    fn has_handshakes(&self, ip: IpAddr) -> Option<Denied> {
        let network = Prefix::of_owner(ip);
        let pending = self.inbound.values().filter(|inbound| inbound.peer.is_none());
        let all = pending.clone().count();
        let most = pending.filter(|inbound| network.contains(inbound.ip)).count();
        let free = (limits::PENDING_INBOUND as usize).saturating_sub(all);
        (most >= free && !self.networks.is_neighbour(ip)).then_some(Denied { network, most })
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // Those through a relay are the relay's to bound.
        let Some(ip) = scope::ip_of(remote) else { return Ok(()) };
        self.counts.admit(ip, self.established, &self.networks).map_err(ConnectionDenied::new)?;
        if let Some(denied) = self.has_handshakes(ip) {
            return Err(ConnectionDenied::new(denied));
        }
        if self.inbound.insert(id, Inbound { ip, peer: None }).is_none() {
            self.counts.add(ip);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.established += 1;
                if let Some(inbound) = self.inbound.get_mut(&connection_id) {
                    inbound.peer = Some(peer_id);
                    self.excuse(peer_id);
                }
            }
            FromSwarm::ConnectionClosed(closed) => self.closed(closed.connection_id, closed.peer_id),
            // Refused by somebody else, or its handshake failed.
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{
        core::ConnectedPoint,
        swarm::{
            ListenError,
            behaviour::{ConnectionClosed, ListenFailure},
        },
    };

    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().expect("a multiaddr")
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn knock(gate: &mut Gate, n: usize, from: &str) -> Result<(), ConnectionDenied> {
        gate.handle_pending_inbound_connection(id(n), &addr("/ip4/203.0.113.1/tcp/1"), &addr(from))
    }

    fn endpoint(from: &str) -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: addr("/ip4/203.0.113.1/tcp/1"), send_back_addr: addr(from) }
    }

    fn established(gate: &mut Gate, n: usize, from: &str) {
        gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: PeerId::random(),
            connection_id: id(n),
            endpoint: &endpoint(from),
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    fn closed(gate: &mut Gate, n: usize, from: &str) {
        gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: PeerId::random(),
            connection_id: id(n),
            endpoint: &endpoint(from),
            cause: None,
            remaining_established: 0,
        }));
    }

    const HOME: &str = "/ip4/198.51.100.7/tcp/30000";

    #[test]
    fn one_address_cannot_take_all_places_not_even_with_handshakes() {
        let mut gate = Gate::default();
        let most = 2 * limits::INBOUND_PER_HOST;
        for n in 0..most {
            knock(&mut gate, n, HOME).expect("there is room");
            if n != 3 {
                established(&mut gate, n, HOME);
            }
        }
        let denied = knock(&mut gate, most, HOME).expect_err("enough");
        let denied: Denied = denied.downcast().expect("our reason");
        assert_eq!((denied.most, denied.network.to_string().as_str()), (most, "198.51.100.7/32"));
        knock(&mut gate, most, "/ip4/203.0.113.9/udp/1/quic-v1").expect("somebody else");
        // One handshake fails, another connection closes: two may come.
        gate.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
            local_addr: &addr("/ip4/203.0.113.1/tcp/1"),
            send_back_addr: &addr(HOME),
            error: &ListenError::Aborted,
            connection_id: id(3),
            peer_id: None,
        }));
        closed(&mut gate, 4, HOME);
        knock(&mut gate, 100, HOME).expect("the first");
        knock(&mut gate, 101, HOME).expect("the second");
        knock(&mut gate, 102, HOME).expect_err("the third");
    }

    #[test]
    fn a_busy_node_has_half_the_room_for_an_address() {
        let mut gate = Gate::default();
        (0..limits::CONNECTIONS_LOW).for_each(|n| established(&mut gate, 1000 + n, "/ip4/203.0.113.9/tcp/1"));
        for n in 0..limits::INBOUND_PER_HOST {
            knock(&mut gate, n, HOME).expect("there is room");
            established(&mut gate, n, HOME);
        }
        knock(&mut gate, 99, HOME).expect_err("enough");
        for n in 0..=limits::INBOUND_PER_HOST {
            closed(&mut gate, 1000 + n, "/ip4/203.0.113.9/tcp/1");
        }
        knock(&mut gate, 99, HOME).expect("not so busy any more");
    }

    #[test]
    fn half_of_the_handshakes_is_for_others() {
        let mut gate = Gate::default();
        let most = limits::PENDING_INBOUND as usize / 2;
        let knocks = |gate: &mut Gate, from: usize, host: &str| {
            (from..from + 100).filter(|n| knock(gate, *n, host).is_ok()).count()
        };
        assert_eq!(knocks(&mut gate, 0, HOME), most);
        assert_eq!(knocks(&mut gate, 100, "/ip4/198.51.100.8/tcp/1"), 0, "the same owner");
        assert_eq!(knocks(&mut gate, 200, "/ip4/203.0.113.9/tcp/1"), most / 2);
        assert_eq!(knocks(&mut gate, 300, "/ip4/192.0.2.1/tcp/1"), most / 4);
    }

    #[test]
    fn who_has_a_place_at_this_relay_does_not_count_once() {
        let mut gate = Gate::default();
        let peer = PeerId::random();
        let come = |gate: &mut Gate, n: usize, peer: PeerId| {
            knock(gate, n, HOME)?;
            gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id(n),
                endpoint: &endpoint(HOME),
                failed_addresses: &[],
                other_established: 0,
            }));
            Ok::<_, ConnectionDenied>(())
        };
        let go = |gate: &mut Gate, n: usize, peer: PeerId| {
            gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: peer,
                connection_id: id(n),
                endpoint: &endpoint(HOME),
                cause: None,
                remaining_established: 0,
            }));
        };
        for n in 0..300 {
            let peer = PeerId::random();
            come(&mut gate, 1000 + n, peer).expect("each has a place, so there is room");
            gate.hold(peer);
        }
        assert_eq!(gate.established, 0);
        come(&mut gate, 0, peer).expect("room");
        come(&mut gate, 1, peer).expect("room");
        assert_eq!(gate.established, 2);
        gate.hold(peer);
        gate.hold(peer);
        assert_eq!(gate.established, 1, "one of two");
        go(&mut gate, 0, peer);
        assert_eq!(gate.established, 0, "the other one");
        gate.lose(peer);
        assert_eq!(gate.established, 1);
        gate.hold(peer);
        go(&mut gate, 1, peer);
        gate.lose(peer);
        assert!(gate.established == 0 && gate.counts.is_empty() && gate.inbound.len() == 300);
    }

    #[test]
    fn neighbours_and_relayed_peers_are_not_counted() {
        let mut gate = Gate::default();
        let relay = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let relayed = format!("/ip4/198.51.100.7/tcp/1/p2p/{relay}/p2p-circuit");
        gate.set_networks(Networks::new([([192, 168, 1, 1].into(), 24)], &[]));
        for n in 0..90 {
            knock(&mut gate, 3 * n, &relayed).expect("the relay's to bound");
            knock(&mut gate, 3 * n + 1, "/ip4/127.0.0.1/tcp/1").expect("this machine");
            knock(&mut gate, 3 * n + 2, "/ip4/192.168.1.8/tcp/1").expect("the LAN");
        }
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut gate = Gate::default();
        for n in 0..20 {
            knock(&mut gate, n, HOME).expect("there is room");
            established(&mut gate, n, HOME);
        }
        (0..20).for_each(|n| closed(&mut gate, n, HOME));
        assert!(gate.inbound.is_empty() && gate.counts.is_empty() && gate.established == 0);
    }
}
