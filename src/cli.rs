//! The command line: raw words, one table of subcommands. What the words mean is [`crate::config`]'s business.

mod ctl;

pub use self::ctl::{Ctl, Listen as CtlListen, Order, Send as CtlSend};

use argh::{ArgsInfo, EarlyExit, FromArgs};

/// Rooms between machines behind home routers, without a server.
///
/// First chat:  warren run --room demo           (prints addresses)
/// and then:    warren run --room demo --bootstrap ADDRESS
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(help_triggers("-h", "--help", "help"))]
pub struct Warren {
    /// print the version and exit
    #[argh(switch)]
    pub version: bool,

    #[argh(subcommand)]
    pub command: Option<Subcommand>,
}

/// What warren can do.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
pub enum Subcommand {
    Run(Run),
    Relay(Relay),
    Id(Id),
    Nat(Nat),
    Ctl(Ctl),
}

/// Join rooms and talk: lines you type go to the room, /help lists commands.
#[derive(ArgsInfo, FromArgs, Clone, Debug, Default, PartialEq)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub struct Run {
    /// room to join; may be repeated, the first is where you talk (default: lobby)
    #[argh(option, arg_name = "name")]
    pub room: Vec<String>,

    /// name that others see (default: the end of the peer ID)
    #[argh(option, arg_name = "name")]
    pub nick: Option<String>,

    /// address of a peer to connect and reconnect to; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub bootstrap: Vec<String>,

    /// host or host:port to ask by STUN how this node is seen from outside; may be repeated (default: its relays and
    /// bootstrap nodes)
    #[argh(option, arg_name = "host:port")]
    pub stun_server: Vec<String>,

    /// relay to be reached through when nobody can dial this node; may be repeated (default: those found)
    #[argh(option, arg_name = "multiaddr")]
    pub relay: Vec<String>,

    /// address to accept connections at; may be repeated (default: all interfaces, a free port)
    #[argh(option, arg_name = "multiaddr")]
    pub listen: Vec<String>,

    /// address at which others can reach this node, as it is not its own; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub external: Vec<String>,

    /// network that is ours beyond those of the interfaces, as 10.42.0.0/16; may be repeated
    #[argh(option, arg_name = "cidr")]
    pub lan: Vec<String>,

    /// where members of a room find each other: private (the DHT of warrens, default), public (that of IPFS) or off
    #[argh(option, arg_name = "which")]
    pub dht: Option<String>,

    /// connect to those only who are named with --bootstrap, or who connect to this node
    #[argh(switch)]
    pub no_discovery: bool,

    /// key file; made if there is none (default: identity.key in the state directory)
    #[argh(option, arg_name = "path")]
    pub identity: Option<String>,

    /// also write the key to this file
    #[argh(option, arg_name = "path")]
    pub identity_out: Option<String>,

    /// derive the key from a number that anyone can guess; for tests only
    #[argh(option, arg_name = "n")]
    pub secret_key_seed: Option<String>,

    /// directory for what the node keeps (default: $XDG_STATE_HOME/warren or ~/.local/state/warren)
    #[argh(option, arg_name = "dir")]
    pub state_dir: Option<String>,

    /// text to send once, to the first room, as soon as somebody is there; may be repeated
    #[argh(option, arg_name = "text")]
    pub publish: Vec<String>,

    /// do not read standard input: run until stopped by a signal
    #[argh(switch)]
    pub no_stdin: bool,

    /// JSON lines: commands on standard input, events on standard output
    #[argh(switch)]
    pub json: bool,

    /// bare text in StrictSign gossipsub messages, to talk with other libp2p programs
    #[argh(switch)]
    pub plain: bool,

    /// use TCP only
    #[argh(switch)]
    pub tcp_only: bool,

    /// no UDP: no QUIC, no STUN, no punching; the same as --tcp-only
    #[argh(switch)]
    pub disable_udp: bool,

    /// UDP port for QUIC, STUN and punching (default: a free one)
    #[argh(option, arg_name = "port")]
    pub udp_port: Option<String>,

    /// use QUIC only
    #[argh(switch)]
    pub quic_only: bool,

    /// do not listen on IPv6 unless --listen says so
    #[argh(switch)]
    pub no_ipv6: bool,

    /// do not look for peers on the local network, nor tell it of this node
    #[argh(switch)]
    pub no_mdns: bool,

    /// do not ask the home router to open ports (PCP, NAT-PMP, UPnP)
    #[argh(switch)]
    pub no_portmap: bool,

    /// path of a Unix socket for `warren ctl` and programs that steer this node, or off (default: control in systemd's
    /// $RUNTIME_DIRECTORY, otherwise none)
    #[argh(option, arg_name = "path")]
    pub control: Option<String>,

    /// how log lines look: full (level and module), timed (the same after the time), plain (for syslog) or journal
    /// (default: journal under systemd, otherwise full)
    #[argh(option, arg_name = "kind")]
    pub log_format: Option<String>,

    /// IP address and port at which Prometheus finds what this node does, as 127.0.0.1:9464 (default: none)
    #[argh(option, arg_name = "addr")]
    pub metrics: Option<String>,

    /// IP address and port of a web page to see and steer this node with, as 127.0.0.1:8080 (default: none)
    #[argh(option, arg_name = "addr")]
    pub web: Option<String>,

    /// file with more options, one a line as `room home`; what is given here goes first
    #[argh(option, arg_name = "file")]
    pub config: Option<String>,

    /// look at the options and the file, say what is wrong with them, and end
    #[argh(switch)]
    pub check: bool,

    /// log more to standard error: -v info, -vv debug, -vvv trace; RUST_LOG goes first
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Tell what situation this machine is in: addresses, NAT, router, and whom that lets it reach directly.
#[derive(ArgsInfo, FromArgs, Clone, Debug, Default)]
#[argh(subcommand, name = "nat", help_triggers("-h", "--help", "help"))]
pub struct Nat {
    /// host or host:port to ask by STUN how this machine is seen from outside; may be repeated
    #[argh(option, arg_name = "host:port")]
    pub stun_server: Vec<String>,

