//! A connection as libp2p sees it: first a handshake under way, then a multiplexer of streams.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerEvent},
};
use quinn_proto::{ConnectionError, StreamId};

use super::{Error, Stream, core::Link, endpoint::Held, tls};
use crate::transport::address::quic_multiaddr;

/// A handshake under way. Dropping it gives it up.
#[must_use = "dropping it gives up the handshake"]
pub struct Connecting {
    remote: SocketAddr,
    /// Empty once the handshake is over.
    connection: Option<Held>,
}

impl Connecting {
    pub(super) fn new(remote: SocketAddr, connection: Held) -> Self {
        Connecting { remote, connection: Some(connection) }
    }
}

impl Future for Connecting {
    type Output = Result<(PeerId, Connection), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let addr = self.remote;
        let Some(connection) = &self.connection else { return Poll::Ready(Err(Error::Gone)) };
        let connected = connection.with(|link| link.poll_connected(cx).map_ok(|()| link.peer_chain()));
        let result = match connected {
            None => Err(Error::Gone),
            Some(polled) => match ready!(polled) {
                Err(source) => Err(Error::Handshake { addr, source }),
                Ok(chain) => {
                    tls::peer_id(&chain.unwrap_or_default()).map_err(|source| Error::Peer { addr, source })
                }
            },
        };
        let connection = self.connection.take();
        Poll::Ready(result.and_then(|peer| Ok((peer, Connection(connection.ok_or(Error::Gone)?)))))
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// A QUIC connection. Dropping it closes it.
pub struct Connection(Held);

impl Connection {
    fn poll_stream(
        &self,
        poll: impl FnOnce(&mut Link) -> Poll<Result<StreamId, ConnectionError>>,
    ) -> Poll<Result<Stream, Error>> {
        let id = ready!(self.0.with(poll).ok_or(Error::Gone)?).map_err(Error::Lost)?;
        Poll::Ready(Ok(Stream::new(self.0.handle(), id)))
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        self.poll_stream(|link| link.poll_inbound(cx))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        self.poll_stream(|link| link.poll_outbound(cx))
    }

    /// Ready when the peer has been told. It is told once: if that datagram is lost, it finds out when it
    /// next sends something.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A connection that is gone is closed.
        self.0.with(|link| link.poll_close(cx)).unwrap_or(Poll::Ready(())).map(Ok)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        let moved = ready!(self.0.with(|link| link.poll_change(cx)).ok_or(Error::Gone)?);
        let remote = moved.map_err(Error::Lost)?;
        Poll::Ready(Ok(StreamMuxerEvent::AddressChange(quic_multiaddr(remote))))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
