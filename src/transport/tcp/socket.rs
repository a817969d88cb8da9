//! The sockets and their options.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::limits;

/// A listening socket, not blocking.
///
/// `shared` says that a listener of ours has the port already. Otherwise the port must be free: with
/// `SO_REUSEPORT` from the start, a second process of the same user would get the port without an error, and
/// the kernel would deal the incoming connections out between the two. The option is set afterwards, when
/// the port is known to be ours, because dialling from this port needs it on both sockets.
pub(super) fn listen(addr: SocketAddr, backlog: i32, shared: bool) -> io::Result<TcpListener> {
    let socket = new(addr)?;
    // Connections of an earlier listener that still linger must not keep us from a port asked for by number.
    // Without a number the kernel shall pick a port that nobody uses, not one that could be shared.
    socket.set_reuse_address(addr.port() != 0)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    // From here on for dialling, and for the connections, which inherit it and may outlive the listener.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

/// A socket on its way to `addr`, not blocking, from the given local port or from one the kernel picks.
pub(super) fn connect(addr: SocketAddr, local_port: Option<u16>) -> io::Result<TcpStream> {
    let socket = new(addr)?;
    if let Some(port) = local_port {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Any local address: the kernel chooses the one that the route to `addr` wants.
        let any = match addr {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        socket.bind(&any.into())?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Options that hold for every connection. An accepted socket inherits them from the listening one.
fn new(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new_raw(
        Domain::for_address(addr),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if addr.is_ipv6() {
        // `::` means all IPv6 addresses and leaves the IPv4 port to another listener.
        socket.set_only_v6(true)?;
    }
    // The multiplexer writes whole frames; holding them back would only add delay.
    socket.set_tcp_nodelay(true)?;
    // A dead link. With the second option the kernel no longer counts the questions that got no answer.
    let keepalive =
        TcpKeepalive::new().with_time(limits::TCP_KEEP_IDLE).with_interval(limits::TCP_KEEP_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits::TCP_UNACKED))?;
    Ok(socket)
}
