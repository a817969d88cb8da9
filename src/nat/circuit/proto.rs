//! The messages of circuit relay v2, for both ends. Source: libp2p/specs, relay/circuit-v2.md.

use std::fmt;

/// On a stream of [`super::HOP`].
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::nat) struct Hop {
    #[prost(uint32, required, tag = "1")]
    pub(in crate::nat) kind: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::nat) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::nat) reservation: Option<Reservation>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::nat) limit: Option<Limit>,
    #[prost(uint32, optional, tag = "5")]
    pub(in crate::nat) status: Option<u32>,
}

pub(in crate::nat) const RESERVE: u32 = 0;
pub(in crate::nat) const HOP_CONNECT: u32 = 1;
pub(in crate::nat) const HOP_STATUS: u32 = 2;

/// On a stream of [`super::STOP`].
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::nat) struct Stop {
    #[prost(uint32, required, tag = "1")]
    pub(in crate::nat) kind: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::nat) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::nat) limit: Option<Limit>,
    #[prost(uint32, optional, tag = "4")]
    pub(in crate::nat) status: Option<u32>,
}

pub(in crate::nat) const STOP_CONNECT: u32 = 0;
pub(in crate::nat) const STOP_STATUS: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::nat) struct Peer {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(in crate::nat) id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::nat) struct Reservation {
    /// Seconds since 1970, by the relay's clock.
    #[prost(uint64, required, tag = "1")]
    pub(in crate::nat) expire: u64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(in crate::nat) addrs: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(in crate::nat) struct Limit {
    /// Unit: seconds; 0 is none.
    #[prost(uint32, optional, tag = "1")]
    pub(in crate::nat) duration: Option<u32>,
    /// Unit: bytes; 0 is none.
    #[prost(uint64, optional, tag = "2")]
    pub(in crate::nat) data: Option<u64>,
}

/// What the other side thinks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub(in crate::nat) u32);

impl Status {
    pub(in crate::nat) const OK: Status = Status(100);
    #[cfg(feature = "relay-server")]
    pub(in crate::nat) const RESOURCE_LIMIT_EXCEEDED: Status = Status(201);
    pub(in crate::nat) const PERMISSION_DENIED: Status = Status(202);
    #[cfg(feature = "relay-server")]
    pub(in crate::nat) const CONNECTION_FAILED: Status = Status(203);
    #[cfg(feature = "relay-server")]
    pub(in crate::nat) const NO_RESERVATION: Status = Status(204);
    pub(in crate::nat) const MALFORMED_MESSAGE: Status = Status(400);
    #[cfg(feature = "relay-server")]
    pub(in crate::nat) const UNEXPECTED_MESSAGE: Status = Status(401);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            200 => "it gives no places",
            201 => "it has no place left",
            202 => "this node may not do that",
            203 => "it cannot reach the peer",
            204 => "the peer has no place there",
            400 => "it does not understand the request",
            401 => "it did not expect the request",
            other => return write!(f, "status {other}"),
        })
    }
}
