//! What a node shall do, valid by construction: words go in, a [`Config`] or one clear error comes out.

mod carriers;
mod file;
mod relay;
mod reload;
mod service;
mod state;

#[cfg(feature = "control")]
pub use self::service::runtime_dir;
pub use self::{
    reload::{Changes, Source},
    service::Control,
    state::Kept,
};

#[cfg(any(feature = "metrics", feature = "web"))]
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};

use self::{
    carriers::{carriers, everywhere},
    file::{merge_relay, merge_run, with_file},
    relay::check_relay,
    service::{control, log_format},
    state::usual_state_dir,
};
#[cfg(feature = "kad")]
use crate::discovery::kad::Dht;
#[cfg(feature = "stun")]
use crate::nat::stun::{NameError as StunNameError, ServerName};
use crate::{
    cli,
    discovery::scope::{self, Prefix, PrefixError},
    identity, limits,
    logs::LogConfig,
    rooms::{NameError, Nick, Room},
    transport::Carriers,
};

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to accept connections.
    pub listen: Vec<Multiaddr>,
    /// What connections are made of.
    pub carriers: Carriers,
    /// Whom to connect and reconnect to.
    pub bootstrap: Vec<Multiaddr>,
    /// Whom to ask how this node is seen from outside, beside its relays and bootstrap nodes.
    #[cfg(feature = "stun")]
    pub stun_servers: Vec<ServerName>,
    /// Relays to be reached through, with their addresses.
    pub relays: Vec<(PeerId, Multiaddr)>,
    /// Addresses of ours that only the operator knows.
    pub external: Vec<Multiaddr>,
    /// Rooms to join; the first is where a message without a room goes.
    pub rooms: Vec<Room>,
    /// The nickname, unless it shall be the end of the peer ID.
    pub nick: Option<Nick>,
    /// Networks that are ours beyond those of the interfaces.
    pub lan: Vec<Prefix>,
    /// The DHT to find members of rooms in, if any.
    #[cfg(feature = "kad")]
    pub dht: Option<Dht>,
    /// Whether to ask the router for ports.
    #[cfg(feature = "portmap")]
    pub portmap: bool,
    /// Nobody is dialled who was not named.
    pub no_discovery: bool,
    /// The node is there for others.
    pub is_relay: bool,
    /// What it gives to those who are reached through it.
    #[cfg(feature = "relay-server")]
    pub relay_limits: crate::nat::hop::Limits,
    /// What is kept beside the key, unless the node is to forget.
    pub kept: Option<Kept>,
    /// Where the key comes from.
    pub identity: IdentitySource,
    /// Where to write a copy of the key.
    pub identity_out: Option<PathBuf>,
    /// Texts to send to the first room once somebody is there.
    pub publish: Vec<String>,
    /// Whether to read commands from standard input.
    pub stdin: bool,
    /// JSON lines instead of a conversation.
    pub json: bool,
    /// Bare StrictSign text instead of envelopes.
    pub plain: bool,
    /// Find peers on the local network, in builds that can.
    pub mdns: bool,
    /// How much to log, and how.
    pub log: LogConfig,
    /// Where to listen for those who steer this node.
    pub control: Control,
    /// The words that this came from.
    pub source: Source,
    /// Where to tell what the node does, if anywhere.
    #[cfg(feature = "metrics")]
    pub metrics: Option<SocketAddr>,
    /// Where to serve the web page, if anywhere.
    #[cfg(feature = "web")]
    pub web: Option<SocketAddr>,
}

/// Where a node's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A file that was named: it must work.
    File(PathBuf),
    /// The usual file: when it cannot be had, a temporary identity does.
    State(PathBuf),
    /// A number, for tests.
    Seed(u64),
    /// Nowhere to keep one: a temporary identity.
    Temporary,
}

/// `warren id`, checked.
#[derive(Debug)]
pub struct IdConfig {
    /// Where the key comes from.
    pub identity: IdentitySource,
    /// How to make a new one.
    pub generate: fn() -> Keypair,
    /// Where to write a copy of the key.
    pub identity_out: Option<PathBuf>,
    /// JSON instead of lines.
    pub json: bool,
}

/// `warren nat`, checked.
#[cfg(feature = "stun")]
#[derive(Debug)]
pub struct NatConfig {
    /// Whom to ask.
    pub servers: Vec<ServerName>,
    /// Where to look from.
    pub listen: Vec<Multiaddr>,
    /// Whether to ask the router for a port.
    #[cfg(feature = "portmap")]
    pub portmap: bool,
    /// JSON instead of lines.
    pub json: bool,
}

