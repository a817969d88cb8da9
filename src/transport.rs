//! The transports: how bytes reach another machine, and the [`build`] that stacks security and multiplexing
//! on top of them.

mod address;
#[cfg(feature = "dns")]
pub mod dns;
mod netlink;
pub mod tcp;

use libp2p::{
    PeerId, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, yamux,
};

use crate::limits;

/// A transport that is ready for a swarm: every connection is authenticated and multiplexed.
pub type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

/// TCP with Noise XX and yamux, and names resolved before dialling where this build can do that.
pub fn build(key: &Keypair) -> Result<Authenticated, noise::Error> {
    let transport = tcp::Transport::new(tcp::Config::default());
    #[cfg(feature = "dns")]
    let transport = dns::Transport::system(transport);
    let mut muxing = yamux::Config::default();
    muxing.set_max_num_streams(limits::YAMUX_STREAMS);
    Ok(transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxing)
        .timeout(limits::HANDSHAKE_TIMEOUT)
        .boxed())
}
