//! The members, the fixed point, and the network between them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Args;
use super::ear::{Ear, Line};
use crate::lab::{Cable, Counters, Host, Lab};
use crate::node::{Node, PROMPTLY};
use crate::process::Usage;
use crate::program::Program;
use crate::scratch::Scratch;

/// Where the fixed point listens.
const PORT: u16 = 4001;

/// Between two lines of each member while rooms form, which is how exact the times are.
const PACE: Duration = Duration::from_millis(500);

/// Rooms that have not formed by then do not count as formed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that each member says in the exam.
const EXAM: u32 = 3;

/// Between two looks at who has heard whom.
const LOOK: Duration = Duration::from_millis(10);

/// Members, running or not. The order of the fields is the order in which they go: processes first.
pub(super) struct World {
    members: Vec<Member>,
    fixed_point: Place,
    fixed_node: Option<Node>,
    /// Where members find the fixed point.
    bootstrap: String,
    warren: Program,
    options: Vec<&'static str>,
    rooms: usize,
    logs: Option<PathBuf>,
    lab: Lab,
    /// Kept for as long as the state directories in it are used.
    _scratch: Scratch,
}

/// Where a node lives.
struct Place {
    host: Host,
    cable: Cable,
    ip: IpAddr,
    state_dir: PathBuf,
}

struct Member {
    room: usize,
    place: Place,
    /// The process, and what it has heard.
    life: Option<(Node, Ear)>,
    /// The numbers of its lines go on in its next life.
    said: u32,
    /// What earlier lives heard twice.
    repetitions: Vec<String>,
}

/// How long it took until members heard each other.
pub(super) struct Formation {
    /// For each room, and each of its ordered pairs, the seconds until one heard the other.
    pub(super) rooms: Vec<Vec<f64>>,
    /// Pairs that did not.
    pub(super) missing: Vec<String>,
}

/// A member at one moment.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) room: usize,
    pub(super) pid: u32,
    peer: String,
    /// Whom it is connected with.
    peers: BTreeSet<String>,
    pub(super) mesh: f64,
    pub(super) connections: f64,
    pub(super) dials: f64,
    pub(super) dial_failures: f64,
    pub(super) routes: f64,
    pub(super) known: f64,
    pub(super) cpu_ms: f64,
    pub(super) rss_kb: f64,
}

/// All members at one moment.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) members: Vec<Figures>,
}

/// What a member has used up so far.
pub(super) struct Load {
    pub(super) traffic: Counters,
    pub(super) usage: Usage,
}

impl World {
    /// Hosts and cables for all who will ever be there, and no process yet.
    pub(super) fn new(args: &Args, warren: Program) -> Result<Self> {
        let scratch = Scratch::new()?;
        if let Some(logs) = &args.logs {
            fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
        }
        let lab = Lab::new()?;
        let place = |name: &str, number: u8| -> Result<Place> {
            let host = lab.host(name)?;
            // Networks of its own, which no limit for peers of one network can mistake for another's.
            let v6 = Ipv6Addr::from([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 0]);
            let (cable, [ip, _]) = lab.uplink(&host, "eth0", [11, 0, number, 0].into(), v6)?;
            Ok(Place { host, cable, ip, state_dir: scratch.state_dir(name)? })
        };
        let fixed_point = place("fixed", 1)?;
        let members = 0..args.nodes + args.churn();
        let members = members.map(|number| {
            let place = place(&format!("m{number}"), number as u8 + 2)?;
            let room = number % args.rooms;
            Ok(Member { room, place, life: None, said: 0, repetitions: Vec::new() })
        });
        let members = members.collect::<Result<_>>()?;
        let given = [("--tcp-only", args.tcp_only), ("--quic-only", args.quic_only)];
        let mut options: Vec<_> =
            given.iter().filter(|(_, given)| *given).map(|(option, _)| *option).collect();
        // What is to be seen is how members of different networks meet. An older warren has no mDNS.
        // Neither is for a network without houses.
        for option in ["--no-mdns", "--no-portmap"] {
            if warren.knows("run", option)? {
                options.push(option);
            }
        }
        let (rooms, logs) = (args.rooms, args.logs.clone());
        let bootstrap = String::new();
        Ok(World {
            members,
            fixed_point,
            fixed_node: None,
            bootstrap,
            warren,
            options,
            rooms,
            logs,
            lab,
            _scratch: scratch,
        })
    }

