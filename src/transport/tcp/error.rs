use std::{fmt, io, net::SocketAddr, time::Duration};

/// What can go wrong with a TCP listener or connection.
#[derive(Debug)]
pub enum Error {
    /// The listening socket could not be had: the port is taken, the address is not ours.
    Listen { addr: String, source: io::Error },
    /// A connection could not be accepted. The listener goes on.
    Accept { addr: SocketAddr, source: io::Error },
    /// Interfaces can no longer be watched. Wildcard listeners go on, without addresses until it works again.
    Watch(io::Error),
    /// The connection could not be made.
    Dial { addr: String, source: io::Error },
    /// Nobody answered in time.
    DialTimeout { addr: String, after: Duration },
    /// The kernel connected the socket to itself, because source and destination were the same.
    DialSelf { addr: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen { addr, source } => write!(f, "cannot listen on TCP {addr}: {source}"),
            Error::Accept { addr, source } => write!(f, "cannot accept on TCP {addr}: {source}"),
            Error::Watch(source) => write!(f, "cannot watch network interfaces: {source}"),
            Error::Dial { addr, source } => write!(f, "cannot connect to TCP {addr}: {source}"),
            Error::DialTimeout { addr, after } => {
                write!(f, "cannot connect to TCP {addr}: no answer within {} s", after.as_secs_f32())
            }
            Error::DialSelf { addr } => {
                write!(f, "cannot connect to TCP {addr}: nobody listens there, the socket reached itself")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Listen { source, .. }
            | Error::Accept { source, .. }
            | Error::Watch(source)
            | Error::Dial { source, .. } => Some(source),
            Error::DialTimeout { .. } | Error::DialSelf { .. } => None,
        }
    }
}
