//! warren: rooms between machines behind home routers, without a server.
//!
//! The library is the program in parts: [`program`] runs the subcommands, [`node`] is the node with its
//! [`api`](node::api), [`face`] what people and programs see of it, [`discovery`] finds peers, [`transport`] carries
//! connections on async-io, and [`rooms`] holds the messages. Dependencies point down that list only.
#![forbid(unsafe_code)]

pub mod aside;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod face;
pub mod files;
pub mod identity;
pub mod limits;
pub mod logs;
pub mod nat;
pub mod node;
pub mod program;
pub mod rooms;
#[cfg(feature = "stun")]
pub mod survey;
pub mod transport;
mod within;
