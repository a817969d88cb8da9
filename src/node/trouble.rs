//! What errors of transports say, without the layers around it.

use std::io;

use libp2p::{TransportError, swarm::DialError};
use rustix::io::Errno;

/// The machine has no addresses of this kind.
pub(super) fn is_missing_family(error: &TransportError<io::Error>) -> bool {
    let missing = |e: &io::Error| {
        let code = e.raw_os_error().map(Errno::from_raw_os_error);
        matches!(code, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
    };
    matches!(error, TransportError::Other(e) if innermost_io(e).is_some_and(missing))
}

/// The transport stack boxes errors in errors; the operating system's is the one inside.
fn innermost_io(error: &io::Error) -> Option<&io::Error> {
    let mut found = Some(error).filter(|e| e.raw_os_error().is_some());
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.raw_os_error().is_some()
        {
            found = Some(io);
        }
        source = error.source();
    }
    found
}

/// What an error says, without the layers around it.
pub(super) fn detail(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::Other(e) => innermost_io(e).map_or_else(|| e.to_string(), io::Error::to_string),
        TransportError::MultiaddrNotSupported(addr) => format!("{addr} is no address for this node"),
    }
}

/// Why a dial failed, in one line.
pub(super) fn dial_trouble(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let each: Vec<_> = attempts.iter().map(|(_, e)| detail(e)).collect();
            if each.is_empty() { "no address to dial".into() } else { each.join("; ") }
        }
        DialError::WrongPeerId { obtained, .. } => format!("the peer there is {obtained}"),
        DialError::LocalPeerId { .. } => "that is this node itself".into(),
        DialError::NoAddresses => "no address to dial".into(),
        other => other.to_string(),
    }
}
