//! Whom to dial, where and when. Pure: values in, values out, `now` and the random part of a delay as arguments.
//!
//! The bootstrap addresses are the operator's wish and are dialled for ever. All other addresses are in the book,
//! which knows where and when a peer may be dialled, but not whether that is wanted.

pub mod book;
pub mod bootstraps;
pub mod file;

pub use book::{Book, Source};
pub use bootstraps::Bootstraps;
pub use file::SaveSchedule;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// The peer that an address names at its end.
pub fn peer_of(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
