//! TCP on [`async_io`]: a [`libp2p::Transport`] for programs that run on smol.
//!
//! - Listening on `/ip4/0.0.0.0` or `/ip6/::` announces every address of the machine, and goes on announcing
//!   and expiring them as interfaces come and go. IPv6 link-local addresses are not announced, since they
//!   cannot be dialled without the name of a link that only the dialling machine knows. They are accepted
//!   with one: `/ip6zone/eth0/ip6/fe80::1/tcp/4001`.
//! - Each IP family has its own port space: listening on `/ip6/::/tcp/N` leaves `/ip4/0.0.0.0/tcp/N` free.
//! - Dialling with [`PortUse::Reuse`] comes from the port of a listener, so that a NAT gives the
//!   connection the same outside port as those that come in. When that cannot be, a new port is used.
//! - A port belongs to one program. A second listener on it is refused, unless both are this transport's.
//! - A listener ends by [`remove_listener`](libp2p::Transport::remove_listener) only. Running out of
//!   descriptors or memory is reported and makes it pause; the waiting connections are accepted later.
//! - A connection whose link is dead ends within [`limits::DEAD_LINK`], be it silent or not. The kernel sees to
//!   that, by keep-alives and `TCP_USER_TIMEOUT`, and wakes nobody. It cannot tell a peer that stands still.
//!
//! ```
//! use futures::future::poll_fn;
//! use libp2p::core::{Transport as _, transport::ListenerId};
//! use std::pin::Pin;
//! use warren::transport::tcp;
//!
//! # smol::block_on(async {
//! let mut transport = tcp::Transport::default();
//! transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
//! let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
//! println!("listening on {}", event.into_new_address().unwrap());
//! # });
//! ```

mod dial;
mod error;
mod listener;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, Ready};
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
};

use self::listener::Listener;
pub use self::{error::Error, stream::Stream};
use crate::{
    limits,
    transport::{address::Endpoint, listeners::Listeners},
};

type Event = TransportEvent<Ready<Result<Stream, Error>>, Error>;

/// What may differ from one transport to the next.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections the kernel may hold for a listener until they are accepted.
    pub backlog: i32,
    /// How long a dial may take.
    pub dial_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { backlog: limits::TCP_LISTEN_BACKLOG, dial_timeout: limits::TCP_DIAL_TIMEOUT }
    }
}

/// The TCP transport. See the [module](self) for what it promises.
#[derive(Default)]
pub struct Transport {
    config: Config,
    listeners: Listeners<Listener>,
}

impl Transport {
    pub fn new(config: Config) -> Self {
        Transport { config, ..Transport::default() }
    }

    fn listen(&mut self, id: ListenerId, addr: SocketAddr) -> io::Result<()> {
        let shared = self.listeners.iter().any(|ours| {
            ours.bound.port() == addr.port() && ours.bound.is_ipv4() == addr.is_ipv4() && addr.port() != 0
        });
        let listener = Listener::bind(addr, self.config.backlog, shared)?;
        let bound = listener.bound;
        self.listeners.add(id, listener)?;
        log::debug!("listening on TCP {bound}");
        Ok(())
    }

    /// The port to dial `remote` from, if there is a listener to share it with.
    fn port_for(&self, remote: IpAddr) -> Option<u16> {
        self.listeners.suiting(remote).map(|listener| listener.bound.port())
    }
}

impl libp2p::Transport for Transport {
    type Output = Stream;
    type Error = Error;
    type ListenerUpgrade = Ready<Result<Stream, Error>>;
    type Dial = BoxFuture<'static, Result<Stream, Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        let Some(endpoint) = Endpoint::from_tcp(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        endpoint
            .resolve()
            .and_then(|addr| self.listen(id, addr))
            .map_err(|source| TransportError::Other(Error::Listen { addr: endpoint.to_string(), source }))
    }

    /// The addresses expire, the port is free at once, and [`TransportEvent::ListenerClosed`] comes last.
    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(id).is_some()
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Error>> {
        let Some(target) = Endpoint::from_tcp(&addr).filter(Endpoint::is_dialable) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        let local_port = match opts.port_use {
            PortUse::Reuse => self.port_for(target.ip),
            PortUse::New => None,
        };
        Ok(dial::dial(target, local_port, self.config.dial_timeout).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        // A connection keeps the addresses that it began with.
        self.listeners.poll(cx, |_, _| ())
    }
}
