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
//! - A dead link is not this module's business: pings notice it, and sooner than `TCP_USER_TIMEOUT` or
//!   keep-alives could without false alarms.
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
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
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
    transport::{
        address::Endpoint,
        interfaces::{Change, Interfaces},
    },
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
    listeners: Vec<Listener>,
    /// Watched while there is a listener on a wildcard address.
    interfaces: Interfaces,
    /// Events to hand out before anything is polled. As long as the list of the machine's addresses.
    events: VecDeque<Event>,
    /// The listener whose turn it is, so that a busy one does not starve the others.
    turn: usize,
    /// The task that found nothing to do, to be woken when a listener is added or removed.
    waker: Option<Waker>,
}

impl Transport {
    pub fn new(config: Config) -> Self {
        Transport { config, ..Transport::default() }
    }

    fn listen(&mut self, id: ListenerId, addr: SocketAddr) -> io::Result<()> {
        let shared = self.listeners.iter().any(|ours| {
            ours.bound.port() == addr.port() && ours.bound.is_ipv4() == addr.is_ipv4() && addr.port() != 0
        });
        let mut listener = Listener::bind(id, addr, self.config.backlog, shared)?;
        if listener.is_wildcard() {
            self.interfaces.watch()?;
            self.events.extend(self.interfaces.up().filter_map(|ip| listener.announced.announce(ip)));
        } else {
            self.events.extend(listener.announced.announce(listener.bound.ip()));
        }
        log::debug!("listening on TCP {}", listener.bound);
        self.listeners.push(listener);
        Ok(())
    }

    /// The port to dial `remote` from, if there is a listener to share it with.
    fn port_for(&self, remote: IpAddr) -> Option<u16> {
        self.listeners.iter().find(|listener| listener.suits(remote)).map(|listener| listener.bound.port())
    }

    fn on_change(&mut self, change: Change) {
        let wildcards = self.listeners.iter_mut().filter(|listener| listener.is_wildcard());
        match change {
            Change::Up(ip) => {
                self.events.extend(wildcards.filter_map(|listener| listener.announced.announce(ip)))
            }
            Change::Down(ip) => {
                self.events.extend(wildcards.filter_map(|listener| listener.announced.expire(ip)))
            }
            Change::Lost(error) => {
                for listener in wildcards {
                    // Nothing would tell us when one of these goes away.
                    self.events.extend(listener.announced.expire_all());
                    self.events.push_back(TransportEvent::ListenerError {
                        listener_id: listener.id,
                        error: Error::Watch(io::Error::new(error.kind(), error.to_string())),
                    });
                }
            }
        }
    }

    fn poll_listeners(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let count = self.listeners.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if let Poll::Ready(event) = self.listeners[index].poll(cx) {
                self.turn = index + 1;
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
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
            .map_err(|source| TransportError::Other(Error::Listen { addr: endpoint.to_string(), source }))?;
        self.wake();
        Ok(())
    }

    /// The addresses expire, the port is free at once, and [`TransportEvent::ListenerClosed`] comes last.
    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(index) = self.listeners.iter().position(|listener| listener.id == id) else {
            return false;
        };
        let mut listener = self.listeners.remove(index);
        self.events.extend(listener.announced.expire_all());
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        if !self.listeners.iter().any(Listener::is_wildcard) {
            self.interfaces.unwatch();
        }
        self.wake();
        true
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
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.interfaces.poll(cx) {
                Poll::Ready(change) => self.on_change(change),
                Poll::Pending => break,
            }
        }
        let polled = self.poll_listeners(cx);
        if polled.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }
}
