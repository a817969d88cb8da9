use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_io::{Async, ReadableOwned};
use futures::{FutureExt, future::Ready};
use futures_timer::Delay;
use libp2p::Multiaddr;
use rustix::io::Errno;

use super::{Error, Stream, socket};
use crate::{
    limits,
    transport::{
        address::tcp_multiaddr,
        listeners::{Incoming, Listen},
        readiness::Readiness,
    },
};

/// A listening socket.
pub(super) struct Listener {
    /// What the socket is bound to; may be a wildcard.
    pub(super) bound: SocketAddr,
    socket: Arc<Async<TcpListener>>,
    /// There was nobody to accept: done when there may be. Saves asking the kernel at each poll.
    empty: Option<Readiness<ReadableOwned<TcpListener>>>,
    /// Set while accepting waits for resources to come back.
    pause: Option<Delay>,
    /// How long the next pause is.
    next_pause: Duration,
}

impl Listener {
    pub(super) fn bind(addr: SocketAddr, backlog: i32, shared: bool) -> io::Result<Self> {
        let socket = Arc::new(Async::new_nonblocking(socket::listen(addr, backlog, shared)?)?);
        let bound = socket.get_ref().local_addr()?;
        Ok(Listener { bound, socket, empty: None, pause: None, next_pause: limits::TCP_ACCEPT_PAUSE })
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr, SocketAddr)>> {
        let mut skipped = 0;
        loop {
            if let Some(empty) = &mut self.empty {
                ready!(Pin::new(empty).poll(cx))?;
                self.empty = None;
            }
            match self.socket.get_ref().accept().and_then(opened) {
                Ok(connection) => return Poll::Ready(Ok(connection)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(Readiness::new(self.socket.clone().readable_owned()));
                }
                Err(error) if is_about_one_connection(&error) && skipped < limits::TCP_ACCEPT_SKIPS => {
                    log::debug!("a connection to {} died before it was accepted: {error}", self.bound);
                    skipped += 1;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Listen for Listener {
    type Upgrade = Ready<Result<Stream, Error>>;
    type Error = Error;

    fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Accepts one connection, or reports why none can be accepted for now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming<Self::Upgrade>, Error>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll_unpin(cx));
            self.pause = None;
        }
        match ready!(self.poll_accept(cx)) {
            Ok((stream, local, remote)) => {
                self.next_pause = limits::TCP_ACCEPT_PAUSE;
                Poll::Ready(Ok(Incoming { upgrade: futures::future::ready(Ok(stream)), local, remote }))
            }
            Err(source) => {
                // The connection stays in the backlog, so accepting at once would fail again at once.
                self.pause = Some(Delay::new(self.next_pause));
                self.next_pause = (self.next_pause * 2).min(limits::TCP_ACCEPT_PAUSE_MAX);
                Poll::Ready(Err(Error::Accept { addr: self.bound, source }))
            }
        }
    }

    fn multiaddr(addr: SocketAddr) -> Multiaddr {
        tcp_multiaddr(addr)
    }

    fn watch_error(source: io::Error) -> Error {
        Error::Watch(source)
    }
}

fn opened((socket, remote): (TcpStream, SocketAddr)) -> io::Result<(Stream, SocketAddr, SocketAddr)> {
    let local = socket.local_addr()?;
    Ok((Stream::new(Async::new(socket)?), local, remote))
}

/// Errors that `accept` passes on from a connection in the backlog, or from a firewall that forbids it; see
/// accept(2). They say nothing about the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT
        )
    )
}
