use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};
use quinn_proto::StreamId;

use super::{Error, core::Link, endpoint::Handle};

/// A stream of a QUIC connection.
///
/// Its two directions end by themselves: closing it ends what we write, and what the peer still writes can be
/// read. Dropping it ends both: what was written arrives, and the peer is told that nobody reads any more.
pub struct Stream {
    connection: Handle,
    id: StreamId,
    /// The peer's end was read.
    is_read: bool,
    /// Our end was written.
    is_written: bool,
}

impl Stream {
    pub(super) fn new(connection: Handle, id: StreamId) -> Self {
        Stream { connection, id, is_read: false, is_written: false }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Link) -> R) -> io::Result<R> {
        self.connection.with(act).ok_or_else(|| Error::Gone.into())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_read || buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let polled = self.with(|link| link.poll_read(self.id, cx, buf))?;
        self.is_read = matches!(polled, Poll::Ready(Ok(0) | Err(_)));
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_written {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.with(|link| link.poll_write(self.id, cx, buf))?
    }

    /// The connection has everything already, and sends it as fast as the peer and the path take it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end is sent behind what was written; dropping the stream does not take that back.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_written {
            self.with(|link| link.finish(self.id))??;
            self.is_written = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (reading, writing) = (!self.is_read, !self.is_written);
        // A connection that is gone has no streams.
        let _ = self.with(|link| link.let_go(self.id, reading, writing));
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}