    pub(super) fn start_fixed_point(&mut self) -> Result<()> {
        let mut command = self.lab.command(&self.fixed_point.host, &self.warren.path);
        let verbose = self.logs.is_some();
        self.warren.fixed_point(&mut command, PORT, 1000, &self.fixed_point.state_dir, verbose);
        let mut node = Node::start_logged("the fixed point", command, None, self.log("fixed")?)?;
        let carrier = if self.options.contains(&"--tcp-only") { "tcp" } else { "udp" };
        let start = format!("/ip4/{}/{carrier}/{PORT}", self.fixed_point.ip);
        let listening =
            |event: &crate::node::Event| event.is("listening") && event.str("addr").starts_with(&start);
        self.bootstrap = node.wait(&start, PROMPTLY, listening)?.str("addr").to_owned();
        self.fixed_node = Some(node);
        Ok(())
    }

    pub(super) fn stop_fixed_point(&mut self) -> Result<()> {
        self.fixed_node.take().context("there is no fixed point")?.stop()
    }

    /// Starts a member. `bootstrap`: it is told where the fixed point is.
    pub(super) fn start(&mut self, number: usize, bootstrap: bool) -> Result<()> {
        let (name, member) = (format!("member {number}"), &self.members[number]);
        let mut command = self.lab.command(&member.place.host, &self.warren.path);
        let room = format!("room{}", member.room);
        let verbose = self.logs.is_some();
        self.warren.member(&mut command, &room, number as u64 + 1, &member.place.state_dir, verbose);
        command.args(&self.options);
        if bootstrap {
            command.args(["--bootstrap", &self.bootstrap]);
        }
        let ear = Ear::default();
        let node = Node::start_logged(&name, command, Some(ear.tap()), self.log(&format!("m{number}"))?)?;
        self.members[number].life = Some((node, ear));
        Ok(())
    }

    /// Ends a member as a person would.
    pub(super) fn leave(&mut self, number: usize) -> Result<()> {
        match self.members[number].bury() {
            Some(node) => node.stop(),
            None => Ok(()),
        }
    }

    /// Ends a member without a word.
    pub(super) fn kill(&mut self, number: usize) {
        drop(self.members[number].bury());
    }

