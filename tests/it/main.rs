//! Drives the built program as people and other programs do, and keeps the house tidy.

#[cfg(feature = "autonat")]
mod autonat;
mod chat;
#[cfg(feature = "control")]
mod control;
mod discovery;
mod hostile;
mod id;
mod life;
mod lines;
mod links;
#[cfg(feature = "metrics")]
mod metrics;
mod net;
#[cfg(feature = "quic")]
mod quic;
mod reboot;
mod recall;
mod repl;
mod tidy;
mod usage;
#[cfg(feature = "web")]
mod web;
