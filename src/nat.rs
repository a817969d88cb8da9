//! Reaching nodes, and being reached, through the NATs of home routers.

#[cfg(feature = "autonat")]
pub mod autonat;
pub mod circuit;
pub mod dcutr;
mod frame;
#[cfg(feature = "relay-server")]
pub mod hop;
#[cfg(feature = "stun")]
pub mod meaning;
#[cfg(feature = "portmap")]
pub mod portmap;
#[cfg(feature = "stun")]
pub mod punch;
pub mod relays;
#[cfg(feature = "stun")]
pub mod stun;
#[cfg(any(feature = "relay-server", feature = "stun"))]
pub mod witness;
