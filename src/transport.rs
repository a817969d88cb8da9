//! The transports: how bytes reach another machine, and the [`build`] that stacks security and multiplexing
//! on top of them.

pub(crate) mod address;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "quic")]
mod head_start;
mod interfaces;
mod listeners;
pub(crate) mod netlink;
#[cfg(feature = "quic")]
pub mod quic;
mod readiness;
#[cfg(feature = "portmap")]
pub(crate) mod routes;
pub mod tcp;

pub use netlink::on_link;

use futures::{AsyncRead, AsyncWrite, future::BoxFuture};
use libp2p::{
    PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, OptionalTransport},
        upgrade::Version,
    },
    identity::Keypair,
    noise, yamux,
};

use crate::{limits, nat::circuit};

/// A transport that is ready for a swarm: every connection is authenticated and multiplexed.
pub type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

/// A connection that is still to be secured. Boxed, so that Noise and yamux are in the program once and not once for
/// TCP and once for relays: 40 kB.
type Bare = Box<dyn Carried>;

trait Carried: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carried for T {}

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

/// A transport, and what has to be taken care of beside it.
pub struct Built {
    pub transport: Authenticated,
    /// Moves the bytes; has to run beside the swarm.
    pub driver: BoxFuture<'static, ()>,
    /// The half of connections through relays that belongs into the swarm's behaviour. Without it nothing is
    /// dialled through a relay, and nobody may listen at one.
    pub circuits: circuit::Behaviour,
    /// What comes to the sockets of QUIC beside QUIC, if there are such.
    #[cfg(feature = "quic")]
    pub side: Option<Side>,
}

/// The datagrams beside QUIC.
#[cfg(feature = "quic")]
pub struct Side {
    pub stun: quic::Datagrams,
    pub punch: quic::Datagrams,
}

/// TCP with Noise XX and yamux, QUIC, and connections through relays, with names resolved before dialling where
/// this build can do that.
pub fn build(key: &Keypair, carriers: Carriers) -> Result<Built, BuildError> {
    let (through, circuits) = circuit::new(key.public().to_peer_id());
    let through = through.map(|stream, _| Box::new(stream) as Bare);
    let bare = through.or_transport(tcp(carriers)).map(|either, _| either.into_inner());
    let transport = secured(bare.boxed(), key)?;
    #[cfg(feature = "quic")]
    let (transport, driver, side) = with_quic(key, carriers, transport)?;
    #[cfg(not(feature = "quic"))]
    let driver = Box::pin(futures::future::ready(()));
    #[cfg(feature = "dns")]
    let transport = dns::Transport::system(transport);
    #[cfg(feature = "quic")]
    let transport = head_start::HeadStart::new(transport, limits::QUIC_HEAD_START);
    Ok(Built {
        transport: transport.boxed(),
        driver,
        circuits,
        #[cfg(feature = "quic")]
        side,
    })
}

/// Direct connections by TCP and QUIC for who dials beside the swarm, each from a port of its own if it is dialled with
/// [`PortUse::New`](libp2p::core::transport::PortUse::New), and what has to run beside it until it is dropped. It
/// resolves no names.
#[cfg(feature = "autonat")]
pub fn beside(
    key: &Keypair,
    carriers: Carriers,
) -> Result<(Authenticated, BoxFuture<'static, ()>), BuildError> {
    let tcp = secured(tcp(carriers).boxed(), key)?;
    #[cfg(feature = "quic")]
    return with_quic(key, carriers, tcp).map(|(all, driver, _)| (all, driver));
    #[cfg(not(feature = "quic"))]
    Ok((tcp, Box::pin(futures::future::ready(()))))
}

#[cfg(feature = "quic")]
fn with_quic(
    key: &Keypair,
    carriers: Carriers,
    others: Authenticated,
) -> Result<(Authenticated, BoxFuture<'static, ()>, Option<Side>), BuildError> {
    if !carriers.has_quic() {
        return Ok((others, Box::pin(futures::future::ready(())), None));
    }
    let (quic, driver) = quic::Transport::new(key)?;
    let side = Side { stun: quic.datagrams(quic::Kind::Stun), punch: quic.datagrams(quic::Kind::Punch) };
    let quic = quic.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let all = quic.or_transport(others).map(|output, _| output.into_inner());
    Ok((all.boxed(), Box::pin(driver), Some(side)))
}

/// Nothing, where there is to be none.
fn tcp(carriers: Carriers) -> OptionalTransport<Boxed<Bare>> {
    if !carriers.has_tcp() {
        return OptionalTransport::none();
    }
    let tcp = tcp::Transport::new(tcp::Config::default());
    OptionalTransport::some(tcp.map(|stream, _| Box::new(stream) as Bare).boxed())
}

/// Noise XX and yamux on top.
fn secured(bare: Boxed<Bare>, key: &Keypair) -> Result<Authenticated, noise::Error> {
    let mut muxing = yamux::Config::default();
    muxing.set_max_num_streams(limits::YAMUX_STREAMS);
    let secured = bare
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxing)
        .timeout(limits::HANDSHAKE_TIMEOUT);
    Ok(secured.boxed())
}