/// A word that cannot be used. Every one quotes the word and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--{option} '{word}' is no multiaddr ({why}); write it like /ip4/192.0.2.1/tcp/4001")]
    Address { option: &'static str, word: String, why: String },
    #[error("--{option} '{word}' cannot be used ({why}); write it like /ip4/192.0.2.1/tcp/4001")]
    Unusable { option: &'static str, word: String, why: &'static str },
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("--{option} '{word}' is no number from {least} to {most}")]
    Number { option: &'static str, word: String, least: u64, most: u64 },
    #[cfg(feature = "stun")]
    #[error("--stun-server {0}")]
    Stun(#[from] StunNameError),
    #[cfg(not(feature = "stun"))]
    #[error("--stun-server '{0}' cannot be used: this warren was built without STUN; leave it out")]
    NoStun(String),
    #[error("--lan {0}")]
    Lan(#[from] PrefixError),
    #[error("--dht '{word}' is not known; say {known}")]
    Dht { word: String, known: &'static str },
    #[cfg(not(feature = "kad"))]
    #[error("--dht {0} cannot be used: this warren was built without Kademlia; leave it out")]
    NoDht(String),
    #[cfg(not(feature = "relay-server"))]
    #[error("--{0} cannot be used: this warren was built without the relay; leave it out")]
    NoRelay(&'static str),
    #[cfg(feature = "metrics")]
    #[error("--metrics '{0}' is no IP address and port; write it like 127.0.0.1:9464")]
    Metrics(String),
    #[cfg(not(feature = "metrics"))]
    #[error("--metrics '{0}' cannot be used: this warren was built without metrics; leave it out")]
    NoMetrics(String),
    #[cfg(feature = "web")]
    #[error("--web '{0}' is no IP address and port; write it like 127.0.0.1:8080")]
    Web(String),
    #[cfg(not(feature = "web"))]
    #[error("--web '{0}' cannot be used: this warren was built without the web page; leave it out")]
    NoWeb(String),
    #[cfg(all(feature = "metrics", feature = "web"))]
    #[error("--web and --metrics cannot both be at '{0}'; give one of them another port")]
    OneAddress(SocketAddr),
    #[error("--key-type '{0}' is not known; say secp256k1 or ed25519")]
    KeyType(String),
    #[error("--{0} and --{1} exclude each other; give one of them")]
    Conflict(&'static str, &'static str),
    #[cfg(not(feature = "quic"))]
    #[error("--quic-only cannot be used: this warren was built without QUIC; leave it out to use TCP")]
    NoQuic,
    #[error("--{option} was given more than {most} times; leave some out")]
    TooMany { option: &'static str, most: usize },
    #[error("--publish with {0} bytes is too long; at most {most} fit in a message", most = limits::TEXT_BYTES)]
    PublishTooLong(usize),
    #[error("--{0} '' is empty; leave it out or give it a value")]
    Empty(&'static str),
    #[error("--log-format '{0}' is not known; say full, timed, plain or journal")]
    LogFormat(String),
    #[cfg(not(feature = "control"))]
    #[error("--control '{0}' cannot be used: this warren was built without the control socket; leave it out")]
    NoControl(String),
    #[error("there is nothing to read again: this node was started without --config")]
    NoFile,
    #[error("the configuration '{}' is no regular file, so it cannot be read again", .0.display())]
    Unrepeatable(PathBuf),
    #[error("cannot read the configuration file '{file}': {why}")]
    File { file: PathBuf, why: String },
    #[error("'{file}' line {line}: {why}")]
    Line { file: PathBuf, line: usize, why: String },
}

impl Config {
    /// A node that takes part in rooms.
    pub fn run(words: cli::Run) -> Result<Self, ConfigError> {
        let check = |line| check_run(line, &[], None);
        let all = match &words.config {
            Some(file) => with_file(words.clone(), Path::new(file), merge_run, check)?,
            None => words.clone(),
        };
        let config = check_run(all.clone(), &["lobby"], None)?;
        Ok(Config { source: Source::run(words, all), ..config })
    }

    /// A node that others meet at.
    pub fn relay(words: cli::Relay) -> Result<Self, ConfigError> {
        let all = match &words.config {
            Some(file) => with_file(words.clone(), Path::new(file), merge_relay, check_relay)?,
            None => words.clone(),
        };
        let config = check_relay(all.clone())?;
        Ok(Config { source: Source::relay(words, all), ..config })
    }
}

impl IdConfig {
    /// `warren id`.
    pub fn new(words: cli::Id) -> Result<Self, ConfigError> {
        let generate: fn() -> Keypair = match words.key_type.as_deref() {
            None | Some("secp256k1") => identity::generate,
            Some("ed25519") => Keypair::generate_ed25519,
            Some(other) => return Err(ConfigError::KeyType(other.into())),
        };
        Ok(Self {
            identity: identity_source(
                words.identity,
                words.secret_key_seed,
                path("state-dir", words.state_dir)?,
            )?,
            generate,
            identity_out: path("identity-out", words.identity_out)?,
            json: words.json,
        })
    }
}

#[cfg(feature = "stun")]
impl NatConfig {
    /// `warren nat`.
    pub fn new(words: cli::Nat) -> Result<Self, ConfigError> {
        let mut servers = stun_servers(&words.stun_server)?;
        let udp = |addr: &Multiaddr| match addr.iter().collect::<Vec<_>>()[..] {
            [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(port), ..] if port > 0 => Ok(()),
            _ => Err("only a relay at an IP address and a UDP port can be asked"),
        };
        for addr in addresses("relay", &words.relay, udp)? {
            if let (Some(ip), Some(Protocol::Udp(port))) = (scope::ip_of(&addr), addr.iter().nth(1)) {
                servers.push(ServerName { host: ip.to_string(), port });
            }
        }
        at_most("stun-server", servers.len(), limits::STUN_SERVER_NAMES)?;
        let port = match &words.udp_port {
            Some(word) => number("udp-port", word, 1, u16::MAX.into())? as u16,
            None => 0,
        };
        Ok(Self {
            servers,
            listen: crate::survey::everywhere(port),
            #[cfg(feature = "portmap")]
            portmap: !words.no_portmap,
            json: words.json,
        })
    }
}

/// `relay_port`: the node is a relay, at this port.
fn check_run(
    words: cli::Run,
    default_rooms: &[&str],
    relay_port: Option<u16>,
) -> Result<Config, ConfigError> {
    let carriers = carriers(words.tcp_only || words.disable_udp, words.quic_only)?;
    let udp_port = udp_port(&words, carriers)?;
    let listen = match words.listen.is_empty() {
        true => everywhere(relay_port.unwrap_or(0), udp_port, !words.no_ipv6, carriers),
        false => addresses("listen", &words.listen, |addr| listenable(addr, carriers))?,
    };
    let rooms = rooms(&words.room, default_rooms)?;
    check_publish(&words.publish)?;
    let state_dir = path("state-dir", words.state_dir)?;
    let identity = identity_source(words.identity, words.secret_key_seed, state_dir.clone())?;
    #[cfg(not(feature = "kad"))]
    if let Some(word) = words.dht.filter(|word| word != "off") {
        return Err(ConfigError::NoDht(word));
    }
    #[cfg(not(feature = "stun"))]
    if let Some(word) = words.stun_server.into_iter().next() {
        return Err(ConfigError::NoStun(word));
    }
    #[cfg(feature = "metrics")]
    let metrics = service::address(words.metrics, ConfigError::Metrics)?;
    #[cfg(not(feature = "metrics"))]
    service::none(words.metrics, ConfigError::NoMetrics)?;
    #[cfg(feature = "web")]
    let web = service::address(words.web, ConfigError::Web)?;
    #[cfg(not(feature = "web"))]
    service::none(words.web, ConfigError::NoWeb)?;
    #[cfg(all(feature = "metrics", feature = "web"))]
    service::are_apart(metrics, web)?;
    // Who listens on the loopback interface only has nothing to tell the network, and nobody to hear from it.
    let mdns = !words.no_mdns && !words.no_discovery && !listen.iter().all(is_loopback);
    #[cfg(feature = "portmap")]
    let portmap = !words.no_portmap && !listen.iter().all(is_loopback);
    Ok(Config {
        listen,
        carriers,
        bootstrap: addresses("bootstrap", &words.bootstrap, dialable)?,
        #[cfg(feature = "stun")]
        stun_servers: stun_servers(&words.stun_server)?,
        relays: relays(&words.relay)?,
        external: addresses("external", &words.external, direct)?,
        lan: lan(&words.lan)?,
        #[cfg(feature = "kad")]
        dht: dht(words.dht)?.filter(|_| !words.no_discovery),
        no_discovery: words.no_discovery,
        is_relay: relay_port.is_some(),
        #[cfg(feature = "relay-server")]
        relay_limits: crate::nat::hop::Limits::default(),
        kept: Kept::new(&identity, state_dir),
        rooms,
        nick: words.nick.as_deref().map(str::parse).transpose()?,
        identity,
        identity_out: path("identity-out", words.identity_out)?,
        publish: words.publish,
        stdin: !words.no_stdin,
        json: words.json,
        plain: words.plain,
        mdns,
        #[cfg(feature = "portmap")]
        portmap,
        #[cfg(feature = "metrics")]
        metrics,
        #[cfg(feature = "web")]
        web,
        log: LogConfig { verbosity: words.verbose, format: log_format(words.log_format)? },
        control: control(words.control)?,
        source: Source::default(),
    })
}

fn addresses(
    option: &'static str,
    words: &[String],
    check: impl Fn(&Multiaddr) -> Result<(), &'static str>,
) -> Result<Vec<Multiaddr>, ConfigError> {
    at_most(option, words.len(), limits::ADDRESSES)?;
    let parse = |word: &String| {
        let addr: Multiaddr = word.parse().map_err(|e| ConfigError::Address {
            option,
            word: word.clone(),
            why: format!("{e}"),
        })?;
        check(&addr).map_err(|why| ConfigError::Unusable { option, word: word.clone(), why })?;
        Ok(addr)
    };
    words.iter().map(parse).collect()
}

fn listenable(addr: &Multiaddr, carriers: Carriers) -> Result<(), &'static str> {
    let mut parts = addr.iter();
    let is_ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Protocol::Tcp(_)), None, _) if is_ip && carriers.has_tcp() => Ok(()),
        (Some(Protocol::Tcp(_)), None, _) if is_ip => Err("--quic-only excludes it"),
        (Some(Protocol::Udp(_)), Some(Protocol::QuicV1), None) if is_ip && carriers.has_quic() => Ok(()),
        (Some(Protocol::Udp(_)), Some(Protocol::QuicV1), None) if is_ip && cfg!(feature = "quic") => {
            Err("--tcp-only excludes it")
        }
        _ if cfg!(feature = "quic") => {
            Err("listening takes an IP address and a TCP port, or /udp/PORT/quic-v1, nothing more")
        }
        _ => Err("listening takes an IP address and a TCP port, nothing more"),
    }
}

fn is_loopback(addr: &Multiaddr) -> bool {
    scope::ip_of(addr).is_some_and(|ip| ip.is_loopback())
}

/// Whether an address can be dialled at all, directly or through a relay; the same for `--bootstrap` and `connect`.
pub fn dialable(addr: &Multiaddr) -> Result<(), &'static str> {
    let is_before = |part: &Protocol<'_>| *part != Protocol::P2pCircuit;
    let first: Multiaddr = addr.iter().take_while(is_before).collect();
    direct(&first)?;
    let mut parts = addr.iter().skip_while(is_before);
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => Ok(()),
        (_, Some(Protocol::P2p(_)), None) if scope::relay_of(addr).is_some() => Ok(()),
        _ => Err("through a relay it must end with /p2p/RELAY/p2p-circuit/p2p/PEER"),
    }
}

