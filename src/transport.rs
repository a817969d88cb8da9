//! The transports: how bytes reach another machine, and the [`build`] that stacks security and multiplexing
//! on top of them.

mod address;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "quic")]
mod head_start;
mod interfaces;
mod listeners;
mod netlink;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "portmap")]
pub(crate) mod routes;
pub mod tcp;

pub use netlink::on_link;

use futures::future::BoxFuture;
use libp2p::{
    PeerId, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, yamux,
};

use crate::limits;

/// A transport that is ready for a swarm: every connection is authenticated and multiplexed.
pub type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

/// What to use of what this build has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carriers {
    /// All: dials try QUIC first.
    #[default]
    All,
    Tcp,
    #[cfg(feature = "quic")]
    Quic,
}

impl Carriers {
    pub fn has_tcp(self) -> bool {
        matches!(self, Carriers::All | Carriers::Tcp)
    }

    pub fn has_quic(self) -> bool {
        cfg!(feature = "quic") && self != Carriers::Tcp
    }
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Noise(#[from] noise::Error),
    #[cfg(feature = "quic")]
    #[error(transparent)]
    Quic(#[from] quic::Error),
}

/// TCP with Noise XX and yamux, and QUIC, with names resolved before dialling where this build can do that.
///
/// Comes with a future that has to run beside the swarm.
pub fn build(
    key: &Keypair,
    carriers: Carriers,
) -> Result<(Authenticated, BoxFuture<'static, ()>), BuildError> {
    let (transport, driver) = stack(key, carriers)?;
    #[cfg(feature = "dns")]
    let transport = dns::Transport::system(transport);
    #[cfg(feature = "quic")]
    let transport = head_start::HeadStart::new(transport, limits::QUIC_HEAD_START);
    Ok((transport.boxed(), driver))
}

/// QUIC beside TCP.
#[cfg(feature = "quic")]
fn stack(key: &Keypair, carriers: Carriers) -> Result<(Authenticated, BoxFuture<'static, ()>), BuildError> {
    use futures::FutureExt;
    use libp2p::core::transport::OptionalTransport;

    let (quic, driver) = match carriers.has_quic() {
        true => {
            let (quic, driver) = quic::Transport::new(key)?;
            (OptionalTransport::some(quic), driver.boxed())
        }
        false => (OptionalTransport::none(), futures::future::ready(()).boxed()),
    };
    let quic = quic.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let tcp = match carriers.has_tcp() {
        true => OptionalTransport::some(tcp_stack(key)?),
        false => OptionalTransport::none(),
    };
    let both = quic.or_transport(tcp).map(|output, _| output.into_inner());
    Ok((both.boxed(), driver))
}

#[cfg(not(feature = "quic"))]
fn stack(key: &Keypair, _: Carriers) -> Result<(Authenticated, BoxFuture<'static, ()>), BuildError> {
    Ok((tcp_stack(key)?, Box::pin(futures::future::ready(()))))
}

fn tcp_stack(key: &Keypair) -> Result<Authenticated, noise::Error> {
    let mut muxing = yamux::Config::default();
    muxing.set_max_num_streams(limits::YAMUX_STREAMS);
    Ok(tcp::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxing)
        .timeout(limits::HANDSHAKE_TIMEOUT)
        .boxed())
}
