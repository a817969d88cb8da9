//! warren's transports without a node: see [`peer`]. On smol and one thread, as in warren.

mod peer;

use anyhow::{Context, Result};
use libp2p::identity::Keypair;
use smol::Executor;
use warren::transport::{Built, Carriers, build};

static EXECUTOR: Executor<'static> = Executor::new();

fn main() -> Result<()> {
    let carrier = std::env::args().nth(1).context("usage: warren-streams quic|tcp")?;
    let (carriers, addr) = match &*carrier {
        "quic" => (Carriers::Quic, "/ip4/127.0.0.1/udp/0/quic-v1"),
        _ => (Carriers::Tcp, "/ip4/127.0.0.1/tcp/0"),
    };
    let Built { transport, driver, .. } = build(&Keypair::generate_ed25519(), carriers)?;
    EXECUTOR.spawn(driver).detach();
    let spawn = |task| EXECUTOR.spawn(task).detach();
    futures_timer::block_on(EXECUTOR.run(peer::run(transport, addr, spawn)))
}
