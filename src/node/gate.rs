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

use super::crowd::Counts;
use crate::discovery::scope::{self, Networks};

/// Lets in, or not. A refusal reaches the swarm's owner as [`super::crowd::Denied`] within a `ListenError::Denied`.
///
/// Connections in their handshake count too: nobody can take all the places that there are for those.
#[derive(Default)]
pub struct Gate {
    networks: Networks,
    counts: Counts,
    /// The inbound connections that are counted, in their handshake and after. As many as the swarm lets be.
    inbound: HashMap<ConnectionId, IpAddr>,
    /// All that are established.
    established: usize,
}

impl Gate {
    /// The networks of this machine, whose machines are not counted.
    pub fn set_networks(&mut self, networks: Networks) {
        self.networks = networks;
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(ip) = self.inbound.remove(&id) {
            self.counts.remove(ip);
        }
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
        if self.inbound.insert(id, ip).is_none() {
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
            FromSwarm::ConnectionEstablished(ConnectionEstablished { .. }) => self.established += 1,
            FromSwarm::ConnectionClosed(closed) => {
                self.established = self.established.saturating_sub(1);
                self.forget(closed.connection_id);
            }
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
    use crate::{limits, node::crowd::Denied};

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
        established(&mut gate, 4, HOME);
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
        }
        knock(&mut gate, 99, HOME).expect_err("enough");
        closed(&mut gate, 1000, "/ip4/203.0.113.9/tcp/1");
        knock(&mut gate, 99, HOME).expect("not so busy any more");
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