/// Whether an address can be one of a machine, and be dialled.
fn direct(addr: &Multiaddr) -> Result<(), &'static str> {
    let mut parts = addr.iter();
    match parts.next() {
        Some(Protocol::Ip4(ip)) if ip.is_unspecified() => return Err("0.0.0.0 is nobody's address"),
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => return Err(":: is nobody's address"),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
        #[cfg(feature = "dns")]
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => {}
        #[cfg(feature = "dns")]
        Some(Protocol::Dnsaddr(_)) => {
            return match (parts.next(), parts.next()) {
                (None, _) | (Some(Protocol::P2p(_)), None) => Ok(()),
                _ => Err("after /dnsaddr/NAME only /p2p/PEER can follow"),
            };
        }
        #[cfg(not(feature = "dns"))]
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
            return Err("this warren was built without name resolution, use an IP address");
        }
        _ => return Err("it must begin with an IP address or a name"),
    }
    let (port, is_quic) = match parts.next() {
        Some(Protocol::Tcp(port)) => (port, false),
        #[cfg(feature = "quic")]
        Some(Protocol::Udp(port)) if parts.next() == Some(Protocol::QuicV1) => (port, true),
        #[cfg(feature = "quic")]
        _ => return Err("/tcp/PORT or /udp/PORT/quic-v1 must follow"),
        #[cfg(not(feature = "quic"))]
        _ => return Err("a TCP port must follow"),
    };
    match (parts.next(), parts.next()) {
        _ if port == 0 => Err("port 0 is no port to dial"),
        (None | Some(Protocol::P2p(_)), None) => Ok(()),
        _ if is_quic => Err("after /quic-v1 only /p2p/PEER can follow"),
        _ => Err("after /tcp/PORT only /p2p/PEER can follow"),
    }
}

