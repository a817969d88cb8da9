//! The server's sockets beside QUIC's: other ports and addresses to answer from.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_io::{Async, ReadableOwned};
use socket2::{Domain, Protocol, Type};

use crate::{limits, transport::quic::Datagram};

pub(super) struct Beside {
    io: Arc<Async<UdpSocket>>,
    /// There was nothing to receive: done when there may be. Kept, not made anew at each poll: `async_io` would
    /// forget since when it waits.
    empty: Option<ReadableOwned<UdpSocket>>,
    pub(super) local: SocketAddr,
}

impl Beside {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = socket2::Socket::new_raw(Domain::for_address(addr), kind, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        let io = Arc::new(Async::new_nonblocking(UdpSocket::from(socket))?);
        let local = io.get_ref().local_addr()?;
        Ok(Beside { io, empty: None, local })
    }

    pub(super) fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.io.get_ref().send_to(bytes, to).map(|_| ())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Datagram> {
        // One byte more, so that what is too long is seen to be.
        let mut buffer = [0; limits::SIDE_BYTES + 1];
        for _ in 0..limits::STUN_TURNS {
            if let Some(empty) = &mut self.empty {
                if Pin::new(empty).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.empty = None;
            }
            match self.io.get_ref().recv_from(&mut buffer) {
                Ok((length, from)) if length <= limits::SIDE_BYTES => {
                    let bytes = buffer[..length].to_vec();
                    return Poll::Ready(Datagram { from, to: self.local, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(Arc::clone(&self.io).readable_owned());
                }
                // Too long; or the kernel tells that an earlier answer did not arrive.
                Ok(_) | Err(_) => {}
            }
        }
        // Others first; there may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The next datagram of any of them. Whoever had a turn goes to the end, so that a flood to one port does not
/// silence the others.
pub(super) fn poll(sockets: &mut [Beside], cx: &mut Context<'_>) -> Poll<Datagram> {
    for i in 0..sockets.len() {
        if let Poll::Ready(datagram) = sockets[i].poll(cx) {
            sockets[i..].rotate_left(1);
            return Poll::Ready(datagram);
        }
    }
    Poll::Pending
}
