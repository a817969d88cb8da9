//! A relay that is besieged: hostile peers open everything that they can, and honest ones must not notice.
//!
//! ```text
//!   one namespace, all on its loopback interface, each with addresses of its own
//!   198.51.100.1     the relay
//!   45.10.N.1        honest peer N, in a network of its own
//!   203.0.113.0/24   the hostile network: hundreds of identities, half-open handshakes, reservations, circuits to
//!                    honest peers and to each other, floods that nobody reads, streams on which nothing is said
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use argh::FromArgs;
use serde_json::{Value, json};

use crate::lab::{Host, Lab};
use crate::node::Node;
use crate::program::{Data, Profile, Program, warren};
use crate::relay_load::{relay_peers, tell};
use crate::scratch::Scratch;
use crate::table::Table;

/// Besiege `warren relay` with peers that open everything they can; fails if honest ones suffer (needs root).
#[derive(FromArgs)]
#[argh(subcommand, name = "relay-siege")]
pub(crate) struct Args {
    /// length of each part (default 10)
    #[argh(option, default = "10")]
    seconds: u64,
    /// use this warren instead of building it
    #[argh(option)]
    warren: Option<PathBuf>,
    /// use these relay-peers instead of building them
    #[argh(option)]
    peers: Option<PathBuf>,
}

/// Honest peers with a reservation before the siege, those of them that talk, and those that come during it.
const HONEST: usize = 40;
const CIRCUITS: usize = 10;
const NEWCOMERS: usize = 5;

/// Parts of a siege in which newcomers come.
const HOSTILE_PARTS: usize = 3;

/// What `warren relay` gives when nothing else is said, and what a network can have of it beside the honest.
const RESERVATIONS: u64 = 256;
const MOST_CIRCUITS: u64 = 64;
const MOST_CONNECTIONS: u64 = 100 + RESERVATIONS + MOST_CIRCUITS;

/// The most that the relay may grow by. Unit: kB. Half of what the limits allow a network, circuits full of what nobody
/// reads (`RELAY_CIRCUITS` in `src/limits/nat.rs`), and its connections.
const GROWTH_KB: u64 = 48 * 1024;

/// The part of its messages that the honest crowd must still get through. The machine is busy with the siege as well.
const SHARE: f64 = 0.5;

pub(crate) fn run(args: Args) -> Result<()> {
    if let Some(obstacle) = Lab::obstacle() {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let warren = warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    let peers = relay_peers(args.peers.clone(), Profile::Measured)?;
    let scratch = Scratch::new()?;
    let lab = Lab::new()?;
    let host = lab.host("siege")?;
    lab.shell(
        &host,
        "ip addr add 198.51.100.1/32 dev lo
         ip route add local 45.10.0.0/16 dev lo
         ip route add local 203.0.113.0/24 dev lo",
    )?;
    let mut siege = Siege::new(&lab, &host, &warren, peers, &scratch)?;
    siege.part("peace", args.seconds, None)?;
    siege.part("one hostile peer", args.seconds, Some(&["--addresses", "1", "--identities", "1"]))?;
    siege.part("a hostile /24", args.seconds, Some(&[]))?;
    siege.part("with half-open handshakes", args.seconds, Some(&["--half-open"]))?;
    siege.report();
    siege.relay.stop()
}

struct Siege<'a> {
    lab: &'a Lab,
    host: &'a Host,
    peers: PathBuf,
    relay: Node,
    addr: String,
    crowd: Node,
    /// Honest peers, as hostile ones know them.
    honest: Vec<String>,
    /// Before anything happened. Unit: kB.
    rss: u64,
    /// Messages per second when nobody was hostile.
    peaceful: f64,
    table: Table,
}

impl<'a> Siege<'a> {
    fn new(
        lab: &'a Lab,
        host: &'a Host,
        warren: &Program,
        peers: PathBuf,
        scratch: &Scratch,
    ) -> Result<Self> {
        let mut command = lab.command(host, &warren.path);
        command.args(["relay", "--json", "--no-mdns", "--no-portmap", "--no-ipv6"]);
        command
            .args(["--listen", "/ip4/198.51.100.1/tcp/4001", "--state-dir"])
            .arg(scratch.state_dir("siege")?);
        command.env_remove("RUST_LOG");
        let mut relay = Node::start("the relay", command, None)?;
        let addr = relay.listening()?;
        let mut command = lab.command(host, &peers);
        command.args(["crowd", "--relay", &addr, "--from", "45.10.0.1"]);
        let mut crowd = Node::start("the honest crowd", command, None)?;
        succeed(&mut crowd, &format!("reserve 0 {HONEST}"))?;
        succeed(&mut crowd, &format!("circuits {CIRCUITS}"))?;
        let known = tell(&mut crowd, "holding")?;
        let known = known.body["peers"].as_array().cloned().unwrap_or_default();
        let honest = known.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let rss = relay.usage()?.rss_kb;
        let heading =
            ["", "messages/s", "p99 ms", "connections", "reservations", "circuits", "RSS kB", "loot"];
        let table = Table::new(&heading);
        Ok(Siege { lab, host, peers, relay, addr, crowd, honest, rss, peaceful: 0.0, table })
    }

