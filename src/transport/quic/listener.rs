use std::{
    net::{IpAddr, SocketAddr},
    task::{Context, Poll, ready},
};

use libp2p::core::transport::{ListenerId, TransportEvent};

use super::{Connecting, Event, endpoint::Lease};
use crate::transport::{address::quic_multiaddr, announced::Announced};

/// A listening socket and the addresses it is announced under.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    /// Dropping it ends the listening, not the connections.
    pub(super) endpoint: Lease,
    pub(super) announced: Announced,
}

impl Listener {
    pub(super) fn new(id: ListenerId, endpoint: Lease) -> Self {
        Listener { id, announced: Announced::new(id, endpoint.local(), quic_multiaddr), endpoint }
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.endpoint.local().ip().is_unspecified()
    }

    /// A connection that came in, with its handshake still to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let (held, arrival) = ready!(self.endpoint.endpoint().poll_incoming(cx));
        let local = arrived_at(self.endpoint.local(), arrival.local_ip, arrival.remote);
        Poll::Ready(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: Connecting::new(arrival.remote, held),
            local_addr: quic_multiaddr(local),
            send_back_addr: quic_multiaddr(arrival.remote),
        })
    }
}

/// The address of ours that `remote` found. Its link is ours too.
fn arrived_at(bound: SocketAddr, ip: Option<IpAddr>, remote: SocketAddr) -> SocketAddr {
    let mut local = bound;
    local.set_ip(ip.unwrap_or(bound.ip()));
    if let (SocketAddr::V6(local), SocketAddr::V6(remote)) = (&mut local, remote) {
        local.set_scope_id(remote.scope_id());
    }
    local
}
