use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::{Shutdown, TcpStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::{Async, ReadableOwned, WritableOwned};
use futures::io::{AsyncRead, AsyncWrite};

use crate::transport::readiness::Readiness;

/// A TCP connection.
///
/// `Async<TcpStream>` could be used as it is, but it asks the kernel on every poll, and a multiplexer polls
/// for reading whenever it does anything at all: each message sent would cost a `recv` that finds nothing.
/// This type remembers that the socket was empty (or full) and then waits for the reactor.
#[derive(Debug)]
pub struct Stream {
    io: Arc<Async<TcpStream>>,
    /// There was nothing to read: done when there may be.
    empty: Option<Readiness<ReadableOwned<TcpStream>>>,
    /// There was no room to write: done when there may be.
    full: Option<Readiness<WritableOwned<TcpStream>>>,
}

impl Stream {
    pub(super) fn new(io: Async<TcpStream>) -> Self {
        // The first read or write asks the kernel: nobody has looked yet.
        Stream { io: Arc::new(io), empty: None, full: None }
    }

    /// The socket, to look at its addresses and options.
    pub fn get_ref(&self) -> &TcpStream {
        self.io.get_ref()
    }

    #[cfg(test)]
    pub(super) fn is_readable(&self) -> bool {
        self.empty.is_none()
    }

    /// Runs `read` when there may be something to read. `wanted` is the room it has, in bytes.
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut read: impl FnMut(&mut &TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(empty) = &mut self.empty {
                // Its first poll arms the reactor, which then looks at the socket again: nothing that arrived
                // since the last read is missed.
                ready!(Pin::new(empty).poll(cx))?;
                self.empty = None;
            }
            match retried(|| read(&mut self.io.get_ref())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(Readiness::new(self.io.clone().readable_owned()));
                }
                Ok(count) => {
                    // Zero is the end of the stream, which stays readable.
                    if count != 0 && count != wanted {
                        self.empty = Some(Readiness::new(self.io.clone().readable_owned()));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Runs `write` when there may be room. `offered` is how much it has, in bytes.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
        mut write: impl FnMut(&mut &TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &mut self.full {
                ready!(Pin::new(full).poll(cx))?;
                self.full = None;
            }
            match retried(|| write(&mut self.io.get_ref())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = Some(Readiness::new(self.io.clone().writable_owned()));
                }
                Ok(count) => {
                    if count != offered {
                        self.full = Some(Readiness::new(self.io.clone().writable_owned()));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// A signal may interrupt a system call; that is no news for the caller.
fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let wanted = buf.len();
        self.poll_read_with(cx, wanted, |socket| socket.read(buf))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_read_with(cx, wanted, |socket| socket.read_vectored(bufs))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |socket| socket.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, offered, |socket| socket.write_vectored(bufs))
    }

    /// The kernel has everything already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more will come. What it sends can still be read.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.io.get_ref().shutdown(Shutdown::Write) {
            // The peer was faster, which is as closed as can be.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }
}