fn identity_source(
    file: Option<String>,
    seed: Option<String>,
    state_dir: Option<PathBuf>,
) -> Result<IdentitySource, ConfigError> {
    if file.is_some() && seed.is_some() {
        return Err(ConfigError::Conflict("identity", "secret-key-seed"));
    }
    if let Some(seed) = seed {
        return Ok(IdentitySource::Seed(number("secret-key-seed", &seed, 0, u64::MAX)?));
    }
    if let Some(file) = path("identity", file)? {
        return Ok(IdentitySource::File(file));
    }
    Ok(match state_dir.or_else(usual_state_dir) {
        Some(dir) => IdentitySource::State(dir.join("identity.key")),
        None => IdentitySource::Temporary,
    })
}

#[cfg(feature = "stun")]
fn stun_servers(words: &[String]) -> Result<Vec<ServerName>, ConfigError> {
    at_most("stun-server", words.len(), limits::STUN_SERVER_NAMES)?;
    words.iter().map(|word| Ok(word.parse()?)).collect()
}

fn relays(words: &[String]) -> Result<Vec<(PeerId, Multiaddr)>, ConfigError> {
    let with_peer = |addr: &Multiaddr| match addr.iter().last() {
        Some(Protocol::P2p(_)) => direct(addr),
        _ => Err("it must end with /p2p/PEER: whoever answers there would read who talks with whom"),
    };
    let addrs = addresses("relay", words, with_peer)?;
    let peer = |addr: Multiaddr| match addr.iter().last() {
        Some(Protocol::P2p(peer)) => Some((peer, addr)),
        _ => None,
    };
    Ok(addrs.into_iter().filter_map(peer).collect())
}

