//! Upstream's transports without a node: the same as `warren-streams`, on tokio.

#[path = "../../streams/src/peer.rs"]
mod peer;

use anyhow::{Context, Result};
use libp2p::{
    Transport as _,
    core::{muxing::StreamMuxerBox, upgrade::Version},
    identity::Keypair,
    noise, quic, tcp, yamux,
};

fn main() -> Result<()> {
    let carrier = std::env::args().nth(1).context("usage: streams-reference quic|tcp")?;
    let key = Keypair::generate_ed25519();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (transport, addr) = match &*carrier {
            "quic" => {
                let transport = quic::tokio::Transport::new(quic::Config::new(&key));
                let transport = transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed();
                (transport, "/ip4/127.0.0.1/udp/0/quic-v1")
            }
            _ => {
                let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
                    .upgrade(Version::V1Lazy)
                    .authenticate(noise::Config::new(&key)?)
                    .multiplex(yamux::Config::default())
                    .boxed();
                (transport, "/ip4/127.0.0.1/tcp/0")
            }
        };
        let spawn = |task| drop(tokio::spawn(task));
        peer::run(transport, addr, spawn).await
    })
}
