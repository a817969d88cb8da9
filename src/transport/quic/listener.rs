use std::{
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll, ready},
};

use libp2p::Multiaddr;

use super::{Connecting, Error, endpoint::Lease};
use crate::transport::{
    address::quic_multiaddr,
    listeners::{Incoming, Listen},
};

/// Dropping it ends the listening, not the connections.
impl Listen for Lease {
    type Upgrade = Connecting;
    type Error = Error;

    fn bound(&self) -> SocketAddr {
        self.local()
    }

    /// A connection that came in, with its handshake still to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming<Connecting>, Error>> {
        let (held, arrival) = ready!(self.endpoint().poll_incoming(cx));
        Poll::Ready(Ok(Incoming {
            upgrade: Connecting::new(arrival.remote, held),
            local: arrived_at(self.local(), arrival.local_ip, arrival.remote),
            remote: arrival.remote,
        }))
    }

    fn multiaddr(addr: SocketAddr) -> Multiaddr {
        quic_multiaddr(addr)
    }

    fn watch_error(source: io::Error) -> Error {
        Error::Watch(source)
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
