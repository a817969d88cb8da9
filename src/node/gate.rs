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
