//! Ways through a NAT, each test in networks of its own: see `alone`.

#[path = "../transport/alone.rs"]
mod alone;
#[cfg(feature = "portmap")]
mod home;
#[cfg(feature = "portmap")]
mod portmap;
#[cfg(feature = "stun")]
mod stun;
