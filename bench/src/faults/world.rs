//! One fault, from the lab's first cable to the account of what was heard.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::account::{Hearing, LATE};
use super::clock::{Clock, Clocks};
use super::fault::{Fault, Touched, Whose};
use super::report::Record;
use crate::fixed_point;
use crate::lab::Lab;
use crate::lab::home::Home;
use crate::lab::kind::Kind;
use crate::node::Node;
use crate::program::Program;
use crate::scratch::Scratch;
use crate::story::Story;

/// Rooms, and the homes of their members. Nobody is in two.
const ROOMS: [(&str, &[Kind]); 3] = [
    ("trio", &[Kind::PortRestricted, Kind::PortRestricted, Kind::Public]),
    ("pair", &[Kind::PortRestricted, Kind::PortRestricted]),
    ("relayed", &[Kind::SymmetricRandom, Kind::SymmetricRandom]),
];

/// The last of [`ROOMS`] is the one that stays relayed.
const RELAYED: usize = ROOMS.len() - 1;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Where relays listen.
const PORT: u16 = 4001;

/// Between two lines that a member says.
const PACE: Duration = Duration::from_millis(200);

/// Between two looks at what has become of the rooms.
const LOOK: Duration = Duration::from_millis(20);

/// All rooms are as they shall be so long after the start at the most.
const TO_SETTLE: Duration = Duration::from_secs(40);

/// Then they stay so for a while before anything happens.
const CALM: Duration = Duration::from_secs(3);

/// How long an interface is down, or a cable pulled.
pub(super) const AWAY: Duration = Duration::from_secs(5);

/// Rooms are watched for so long at least, as some faults take a while to be felt ...
const WATCH: Duration = Duration::from_secs(20);

/// ... and until all is well again, but no longer than this.
const PATIENCE: Duration = Duration::from_secs(75);

/// All is well when everything was heard in time that was said in so long.
const WELL: Duration = Duration::from_secs(3);

/// What was said so long before the fault may be lost by it, and counts.
const BEFORE: Duration = Duration::from_millis(500);

/// Added to the number of a home's network when it gets another one.
const ELSEWHERE: u16 = 100;

/// What all faults need, made once.
pub(super) struct World<'a> {
    pub(super) warren: &'a Program,
    pub(super) scratch: &'a Scratch,
    pub(super) clocks: Option<&'a Clocks>,
    pub(super) logs: Option<&'a Path>,
    pub(super) delay: Duration,
}

/// The kinds of homes that there are.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = ROOMS.iter().flat_map(|(_, kinds)| kinds.iter().copied()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// A program in a home of its own.
struct Place {
    name: String,
    home: Home,
    /// Of its network.
    number: u16,
    /// `None` while it is dead.
    node: Option<Node>,
    clock: Option<Clock>,
}

struct Member {
    place: Place,
    room: usize,
    seed: u64,
    story: Story,
    peer: String,
    /// When each line was said.
    said: Vec<Instant>,
}

/// A lab with everybody in it.
struct Stage<'a> {
    world: &'a World<'a>,
    lab: &'a Lab,
    fault: Fault,
    number: usize,
    relays: Vec<Place>,
    members: Vec<Member>,
    /// What members know of the relays.
    known: Vec<String>,
    /// When the next lines are due.
    due: Instant,
}

impl World<'_> {
    /// What the fault does to each room.
    pub(super) fn strike(&self, fault: Fault, number: usize) -> Vec<Record> {
        self.play(fault, number).unwrap_or_else(|e| {
            let record = |room| Record {
                fault,
                number,
                room,
                resumed: None,
                kept_lost: 0,
                said: 0,
                lost: 0,
                taken_lost: 0,
                repeated: 0,
                paths: Default::default(),
                direct: None,
                trouble: Some(format!("{e:#}")),
            };
            vec![record("all")]
        })
    }

    fn play(&self, fault: Fault, number: usize) -> Result<Vec<Record>> {
        let lab = Lab::new()?;
        lab.slow_down(self.delay)?;
        let mut stage = Stage {
            world: self,
            lab: &lab,
            fault,
            number,
            relays: Vec::new(),
            members: Vec::new(),
            known: Vec::new(),
            due: Instant::now(),
        };
        stage.set_up()?;
        stage.settle()?;
        let before: Vec<String> = (0..ROOMS.len()).map(|room| stage.path(room)).collect();
        let struck = stage.strike()?;
        let end = stage.watch(struck)?;
        let mut records = Vec::new();
        for (room, before) in before.into_iter().enumerate() {
            records.push(stage.judge(room, struck, end, before));
        }
        // How they end says whether they are well.
        let relays = stage.relays.into_iter();
        let places = stage.members.into_iter().map(|member| member.place).chain(relays);
        for node in places.filter_map(|place| place.node) {
            if let Err(e) = node.stop() {
                records[0].trouble.get_or_insert(format!("{e:#}"));
            }
        }
        Ok(records)
    }
}