    /// Talks for a while, beside hostile peers if there are options for them, and asserts that nobody of the honest
    /// notices.
    fn part(&mut self, name: &str, seconds: u64, hostile: Option<&[&str]>) -> Result<()> {
        eprintln!("{name}");
        let mut hostile = hostile.map(|options| self.hostile(options)).transpose()?;
        if hostile.is_some() {
            // Until all of them are there.
            std::thread::sleep(Duration::from_secs(seconds));
        }
        let talked = tell(&mut self.crowd, &format!("talk chat silence {seconds}"))?;
        let per_second =
            talked.body["messages"].as_f64().unwrap_or(0.0) / talked.body["seconds"].as_f64().unwrap_or(1.0);
        let silent =
            talked.body["bytes"].as_array().into_iter().flatten().filter(|bytes| **bytes == json!(0));
        ensure!(silent.count() == 0, "{name}: circuits carry nothing any more: {talked}");
        if hostile.is_some() {
            let least = SHARE * self.peaceful;
            ensure!(per_second >= least, "{name}: {per_second:.0} messages/s, of {:.0}", self.peaceful);
            self.newcomers(name)?;
        } else {
            self.peaceful = per_second;
        }
        let stats = self.relay.command(json!({"cmd": "stats"}))?;
        let now = |field: &str| stats.body[field].as_u64().unwrap_or(u64::MAX);
        let rss = self.relay.usage()?.rss_kb;
        let loot = match &mut hostile {
            Some(hostile) => Loot::read(&tell(hostile, "loot")?.body),
            None => Loot::default(),
        };
        self.table.row(&[
            name.to_owned(),
            format!("{per_second:.0}"),
            format!("{:.1}", talked.body["p99"].as_f64().unwrap_or(f64::NAN)),
            now("connections").to_string(),
            now("reservations").to_string(),
            now("circuits").to_string(),
            rss.to_string(),
            loot.reservations.to_string(),
            loot.circuits.to_string(),
            loot.refused.to_string(),
        ]);
        ensure!(now("connections") <= MOST_CONNECTIONS, "{name}: {} connections", now("connections"));
        // One network gets half of what others left, see `src/nat/hop/places.rs`.
        let most = |all: u64, honest: usize| honest as u64 + (all - honest as u64).div_ceil(2);
        let honest = HONEST + HOSTILE_PARTS * NEWCOMERS;
        ensure!(now("reservations") <= most(RESERVATIONS, honest), "{name}: {}", now("reservations"));
        ensure!(now("circuits") <= most(MOST_CIRCUITS, CIRCUITS + 1), "{name}: {}", now("circuits"));
        // Otherwise this is no siege.
        ensure!(hostile.is_none() || loot.refused > 0, "{name}: nothing was refused");
        ensure!(rss <= self.rss + GROWTH_KB, "{name}: grown from {} to {rss} kB", self.rss);
        Ok(())
    }

    fn hostile(&self, options: &[&str]) -> Result<Node> {
        let mut command = self.lab.command(self.host, &self.peers);
        command.args(["hostile", "--relay", &self.addr, "--network", "203.0.113.0"]);
        command.args(options);
        for peer in &self.honest[2 * CIRCUITS..] {
            command.args(["--target", peer]);
        }
        Node::start("the hostile ones", command, None)
    }

    /// Newcomers get reservations, and strangers reach those who are besieged.
    fn newcomers(&mut self, name: &str) -> Result<()> {
        let begun = Instant::now();
        let before = tell(&mut self.crowd, "holding")?.body["count"].as_u64().unwrap_or(0) as usize;
        succeed(&mut self.crowd, &format!("reserve {before} {NEWCOMERS}"))?;
        succeed(&mut self.crowd, &format!("visit {} {NEWCOMERS}", 2 * CIRCUITS))?;
        let holding = tell(&mut self.crowd, "holding")?.body["count"].as_u64();
        let all = Some((before + NEWCOMERS) as u64);
        ensure!(holding == all, "{name}: {holding:?} of {all:?} reservations are left");
        eprintln!("  newcomers were served after {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn report(&self) {
        println!(
            "\n{HONEST} honest peers, {CIRCUITS} of their circuits chat; all of them live on, newcomers are served"
        );
        self.table.print();
    }
}

/// What hostile peers got.
#[derive(Default)]
struct Loot {
    reservations: u64,
    circuits: u64,
    refused: u64,
}

impl Loot {
    fn read(answer: &Value) -> Self {
        let count = |field: &str| answer[field].as_u64().unwrap_or_default();
        Loot { reservations: count("reservations"), circuits: count("circuits"), refused: count("refused") }
    }
}

/// Has the crowd do something that has to succeed for all of it.
fn succeed(crowd: &mut Node, line: &str) -> Result<()> {
    let answer = tell(crowd, line)?;
    ensure!(answer.body["failed"] == 0, crowd.complaint(&format!("answered {answer} to '{line}'")));
    Ok(())
}
