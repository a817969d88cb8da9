use std::{error::Error as StdError, fmt, io, net::SocketAddr, time::Duration};

use quinn_proto::{ConnectError, ConnectionError};

use super::tls;

/// What can go wrong with a QUIC listener or connection.
#[derive(Debug)]
pub enum Error {
    /// The socket could not be had: the port is taken, the address is not ours.
    Listen { addr: String, source: io::Error },
    /// Interfaces can no longer be watched. Wildcard listeners go on, without addresses until it works again.
    Watch(io::Error),
    /// No socket to dial from.
    Socket { addr: String, source: io::Error },
    /// The dial could not begin.
    Dial { addr: String, source: ConnectError },
    /// The handshake did not succeed, in either direction.
    Handshake { addr: SocketAddr, source: ConnectionError },
    /// The handshake succeeded, and the certificate says nothing that can be understood.
    Peer { addr: SocketAddr, source: tls::CertificateError },
    /// A hole is punched from a listening socket, and there is none for this address.
    NoListener { addr: String },
    /// The other side did not come through the hole.
    Punch { addr: String, after: Duration },
    /// Another dial waits for the same address.
    PunchUnderWay { addr: String },
    /// The connection is lost.
    Lost(ConnectionError),
    /// The connection is gone, and all that was to be said about it.
    Gone,
    /// The TLS handshake could not be set up.
    Tls(Box<dyn StdError + Send + Sync>),
    /// The system gives no random numbers.
    Random,
    /// The [`Driver`](super::Driver) was dropped: nothing can be sent or received.
    NoDriver,
}

impl Error {
    pub(super) fn tls(source: impl StdError + Send + Sync + 'static) -> Self {
        Error::Tls(Box::new(source))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen { addr, source } => write!(f, "cannot listen on QUIC {addr}: {source}"),
            Error::Watch(source) => write!(f, "cannot watch network interfaces: {source}"),
            Error::Socket { addr, source } => write!(f, "cannot connect to QUIC {addr}: {source}"),
            Error::Dial { addr, source } => write!(f, "cannot connect to QUIC {addr}: {source}"),
            Error::Handshake { addr, source } => write!(f, "no QUIC connection with {addr}: {source}"),
            Error::Peer { addr, source } => write!(f, "no QUIC connection with {addr}: {source}"),
            Error::NoListener { addr } => {
                write!(f, "cannot punch a hole for QUIC {addr}: no listener of its IP family")
            }
            Error::Punch { addr, after } => {
                let after = after.as_secs_f32();
                write!(f, "no QUIC connection from {addr}: it did not dial within {after} s")
            }
            Error::PunchUnderWay { addr } => write!(f, "a hole for QUIC {addr} is being punched already"),
            Error::Lost(source) => write!(f, "the QUIC connection is lost: {source}"),
            Error::Gone => write!(f, "the QUIC connection is gone"),
            Error::Tls(source) => write!(f, "cannot set up TLS for QUIC: {source}"),
            Error::Random => write!(f, "the system has no random numbers for QUIC"),
            Error::NoDriver => write!(f, "QUIC has ended: its driver was dropped"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Listen { source, .. } | Error::Watch(source) | Error::Socket { source, .. } => {
                Some(source)
            }
            Error::Dial { source, .. } => Some(source),
            Error::Handshake { source, .. } | Error::Lost(source) => Some(source),
            Error::Peer { source, .. } => Some(source),
            Error::Tls(source) => Some(source.as_ref()),
            Error::NoListener { .. }
            | Error::Punch { .. }
            | Error::PunchUnderWay { .. }
            | Error::Gone
            | Error::Random
            | Error::NoDriver => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Lost(source) => source.into(),
            Error::Gone => io::Error::new(io::ErrorKind::NotConnected, Error::Gone),
            other => io::Error::other(other),
        }
    }
}
