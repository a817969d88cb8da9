//! Honest peers: many that hold reservations, and some that talk through circuits.
//!
//! ```text
//!   reserve FIRST COUNT     peers FIRST and up get reservations    -> reserved: count, failed
//!   circuits COUNT          peers 0 and 1, 2 and 3 ... connect      -> circuits: count, failed
//!   greedy                  two more peers, with a circuit          -> circuits
//!   talk CHAT GREEDY SECONDS   as `chat`, `flood` or `silence`      -> talked: see `Crowd::talk`
//!   visit FIRST COUNT       one more peer reaches each of these     -> visited: count, failed
//!   holding                 who still has a reservation             -> holding: count, all peers
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use futures::StreamExt;
use libp2p::Multiaddr;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::peer::{Peer, Reservation};
use crate::say;
use crate::talk::{Circuit, Mode};

/// Be many peers of a relay.
#[derive(FromArgs)]
#[argh(subcommand, name = "crowd")]
pub(crate) struct Args {
    /// the relay, with its peer ID
    #[argh(option)]
    relay: Multiaddr,
    /// where the first peer is; each further one is in the next IPv4 /24
    #[argh(option, default = "Ipv4Addr::new(127, 1, 0, 1)")]
    from: Ipv4Addr,
}

/// Peers that come at once: as many as any node takes handshakes of.
const AT_ONCE: usize = 12;

/// How often a peer tries to get in.
const TRIES: u32 = 4;

struct Crowd {
    relay: Multiaddr,
    from: Ipv4Addr,
    peers: Vec<Peer>,
    chat: Vec<Arc<Circuit>>,
    greedy: Vec<Arc<Circuit>>,
    modes: [watch::Sender<Mode>; 2],
    start: Instant,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let mut crowd = Crowd {
        relay: args.relay,
        from: args.from,
        peers: Vec::new(),
        chat: Vec::new(),
        greedy: Vec::new(),
        modes: [watch::channel(Mode::Silence).0, watch::channel(Mode::Silence).0],
        start: Instant::now(),
    };
    let mut lines = lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        match crowd.on_line(&words).await {
            Ok(answer) => say(answer),
            Err(e) => say(json!({"event": "error", "message": format!("{line}: {e:#}")})),
        }
    }
    std::process::exit(0);
}

pub(crate) fn lines() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

impl Crowd {
    async fn on_line(&mut self, words: &[&str]) -> Result<Value> {
        match words {
            ["reserve", first, count] => self.reserve(first.parse()?, count.parse()?).await,
            ["circuits", count] => {
                let pairs: Vec<usize> = (0..count.parse()?).map(|pair| 2 * pair).collect();
                let (circuits, answer) = self.connect(&pairs, 0).await?;
                self.chat.extend(circuits);
                Ok(answer)
            }
            ["greedy"] => {
                let first = self.peers.len();
                self.reserve(first, 2).await?;
                let (circuits, answer) = self.connect(&[first], 1).await?;
                self.greedy.extend(circuits);
                Ok(answer)
            }
            ["talk", chat, greedy, seconds] => {
                self.talk([mode(chat)?, mode(greedy)?], Duration::from_secs_f64(seconds.parse()?)).await
            }
            ["visit", first, count] => self.visit(first.parse()?, count.parse()?).await,
            ["holding"] => {
                let peers: Vec<String> = self.peers.iter().map(|peer| peer.id.to_string()).collect();
                Ok(json!({"event": "holding", "count": self.holding(), "peers": peers}))
            }
            _ => bail!("not known"),
        }
    }

    /// Where a peer is: in a network of its own.
    fn place(&self, peer: usize) -> IpAddr {
        Ipv4Addr::from_bits(self.from.to_bits() + ((peer as u32) << 8)).into()
    }

    fn holding(&self) -> usize {
        self.peers.iter().filter(|peer| peer.reservation() == Reservation::Held).count()
    }

    async fn reserve(&mut self, first: usize, count: usize) -> Result<Value> {
        let begun = Instant::now();
        let relay = &self.relay;
        let places: Vec<IpAddr> = (first..first + count).map(|peer| self.place(peer)).collect();
        let arrivals = futures::stream::iter(places).map(|from| async move {
            for _ in 0..TRIES {
                let mut peer = Peer::new(from, true)?;
                if peer.reserve(relay).await.is_ok() {
                    return Ok(peer);
                }
                sleep(Duration::from_secs(1)).await;
            }
            bail!("no reservation from {from}");
        });
        let arrived: Vec<Result<Peer>> = arrivals.buffered(AT_ONCE).collect().await;
        let failed = arrived.iter().filter(|peer| peer.is_err()).count();
        self.peers.extend(arrived.into_iter().flatten());
        let ms = begun.elapsed().as_millis() as u64;
        Ok(json!({"event": "reserved", "count": count - failed, "failed": failed, "ms": ms}))
    }

