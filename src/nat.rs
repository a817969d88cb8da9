//! Reaching nodes, and being reached, through the NATs of home routers.

pub mod dcutr;
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
