//! QUIC on [`async_io`]: a [`libp2p::Transport`] for programs that run on smol.
//!
//! - One UDP socket per listener carries its connections, the dials of its IP family, and whatever else wants
//!   to come from the same port: [`Transport::datagrams`] hands out STUN and punch packets.
//! - The [`Driver`] that comes with the transport moves the bytes; it has to be spawned.
//! - Listening on `/ip4/0.0.0.0` or `/ip6/::` announces every address of the machine, and goes on announcing
//!   and expiring them as interfaces come and go. When they do, connections that we began move to the new
//!   address.
//! - Dialling with [`PortUse::Reuse`] comes from the listener's socket, so that a NAT gives the connection
//!   the outside port that others know. Without a listener it comes from one socket per IP family, made when
//!   first needed. [`PortUse::New`] has a socket for itself.
//! - Dialling with the listener's role punches a hole for the other side's dial, as DCUtR needs it.
//! - Security is libp2p's TLS 1.3 ([`tls`]): a connection comes with the peer's proven identity.
//! - Floods of handshakes meet Retry, then a cap. Noise is dropped before it is copied.
//!
//! From the inside out: the `core` is all of it as values, without clock, socket or task; the `socket` talks to
//! the kernel, the `demux` tells QUIC from the rest, the `driver` is the loop between them; `connection` and
//! `stream` are what libp2p sees.
//!
//! ```
//! use futures::future::poll_fn;
//! use libp2p::{core::{Transport as _, transport::ListenerId}, identity::Keypair};
//! use std::pin::Pin;
//! use warren::transport::quic;
//!
//! # smol::block_on(async {
//! let (mut transport, driver) = quic::Transport::new(&Keypair::generate_ed25519()).unwrap();
//! smol::spawn(driver).detach();
//! transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
//! let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
//! println!("listening on {}", event.into_new_address().unwrap());
//! # });
//! ```

mod config;
mod connection;
mod core;
mod demux;
mod dial;
mod driver;
mod endpoint;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod listener;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint as Role,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};

use self::{
    config::Setup,
    demux::Sockets,
    dial::Source,
    endpoint::{Endpoint, Lease},
    socket::Socket,
};
pub use self::{
    connection::{Connecting, Connection},
    demux::{Datagram, Datagrams, Kind, PUNCH_MAGIC},
    driver::Driver,
    error::Error,
    stream::Stream,
};
use crate::transport::{address, listeners::Listeners};

type Event = TransportEvent<Connecting, Error>;

/// The QUIC transport. See the [module](self) for what it promises.
pub struct Transport {
    setup: Setup,
    /// Where the driver takes its sockets from.
    driver: async_channel::Sender<Arc<Endpoint>>,
    listeners: Listeners<Lease>,
    /// Where dials come from while there is no listener: IPv4, IPv6.
    dialers: [Option<Lease>; 2],
    /// Sockets that lost their listener and may still have connections.
    former: Vec<Weak<Endpoint>>,
    /// What is received beside QUIC.
    sockets: Arc<Sockets>,
}

impl Transport {
    /// A transport for the node with this key, and the future that does its work.
    ///
    /// # Errors
    /// When the key does not sign, or the system gives no random numbers.
    pub fn new(key: &Keypair) -> Result<(Self, Driver), Error> {
        // Unbounded: one for each listener and each dial with a port of its own, both bounded by the swarm.
        let (sender, receiver) = async_channel::unbounded();
        let transport = Transport {
            setup: Setup::new(key)?,
            driver: sender,
            listeners: Listeners::default(),
            dialers: [None, None],
            former: Vec::new(),
            sockets: Arc::default(),
        };
        Ok((transport, Driver::new(receiver)))
    }

    /// All datagrams of one kind that the listening sockets receive, and a way to send from them. The last
    /// one who asks for a kind gets it.
    pub fn datagrams(&self, kind: Kind) -> Datagrams {
        self.sockets.register(kind)
    }

    /// Datagrams that were not QUIC and that nobody took; wraps.
    pub fn dropped_datagrams(&self) -> u32 {
        self.sockets.dropped()
    }

