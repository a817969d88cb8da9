//! The programs that can be measured: how each is built and started. Only this module knows their options.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::{Host, Lab};
use crate::lan::Lan;
use crate::node::{Node, Tap};
use crate::scratch::Scratch;

/// The room everything is said in.
pub(crate) const ROOM: &str = "bench";

/// A program that can be a node.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    /// The executable; for the JavaScript peer its script.
    pub(crate) path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `warren run --json`.
    Warren(Data),
    /// Upstream libp2p on tokio.
    Reference,
    /// js-libp2p.
    Js,
}

/// What warren puts into a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// The bare text, for other gossipsub programs.
    Plain,
    /// Its own signed envelope.
    Envelope,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Warren(Data::Plain) => "warren --plain",
            Kind::Warren(Data::Envelope) => "warren",
            Kind::Reference => "reference",
            Kind::Js => "js-libp2p",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    Secp256k1,
    Ed25519,
}

impl FromStr for KeyType {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "secp256k1" => Ok(KeyType::Secp256k1),
            "ed25519" => Ok(KeyType::Ed25519),
            other => Err(format!("`{other}` is no key type: use secp256k1 or ed25519")),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyType::Secp256k1 => "secp256k1",
            KeyType::Ed25519 => "ed25519",
        })
    }
}

/// What carries the bytes between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Quic,
}

impl Carrier {
    /// What the programs that carry streams call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Quic => "quic",
        }
    }

    /// This port of an IPv4 address, 0 for a free one.
    pub(crate) fn listen(self, ip: Ipv4Addr, port: u16) -> String {
        match self {
            Carrier::Tcp => format!("/ip4/{ip}/tcp/{port}"),
            Carrier::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
        }
    }

    /// A free port of 127.0.0.1.
    fn any_port(self) -> &'static str {
        match self {
            Carrier::Tcp => "/ip4/127.0.0.1/tcp/0",
            Carrier::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        }
    }

    /// Whether a connection with this address goes over it.
    pub(crate) fn carries(self, addr: &str) -> bool {
        let name = match self {
            Carrier::Tcp => "tcp",
            Carrier::Quic => "quic-v1",
        };
        addr.split('/').any(|part| part == name)
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carrier::Tcp => "TCP",
            Carrier::Quic => "QUIC",
        })
    }
}

/// How to start one node.
pub(crate) struct Setup<'a> {
    pub(crate) carrier: Carrier,
    pub(crate) key: Key<'a>,
    pub(crate) bootstrap: &'a [String],
    pub(crate) scratch: &'a Scratch,
}

/// A node's identity. The same key twice is the same peer twice: give each node its own.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    /// Derived by the program itself; secp256k1.
    Seed(u64),
    /// A key file in libp2p's protobuf encoding, and its kind and seed for programs that derive the same key.
    File(&'a Path, KeyType, u64),
}

impl Program {
    /// Starts a node of this program that listens on a free port of 127.0.0.1.
    pub(crate) fn start(&self, name: &str, setup: &Setup<'_>, tap: Option<Tap>) -> Result<Node> {
        let mut command = match self.kind {
            Kind::Js => {
                let mut command = Command::new(std::env::var_os("WARREN_NODE").unwrap_or("node".into()));
                command.arg(&self.path);
                command
            }
            Kind::Warren(_) | Kind::Reference => Command::new(&self.path),
        };
        match self.kind {
            Kind::Warren(data) => {
                command.args(["run", "--no-mdns", "--no-portmap", "--json"]);
                if data == Data::Plain {
                    command.arg("--plain");
                }
                if setup.carrier == Carrier::Quic {
                    command.arg("--quic-only");
                }
                command.arg("--state-dir").arg(setup.scratch.state_dir(name)?);
                match setup.key {
                    Key::Seed(seed) => command.arg("--secret-key-seed").arg(seed.to_string()),
                    Key::File(path, ..) => command.arg("--identity").arg(path),
                };
            }
            Kind::Reference | Kind::Js => {
                let (key_type, seed) = match setup.key {
                    Key::Seed(seed) => (KeyType::Secp256k1, seed),
                    Key::File(_, key_type, seed) => (key_type, seed),
                };
                command.args(["--key-type", &key_type.to_string(), "--secret-key-seed", &seed.to_string()]);
            }
        }
        command.args(["--listen", setup.carrier.any_port(), "--room", ROOM]);
        for addr in setup.bootstrap {
            command.args(["--bootstrap", addr]);
        }
        // Nobody's settings: what is measured is the program's defaults.
        command.env_remove("RUST_LOG");
        Node::start(&format!("{} {name}", self.kind), command, tap)
    }

