//! The nodes and their network: each lives in a namespace of its own, behind a cable to a router or behind a NAT.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::ear::Ear;
use super::mqtt::Client;
use super::plan::{Cell, Subject, Transport, Tuning, Workload};
use crate::fixed_point;
use crate::lab::home::{self, Home};
use crate::lab::kind::Kind;
use crate::lab::weather::{self, Sky, Weather};
use crate::lab::{Cable, Counters, Host, Lab};
use crate::node::{Node, PROMPTLY};
use crate::process::{self, Usage};
use crate::program::{Carrier, Program};
use crate::scratch::Scratch;

/// Where fixed points, reference peers and the broker listen.
const PORT: u16 = 4001;

/// Where nodes tell their metrics, each on its own loopback interface.
pub(super) const METRICS: u16 = 9464;

/// Whom a reference peer dials, which has nobody to discover others for it.
const DIALS: usize = 4;

/// Who stays behind all of them: the network of the fixed point or the broker.
const FIXED: u16 = 1;

/// How the Internet is impaired.
pub(super) enum Impairment {
    /// netem, on each cable.
    Kernel,
    /// The router's own: a thread of this process.
    Router(Sky),
}

/// Programs that are not built anew for each cell.
pub(super) struct Programs {
    pub(super) warren: Program,
    pub(super) reference: Option<Program>,
    pub(super) broker: Option<PathBuf>,
}

/// Where a node lives.
struct Place {
    host: Host,
    cable: Cable,
    ip: Ipv4Addr,
    /// `Public` for those without a NAT.
    kind: Kind,
}

/// Who talks in a cell.
enum Voice {
    Node(Node),
    Client(Client),
}

/// The fields are in the order in which they go: processes first.
pub(super) struct World {
    voices: Vec<Option<Voice>>,
    /// Of all nodes, also of those that are away.
    pub(super) ears: Vec<Ear>,
    fixed: Option<Node>,
    broker: Option<std::process::Child>,
    /// Addresses of the fixed point.
    bootstrap: Vec<String>,
    fixed_place: Place,
    places: Vec<Place>,
    pub(super) impairment: Impairment,
    weather: Weather,
    pub(super) lab: Lab,
    scratch: Scratch,
}

/// A process to be watched.
pub(super) struct Spot {
    pub(super) node: usize,
    pub(super) host: Host,
    pub(super) pid: u32,
}

/// What a node has used up so far. Of a broker's client only the traffic is its own.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) traffic: Counters,
    pub(super) usage: Usage,
}

impl World {
    /// Hosts and cables, and no process yet.
    pub(super) fn new(work: &Workload, weather: Weather, nat: bool) -> Result<Self> {
        let (scratch, lab) = (Scratch::new()?, Lab::new()?);
        let kinds = if nat { work.homes() } else { vec![Kind::Public; usize::from(work.nodes)] };
        let fixed_place = Place::new(&lab, Kind::Public, "fixed", FIXED)?;
        let place = |(number, kind): (u16, Kind)| Place::new(&lab, kind, &format!("n{number}"), number + 2);
        let places = (0..).zip(kinds).map(place).collect::<Result<Vec<_>>>()?;
        // A NAT's own interfaces are not those that netem would be set on.
        let kernel = !nat && fixed_place.cable.weather(&weather).is_ok();
        let impairment = match kernel {
            true => {
                fixed_place.cable.calm()?;
                Impairment::Kernel
            }
            false => Impairment::Router(lab.sky(weather)?),
        };
        let count = places.len();
        Ok(World {
            voices: (0..count).map(|_| None).collect(),
            ears: vec![Ear::default(); count],
            fixed: None,
            broker: None,
            bootstrap: Vec::new(),
            fixed_place,
            places,
            impairment,
            weather,
            lab,
            scratch,
        })
    }

    /// The Internet is impaired from now on, or not any more. With the same seed it is so in the same way each time,
    /// where the router does it.
    pub(super) fn impair(&self, on: bool) -> Result<()> {
        match &self.impairment {
            Impairment::Router(sky) => {
                sky.set(self.weather);
                self.lab.detour(on)
            }
            Impairment::Kernel => {
                let cables = self.places.iter().chain([&self.fixed_place]).map(|place| &place.cable);
                cables
                    .into_iter()
                    .try_for_each(|cable| if on { cable.weather(&self.weather) } else { cable.calm() })
            }
        }
    }

