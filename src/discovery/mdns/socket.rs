//! One UDP socket for each segment: so it is known where a datagram came in, and where it goes out.
//!
//! It is bound to the group's address rather than to all. So it gets what is sent to the group and nothing else:
//! the unicast answers that another mDNS program on this machine waits for are left to that one.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::{Async, ReadableOwned};
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Type};

use super::core::{PORT, Segment};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// What a datagram is sent with, so that whoever wants to can see that no router passed it on (RFC 6762,
/// section 11).
const TTL: u32 = 255;

/// A segment's socket.
pub(super) struct Socket {
    io: Arc<Async<UdpSocket>>,
    group: SocketAddr,
    /// There was nothing to receive: done when there may be.
    empty: Option<ReadableOwned<UdpSocket>>,
}

impl Socket {
    pub(super) fn open(segment: Segment) -> io::Result<Self> {
        let group = match segment.v6 {
            false => SocketAddr::from((GROUP_V4, PORT)),
            true => SocketAddrV6::new(GROUP_V6, PORT, 0, segment.index).into(),
        };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = socket2::Socket::new_raw(Domain::for_address(group), kind, Some(Protocol::UDP))?;
        // Every mDNS program wants this port. Some set one of the two, some the other (RFC 6762, section 15.1).
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if segment.v6 {
            socket.set_only_v6(true)?;
            socket.set_multicast_if_v6(segment.index)?;
            socket.set_multicast_hops_v6(TTL)?;
            socket.set_unicast_hops_v6(TTL)?;
            // Nodes on one machine find each other.
            socket.set_multicast_loop_v6(true)?;
            socket.bind(&group.into())?;
            socket.join_multicast_v6(&GROUP_V6, segment.index)?;
        } else {
            set_ip_multicast_if_with_ifindex(
                &socket,
                &Ipv4Addr::UNSPECIFIED,
                &Ipv4Addr::UNSPECIFIED,
                segment.index,
            )?;
            socket.set_multicast_ttl_v4(TTL)?;
            socket.set_ttl_v4(TTL)?;
            socket.set_multicast_loop_v4(true)?;
            // Or the socket would get what comes in on interfaces that other sockets have joined on.
            socket.set_multicast_all_v4(false)?;
            socket.bind(&group.into())?;
            socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(segment.index))?;
        }
        let io = Arc::new(Async::new_nonblocking(UdpSocket::from(socket))?);
        Ok(Socket { io, group, empty: None })
    }

    /// Sends a datagram, to the group if to nobody else. It may get lost even here, when the kernel has no place
    /// for it: mDNS repeats itself.
    pub(super) fn send(&self, to: Option<SocketAddr>, bytes: &[u8]) -> io::Result<()> {
        self.io.get_ref().send_to(bytes, to.unwrap_or(self.group)).map(|_| ())
    }

    /// Receives one datagram.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            if let Some(empty) = &mut self.empty {
                let polled = ready!(Pin::new(empty).poll(cx));
                self.empty = None;
                polled?;
            }
            match self.io.get_ref().recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(Arc::clone(&self.io).readable_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return Poll::Ready(received),
            }
        }
    }
}