    /// Starts a warren that has one transport only. It says `first` as soon as somebody is there.
    pub(crate) fn start_warren(
        &self,
        name: &str,
        seed: u64,
        carrier: Carrier,
        first: Option<&str>,
        scratch: &Scratch,
    ) -> Result<Node> {
        let mut command = Command::new(&self.path);
        command.args([
            "run",
            "--no-mdns",
            "--no-portmap",
            "--json",
            "--room",
            ROOM,
            "--secret-key-seed",
            &seed.to_string(),
        ]);
        command.arg("--state-dir").arg(scratch.state_dir(name)?);
        command.args(match carrier {
            Carrier::Quic => ["--quic-only", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"],
            Carrier::Tcp => ["--tcp-only", "--listen", "/ip4/127.0.0.1/tcp/0"],
        });
        command.args(first.map(|text| ["--publish", text]).into_iter().flatten()).env_remove("RUST_LOG");
        Node::start(&format!("{} {carrier} {name}", self.kind), command, None)
    }

    /// Starts a warren in this role that tells its metrics at this port of 127.0.0.1, where it has all of its carriers.
    pub(crate) fn start_watched(
        &self,
        role: &str,
        port: u16,
        options: &[&str],
        scratch: &Scratch,
    ) -> Result<Node> {
        let mut command = Command::new(&self.path);
        command.args([role, "--json", "--no-mdns", "--no-portmap", "--room", ROOM]);
        for carrier in [Carrier::Tcp, Carrier::Quic] {
            command.args(["--listen", carrier.any_port()]);
        }
        command.args(["--metrics", &format!("127.0.0.1:{port}")]).args(options);
        command.arg("--state-dir").arg(scratch.state_dir(role)?).env_remove("RUST_LOG");
        Node::start(role, command, None)
    }

    /// Starts a node on a machine of a local network, where it shall find whoever is there without being told.
    /// warren dials those; the others do if `dials`, and say `found`.
    pub(crate) fn start_on(&self, lan: &Lan, machine: usize, dials: bool, scratch: &Scratch) -> Result<Node> {
        let mut command = match self.kind {
            Kind::Js => {
                let node = std::env::var_os("WARREN_NODE").unwrap_or("node".into());
                let mut command = lan.command(machine, node);
                command.arg(&self.path);
                command
            }
            Kind::Warren(_) | Kind::Reference => lan.command(machine, &self.path),
        };
        match self.kind {
            Kind::Warren(_) => {
                command.args(["run", "--json", "--plain", "--state-dir"]).arg(scratch.state_dir("lan")?);
            }
            Kind::Reference | Kind::Js => {
                command.args(["--mdns", "--listen", "/ip4/0.0.0.0/tcp/0"]);
                command.args((!dials).then_some("--no-dial"));
            }
        }
        command.args(["--room", ROOM]);
        command.env_remove("RUST_LOG");
        Node::start(&format!("{} on a local network", self.kind), command, None)
    }

    /// Completes a command of warren: a member of `room` that listens on all interfaces. `verbose`: it logs what it
    /// does and why.
    pub(crate) fn member(
        &self,
        command: &mut Command,
        room: &str,
        seed: u64,
        state_dir: &Path,
        verbose: bool,
    ) {
        command.args(["run", "--json", "--room", room, "--nick", &format!("n{seed}")]);
        self.lab_options(command, seed, state_dir, verbose);
    }

    /// Completes a command of warren: a fixed point for others at this port.
    pub(crate) fn fixed_point(
        &self,
        command: &mut Command,
        port: u16,
        seed: u64,
        state_dir: &Path,
        verbose: bool,
    ) {
        command.args(["relay", "--json", "--port", &port.to_string()]);
        self.lab_options(command, seed, state_dir, verbose);
    }

    fn lab_options(&self, command: &mut Command, seed: u64, state_dir: &Path, verbose: bool) {
        command.args(["--secret-key-seed", &seed.to_string()]).arg("--state-dir").arg(state_dir);
        match verbose {
            // RUST_LOG, where it is set, says more precisely what is wanted.
            true => command.arg("-vv"),
            false => command.env_remove("RUST_LOG"),
        };
    }

    /// A command of a relay for others, on a host of a lab at this port of this address.
    pub(crate) fn relay(
        &self,
        lab: &Lab,
        host: &Host,
        (ip, port): (Ipv4Addr, u16),
        state_dir: &Path,
        verbose: bool,
    ) -> Command {
        let mut command = self.on(lab, host);
        match self.kind {
            Kind::Warren(_) => self.fixed_point(&mut command, port, 1000, state_dir, verbose),
            Kind::Reference | Kind::Js => {
                command.args(["--relay-server", "--secret-key-seed", "1000"]);
                for carrier in [Carrier::Tcp, Carrier::Quic] {
                    command.args(["--listen", &carrier.listen(ip, port)]);
                }
            }
        }
        command
    }

    /// A command of a member of the room on a host of a lab, who can be reached through the relay at this address.
    pub(crate) fn behind(
        &self,
        lab: &Lab,
        host: &Host,
        relay: &str,
        (carrier, seed): (Carrier, u64),
        state_dir: &Path,
        verbose: bool,
    ) -> Command {
        let mut command = self.on(lab, host);
        match self.kind {
            Kind::Warren(_) => {
                command.args(["run", "--json", "--plain", "--no-mdns", "--no-portmap", "--no-discovery"]);
                // With QUIC it has TCP too, as it has by default.
                command.args((carrier == Carrier::Tcp).then_some("--tcp-only"));
                self.lab_options(&mut command, seed, state_dir, verbose);
            }
            Kind::Reference | Kind::Js => {
                command.args(["--listen", &carrier.listen(Ipv4Addr::UNSPECIFIED, 0)]);
                command.args(["--secret-key-seed", &seed.to_string()]);
            }
        }
        command.args(["--relay", relay, "--room", ROOM]);
        command
    }

    /// A command that runs it on a host of a lab.
    fn on(&self, lab: &Lab, host: &Host) -> Command {
        match self.kind {
            Kind::Js => {
                let node = std::env::var_os("WARREN_NODE").unwrap_or("node".into());
                let mut command = lab.command(host, Path::new(&node));
                command.arg(&self.path);
                command
            }
            Kind::Warren(_) | Kind::Reference => lab.command(host, &self.path),
        }
    }

    /// Whether `warren SUBCOMMAND` knows an option.
    pub(crate) fn knows(&self, subcommand: &str, option: &str) -> Result<bool> {
        let help = Command::new(&self.path).args([subcommand, "--help"]).output();
        let help = help.with_context(|| format!("cannot start {}", self.path.display()))?;
        Ok(String::from_utf8_lossy(&help.stdout).contains(&format!("[{option}]")))
    }

    /// Has the reference peer write the key file of this seed.
    pub(crate) fn write_key(&self, key_type: KeyType, seed: u64, path: &Path) -> Result<()> {
        ensure!(self.kind == Kind::Reference, "only the reference peer writes key files");
        let mut command = Command::new(&self.path);
        command.args(["--key-type", &key_type.to_string(), "--secret-key-seed", &seed.to_string()]);
        command.args(["--listen", Carrier::Tcp.any_port(), "--identity-out"]).arg(path);
        let mut node = Node::start("reference, writing a key,", command, None)?;
        node.wait_for("started")?;
        node.stop()?;
        // A careful program refuses or reports a key that others can read.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private).with_context(|| format!("cannot protect {}", path.display()))
    }
}

/// Which profile a program is built with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For measuring: warren as shipped, the reference peer as its own users build it.
    Measured,
    /// For checking behaviour: quick to build.
    Dev,
}

