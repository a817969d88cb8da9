//! One UDP socket, with what the kernel offers to make QUIC cheap: many datagrams per system call (GSO, GRO),
//! the address a datagram was sent to, and ECN.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::{Async, ReadableOwned, WritableOwned};
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};

use super::core::Meta;
use crate::{limits, transport::readiness::Readiness};

/// Bytes of a datagram's buffer without GRO: more than an Ethernet frame carries.
const DATAGRAM_BYTES: usize = 1500;

/// Bytes of a buffer with GRO: what the kernel puts together at most.
const MERGED_BYTES: usize = 64 * 1024;

/// The socket. Sending needs no exclusive access, so that those beside QUIC can do it too.
pub(super) struct Socket {
    io: Arc<Async<UdpSocket>>,
    state: UdpSocketState,
    /// Where it is bound; the IP may be a wildcard.
    pub(super) local: SocketAddr,
}

impl Socket {
    /// Unlike TCP there is no lingering state: the port is free or it is somebody's.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new_raw(
            Domain::for_address(addr),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        if addr.is_ipv6() {
            // `::` means all IPv6 addresses and leaves the IPv4 port to another listener.
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        Self::from_udp(socket.into())
    }

    /// A socket that somebody else bound, and that does not block.
    pub(super) fn from_udp(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let io = Arc::new(Async::new_nonblocking(socket)?);
        let local = io.get_ref().local_addr()?;
        Ok(Socket { io, state, local })
    }

    /// Whether no datagram of ours is ever cut in pieces, without which MTU discovery would discover nothing.
    pub(super) fn never_fragments(&self) -> bool {
        !self.state.may_fragment()
    }

    /// How many datagrams one call of [`Self::send`] can carry.
    pub(super) fn segments(&self) -> usize {
        self.state.max_gso_segments().clamp(1, limits::QUIC_SEGMENTS)
    }

    /// Sends what `transmit` describes. `false`: not now, see [`Self::writable`].
    ///
    /// Any other failure is about this one datagram (no route, a firewall, too long for the path), and to QUIC
    /// a datagram that did not go out is like one that was lost on its way.
    pub(super) fn send(&self, transmit: &Transmit, bytes: &[u8]) -> bool {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &bytes[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.state.try_send(self.io.get_ref().into(), &transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // How MTU discovery finds the interface's own limit.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => {}
            Err(error) => log::trace!("a datagram to {} is lost: {error}", transmit.destination),
            Ok(()) => {}
        }
        true
    }

    /// Sends one datagram that is not QUIC.
    pub(super) fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.io.get_ref().send_to(bytes, to).map(|_| ())
    }

    /// Done when [`Self::send`] may work again.
    pub(super) fn writable(&self) -> Readiness<WritableOwned<UdpSocket>> {
        Readiness::new(Arc::clone(&self.io).writable_owned())
    }
}

/// The receiving side of a [`Socket`], with its buffers.
pub(super) struct Receiver {
    buffers: Box<[u8]>,
    /// Bytes of one of the buffers, which lie side by side.
    each: usize,
    metas: [RecvMeta; limits::QUIC_RECEIVE_BUFFERS],
    /// There was nothing to receive: done when there may be. Saves asking the kernel whenever the driver was
    /// woken for other reasons.
    empty: Option<Readiness<ReadableOwned<UdpSocket>>>,
}

impl Receiver {
    pub(super) fn new(socket: &Socket) -> Self {
        let each = if socket.state.gro_segments() > 1 { MERGED_BYTES } else { DATAGRAM_BYTES };
        Receiver {
            // Zeroed pages come from the kernel as they are touched.
            buffers: vec![0; each * limits::QUIC_RECEIVE_BUFFERS].into(),
            each,
            metas: [RecvMeta::default(); limits::QUIC_RECEIVE_BUFFERS],
            empty: None,
        }
    }

    /// Receives what one system call brings, and hands each datagram to `take`.
    pub(super) fn poll(
        &mut self,
        socket: &Socket,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Meta, &[u8]),
    ) -> Poll<io::Result<()>> {
        let count = loop {
            if let Some(empty) = &mut self.empty {
                let polled = ready!(Pin::new(empty).poll(cx));
                self.empty = None;
                polled?;
            }
            let mut slices = self.buffers.chunks_exact_mut(self.each).map(IoSliceMut::new);
            let mut slices: [_; limits::QUIC_RECEIVE_BUFFERS] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            match socket.state.recv(socket.io.get_ref().into(), &mut slices, &mut self.metas) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(Readiness::new(Arc::clone(&socket.io).readable_owned()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        for (buffer, meta) in self.buffers.chunks_exact(self.each).zip(&self.metas).take(count) {
            let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            let meta_of_each = Meta { from: meta.addr, local_ip: meta.dst_ip, ecn };
            // An empty datagram has no stride, and nothing to say.
            for datagram in buffer[..meta.len.min(self.each)].chunks(meta.stride.max(1)) {
                take(meta_of_each, datagram);
            }
        }
        Poll::Ready(Ok(()))
    }
}