/// The UDP port to listen at, if it is chosen.
fn udp_port(words: &cli::Run, carriers: Carriers) -> Result<Option<u16>, ConfigError> {
    let Some(word) = &words.udp_port else { return Ok(None) };
    let without = if words.tcp_only { "tcp-only" } else { "disable-udp" };
    match (carriers.has_quic(), words.listen.is_empty()) {
        (false, _) => Err(ConfigError::Conflict("udp-port", without)),
        (true, false) => Err(ConfigError::Conflict("udp-port", "listen")),
        (true, true) => Ok(Some(number("udp-port", word, 1, u16::MAX.into())? as u16)),
    }
}

fn rooms(words: &[String], default: &[&str]) -> Result<Vec<Room>, ConfigError> {
    let mut rooms = Vec::new();
    let names: Vec<&str> = match words.is_empty() {
        true => default.to_vec(),
        false => words.iter().map(String::as_str).collect(),
    };
    for name in names {
        let room: Room = name.parse()?;
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    at_most("room", rooms.len(), limits::ROOMS)?;
    Ok(rooms)
}

fn check_publish(texts: &[String]) -> Result<(), ConfigError> {
    at_most("publish", texts.len(), limits::PUBLISH_AT_START)?;
    for text in texts {
        if text.is_empty() {
            return Err(ConfigError::Empty("publish"));
        }
        if text.len() > limits::TEXT_BYTES {
            return Err(ConfigError::PublishTooLong(text.len()));
        }
    }
    Ok(())
}

fn lan(words: &[String]) -> Result<Vec<Prefix>, ConfigError> {
    at_most("lan", words.len(), limits::ADDRESSES)?;
    words.iter().map(|word| Ok(word.parse()?)).collect()
}

#[cfg(feature = "kad")]
fn dht(word: Option<String>) -> Result<Option<Dht>, ConfigError> {
    match word.as_deref() {
        None | Some("private") => Ok(Some(Dht::Private)),
        Some("public") => Ok(Some(Dht::Public)),
        Some("off") => Ok(None),
        Some(word) => Err(ConfigError::Dht { word: word.into(), known: "private, public or off" }),
    }
}

fn path(option: &'static str, word: Option<String>) -> Result<Option<PathBuf>, ConfigError> {
    match word {
        Some(word) if word.is_empty() => Err(ConfigError::Empty(option)),
        word => Ok(word.map(PathBuf::from)),
    }
}

fn number(option: &'static str, word: &str, least: u64, most: u64) -> Result<u64, ConfigError> {
    let number = word.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| ConfigError::Number { option, word: word.into(), least, most })
}

fn at_most(option: &'static str, count: usize, most: usize) -> Result<(), ConfigError> {
    if count > most { Err(ConfigError::TooMany { option, most }) } else { Ok(()) }
}
