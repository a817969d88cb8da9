use std::{io, time::Duration};

use async_io::Async;
use futures_timer::Delay;

use super::{Error, Stream, socket};
use crate::transport::address::Endpoint;

/// Connects to `target`, from `local_port` if that is possible.
///
/// The socket lives inside the future: dropping it ends the attempt.
pub(super) async fn dial(
    target: Endpoint,
    local_port: Option<u16>,
    timeout: Duration,
) -> Result<Stream, Error> {
    let connected = async { connect(&target, local_port).await.map(Some) };
    let late = async {
        Delay::new(timeout).await;
        Ok(None)
    };
    let addr = || target.to_string();
    match smol::future::or(connected, late).await {
        Ok(Some(stream)) if is_own_echo(&stream) => Err(Error::DialSelf { addr: addr() }),
        Ok(Some(stream)) => Ok(stream),
        Ok(None) => Err(Error::DialTimeout { addr: addr(), after: timeout }),
        Err(source) => Err(Error::Dial { addr: addr(), source }),
    }
}

async fn connect(target: &Endpoint, local_port: Option<u16>) -> io::Result<Stream> {
    let addr = target.resolve()?;
    let socket = match socket::connect(addr, local_port) {
        // Reuse is best effort. We may already have a connection with these two ends (or one that lingers in
        // TIME_WAIT), or another program holds the port on some other address.
        Err(error) if local_port.is_some() && is_taken(&error) => {
            log::debug!("dialling {target} from a new port: {error}");
            socket::connect(addr, None)?
        }
        socket => socket?,
    };
    let socket = Async::new_nonblocking(socket)?;
    socket.writable().await?;
    match socket.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(Stream::new(socket)),
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

/// TCP's simultaneous open lets a socket meet itself when its source is its destination, as can happen when
/// a node dials its own address from its listening port. Nothing good would come of the handshake.
fn is_own_echo(stream: &Stream) -> bool {
    let socket = stream.get_ref();
    // Without a peer address the connection is gone already, and the first read will say so.
    matches!((socket.local_addr(), socket.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}
