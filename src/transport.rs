//! The transports: how bytes reach another machine.

mod address;
pub mod tcp;