impl Stage<'_> {
    /// Starts all programs.
    fn set_up(&mut self) -> Result<()> {
        for number in [1, 2] {
            let place = self.place(&format!("r{number}"), Kind::Public, number, Whose::Relay)?;
            self.relays.push(place);
        }
        for n in 0..self.relays.len() {
            let known = self.start_relay(n)?;
            self.known.extend(known);
        }
        if self.fault == Fault::BothRelaysMoved {
            // A relay's address is the address of its home.
            for relay in &self.relays {
                let numbers = format!("/ip4/{}/", relay.home.public[0]);
                let name = format!("/dns4/{}/", relay.host_name());
                self.known.iter_mut().for_each(|addr| *addr = addr.replace(&numbers, &name));
            }
        }
        for (room, (name, kinds)) in ROOMS.into_iter().enumerate() {
            for (n, kind) in kinds.iter().enumerate() {
                let seed = 1 + self.members.len() as u64;
                let whose = if n == 0 { Whose::Member } else { Whose::Members };
                let name = format!("{name}-{}", NAMES[n]);
                let mut place = self.place(&name, *kind, 10 + seed as u16, whose)?;
                self.tell_names(&place)?;
                let story = Story::default();
                place.node = Some(self.start_member(&place, room, seed, &story)?);
                let member = Member { place, room, seed, story, peer: String::new(), said: Vec::new() };
                self.members.push(member);
            }
        }
        Ok(())
    }

    /// A home, and a clock where the fault is about those.
    fn place(&self, name: &str, kind: Kind, number: u16, whose: Whose) -> Result<Place> {
        let home = Home::new(self.lab, kind, name, number)?;
        let is_turned = match self.fault {
            Fault::ClockSet(of, _) | Fault::StartedWrong(of, _) => {
                of == whose || of == Whose::Members && whose == Whose::Member
            }
            _ => false,
        };
        let file = self.world.scratch.path(&format!("clock-{}-{name}", self.number));
        let clock = match self.world.clocks {
            Some(clocks) if is_turned => Some(clocks.clock(file)?),
            _ => None,
        };
        Ok(Place { name: name.to_owned(), home, number, node: None, clock })
    }

    /// Starts a relay, or starts it again, and tells where it is.
    fn start_relay(&mut self, n: usize) -> Result<[String; 2]> {
        let place = &self.relays[n];
        self.tell_names(place)?;
        let mut command = self.lab.command(&place.home.host, &self.world.warren.path);
        let state = self.world.scratch.state_dir(&format!("{}-{}", self.number, place.name))?;
        self.world.warren.fixed_point(&mut command, PORT, 1000 + n as u64, &state, self.world.logs.is_some());
        // They are one net: each finds the other one, wherever it is.
        for addr in &self.known {
            command.args(["--bootstrap", addr]);
        }
        place.dress(&mut command);
        let log = self.log(&place.name)?;
        let mut node = Node::start_logged(&place.name, command, None, log)?;
        let addrs = fixed_point::addresses(&mut node)?;
        self.relays[n].node = Some(node);
        Ok(addrs)
    }

    fn start_member(&self, place: &Place, room: usize, seed: u64, story: &Story) -> Result<Node> {
        let mut command = self.lab.command(&place.home.host, &self.world.warren.path);
        // What it wrote down before it was killed is there when it starts again.
        let state = self.world.scratch.path(&format!("state-{}-{}", self.number, place.name));
        std::fs::create_dir_all(&state)?;
        self.world.warren.member(&mut command, ROOMS[room].0, seed, &state, self.world.logs.is_some());
        command.arg("--no-mdns");
        for addr in &self.known {
            command.args(["--bootstrap", addr, "--relay", addr]);
        }
        place.dress(&mut command);
        Node::start_logged(&place.name, command, Some(story.tap()), self.log(&place.name)?)
    }

    /// A second life is written behind the first one.
    fn log(&self, name: &str) -> Result<Option<File>> {
        let path =
            self.world.logs.map(|logs| logs.join(format!("{}-{}-{name}.log", self.fault, self.number)));
        path.map(|path| {
            let opened = File::options().append(true).create(true).open(&path);
            opened.with_context(|| format!("cannot write {}", path.display()))
        })
        .transpose()
    }

    /// Has them talk until each room is as it shall be, and a while longer.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + TO_SETTLE;
        let mut since = None;
        loop {
            self.talk(Instant::now() + LOOK)?;
            for member in self.members.iter_mut().filter(|member| member.peer.is_empty()) {
                member.peer = member.story.peer().unwrap_or_default();
            }
            let now = Instant::now();
            let is_settled = self.is_well(now)
                && (0..RELAYED).all(|room| self.is_direct(room))
                && self.carrier().is_some();
            since = if is_settled { since.or(Some(now)) } else { None };
            if since.is_some_and(|since| now > since + CALM) {
                return Ok(());
            }
            let paths: Vec<String> = (0..ROOMS.len()).map(|room| self.path(room)).collect();
            ensure!(now < deadline, "before any fault, not all was well within {TO_SETTLE:?}: {paths:?}");
        }
    }

    /// Says what is due until then.
    fn talk(&mut self, until: Instant) -> Result<()> {
        while self.due <= until {
            std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
            self.due += PACE;
            for member in &mut self.members {
                let Some(node) = &mut member.place.node else { continue };
                member.said.push(Instant::now());
                let number = member.said.len();
                node.line(&format!(r#"{{"cmd":"send","text":"{number}","id":{number}}}"#))?;
            }
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Does it. Returns when it began.
    fn strike(&mut self) -> Result<Instant> {
        let carrier = self.carrier().context("nobody carries the relayed room")?;
        let struck = Instant::now();
        match self.fault {
            Fault::RelayKilled => drop(self.relays[carrier].node.take()),
            Fault::RelayMoved => self.move_relay(carrier)?,
            Fault::BothRelaysMoved => {
                (0..self.relays.len()).try_for_each(|n| self.move_relay(n))?;
                self.members.iter().try_for_each(|member| self.tell_names(&member.place))?;
            }
            Fault::NatRebooted => self.homes().try_for_each(|home| home.reboot(self.lab))?,
            Fault::AddressChanged => {
                let lab = self.lab;
                for member in self.members.iter_mut().filter(|member| member.is_first()) {
                    let number = member.place.number + ELSEWHERE;
                    member.place.home.renumber(lab, number)?;
                }
            }
            Fault::InterfaceFlapped => {
                self.homes().try_for_each(|home| home.down(self.lab))?;
                self.talk(struck + AWAY)?;
                self.homes().try_for_each(|home| home.up(self.lab))?;
            }
            Fault::CablePulled => {
                self.homes().try_for_each(|home| home.uplink.cut())?;
                self.talk(struck + AWAY)?;
                self.homes().try_for_each(|home| home.uplink.mend())?;
            }
            Fault::ClockSet(_, years) => self.clocks().try_for_each(|clock| clock.set(years))?,
            Fault::StartedWrong(Whose::Relay, years) => {
                self.relays[carrier].node = None;
                self.relays[carrier].clock.iter().try_for_each(|clock| clock.set(years))?;
                self.start_relay(carrier)?;
            }
            Fault::StartedWrong(_, years) => {
                self.clocks().try_for_each(|clock| clock.set(years))?;
                let turned = |member: &Member| member.place.clock.is_some();
                self.members.iter_mut().filter(|member| turned(member)).for_each(|m| m.place.node = None);
                for n in 0..self.members.len() {
                    let member = &self.members[n];
                    if turned(member) {
                        let node =
                            self.start_member(&member.place, member.room, member.seed, &member.story)?;
                        self.members[n].place.node = Some(node);
                    }
                }
            }
        }
        Ok(struck)
    }

    /// A relay is killed, and comes up with another address. The other one is what it knows.
    fn move_relay(&mut self, n: usize) -> Result<()> {
        self.relays[n].node = None;
        let number = self.relays[n].number + ELSEWHERE;
        self.relays[n].home.renumber(self.lab, number)?;
        self.start_relay(n).map(drop)
    }

    /// What the relays are called.
    fn tell_names(&self, place: &Place) -> Result<()> {
        let lines =
            self.relays.iter().map(|relay| format!("{} {}\n", relay.home.public[0], relay.host_name()));
        self.lab.names(&place.home.host, &lines.collect::<String>())
    }

    /// Has them talk until all is well again, or has no prospect. Returns what is the end for the account.
    fn watch(&mut self, struck: Instant) -> Result<Instant> {
        loop {
            self.talk(Instant::now() + LOOK)?;
            let now = Instant::now();
            if now > struck + PATIENCE || now > struck + WATCH && self.is_well(now) {
                break;
            }
        }
        let end = Instant::now();
        std::thread::sleep(LATE);
        Ok(end)
    }

    /// Whether everybody hears in time what each other one in the room says.
    fn is_well(&self, now: Instant) -> bool {
        let (from, to) = (now - LATE - WELL, now - LATE);
        let well = |(speaker, hearer): (&Member, &Member)| speaker.heard_by(hearer).is_well(from, to);
        (0..ROOMS.len()).all(|room| self.pairs(room).all(well))
    }

    fn judge(&self, room: usize, struck: Instant, end: Instant, before: String) -> Record {
        let from = struck - BEFORE;
        let mut record = Record {
            fault: self.fault,
            number: self.number,
            room: ROOMS[room].0,
            resumed: Some(0.0),
            kept_lost: 0,
            said: 0,
            lost: 0,
            taken_lost: 0,
            repeated: 0,
            paths: [before, self.path(room)],
            direct: self.direct_since(room, struck),
            trouble: None,
        };
        for (speaker, hearer) in self.pairs(room) {
            let hearing = speaker.heard_by(hearer);
            let (lost, taken) = (hearing.lost(from, end), speaker.story.taken());
            record.taken_lost += lost.iter().filter(|number| taken.contains(&(**number as u64))).count();
            let lost = lost.len();
            record.said += hearing.said.iter().filter(|said| (from..=end).contains(said)).count();
            record.lost += lost;
            record.repeated += hearing.repeated();
            let resumed = hearing.recovered(struck, end).map(|time| time.as_secs_f64());
            record.resumed = record.resumed.zip(resumed).map(|(one, other)| one.max(other));
            let is_touched = match self.fault.touches() {
                Touched::Nothing => false,
                Touched::Relayed => room == RELAYED,
                Touched::First => speaker.is_first() || hearer.is_first(),
                Touched::Everything => true,
            };
            if !is_touched {
                record.kept_lost += lost;
            }
        }
        record
    }

    /// The relay between the members of the relayed room.
    fn carrier(&self) -> Option<usize> {
        let path = self.path(RELAYED);
        let is_at = |name: String| path.contains(&format!("/{name}/"));
        let is_on_path = |relay: &Place| {
            let ips = relay.home.public.iter().map(ToString::to_string);
            ips.chain([relay.host_name()]).any(is_at)
        };
        self.relays.iter().position(is_on_path)
    }

    /// How `a` and `b` of a room are connected, as `a` says: `direct`, a relay's address, or `none`.
    fn path(&self, room: usize) -> String {
        let last = self.first_two(room).and_then(|[a, b]| a.story.paths(&b.peer).pop());
        match last {
            Some((_, path, addr)) if path == "relayed" => {
                let relay = addr.split("/p2p/").next().unwrap_or_default();
                format!("{relay}/")
            }
            Some((_, path, _)) => path,
            None => "none".to_owned(),
        }
    }

    fn is_direct(&self, room: usize) -> bool {
        self.first_two(room).is_some_and(|[a, b]| {
            [(a, b), (b, a)]
                .iter()
                .all(|(a, b)| a.story.paths(&b.peer).last().is_some_and(|(_, path, _)| path == "direct"))
        })
    }

    /// When both called it direct for the last time, if that was after the fault.
    fn direct_since(&self, room: usize, struck: Instant) -> Option<f64> {
        let [a, b] = self.first_two(room)?;
        let last = |a: &Member, b: &Member| {
            let paths = a.story.paths(&b.peer);
            paths.last().filter(|(at, path, _)| path == "direct" && *at > struck).map(|(at, ..)| *at)
        };
        Some((last(a, b)?.max(last(b, a)?) - struck).as_secs_f64())
    }

    fn first_two(&self, room: usize) -> Option<[&Member; 2]> {
        let mut members = self.members.iter().filter(|member| member.room == room);
        Some([members.next()?, members.next()?])
    }

    /// Who speaks, and who shall hear it.
    fn pairs(&self, room: usize) -> impl Iterator<Item = (&Member, &Member)> {
        let members = move || self.members.iter().filter(move |member| member.room == room);
        let both = members().flat_map(move |speaker| members().map(move |hearer| (speaker, hearer)));
        both.filter(|(speaker, hearer)| speaker.seed != hearer.seed)
    }

    /// The homes that faults are done to.
    fn homes(&self) -> impl Iterator<Item = &Home> {
        self.members.iter().filter(|member| member.is_first()).map(|member| &member.place.home)
    }

    fn clocks(&self) -> impl Iterator<Item = &Clock> {
        let places = self.members.iter().map(|member| &member.place).chain(&self.relays);
        places.filter_map(|place| place.clock.as_ref())
    }
}

impl Member {
    /// Whether it is the `a` of its room.
    fn is_first(&self) -> bool {
        self.place.name.ends_with("-a")
    }

    fn heard_by(&self, hearer: &Member) -> Hearing<'_> {
        Hearing::new(&self.said, &hearer.story.heard(&self.peer))
    }
}

impl Place {
    fn host_name(&self) -> String {
        format!("{}.test", self.name)
    }

    fn dress(&self, command: &mut std::process::Command) {
        if let Some(clock) = &self.clock {
            clock.wear(command);
        }
    }
}
