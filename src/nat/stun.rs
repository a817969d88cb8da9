//! STUN (RFC 8489): which address do others see, and what kind of NAT is in between (RFC 4787, RFC 5780)?
//!
//! From the inside out:
//! - the `message` reads and writes what is on the wire;
//! - the [`client`] asks several servers and repeats what gets lost;
//! - the [`verdict`] is what follows from the answers, and the [`schedule`] says when to ask again;
//! - the [`server`] answers others, and no more of them than is good for third parties;
//! - all of these are values without clock or socket; the [`driver`] gives them the QUIC socket, so that the
//!   address found is the one that QUIC is reachable at.
//!
//! Not done: authentication (binding requests need none), TCP and TLS, ALTERNATE-SERVER, RESPONSE-PORT, PADDING.

pub mod client;
pub mod driver;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod name;
mod rate;
pub mod schedule;
pub mod server;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::net::SocketAddr;

pub use self::name::{NameError, ServerName};

/// The two IP families, which have NATs of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What of its address a server shall change before it answers (CHANGE-REQUEST, RFC 5780, section 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub ip: bool,
    pub port: bool,
}

impl Change {
    pub const BOTH: Change = Change { ip: true, port: true };
    pub const PORT: Change = Change { ip: false, port: true };
}