/// warren at `path`, or else built.
pub(crate) fn warren(path: Option<PathBuf>, data: Data, profile: Profile) -> Result<Program> {
    program(Kind::Warren(data), path, "Cargo.toml", "warren", profile)
}

/// The reference peer at `path`, or else built.
pub(crate) fn reference(path: Option<PathBuf>, profile: Profile) -> Result<Program> {
    program(Kind::Reference, path, "bench/reference/Cargo.toml", "reference-peer", profile)
}

fn program(
    kind: Kind,
    path: Option<PathBuf>,
    manifest: &str,
    name: &str,
    profile: Profile,
) -> Result<Program> {
    let path = match path {
        Some(path) => {
            ensure!(path.is_file(), "there is no program at {}", path.display());
            path
        }
        None => build(manifest, name, profile)?,
    };
    Ok(Program { kind, path })
}

/// Builds one package of this repository and returns where cargo put its binary. Each is built by a command of its
/// own, so that the features of one never reach the other.
pub(crate) fn build(manifest: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let output = Command::new(cargo)
        .args(["build", "--locked", "--message-format", "json-render-diagnostics"])
        .args(["--package", name, "--bin", name])
        .args(["--profile", if profile == Profile::Measured { "release" } else { "dev" }])
        .arg("--manifest-path")
        .arg(root.join(manifest))
        .arg("--target-dir")
        .arg(target)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build of {name} ended with {}", output.status);
    }
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo named no executable")
}
