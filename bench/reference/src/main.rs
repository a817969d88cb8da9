//! The yardstick: a chat node as a user of upstream libp2p writes it, on tokio, with upstream's TCP transport,
//! Noise, yamux, QUIC, gossipsub, identify and ping and their defaults.
//!
//! It speaks the lines of `warren run --plain --json`, as far as the drivers need them, so that one driver can
//! run either program. As a relay, or as one who reserves a place at a relay and punches by DCUtR, it is upstream's
//! too. Two things go beyond a first draft by such a user, and both favour it: output is
//! buffered while there is more to do, and publishing is lossless (see [`Peer::publish`]).

mod gossip;
mod key;

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io::{BufWriter, StdoutLock, Write};
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use argh::FromArgs;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, identify, mdns, noise, ping, relay, tcp, yamux};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep_until};

use self::gossip::Validation;
use self::key::{KeyType, keypair};

/// How long a publisher waits after every queue was full. At 20,000 messages a second a full queue of 5,000
/// frees 400 places in this time, so at most one signature in 400 is made in vain.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Longer than any measurement: a connection outside the mesh must not be closed under a running one.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// A libp2p chat peer on tokio, to measure warren beside.
#[derive(FromArgs)]
struct Args {
    /// address to listen on (repeatable; default /ip4/127.0.0.1/tcp/0)
    #[argh(option)]
    listen: Vec<Multiaddr>,
    /// address to dial at start (repeatable)
    #[argh(option)]
    bootstrap: Vec<Multiaddr>,
    /// room to join (repeatable; default lobby)
    #[argh(option)]
    room: Vec<String>,
    /// kind of key: secp256k1 (default) or ed25519
    #[argh(option, default = "KeyType::Secp256k1")]
    key_type: KeyType,
    /// gossipsub's D: to how many peers a message goes (default 6, upstream's)
    #[argh(option, default = "6")]
    fan_out: usize,
    /// strict (default) or none: whether gossipsub looks at the signatures of what it is handed
    #[argh(option, default = "Validation::Strict")]
    validation: Validation,
    /// derive the key from this number instead of drawing one
    #[argh(option)]
    secret_key_seed: Option<u64>,
    /// find peers on the local network, and dial them
    #[argh(switch)]
    mdns: bool,
    /// do not dial those
    #[argh(switch)]
    no_dial: bool,
    /// reserve a place at this relay, and make relayed connections direct by DCUtR (repeatable)
    #[argh(option)]
    relay: Vec<Multiaddr>,
    /// be a relay for others
    #[argh(switch)]
    relay_server: bool,
    /// write the key to this file, protobuf-encoded
    #[argh(option)]
    identity_out: Option<PathBuf>,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossipsub: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay: Toggle<relay::client::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    relay_server: Toggle<relay::Behaviour>,
}

