//! How a machine behind a NAT becomes reachable.

#[cfg(feature = "portmap")]
pub mod portmap;
