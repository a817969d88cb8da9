//! gossipsub, which also remembers of peers that are gone whether they were in the mesh of a room.
//!
//! What is said comes over the mesh, so a connection beside it that ends takes nothing along. When the swarm tells of
//! the end, gossipsub has forgotten the peer.

use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    gossipsub,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::tally::Ears;

type Inner = gossipsub::Behaviour<Ears>;

pub(super) struct Meshed {
    inner: Inner,
    /// Peers of a mesh whose last connection has closed, until they are asked about.
    gone: BTreeSet<PeerId>,
}

impl Meshed {
    pub(super) fn new(inner: Inner) -> Self {
        Meshed { inner, gone: BTreeSet::new() }
    }

    /// Whether a peer was in a mesh when its last connection closed. To be asked once for each that has.
    pub(super) fn was_in_mesh(&mut self, peer: &PeerId) -> bool {
        self.gone.remove(peer)
    }
}

impl Deref for Meshed {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Meshed {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl NetworkBehaviour for Meshed {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, addr, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, remaining_established: 0, .. }) = event
            && self.inner.all_mesh_peers().any(|peer| *peer == peer_id)
        {
            self.gone.insert(peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<gossipsub::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
