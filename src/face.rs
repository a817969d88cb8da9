//! Faces: what people and programs see of a node. They convert between the world and
//! [`node::api`](crate::node::api), and know nothing else of the node.

#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "control")]
pub mod ctl;
#[cfg(any(feature = "metrics", feature = "web"))]
pub mod http;
pub mod json;
pub mod json_lines;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod repl;
pub mod stdio;
#[cfg(feature = "web")]
pub mod web;