    /// What the router's thread has done so far.
    pub(super) fn line(&self) -> Option<weather::Account> {
        match &self.impairment {
            Impairment::Router(sky) => Some(sky.account()),
            Impairment::Kernel => None,
        }
    }

    /// The hosts of a node and of the fixed point, and the latter's address: for a look at the way between them.
    pub(super) fn ends(&self) -> (&Host, &Host, Ipv4Addr) {
        (&self.places[0].host, &self.fixed_place.host, self.fixed_place.ip)
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.places.iter().map(|place| place.kind).collect()
    }

    /// Starts everybody. All are on their way when this returns, nobody needs to have met anybody.
    pub(super) fn start(&mut self, cell: &Cell, work: &Workload, programs: &Programs) -> Result<()> {
        self.ears = (0..self.places.len()).map(|_| Ear::default()).collect();
        match cell.subject {
            Subject::Warren(transport) => {
                self.start_fixed_point(transport, &programs.warren)?;
                (0..self.places.len()).try_for_each(|node| self.start_warren(node, cell, &programs.warren))
            }
            Subject::Reference(carrier) => self.start_references(carrier, None, work, programs),
            Subject::Tuned(carrier, tuning) => self.start_references(carrier, Some(tuning), work, programs),
            Subject::Broker => {
                let program = programs.broker.as_ref().context("there is no mosquitto")?;
                self.start_broker(program)
            }
        }
    }

    /// Starts a warren anew, as it was, with what it has in its state directory.
    pub(super) fn restart(&mut self, node: usize, cell: &Cell, programs: &Programs) -> Result<()> {
        self.start_warren(node, cell, &programs.warren)
    }

    /// Ends a node without a word.
    pub(super) fn kill(&mut self, node: usize) {
        drop(self.voices[node].take());
        self.ears[node].forget();
    }