/// One line of output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Event<'a> {
    Started {
        peer_id: String,
        rooms: &'a [String],
        version: &'a str,
    },
    Listening {
        addr: String,
    },
    /// A peer on the local network.
    Found {
        peer_id: String,
        addr: String,
    },
    /// A relay has a place for us.
    Reserved {
        relay: String,
    },
    /// Somebody sees us at this address, or so it seems.
    Observed {
        addr: String,
    },
    PeerConnected {
        peer_id: String,
        addr: String,
        direction: &'a str,
        path: Path,
    },
    /// It is direct now and was relayed, or the other way round.
    PeerPath {
        peer_id: String,
        addr: String,
        path: Path,
    },
    /// What came of an attempt at a direct connection.
    Dcutr {
        peer_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    PeerDisconnected {
        peer_id: String,
        cause: String,
    },
    MemberJoined {
        room: &'a str,
        peer_id: String,
    },
    MemberLeft {
        room: &'a str,
        peer_id: String,
    },
    Message {
        room: &'a str,
        peer_id: String,
        text: &'a str,
        message_id: String,
    },
    Ok {
        cmd: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
    },
    Error {
        cmd: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
        error: &'a str,
        message: String,
    },
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Path {
    Direct,
    Relayed,
}

/// One line of input, when it is JSON.
#[derive(Deserialize)]
struct Request {
    cmd: String,
    id: Option<Value>,
    text: Option<String>,
    room: Option<String>,
    addr: Option<String>,
}

/// A message that found every queue full.
struct Held {
    id: Option<Value>,
    room: String,
    text: String,
    retry_at: Instant,
}

struct Peer {
    swarm: Swarm<Behaviour>,
    rooms: Vec<String>,
    out: BufWriter<StdoutLock<'static>>,
    held: Option<Held>,
    /// Dials whom mDNS finds.
    dials: bool,
    /// Tells others to reach it where it listens.
    is_relay: bool,
    connections: HashMap<PeerId, HashMap<ConnectionId, (Path, String)>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args: Args = argh::from_env();
    if args.room.is_empty() {
        args.room.push("lobby".to_owned());
    }
    if args.listen.is_empty() {
        args.listen.push("/ip4/127.0.0.1/tcp/0".parse()?);
    }
    let mut peer = Peer::new(&args)?;
    peer.run().await?;
    peer.print(&Event::Stopped)?;
    peer.out.flush()?;
    // tokio's stdin reader is a blocking thread that would hold up the end of the runtime until the next line.
    std::process::exit(0);
}

impl Peer {
    fn new(args: &Args) -> Result<Self> {
        let key = keypair(args.key_type, args.secret_key_seed)?;
        if let Some(path) = &args.identity_out {
            std::fs::write(path, key.to_protobuf_encoding()?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut peer = Peer {
            swarm: swarm(key, args)?,
            rooms: args.room.clone(),
            out: BufWriter::with_capacity(64 * 1024, std::io::stdout().lock()),
            held: None,
            dials: !args.no_dial,
            is_relay: args.relay_server,
            connections: HashMap::new(),
        };
        peer.print(&Event::Started {
            peer_id: peer.swarm.local_peer_id().to_string(),
            rooms: &args.room,
            version: env!("CARGO_PKG_VERSION"),
        })?;
        for addr in &args.listen {
            peer.swarm.listen_on(addr.clone())?;
        }
        for relay in &args.relay {
            peer.swarm.listen_on(relay.clone().with(Protocol::P2pCircuit))?;
        }
        for addr in &args.bootstrap {
            peer.swarm.dial(addr.clone())?;
        }
        Ok(peer)
    }

    /// Until end of input, `quit`, or a signal.
    async fn run(&mut self) -> Result<()> {
        let mut lines = BufReader::with_capacity(64 * 1024, tokio::io::stdin()).lines();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        loop {
            let retry_at = self.held.as_ref().map(|held| held.retry_at);
            let out = &mut self.out;
            tokio::select! {
                biased;
                event = self.swarm.select_next_some() => self.on_event(event)?,
                () = sleep_until_some(retry_at) => self.retry()?,
                line = lines.next_line(), if retry_at.is_none() => match line? {
                    Some(line) => if !self.on_line(&line)? { return Ok(()) },
                    None => return Ok(()),
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                // Polled only when nothing above is ready: the moment to let go of what was buffered.
                result = poll_fn(|_| out.flush().map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending)) =>
                    return Ok(result?),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) -> Result<()> {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                self.on_found(found)
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.on_relay(event),
            SwarmEvent::Behaviour(BehaviourEvent::Dcutr(dcutr::Event { remote_peer_id, result })) => {
                let error = result.err().map(|error| error.to_string());
                self.print(&Event::Dcutr { peer_id: remote_peer_id.to_string(), error })
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if self.is_relay {
                    self.swarm.add_external_address(address.clone());
                }
                let me = *self.swarm.local_peer_id();
                let addr = address.with_p2p(me).unwrap_or_else(|addr| addr).to_string();
                self.print(&Event::Listening { addr })
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                let message = error.to_string();
                self.print(&Event::Error { cmd: "listen", id: None, error: "closed", message })
            }
            SwarmEvent::NewExternalAddrCandidate { address } => {
                self.print(&Event::Observed { addr: address.to_string() })
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint)
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let cause = cause.map_or_else(|| "closed".to_owned(), |error| error.to_string());
                self.on_disconnected(peer_id, connection_id, cause)
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_error(connection_id, peer_id, &error.to_string())
            }
            _ => Ok(()),
        }
    }

    fn on_relay(&mut self, event: relay::client::Event) -> Result<()> {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } => {
                self.print(&Event::Reserved { relay: relay_peer_id.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) -> Result<()> {
        let path = if endpoint.is_relayed() { Path::Relayed } else { Path::Direct };
        let addr = endpoint.get_remote_address().to_string();
        let before = self.path(&peer);
        self.connections.entry(peer).or_default().insert(id, (path, addr.clone()));
        let peer_id = peer.to_string();
        match before {
            None => {
                let direction = if endpoint.is_dialer() { "outbound" } else { "inbound" };
                self.print(&Event::PeerConnected { peer_id, addr, direction, path })
            }
            Some((Path::Relayed, _)) if path == Path::Direct => {
                self.print(&Event::PeerPath { peer_id, addr, path })
            }
            Some(_) => Ok(()),
        }
    }

    fn on_disconnected(&mut self, peer: PeerId, id: ConnectionId, cause: String) -> Result<()> {
        let before = self.path(&peer);
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.remove(&id);
        }
        let peer_id = peer.to_string();
        match (before, self.path(&peer)) {
            (_, None) => {
                self.connections.remove(&peer);
                self.print(&Event::PeerDisconnected { peer_id, cause })
            }
            (Some((Path::Direct, _)), Some((Path::Relayed, addr))) => {
                self.print(&Event::PeerPath { peer_id, addr, path: Path::Relayed })
            }
            _ => Ok(()),
        }
    }

    /// How a peer is connected, if it is: the best way, and where that leads.
    fn path(&self, peer: &PeerId) -> Option<(Path, String)> {
        let connections = self.connections.get(peer)?.values();
        connections.min_by_key(|(path, _)| *path == Path::Relayed).cloned()
    }

    fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) -> Result<()> {
        for (peer, addr) in found {
            self.print(&Event::Found { peer_id: peer.to_string(), addr: addr.to_string() })?;
            let opts = DialOpts::peer_id(peer).addresses(vec![addr]).build();
            // The first of its addresses is enough; the others find a dial under way.
            if self.dials {
                let _ = self.swarm.dial(opts);
            }
        }
        Ok(())
    }

    fn on_dial_error(&mut self, _: ConnectionId, peer: Option<PeerId>, error: &str) -> Result<()> {
        let whom = peer.map_or_else(|| "unknown peer".to_owned(), |peer| peer.to_string());
        let message = format!("{whom}: {error}");
        self.print(&Event::Error { cmd: "connect", id: None, error: "dial_failed", message })
    }

    fn on_gossip(&mut self, event: gossipsub::Event) -> Result<()> {
        match event {
            gossipsub::Event::Message { message, message_id, .. } => {
                let Ok(text) = str::from_utf8(&message.data) else { return Ok(()) };
                let author = message.source.map(|peer| peer.to_string()).unwrap_or_default();
                print(
                    &mut self.out,
                    &Event::Message {
                        room: message.topic.as_str(),
                        peer_id: author,
                        text,
                        message_id: hex(&message_id.0),
                    },
                )
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.print(&Event::MemberJoined { room: topic.as_str(), peer_id: peer_id.to_string() })
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                self.print(&Event::MemberLeft { room: topic.as_str(), peer_id: peer_id.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether to go on.
    fn on_line(&mut self, line: &str) -> Result<bool> {
        let request = if let Some(text) = line.strip_prefix("send ") {
            Request::bare("send", Some(text.to_owned()), None)
        } else if let Some(addr) = line.strip_prefix("connect ") {
            Request::bare("connect", None, Some(addr.trim().to_owned()))
        } else {
            match serde_json::from_str(line) {
                Ok(request) => request,
                Err(error) => {
                    let message = error.to_string();
                    self.print(&Event::Error { cmd: "", id: None, error: "malformed", message })?;
                    return Ok(true);
                }
            }
        };
        self.on_request(request)
    }

    fn on_request(&mut self, Request { cmd, id, text, room, addr }: Request) -> Result<bool> {
        let refusal = match cmd.as_str() {
            "send" => match text {
                Some(text) => {
                    let room = room.unwrap_or_else(|| self.rooms[0].clone());
                    self.publish(id, room, text)?;
                    return Ok(true);
                }
                None => Err(anyhow!("`send` needs a text")),
            },
            "connect" => addr
                .ok_or_else(|| anyhow!("`connect` needs an addr"))
                .and_then(|addr| addr.parse::<Multiaddr>().with_context(|| format!("`{addr}` is no address")))
                .and_then(|addr| self.swarm.dial(addr).map_err(Into::into)),
            "quit" => {
                self.print(&Event::Ok { cmd: "quit", id, message_id: None })?;
                return Ok(false);
            }
            other => Err(anyhow!("unknown command `{other}`")),
        };
        match refusal {
            Ok(()) => self.print(&Event::Ok { cmd: &cmd, id, message_id: None })?,
            Err(error) => {
                let message = format!("{error:#}");
                self.print(&Event::Error { cmd: &cmd, id, error: "refused", message })?;
            }
        }
        Ok(true)
    }

    /// Publishes without loss. gossipsub has no way to ask for room in its queues: it answers `AllQueuesFull`,
    /// and has by then entered the message id into its cache of seen ones. Ids are hashes of the data, so only
    /// *other* data can be sent again: each retry carries one more trailing space. No more input is read while
    /// a message is held, which passes the back-pressure on to whoever feeds this process.
    fn publish(&mut self, id: Option<Value>, room: String, text: String) -> Result<()> {
        let topic = IdentTopic::new(&room);
        match self.swarm.behaviour_mut().gossipsub.publish(topic, text.as_bytes()) {
            Ok(message) => self.print(&Event::Ok { cmd: "send", id, message_id: Some(hex(&message.0)) }),
            Err(PublishError::AllQueuesFull(_)) => {
                let retry_at = Instant::now() + RETRY_AFTER;
                self.held = Some(Held { id, room, text: text + " ", retry_at });
                Ok(())
            }
            Err(error) => {
                let word = match error {
                    PublishError::NoPeersSubscribedToTopic => "no_peers",
                    PublishError::Duplicate => "duplicate",
                    _ => "failed",
                };
                self.print(&Event::Error { cmd: "send", id, error: word, message: error.to_string() })
            }
        }
    }

    fn retry(&mut self) -> Result<()> {
        match self.held.take() {
            Some(Held { id, room, text, .. }) => self.publish(id, room, text),
            None => Ok(()),
        }
    }

    fn print(&mut self, event: &Event<'_>) -> Result<()> {
        print(&mut self.out, event)
    }
}

impl Request {
    fn bare(cmd: &str, text: Option<String>, addr: Option<String>) -> Self {
        Request { cmd: cmd.to_owned(), id: None, text, room: None, addr }
    }
}

fn swarm(key: Keypair, args: &Args) -> Result<Swarm<Behaviour>> {
    let is_client = !args.relay.is_empty();
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| {
            let me = key.public().to_peer_id();
            let config = gossip::config(args.fan_out, args.validation)?;
            Ok(Behaviour {
                gossipsub: gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config)?,
                identify: identify::Behaviour::new(identify::Config::new(
                    "/reference-peer/1.0.0".to_owned(),
                    key.public(),
                )),
                ping: ping::Behaviour::default(),
                mdns: args
                    .mdns
                    .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me))
                    .transpose()?
                    .into(),
                relay: is_client.then_some(relay).into(),
                dcutr: is_client.then(|| dcutr::Behaviour::new(me)).into(),
                relay_server: args
                    .relay_server
                    .then(|| relay::Behaviour::new(me, relay::Config::default()))
                    .into(),
            })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT))
        .build();
    for room in &args.room {
        swarm.behaviour_mut().gossipsub.subscribe(&IdentTopic::new(room))?;
    }
    Ok(swarm)
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

fn print(out: &mut impl Write, event: &Event<'_>) -> Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}
