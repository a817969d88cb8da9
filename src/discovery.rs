//! How nodes find each other without having been told of each other.

#[cfg(feature = "mdns")]
pub mod mdns;