    /// relay or other warren to ask: its /ip4/.../udp/.../quic-v1 address; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub relay: Vec<String>,

    /// UDP port to look from (default: a free one)
    #[argh(option, arg_name = "port")]
    pub udp_port: Option<String>,

    /// do not ask the home router to open a port (PCP, NAT-PMP, UPnP)
    #[argh(switch)]
    pub no_portmap: bool,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Be a fixed point for others, at a port that they can reach: they meet here, learn how they are seen from outside
/// (STUN), and are reached through here (circuit relay v2) until there is a direct connection.
#[derive(ArgsInfo, FromArgs, Clone, Debug, Default, PartialEq)]
#[argh(subcommand, name = "relay", help_triggers("-h", "--help", "help"))]
pub struct Relay {
    /// port to accept connections at, on all interfaces (default: 4001)
    #[argh(option, arg_name = "port")]
    pub port: Option<String>,

    /// address to accept connections at, instead of a port; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub listen: Vec<String>,

    /// address of a peer to connect and reconnect to; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub bootstrap: Vec<String>,

    /// room to take part in, so that its members meet here; may be repeated (default: none)
    #[argh(option, arg_name = "name")]
    pub room: Vec<String>,

    /// name that others see (default: the end of the peer ID)
    #[argh(option, arg_name = "name")]
    pub nick: Option<String>,

    /// address at which others can reach this node, as it is not its own; may be repeated
    #[argh(option, arg_name = "multiaddr")]
    pub external: Vec<String>,

    /// network that is ours beyond those of the interfaces, as 10.42.0.0/16; may be repeated
    #[argh(option, arg_name = "cidr")]
    pub lan: Vec<String>,

    /// where members of a room find each other: private (the DHT of warrens, default) or off
    #[argh(option, arg_name = "which")]
    pub dht: Option<String>,

    /// connect to those only who are named with --bootstrap, or who connect to this node
    #[argh(switch)]
    pub no_discovery: bool,

    /// key file; made if there is none (default: identity.key in the state directory)
    #[argh(option, arg_name = "path")]
    pub identity: Option<String>,

    /// also write the key to this file
    #[argh(option, arg_name = "path")]
    pub identity_out: Option<String>,

    /// derive the key from a number that anyone can guess; for tests only
    #[argh(option, arg_name = "n")]
    pub secret_key_seed: Option<String>,

    /// directory for what the node keeps (default: $XDG_STATE_HOME/warren or ~/.local/state/warren)
    #[argh(option, arg_name = "dir")]
    pub state_dir: Option<String>,

    /// do not read standard input: run until stopped by a signal
    #[argh(switch)]
    pub no_stdin: bool,

    /// JSON lines: commands on standard input, events on standard output
    #[argh(switch)]
    pub json: bool,

    /// listen on IPv6 as well, which is so anyway
    #[argh(switch)]
    pub ipv6: bool,

    /// do not listen on IPv6 unless --listen says so
    #[argh(switch)]
    pub no_ipv6: bool,

    /// do not look for peers on the local network, nor tell it of this node
    #[argh(switch)]
    pub no_mdns: bool,

    /// do not ask the home router to open ports (PCP, NAT-PMP, UPnP)
    #[argh(switch)]
    pub no_portmap: bool,

    /// peers that can be reached through here (default: 256)
    #[argh(option, arg_name = "n")]
    pub max_reservations: Option<String>,

    /// circuits through here at once (default: 64)
    #[argh(option, arg_name = "n")]
    pub max_circuits: Option<String>,

    /// circuits from one peer, and as many to one (default: 16)
    #[argh(option, arg_name = "n")]
    pub max_circuits_per_peer: Option<String>,

