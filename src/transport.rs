//! The transports: how bytes reach another machine.

mod address;
#[cfg(feature = "dns")]
pub mod dns;
pub mod tcp;
