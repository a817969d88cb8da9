//! The yardstick: a relay as a user of upstream libp2p writes it, on tokio. It gives what `warren relay` gives.

use std::time::Duration;

use anyhow::Result;
use argh::FromArgs;
use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, ping, relay, tcp, yamux};
use serde_json::json;

use crate::say;

/// Be a relay.
#[derive(FromArgs)]
#[argh(subcommand, name = "relay")]
pub(crate) struct Args {
    /// where to listen
    #[argh(option)]
    listen: Multiaddr,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Behaviour {
            relay: relay::Behaviour::new(
                key.public().to_peer_id(),
                relay::Config {
                    max_reservations: 256,
                    max_reservations_per_peer: 2,
                    reservation_duration: Duration::from_secs(3600),
                    // Its own would refuse so many peers of one address, and are no part of what is measured.
                    reservation_rate_limiters: Vec::new(),
                    max_circuits: 128,
                    max_circuits_per_peer: 16,
                    max_circuit_duration: Duration::from_secs(6 * 3600),
                    max_circuit_bytes: 1 << 40,
                    circuit_src_rate_limiters: Vec::new(),
                },
            ),
            identify: identify::Behaviour::new(identify::Config::new("/bench/1".into(), key.public())),
            ping: ping::Behaviour::default(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.listen_on(args.listen)?;
    let mut lines = crate::crowd::lines();
    loop {
        tokio::select! {
            event = swarm.select_next_some() => if let SwarmEvent::NewListenAddr { address, .. } = event {
                swarm.add_external_address(address.clone());
                let addr = format!("{address}/p2p/{}", swarm.local_peer_id());
                say(json!({"event": "listening", "addr": addr}));
            },
            line = lines.next_line() => if line?.is_none() {
                std::process::exit(0);
            },
        }
    }
}
