//! How peers find each other without being told where they are.

#[cfg(feature = "kad")]
pub mod kad;
#[cfg(feature = "mdns")]
pub mod mdns;
#[cfg(feature = "kad")]
pub mod rendezvous;
pub mod scope;