    /// Waits until a member has saved its address book.
    pub(super) fn wait_for_book(&self, number: usize, limit: Duration) -> Result<()> {
        let (book, deadline) = (self.book(number), Instant::now() + limit);
        while !book.exists() {
            ensure!(Instant::now() < deadline, "member {number} has saved no address book within {limit:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Copies one member's address book to another that has not been started yet.
    pub(super) fn give_book(&self, from: usize, to: usize) -> Result<()> {
        let copied = fs::copy(self.book(from), self.book(to));
        copied.with_context(|| format!("member {from} has no address book to give to member {to}"))?;
        Ok(())
    }

    /// Has everybody talk until everybody has heard everybody in the room, in this phase, or [`PATIENCE`] is over.
    pub(super) fn form(&mut self, phase: char, start: Instant) -> Result<Formation> {
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            let (rooms, missing) = self.heard(phase, start);
            if missing.is_empty() || now > start + PATIENCE {
                return Ok(Formation { rooms, missing });
            }
            if now >= due {
                due += PACE;
                for number in 0..self.members.len() {
                    self.say(number, phase)?;
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Everybody says some lines, which everybody in the room has to hear. Returns who missed what.
    pub(super) fn exam(&mut self, phase: char) -> Result<Vec<String>> {
        let phase = phase.to_ascii_lowercase();
        let mut lines = Vec::new();
        let count = self.members.len();
        for number in (0..EXAM).flat_map(|_| 0..count) {
            lines.extend(self.say(number, phase)?);
        }
        let deadline = Instant::now() + PROMPTLY;
        loop {
            let lost: Vec<String> = lines.iter().flat_map(|line| self.who_misses(line)).collect();
            if lost.is_empty() || Instant::now() > deadline {
                return Ok(lost);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What any member has heard twice.
    pub(super) fn repetitions(&self) -> Vec<String> {
        let each = |(number, member): (usize, &Member)| {
            let now = member.life.iter().flat_map(|(_, ear)| ear.repetitions());
            let all: Vec<String> = member.repetitions.iter().cloned().chain(now).collect();
            all.into_iter().map(move |what| format!("member {number} {what}"))
        };
        self.members.iter().enumerate().flat_map(each).collect()
    }

    pub(super) fn snapshot(&mut self) -> Result<Snapshot> {
        let mut members = Vec::new();
        for member in &mut self.members {
            if let Some((node, _)) = &mut member.life {
                members.push(figures(member.room, node)?);
            }
        }
        Ok(Snapshot { members })
    }

    pub(super) fn loads(&self) -> Result<Vec<Load>> {
        let alive = || self.members.iter().filter_map(|member| Some((member, &member.life.as_ref()?.0)));
        let cables: Vec<&Cable> = alive().map(|(member, _)| &member.place.cable).collect();
        let traffic = self.lab.counters(&cables)?;
        let load =
            |((_, node), traffic): ((&Member, &Node), Counters)| Ok(Load { traffic, usage: node.usage()? });
        alive().zip(traffic).map(load).collect()
    }

    /// One more line of a member, if it is there.
    fn say(&mut self, number: usize, phase: char) -> Result<Option<Line>> {
        let member = &mut self.members[number];
        let Some((node, _)) = &mut member.life else { return Ok(None) };
        member.said += 1;
        let line = Line { phase, author: number, number: member.said };
        node.line(&format!("send {}", line.text()))?;
        Ok(Some(line))
    }

    /// The times of all ordered pairs by room, and the pairs that have none.
    fn heard(&self, phase: char, start: Instant) -> (Vec<Vec<f64>>, Vec<String>) {
        let (mut rooms, mut missing) = (vec![Vec::new(); self.rooms], Vec::new());
        for (author, (listener, room, ear)) in self.pairs() {
            match ear.first(phase, author) {
                Some(at) => rooms[room].push((at - start).as_secs_f64()),
                None => missing.push(format!("{author} by {listener}")),
            }
        }
        (rooms, missing)
    }

    /// Ordered pairs within the rooms: who may speak, and who listens, with its room.
    fn pairs(&self) -> impl Iterator<Item = (usize, (usize, usize, &Ear))> {
        let alive = || self.members.iter().enumerate().filter(|(_, member)| member.life.is_some());
        alive().flat_map(move |(author, from)| {
            let others = alive().filter(move |(number, to)| *number != author && to.room == from.room);
            others.filter_map(move |(number, to)| Some((author, (number, to.room, &to.life.as_ref()?.1))))
        })
    }

    fn who_misses(&self, line: &Line) -> Vec<String> {
        let listeners = self.pairs().filter(|(author, _)| *author == line.author);
        let deaf = listeners.filter(|(_, (_, _, ear))| !ear.has(line));
        deaf.map(|(_, (listener, ..))| format!("member {listener} never heard '{}'", line.text())).collect()
    }

    fn book(&self, number: usize) -> PathBuf {
        self.members[number].place.state_dir.join("peers")
    }

    fn log(&self, name: &str) -> Result<Option<File>> {
        let path = self.logs.as_ref().map(|logs| logs.join(format!("{name}.log")));
        let open = |path: PathBuf| {
            let file = File::options().append(true).create(true).open(&path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        path.map(open).transpose()
    }
}

impl Member {
    /// Ends its life as far as the account goes, and hands over what is left.
    fn bury(&mut self) -> Option<Node> {
        let (node, ear) = self.life.take()?;
        self.repetitions.extend(ear.repetitions());
        Some(node)
    }
}

impl Snapshot {
    /// Members of its room that a member is connected with.
    pub(super) fn neighbours<'a>(&'a self, of: &'a Figures) -> impl Iterator<Item = &'a Figures> {
        self.members.iter().filter(|other| other.room == of.room && of.peers.contains(&other.peer))
    }

    /// Into how many parts the connections between its members divide a room.
    pub(super) fn parts(&self, room: usize) -> usize {
        let mut left: Vec<&Figures> = self.members.iter().filter(|member| member.room == room).collect();
        let mut parts = 0;
        while let Some(first) = left.pop() {
            parts += 1;
            let mut reached = vec![first];
            while let Some(from) = reached.pop() {
                let is_near = |other: &&Figures| from.peers.contains(&other.peer);
                reached.extend(left.iter().copied().filter(is_near));
                left.retain(|other| !is_near(other));
            }
        }
        parts
    }
}

fn figures(room: usize, node: &mut Node) -> Result<Figures> {
    let mut ask = |what: &str| -> Result<Value> { Ok(node.command(json!({ "cmd": what }))?.body) };
    let (me, peers, rooms, stats) = (ask("whoami")?, ask("peers")?, ask("rooms")?, ask("stats")?);
    let usage = node.usage()?;
    let ids = peers["peers"].as_array().into_iter().flatten().filter_map(|peer| peer["peerId"].as_str());
    let number = |name: &str| stats[name].as_f64().with_context(|| format!("no {name} in {stats}"));
    Ok(Figures {
        room,
        pid: node.pid(),
        peer: me["peerId"].as_str().context("no peer ID")?.to_owned(),
        peers: ids.map(str::to_owned).collect(),
        mesh: rooms["rooms"][0]["mesh"].as_f64().context("no mesh")?,
        connections: number("connections")?,
        dials: number("dials")?,
        dial_failures: number("dialFailures")?,
        routes: number("dhtRoutes")?,
        known: number("knownPeers")?,
        cpu_ms: usage.cpu.as_secs_f64() * 1000.0,
        rss_kb: usage.rss_kb as f64,
    })
}