    /// how long a circuit lasts (default: 360)
    #[argh(option, arg_name = "minutes")]
    pub circuit_minutes: Option<String>,

    /// what a circuit carries in both directions together (default: 64)
    #[argh(option, arg_name = "mib")]
    pub circuit_mib: Option<String>,

    /// path of a Unix socket for `warren ctl` and programs that steer this node, or off (default: control in systemd's
    /// $RUNTIME_DIRECTORY, otherwise none)
    #[argh(option, arg_name = "path")]
    pub control: Option<String>,

    /// how log lines look: full (level and module), timed (the same after the time), plain (for syslog) or journal
    /// (default: journal under systemd, otherwise full)
    #[argh(option, arg_name = "kind")]
    pub log_format: Option<String>,

    /// IP address and port at which Prometheus finds what this node does, as 127.0.0.1:9464 (default: none)
    #[argh(option, arg_name = "addr")]
    pub metrics: Option<String>,

    /// IP address and port of a web page to see and steer this node with, as 127.0.0.1:8080 (default: none)
    #[argh(option, arg_name = "addr")]
    pub web: Option<String>,

    /// file with more options, one a line as `port 4001`; what is given here goes first
    #[argh(option, arg_name = "file")]
    pub config: Option<String>,

    /// look at the options and the file, say what is wrong with them, and end
    #[argh(switch)]
    pub check: bool,

    /// log more to standard error: -v info, -vv debug, -vvv trace; RUST_LOG goes first
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Show the peer ID and public key of an identity, or make one.
#[derive(ArgsInfo, FromArgs, Debug, Default)]
#[argh(subcommand, name = "id", help_triggers("-h", "--help", "help"))]
pub struct Id {
    /// key file; made if there is none (default: identity.key in the state directory)
    #[argh(option, arg_name = "path")]
    pub identity: Option<String>,

    /// kind of key to make: secp256k1 or ed25519 (default: secp256k1)
    #[argh(option, arg_name = "kind")]
    pub key_type: Option<String>,

    /// also write the key to this file
    #[argh(option, arg_name = "path")]
    pub identity_out: Option<String>,

    /// derive the key from a number that anyone can guess; for tests only
    #[argh(option, arg_name = "n")]
    pub secret_key_seed: Option<String>,

    /// directory for what the node keeps (default: $XDG_STATE_HOME/warren or ~/.local/state/warren)
    #[argh(option, arg_name = "dir")]
    pub state_dir: Option<String>,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Why the words were not taken.
#[derive(Debug)]
pub enum Exit {
    /// Help was asked for.
    Help(String),
    /// A word is wrong: one line that quotes it.
    Usage(String),
}

/// Parses all of the command line, without the program's name.
pub fn parse(words: &[String]) -> Result<Warren, Exit> {
    let words = split(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Warren::from_args(&["warren"], &words).map_err(|exit| self::exit("warren", &words, exit))
}

/// Parses one line of a configuration file as the options of a subcommand.
pub fn parse_line<T: FromArgs>(line: &str) -> Result<T, String> {
    let line = line.trim();
    let (name, value) = match line.split_once(char::is_whitespace) {
        Some((name, value)) => (name, Some(value.trim())),
        None => (line, None),
    };
    let name = format!("--{}", name.trim_start_matches("--"));
    let words: Vec<&str> = std::iter::once(name.as_str()).chain(value).collect();
    T::from_args(&["warren"], &words).map_err(|exit| match self::exit("warren", &words, exit) {
        Exit::Usage(message) => message,
        Exit::Help(_) => "'help' is no option of a file".into(),
    })
}

/// `--name=value` is as good as `--name value`, and `-vv` as `-v -v`, which is all that argh knows.
fn split(words: &[String]) -> Vec<String> {
    let mut split = Vec::with_capacity(words.len());
    for word in words {
        match (word.split_once('='), word.strip_prefix('-')) {
            (Some((name, value)), _) if name.starts_with("--") => split.extend([name.into(), value.into()]),
            (None, Some(vs)) if vs.len() > 1 && vs.bytes().all(|b| b == b'v') => {
                split.extend(std::iter::repeat_n("-v".into(), vs.len()));
            }
            _ => split.push(word.clone()),
        }
    }
    split
}

/// argh's answer in our form: errors are one line and name the help that belongs to them.
fn exit(program: &str, words: &[&str], exit: EarlyExit) -> Exit {
    if exit.status.is_ok() {
        return Exit::Help(exit.output);
    }
    let message =
        exit.output.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    let message = message.trim_end_matches('.');
    let subcommand = words.first().filter(|w| ["run", "relay", "id", "nat", "ctl"].contains(w));
    let help = subcommand.map_or(format!("{program} --help"), |s| format!("{program} {s} --help"));
    Exit::Usage(format!("{message}; see '{help}'"))
}
