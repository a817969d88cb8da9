//! Ways through NATs: what kind of NAT there is, which address the world sees, and how to be reached there.

#[cfg(feature = "stun")]
pub mod stun;
