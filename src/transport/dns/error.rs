use std::{fmt, io};

use libp2p::Multiaddr;

/// Why an address with a name in it could not be dialled. `E` is the error of the wrapped transport.
#[derive(Debug)]
pub enum Error<E> {
    /// From the wrapped transport, which knows the address it failed for.
    Transport(E),
    /// A name could not be resolved.
    Lookup(LookupError),
    /// No transport can dial what the name stands for.
    NotSupported(Multiaddr),
    /// None of the TXT records of a `/dnsaddr` is an address that ends like the dialled one.
    NoMatch { addr: Multiaddr },
    /// The address leads to more names than are looked up; perhaps in a circle.
    TooManyLookups { addr: Multiaddr },
    /// All that was tried for this address, and why it failed.
    Unreachable { addr: Multiaddr, causes: Vec<Error<E>> },
}

/// Why a name could not be resolved.
#[derive(Debug)]
pub enum LookupError {
    /// No host can have this name.
    BadName { name: String },
    /// The name does not exist.
    NoSuchName { name: String },
    /// The name exists, but has no records of the kind that is needed.
    NoRecords { name: String, kind: &'static str },
    /// No server gave an answer. The one named was the last to be asked.
    NoAnswer { name: String, server: String, cause: ServerError },
    /// It took too long.
    TimedOut { name: String },
}

/// Why a name server was of no help.
#[derive(Debug)]
pub enum ServerError {
    /// It could not be reached.
    Io(io::Error),
    /// It was silent.
    TimedOut,
    /// It answered with this response code (RFC 1035, section 4.1.1).
    Code(u8),
    /// What it sent is no answer.
    Malformed,
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Transport(error) => error.fmt(f),
            Error::Lookup(error) => error.fmt(f),
            Error::NotSupported(addr) => write!(f, "the name stands for {addr}, which cannot be dialled"),
            Error::NoMatch { addr } => write!(f, "no TXT record of {addr} holds a matching address"),
            Error::TooManyLookups { addr } => {
                write!(f, "{addr} is not looked up: too many names led there, perhaps in a circle")
            }
            Error::Unreachable { addr, causes } => {
                write!(f, "cannot reach {addr}")?;
                causes.iter().enumerate().try_for_each(|(index, cause)| {
                    write!(f, "{} {cause}", if index == 0 { ":" } else { ";" })
                })
            }
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::BadName { name } => write!(f, "{name:?} is not a host name"),
            LookupError::NoSuchName { name } => write!(f, "there is no host {name:?}"),
            LookupError::NoRecords { name, kind } => write!(f, "{name:?} has no {kind} record"),
            LookupError::NoAnswer { name, server, cause } => {
                write!(f, "cannot look up {name:?}: name server {server} {cause}")
            }
            LookupError::TimedOut { name } => write!(f, "cannot look up {name:?}: it took too long"),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Io(error) => write!(f, "cannot be reached: {error}"),
            ServerError::TimedOut => f.write_str("does not answer"),
            ServerError::Code(2) => f.write_str("failed (SERVFAIL)"),
            ServerError::Code(5) => f.write_str("refused to answer"),
            ServerError::Code(code) => write!(f, "answered with code {code}"),
            ServerError::Malformed => f.write_str("sent something that is no answer"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Transport(error) => error.source(),
            Error::Lookup(error) => error.source(),
            _ => None,
        }
    }
}

impl std::error::Error for LookupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LookupError::NoAnswer { cause: ServerError::Io(error), .. } => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        ServerError::Io(error)
    }
}
