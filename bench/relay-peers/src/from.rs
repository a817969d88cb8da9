//! TCP from an address of choice: what a relay takes for another machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt, Ready};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::tcp::tokio::TcpStream;
use tokio::net::TcpSocket;

/// Dials, and never listens.
pub(crate) struct From(pub(crate) IpAddr);

impl Transport for From {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<TcpStream>>;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let to = match addr.iter().collect::<Vec<_>>()[..] {
            [Protocol::Ip4(ip), Protocol::Tcp(port)] => SocketAddr::new(ip.into(), port),
            [Protocol::Ip4(ip), Protocol::Tcp(port), Protocol::P2p(_)] => SocketAddr::new(ip.into(), port),
            _ => return Err(TransportError::MultiaddrNotSupported(addr)),
        };
        let from = self.0;
        Ok(async move { Ok(TcpStream(connect(from, to).await?)) }.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

/// A bare connection from an address of choice.
pub(crate) async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
