//! What errors of the transports say, without the layers around them.

use std::{error::Error, io};

use libp2p::{TransportError, swarm::DialError};

use super::tally::Dial;

/// An address of a family that this machine does not have.
pub(super) fn is_missing_family(error: &TransportError<io::Error>) -> bool {
    let missing = |e: &io::Error| {
        let code = e.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
    };
    matches!(error, TransportError::Other(e) if innermost_io(e).is_some_and(missing))
}

/// The transport stack boxes errors in errors; the operating system's is the one inside.
fn innermost_io(error: &io::Error) -> Option<&io::Error> {
    let mut found = Some(error).filter(|e| e.raw_os_error().is_some());
    let mut source: Option<&(dyn Error + 'static)> = error.get_ref().map(|e| e as _);
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

/// The same in one word. Of several addresses the one counts that came nearest to a connection.
pub(super) fn dial_outcome(error: &DialError) -> Dial {
    let attempts = match error {
        DialError::Transport(attempts) => attempts,
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => return Dial::WrongPeer,
        DialError::Denied { .. } => return Dial::Denied,
        _ => return Dial::Failed,
    };
    let any = |kinds: &[io::ErrorKind]| {
        let is_so = |error: &TransportError<io::Error>| match error {
            TransportError::Other(e) => has_kind(e, kinds),
            TransportError::MultiaddrNotSupported(_) => false,
        };
        attempts.iter().any(|(_, error)| is_so(error))
    };
    if any(&[io::ErrorKind::ConnectionRefused]) {
        Dial::Refused
    } else if any(&[io::ErrorKind::TimedOut]) {
        Dial::NoAnswer
    } else if any(&[io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable]) {
        Dial::Unreachable
    } else {
        Dial::Failed
    }
}

/// Whether a connection ended because nothing was heard any more, rather than that one end closed it.
pub(super) fn timed_out(error: &(dyn Error + 'static)) -> bool {
    has_kind(error, &[io::ErrorKind::TimedOut])
}

/// Whether there is an error of one of these kinds in it.
fn has_kind(error: &(dyn Error + 'static), kinds: &[io::ErrorKind]) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        // What an io::Error holds is its source's source to the outside.
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| kinds.contains(&io.kind())) {
            return true;
        }
        source = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, PeerId};

    use super::*;

    fn failed(kinds: &[io::ErrorKind]) -> DialError {
        let attempt = |kind: &io::ErrorKind| {
            let inner = io::Error::other(io::Error::other(io::Error::from(*kind)));
            (Multiaddr::empty(), TransportError::Other(inner))
        };
        DialError::Transport(kinds.iter().map(attempt).collect())
    }

    #[test]
    fn a_failed_dial_has_one_outcome() {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, TimedOut};
        assert_eq!(dial_outcome(&failed(&[HostUnreachable, TimedOut])), Dial::NoAnswer);
        assert_eq!(dial_outcome(&failed(&[TimedOut, ConnectionRefused])), Dial::Refused);
        assert_eq!(dial_outcome(&failed(&[InvalidData, HostUnreachable])), Dial::Unreachable);
        assert_eq!(dial_outcome(&failed(&[InvalidData])), Dial::Failed);
        assert_eq!(dial_outcome(&failed(&[])), Dial::Failed);
        let (obtained, address) = (PeerId::random(), Multiaddr::empty());
        assert_eq!(dial_outcome(&DialError::WrongPeerId { obtained, address }), Dial::WrongPeer);
    }
}