    /// Connects each of these with the next one.
    async fn connect(&mut self, pairs: &[usize], mode: usize) -> Result<(Vec<Arc<Circuit>>, Value)> {
        let (mut circuits, mut failed) = (Vec::new(), 0);
        for &pair in pairs {
            let circuit = Circuit::new(self.start);
            let [source, target] = self
                .peers
                .get_disjoint_mut([pair, pair + 1])
                .context("too few peers for so many circuits")?;
            let mut talkers = target.talkers()?;
            match source.talk(&self.relay, target.id).await {
                Ok(stream) => {
                    circuit.attend(stream, self.modes[mode].subscribe());
                    let (hearer, mode) = (Arc::clone(&circuit), self.modes[mode].subscribe());
                    tokio::spawn(async move {
                        while let Some((_, stream)) = talkers.next().await {
                            hearer.attend(stream, mode.clone());
                        }
                    });
                    circuits.push(circuit);
                }
                Err(_) => failed += 1,
            }
        }
        let answer = json!({"event": "circuits", "count": circuits.len(), "failed": failed});
        Ok((circuits, answer))
    }

    /// Talks for a while: what the chatting circuits and the greedy one are to do. Says the bytes that each chatting
    /// circuit carried, those of the greedy one, and how long messages took. Unit: milliseconds.
    async fn talk(&mut self, modes: [Mode; 2], time: Duration) -> Result<Value> {
        let bytes = |circuits: &[Arc<Circuit>]| -> Vec<u64> {
            circuits.iter().map(|circuit| circuit.bytes.load(Ordering::Relaxed)).collect()
        };
        let latencies = |circuit: &Arc<Circuit>| {
            std::mem::take(&mut *circuit.latencies.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.chat.iter().chain(&self.greedy).for_each(|circuit| drop(latencies(circuit)));
        let before = [bytes(&self.chat), bytes(&self.greedy)];
        let messages = |circuits: &[Arc<Circuit>]| -> u64 {
            circuits.iter().map(|circuit| circuit.messages.load(Ordering::Relaxed)).sum()
        };
        let said = messages(&self.chat);
        let begun = Instant::now();
        for (sender, mode) in self.modes.iter().zip(modes) {
            sender.send_replace(mode);
        }
        sleep(time).await;
        let seconds = begun.elapsed().as_secs_f64();
        let after = [bytes(&self.chat), bytes(&self.greedy)];
        let said = messages(&self.chat) - said;
        let mut all: Vec<u64> = self.chat.iter().flat_map(latencies).collect();
        all.sort_unstable();
        for sender in &self.modes {
            sender.send_replace(Mode::Silence);
        }
        let diff = |n: usize| -> Vec<u64> { after[n].iter().zip(&before[n]).map(|(a, b)| a - b).collect() };
        let at =
            |share: f64| all.get((all.len() as f64 * share) as usize).map(|micros| *micros as f64 / 1000.0);
        Ok(json!({
            "event": "talked", "seconds": seconds, "bytes": diff(0), "greedy": diff(1), "messages": said,
            "p50": at(0.5), "p95": at(0.95), "p99": at(0.99),
        }))
    }

    /// One more peer from a network of its own connects to each of these through the relay.
    async fn visit(&mut self, first: usize, count: usize) -> Result<Value> {
        let from = self.place(self.peers.len() + 100);
        let mut reached = 0;
        for peer in first..first + count {
            let target = self.peers.get_mut(peer).context("no such peer")?;
            let _talkers = target.talkers();
            let mut visitor = Peer::new(from, true)?;
            for _ in 0..TRIES {
                if visitor.talk(&self.relay, target.id).await.is_ok() {
                    reached += 1;
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
        Ok(json!({"event": "visited", "count": reached, "failed": count - reached}))
    }
}

fn mode(word: &str) -> Result<Mode> {
    match word {
        "silence" => Ok(Mode::Silence),
        "chat" => Ok(Mode::Chat),
        "flood" => Ok(Mode::Flood),
        _ => bail!("'{word}' is no way to talk"),
    }
}