    fn listen(&mut self, id: ListenerId, addr: SocketAddr) -> io::Result<()> {
        self.former.retain(|endpoint| endpoint.strong_count() > 0);
        let former = self.former.iter().filter_map(Weak::upgrade).find(|former| former.local() == addr);
        let listener = match former.and_then(|former| former.listen_again(&self.setup)) {
            Some(listener) => listener,
            None => self.open(addr, true)?,
        };
        let local = listener.local();
        self.listeners.add(id, listener)?;
        log::debug!("listening on QUIC {local}");
        Ok(())
    }

    /// A new socket, in the driver's care.
    fn open(&self, addr: SocketAddr, listening: bool) -> io::Result<Lease> {
        self.drive(Endpoint::bind(&self.setup, addr, listening, &self.sockets)?)
    }

    fn drive(&self, endpoint: Arc<Endpoint>) -> io::Result<Lease> {
        match self.driver.try_send(Arc::clone(&endpoint)) {
            Ok(()) => Ok(Lease::new(endpoint)),
            Err(_) => Err(io::Error::other(Error::NoDriver)),
        }
    }

    /// The listener's socket to reach `remote` from.
    fn listening_to(&self, remote: IpAddr) -> Option<&Arc<Endpoint>> {
        self.listeners.suiting(remote).map(Lease::endpoint)
    }

    /// The socket for a dial of `remote`.
    fn source(&mut self, target: &address::Endpoint, port_use: PortUse) -> io::Result<Source> {
        let remote = target.ip;
        if let Some(won) = self.sockets.take_won(SocketAddr::new(remote, target.port)) {
            let endpoint = Endpoint::new(&self.setup, Socket::from_udp(won)?, false, &self.sockets);
            return Ok(Source::Own(self.drive(endpoint)?));
        }
        let (any, family) = match remote {
            IpAddr::V4(_) => (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), 0),
            IpAddr::V6(_) => (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1),
        };
        if self.driver.is_closed() {
            return Err(io::Error::other(Error::NoDriver));
        }
        if let PortUse::New = port_use {
            return Ok(Source::Own(self.open(any, false)?));
        }
        if let Some(endpoint) = self.listening_to(remote) {
            return Ok(Source::Shared(Arc::clone(endpoint)));
        }
        let dialer = match self.dialers[family].take() {
            Some(dialer) => dialer,
            None => self.open(any, false)?,
        };
        Ok(Source::Shared(Arc::clone(self.dialers[family].insert(dialer).endpoint())))
    }
}

impl libp2p::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Connecting;
    type Dial = BoxFuture<'static, Result<(PeerId, Connection), Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        let Some(endpoint) = address::Endpoint::from_quic(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        endpoint
            .resolve()
            .and_then(|addr| self.listen(id, addr))
            .map_err(|source| TransportError::Other(Error::Listen { addr: endpoint.to_string(), source }))
    }

    /// The addresses expire, and [`TransportEvent::ListenerClosed`] comes last. The connections stay, and with
    /// them the port; listening on it again works meanwhile.
    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let removed = self.listeners.remove(id);
        self.former.extend(removed.iter().map(|listener| Arc::downgrade(listener.endpoint())));
        removed.is_some()
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Error>> {
        let Some(target) = address::Endpoint::from_quic(&addr).filter(address::Endpoint::is_dialable) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        if let Role::Listener = opts.role {
            let Some(endpoint) = self.listening_to(target.ip) else {
                return Err(TransportError::Other(Error::NoListener { addr: target.to_string() }));
            };
            return Ok(dial::punch(Arc::clone(endpoint), target).boxed());
        }
        let expected = addr.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let config = self.setup.client(expected).map_err(TransportError::Other)?;
        let source = self
            .source(&target, opts.port_use)
            .map_err(|source| TransportError::Other(Error::Socket { addr: target.to_string(), source }))?;
        Ok(dial::dial(source, target, config).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let Transport { listeners, dialers, .. } = &mut *self;
        listeners.poll(cx, |listeners, changed| {
            move_connections(listeners.iter().chain(dialers.iter().flatten()), changed);
        })
    }
}

/// The route of connections in the IP family of `changed` may be another one now.
fn move_connections<'a>(sockets: impl Iterator<Item = &'a Lease>, changed: IpAddr) {
    for socket in sockets.filter(|socket| socket.local().is_ipv4() == changed.is_ipv4()) {
        socket.local_address_changed();
    }
}