    /// Ends everybody.
    pub(super) fn stop(&mut self) {
        self.voices.iter_mut().for_each(|voice| drop(voice.take()));
        self.fixed = None;
        if let Some(mut broker) = self.broker.take() {
            // Both fail only when it has ended already.
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }

    /// A node says something, if it is there. Whether it was.
    pub(super) fn say(&mut self, node: usize, text: &str) -> Result<bool> {
        match &mut self.voices[node] {
            Some(Voice::Node(node)) => node.line(&format!("send {text}"))?,
            Some(Voice::Client(client)) => client.publish(text)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// What a warren answers to a bare command.
    pub(super) fn ask(&mut self, node: usize, what: &str) -> Result<serde_json::Value> {
        match &mut self.voices[node] {
            Some(Voice::Node(node)) => Ok(node.command(serde_json::json!({ "cmd": what }))?.body),
            _ => Err(anyhow!("node {node} is not there")),
        }
    }

    /// All that can be watched: nodes that are there, or the broker as node 0.
    pub(super) fn spots(&self) -> Vec<Spot> {
        if let Some(broker) = &self.broker {
            return vec![Spot { node: 0, host: self.fixed_place.host.clone(), pid: broker.id() }];
        }
        let spot = |(node, voice): (usize, &Option<Voice>)| match voice {
            Some(Voice::Node(process)) => {
                Some(Spot { node, host: self.places[node].host.clone(), pid: process.pid() })
            }
            _ => None,
        };
        self.voices.iter().enumerate().filter_map(spot).collect()
    }

    /// What each node has used up, the broker beside node 0.
    pub(super) fn loads(&self) -> Result<Vec<Load>> {
        let cables: Vec<&Cable> = self.places.iter().map(|place| &place.cable).collect();
        let traffic = self.lab.counters(&cables)?;
        let mut loads: Vec<Load> =
            traffic.into_iter().map(|traffic| Load { traffic, usage: Usage::default() }).collect();
        for spot in self.spots() {
            loads[spot.node].usage = process::usage(spot.pid)?;
        }
        Ok(loads)
    }

    fn start_fixed_point(&mut self, transport: Transport, warren: &Program) -> Result<()> {
        let mut command = self.lab.command(&self.fixed_place.host, &warren.path);
        warren.fixed_point(&mut command, PORT, 100_000, &self.scratch.state_dir("fixed")?, false);
        command.args(["--no-mdns", "--no-portmap", "--no-ipv6"]);
        let mut node = Node::start("the fixed point", command, None)?;
        let [quic, tcp] = fixed_point::addresses(&mut node)?;
        self.bootstrap = match transport {
            Transport::Tcp => vec![tcp],
            Transport::Quic => vec![quic],
            Transport::Mixed | Transport::Both => vec![quic, tcp],
        };
        self.fixed = Some(node);
        Ok(())
    }

    fn start_warren(&mut self, node: usize, cell: &Cell, warren: &Program) -> Result<()> {
        let Subject::Warren(transport) = cell.subject else { return Err(anyhow!("{cell} has no warrens")) };
        let place = &self.places[node];
        let mut command = self.lab.command(&place.host, &warren.path);
        let state_dir = self.scratch.path(&format!("{cell}-n{node}"));
        std::fs::create_dir_all(&state_dir)?;
        warren.member(&mut command, "study", node as u64 + 1, &state_dir, false);
        // What is to be seen is how nodes of different networks meet, and that with one family of addresses, as the
        // reference has it.
        command.args([
            "--no-mdns",
            "--no-portmap",
            "--no-ipv6",
            "--metrics",
            &format!("127.0.0.1:{METRICS}"),
        ]);
        let is_tcp_only = transport == Transport::Mixed && node % 2 == 1;
        match transport {
            Transport::Quic => command.arg("--quic-only"),
            Transport::Tcp => command.arg("--tcp-only"),
            _ if is_tcp_only => command.arg("--tcp-only"),
            _ => &mut command,
        };
        let bootstrap = self.bootstrap.iter().filter(|addr| !is_tcp_only || Carrier::Tcp.carries(addr));
        for addr in bootstrap {
            command.args(["--bootstrap", addr]);
        }
        let tap = self.ears[node].tap();
        self.voices[node] = Some(Voice::Node(Node::start(&format!("node {node}"), command, Some(tap))?));
        Ok(())
    }

    /// Each dials some of those before it, which must listen by then.
    fn start_references(
        &mut self,
        carrier: Carrier,
        tuning: Option<Tuning>,
        work: &Workload,
        programs: &Programs,
    ) -> Result<()> {
        let program = programs.reference.as_ref().context("there is no reference peer")?;
        let mut addrs: Vec<String> = Vec::new();
        let dials = tuning.map_or(DIALS, |tuning| tuning.sweep().dials(DIALS));
        for (node, dials) in work.dials(dials).into_iter().enumerate() {
            let place = &self.places[node];
            let mut command = self.lab.command(&place.host, &program.path);
            let listen = carrier.listen(place.ip, PORT);
            command.args(["--listen", &listen, "--room", "study"]);
            command.args(["--secret-key-seed", &(node + 1).to_string()]);
            command.args(tuning.into_iter().flat_map(Tuning::options));
            for other in dials {
                command.args(["--bootstrap", &addrs[usize::from(other)]]);
            }
            let tap = self.ears[node].tap();
            let mut started = Node::start(&format!("reference {node}"), command, Some(tap))?;
            addrs.push(started.listening()?);
            self.voices[node] = Some(Voice::Node(started));
        }
        Ok(())
    }

    fn start_broker(&mut self, program: &Path) -> Result<()> {
        let (host, ip) = (&self.fixed_place.host, self.fixed_place.ip);
        let config = self.scratch.path("mosquitto.conf");
        // As root it would become a user that may not exist.
        let lines = format!(
            "listener {PORT} {ip}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nuser root\nlog_type none\n"
        );
        std::fs::write(&config, lines).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = self.lab.command(host, program);
        let command = command.arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::null());
        self.broker = Some(command.spawn().context("cannot start mosquitto")?);
        let addr = SocketAddr::from((ip, PORT));
        let deadline = Instant::now() + PROMPTLY;
        while self.lab.on(host, || Ok(TcpStream::connect(addr)?)).is_err() {
            ensure!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        for (node, place) in self.places.iter().enumerate() {
            let (ear, name) = (self.ears[node].clone(), format!("n{node}"));
            let client = self.lab.on(&place.host, || Client::new(addr, &name, ear))?;
            self.voices[node] = Some(Voice::Client(client));
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Place {
    fn new(lab: &Lab, kind: Kind, name: &str, number: u16) -> Result<Self> {
        let Home { host, uplink, public: [ip, _], .. } = Home::new(lab, kind, name, number)?;
        let IpAddr::V4(ip) = ip else { return Err(anyhow!("{name} has no IPv4 address")) };
        Ok(Place { host, cable: uplink, ip, kind })
    }
}

/// Why there can be no study on this machine.
pub(super) fn obstacle(nat: bool) -> Option<String> {
    if nat { home::obstacle() } else { Lab::obstacle() }
}
