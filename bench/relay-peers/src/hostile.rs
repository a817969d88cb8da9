//! Hostile peers, who open everything that they can. They speak the relay's protocol by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use argh::FromArgs;
use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::from;
use crate::peer::Peer;
use crate::say;

/// Open everything that a relay gives, and more.
#[derive(FromArgs)]
#[argh(subcommand, name = "hostile")]
pub(crate) struct Args {
    /// the relay, with its peer ID
    #[argh(option)]
    relay: Multiaddr,
    /// the network whose addresses they have, an IPv4 /24
    #[argh(option)]
    network: Ipv4Addr,
    /// addresses that they use
    #[argh(option, default = "50")]
    addresses: u8,
    /// identities of each
    #[argh(option, default = "10")]
    identities: usize,
    /// also begin a handshake for each identity and never end it
    #[argh(switch)]
    half_open: bool,
    /// peers to whom they want circuits (repeatable)
    #[argh(option)]
    target: Vec<PeerId>,
}

const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// What they got.
#[derive(Default)]
struct Loot {
    connected: AtomicU64,
    reservations: AtomicU64,
    /// Answered with a yes.
    circuits: AtomicU64,
    refused: AtomicU64,
    flooded: AtomicU64,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let loot = Arc::new(Loot::default());
    let relay = match args.relay.iter().last() {
        Some(Protocol::P2p(relay)) => relay,
        _ => anyhow::bail!("{} names no peer", args.relay),
    };
    let to = match args.relay.iter().collect::<Vec<_>>()[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port), ..] => SocketAddr::new(ip.into(), port),
        _ => anyhow::bail!("{} is no TCP address", args.relay),
    };
    let mut accomplices = Vec::new();
    for n in 0..usize::from(args.addresses) * args.identities {
        // Each address has its turn.
        let host = (n % usize::from(args.addresses)) as u32 + 1;
        let ip = Ipv4Addr::from_bits(args.network.to_bits() + host);
        if args.half_open {
            tokio::spawn(half_open(ip, to));
        }
        let mut peer = Peer::new(ip.into(), false)?;
        accomplices.push(peer.id);
        let stop = peer.control.accept(STOP)?;
        let targets: Vec<PeerId> = accomplices.iter().rev().take(20).chain(&args.target).copied().collect();
        let (loot, addr) = (Arc::clone(&loot), args.relay.clone());
        tokio::spawn(take_calls(stop, n % 2 == 0));
        tokio::spawn(async move { plunder(peer, relay, addr, targets, &loot).await });
        sleep(Duration::from_millis(10)).await;
    }
    let mut lines = crate::crowd::lines();
    // Each line is a question for what they got.
    while lines.next_line().await?.is_some() {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        say(json!({
            "event": "loot", "connected": of(&loot.connected), "reservations": of(&loot.reservations),
            "circuits": of(&loot.circuits), "refused": of(&loot.refused), "flooded": of(&loot.flooded),
        }));
    }
    std::process::exit(0);
}

/// Begins handshakes for ever and never ends one.
async fn half_open(from: Ipv4Addr, to: SocketAddr) {
    loop {
        if let Ok(mut stream) = from::connect(from.into(), to).await {
            // Until the relay has had enough of it.
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Half of them take circuits and never read; the others never answer.
async fn take_calls(mut calls: libp2p_stream::IncomingStreams, answers: bool) {
    let mut kept = Vec::new();
    while let Some((_, mut stream)) = calls.next().await {
        if answers {
            // STATUS, 100: the circuit is there.
            let _ = stream.write_all(&[4, 0x08, 1, 0x20, 100]).await;
            let _ = stream.flush().await;
        }
        kept.push(stream);
    }
}

/// Takes what there is, for ever.
async fn plunder(mut peer: Peer, relay: PeerId, addr: Multiaddr, targets: Vec<PeerId>, loot: &Arc<Loot>) {
    let mut streams = Vec::new();
    let (mut was_connected, mut was_reserved) = (false, false);
    loop {
        // It is refused, or there already.
        let _ = peer.dial(addr.clone()).await;
        for target in std::iter::once(None).chain(targets.iter().copied().map(Some)) {
            let Ok(mut stream) = open(&mut peer, relay).await else { break };
            if !was_connected {
                was_connected = true;
                loot.connected.fetch_add(1, Ordering::Relaxed);
            }
            let Ok(taken) = timeout(Duration::from_secs(5), ask(&mut stream, target)).await else {
                streams.push(stream);
                continue;
            };
            match (taken, target) {
                (Ok(true), None) if was_reserved => {}
                (Ok(true), None) => {
                    was_reserved = true;
                    loot.reservations.fetch_add(1, Ordering::Relaxed);
                }
                (Ok(true), Some(_)) => {
                    loot.circuits.fetch_add(1, Ordering::Relaxed);
                    let loot = Arc::clone(loot);
                    tokio::spawn(async move { flood(stream, &loot).await });
                    continue;
                }
                _ => drop(loot.refused.fetch_add(1, Ordering::Relaxed)),
            }
        }
        // Streams on which nothing is ever said.
        while let Ok(Ok(mut stream)) =
            timeout(Duration::from_secs(1), peer.control.open_stream(relay, HOP)).await
        {
            if stream.write_all(&[100]).await.is_err() || streams.len() > 100 {
                break;
            }
            streams.push(stream);
        }
        sleep(Duration::from_millis(500)).await;
        streams.clear();
    }
}

async fn open(peer: &mut Peer, relay: PeerId) -> Result<Stream> {
    let opened = peer.control.open_stream(relay, HOP);
    Ok(timeout(Duration::from_secs(5), opened).await.context("no stream")??)
}

/// RESERVE, or CONNECT. Whether the answer was a yes.
async fn ask(stream: &mut Stream, target: Option<PeerId>) -> Result<bool> {
    let message = match target {
        None => vec![0x08, 0],
        Some(target) => {
            let id = target.to_bytes();
            let length = id.len() as u8;
            [&[0x08, 1, 0x12, 2 + length, 0x0a, length][..], &id].concat()
        }
    };
    stream.write_all(&[message.len() as u8]).await?;
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut length = 0_usize;
    for shift in [0, 7] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    // The last field is the status, and only OK (100) fits in one byte.
    Ok(answer.ends_with(&[0x28, 100]))
}

/// Says as much as the relay takes.
async fn flood(mut stream: Stream, loot: &Loot) {
    let bytes = vec![0x5a; 16 * 1024];
    while stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() {
        loot.flooded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}
