//! Outgoing connections: those we begin, and those that the other side begins through a hole that we punch.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::poll_fn;
use futures_timer::Delay;
use libp2p::PeerId;
use quinn_proto::ClientConfig;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use smol::future;

use super::{
    Connecting, Connection, Error,
    endpoint::{Endpoint, Held, Lease},
};
use crate::{limits, transport::address};

/// The socket that a dial comes from.
pub(super) enum Source {
    Shared(Arc<Endpoint>),
    /// This dial's own: it ends with the connection.
    Own(Lease),
}

impl Source {
    fn endpoint(&self) -> &Arc<Endpoint> {
        match self {
            Source::Shared(endpoint) => endpoint,
            Source::Own(lease) => lease.endpoint(),
        }
    }
}

/// Connects from `source` to `target`.
pub(super) async fn dial(
    source: Source,
    target: address::Endpoint,
    config: ClientConfig,
) -> Result<(PeerId, Connection), Error> {
    let remote = resolve(&target)?;
    let held = source
        .endpoint()
        .connect(config, remote)
        .map_err(|source| Error::Dial { addr: target.to_string(), source })?;
    drop(source);
    Connecting::new(remote, held).await
}

/// Waits for `target` to connect, and opens the way through our NAT meanwhile: libp2p's DCUtR specification,
/// section "The Protocol", wants random datagrams at random times, from the port that the other side dials.
///
/// The datagrams look like nothing, so that no machine on the way has an opinion about them.
pub(super) async fn punch(
    endpoint: Arc<Endpoint>,
    target: address::Endpoint,
) -> Result<(PeerId, Connection), Error> {
    let remote = resolve(&target)?;
    if !endpoint.reserve(remote) {
        return Err(Error::PunchUnderWay { addr: target.to_string() });
    }
    let expectation = Expectation { endpoint: &endpoint, remote };
    let late = async {
        Delay::new(limits::PUNCH_TIMEOUT).await;
        Err(Error::Punch { addr: target.to_string(), after: limits::PUNCH_TIMEOUT })
    };
    let arrived = async { Ok(expectation.arrived().await) };
    let held = future::or(arrived, future::or(late, expectation.knock())).await?;
    Connecting::new(remote, held).await
}

/// Where the target is, if there is a way to it at all. Our sockets send to many, so they are not connected and
/// do not hear that a datagram went nowhere; a connection that cannot begin would be waited for in vain. A socket
/// of its own is told at once, and sends nothing.
fn resolve(target: &address::Endpoint) -> Result<SocketAddr, Error> {
    let route = |remote: SocketAddr| {
        let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &remote)?;
        Ok(remote)
    };
    target.resolve().and_then(route).map_err(|source| Error::Socket { addr: target.to_string(), source })
}

/// A connection that the endpoint keeps for us when it comes.
struct Expectation<'a> {
    endpoint: &'a Arc<Endpoint>,
    remote: SocketAddr,
}

impl Expectation<'_> {
    async fn arrived(&self) -> Held {
        poll_fn(|cx| self.endpoint.poll_reserved(self.remote, cx)).await
    }

    /// Sends noise until it is dropped.
    async fn knock<T>(&self) -> T {
        let [shortest, longest] = limits::PUNCH_INTERVAL.map(|interval| interval.as_millis() as u64);
        let mut noise = [0; limits::PUNCH_BYTES];
        loop {
            fastrand::fill(&mut noise);
            if let Err(error) = self.endpoint.socket.send_to(&noise, self.remote) {
                // The next one may find a route.
                log::trace!("a punch packet to {} is lost: {error}", self.remote);
            }
            Delay::new(Duration::from_millis(fastrand::u64(shortest..=longest))).await;
        }
    }
}

impl Drop for Expectation<'_> {
    fn drop(&mut self) {
        self.endpoint.forget(self.remote);
    }
}
