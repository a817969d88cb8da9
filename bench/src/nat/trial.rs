//! One meeting of two homes, from the start of a relay to the end of the nodes.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kinds::{Expected, expected};
use crate::fixed_point;
use crate::lab::home::{self, Home, INTERFACE};
use crate::lab::kind::Kind;
use crate::lab::{Host, Lab};
use crate::node::{Node, PROMPTLY};
use crate::program::Program;
use crate::scratch::Scratch;
use crate::story::Story;

/// Where the relay listens.
const PORT: u16 = 4001;

/// The later node is started so much later at most.
const STAGGER: Duration = Duration::from_secs(1);

/// Between two lines that a node says.
const PACE: Duration = Duration::from_millis(100);

/// Who has not heard the other one by then will not.
const STRANGERS: Duration = Duration::from_secs(20);

/// How long a direct connection may take where one is expected, and how long none may come where none is.
const TO_DIRECT: Duration = Duration::from_secs(30);
const TO_STAY_RELAYED: Duration = Duration::from_secs(12);

/// What they say in the end is the proof that they are still connected.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All that was said must be heard so long after the last of it at the most. What a connection
/// took along when it closed, in favour of a direct one, is asked for then, and once more 2 s later.
const LATE: Duration = Duration::from_secs(8);

/// Between two looks at what nodes have said.
const LOOK: Duration = Duration::from_millis(5);

/// What a pair needs, made once.
pub(super) struct World<'a> {
    pub(super) lab: &'a Lab,
    pub(super) warren: &'a Program,
    pub(super) scratch: &'a Scratch,
    pub(super) logs: Option<&'a Path>,
    /// Once all is as it shall be they stay for so long, and talk in the first and the last second of that.
    pub(super) settle: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) a: Kind,
    pub(super) b: Kind,
    pub(super) number: usize,
    pub(super) outcome: Outcome,
    /// From the start of the later node until the later of the two first heard the other one. Unit: seconds.
    pub(super) to_message: Option<f64>,
    /// From the first connection of any kind until both have a direct one. Unit: seconds.
    pub(super) to_direct: Option<f64>,
    /// How the connection went at last, on each side.
    pub(super) addrs: [String; 2],
    /// Packets that each node sent until it was direct, or was not waited for any more.
    pub(super) packets: [u64; 2],
    pub(super) said: usize,
    pub(super) lost: usize,
    pub(super) repeated: usize,
    /// What else went wrong.
    pub(super) trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Direct,
    Relayed,
    /// They did not hear each other.
    Failed,
}

/// A node of the pair.
struct Side {
    home: Home,
    node: Node,
    story: Story,
    started: Instant,
    /// Lines said.
    said: usize,
}

impl World<'_> {
    /// `number` tells it from all other trials, by file and network.
    pub(super) fn trial(&self, a: Kind, b: Kind, number: usize) -> Trial {
        let mut trial = Trial {
            a,
            b,
            number,
            outcome: Outcome::Failed,
            to_message: None,
            to_direct: None,
            addrs: Default::default(),
            packets: [0; 2],
            said: 0,
            lost: 0,
            repeated: 0,
            trouble: None,
        };
        if let Err(e) = self.meet(&mut trial) {
            trial.trouble = Some(format!("{e:#}"));
        }
        trial
    }

    fn meet(&self, trial: &mut Trial) -> Result<()> {
        let number = trial.number;
        let networks = [1, 2, 3].map(|n| (4 * number + n) as u16);
        let relay_host = self.lab.host(&format!("{number}r"))?;
        let (v4, v6) = home::networks(networks[0]);
        self.lab.uplink(&relay_host, INTERFACE, v4, v6)?;
        let mut homes = [("a", trial.a, networks[1]), ("b", trial.b, networks[2])]
            .into_iter()
            .map(|(name, kind, net)| Home::new(self.lab, kind, &format!("{number}{name}"), net))
            .collect::<Result<Vec<_>>>()?;
        let (relay, bootstrap) = self.start_relay(&relay_host, number)?;
        // Who is there first is left to chance.
        let is_swapped = fastrand::bool();
        if is_swapped {
            homes.reverse();
        }
        let mut sides = Vec::new();
        for (home, seed) in homes.into_iter().zip(1..) {
            if seed == 2 {
                std::thread::sleep(STAGGER.mul_f64(fastrand::f64()));
            }
            sides.push(self.start(home, number, seed, &bootstrap)?);
        }
        if is_swapped {
            sides.reverse();
        }
        let mut sides: [Side; 2] = sides.try_into().ok().context("two homes")?;
        let done = self.watch(&mut sides, trial);
        for side in sides {
            let Side { home, node, .. } = side;
            let name = node.name().to_owned();
            let stopped = node.stop();
            if let Err(e) = stopped {
                trial.trouble.get_or_insert(format!("{name}: {e:#}"));
            }
            home.remove(self.lab)?;
        }
        drop(relay);
        self.lab.remove(&relay_host)?;
        done
    }

    pub(super) fn start_relay(&self, host: &Host, number: usize) -> Result<(Node, [String; 2])> {
        let mut command = self.lab.command(host, &self.warren.path);
        let name = format!("{number}r");
        let verbose = self.logs.is_some();
        self.warren.fixed_point(&mut command, PORT, 1000, &self.scratch.state_dir(&name)?, verbose);
        let mut relay = Node::start_logged("the relay", command, None, self.log(&name)?)?;
        let addrs = fixed_point::addresses(&mut relay)?;
        Ok((relay, addrs))
    }

    fn start(&self, home: Home, number: usize, seed: u64, bootstrap: &[String]) -> Result<Side> {
        let mut command = self.lab.command(&home.host, &self.warren.path);
        let name = format!("{number}-{}-{seed}", home.kind);
        let verbose = self.logs.is_some();
        self.warren.member(&mut command, "nat", seed, &self.scratch.state_dir(&name)?, verbose);
        command.arg("--no-mdns");
        for addr in bootstrap {
            command.args(["--bootstrap", addr]);
        }
        let story = Story::default();
        let node = Node::start_logged(&name, command, Some(story.tap()), self.log(&name)?)?;
        Ok(Side { home, node, story, started: Instant::now(), said: 0 })
    }

    /// Has them talk until it is clear what becomes of them.
    fn watch(&self, sides: &mut [Side; 2], trial: &mut Trial) -> Result<()> {
        let later = sides[0].started.max(sides[1].started);
        let peers = self.peers(sides)?;
        let wait = match expected(trial.a, trial.b) {
            Expected::Relayed => TO_STAY_RELAYED,
            Expected::Direct | Expected::Likely(_) => TO_DIRECT,
        };
        let (mut due, mut end) = (Instant::now(), None);
        let mut limit = later + STRANGERS;
        loop {
            let now = Instant::now();
            if now >= due {
                due += PACE;
                let is_pause = |end: Instant| now + LAST_WORDS < end && now + self.settle > end + LAST_WORDS;
                if !end.is_some_and(is_pause) {
                    say(sides, &peers)?;
                }
            }
            let met = first_met(sides, &peers);
            let heard = both(sides, |side, n| side.story.heard(&peers[1 - n]).first().map(|(at, _)| *at));
            let direct = both(sides, |side, n| {
                let paths = side.story.paths(&peers[1 - n]);
                paths.iter().find(|(_, path, _)| path == "direct").map(|(at, ..)| *at)
            });
            if let (Some(met), Some(_)) = (met, heard) {
                limit = met + wait;
            }
            if end.is_none() && (heard.is_some() && direct.is_some() || now >= limit) {
                trial.to_message = heard.map(|at| at.saturating_duration_since(later).as_secs_f64());
                trial.to_direct = met.zip(direct).map(|(met, at)| (at - met).as_secs_f64());
                trial.packets = [self.sent(&sides[0])?, self.sent(&sides[1])?];
                if heard.is_none() {
                    return Ok(());
                }
                end = Some(now + self.settle);
            }
            if end.is_some_and(|end| now >= end) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        self.judge(sides, &peers, trial);
        Ok(())
    }

    fn judge(&self, sides: &[Side; 2], peers: &[String; 2], trial: &mut Trial) {
        let deadline = Instant::now() + LATE;
        loop {
            let counts = [0, 1].map(|n| {
                let mut counts = HashMap::new();
                let heard = sides[n].story.heard(&peers[1 - n]);
                heard.into_iter().for_each(|(_, text)| *counts.entry(text).or_insert(0_usize) += 1);
                counts
            });
            trial.said = sides[0].said + sides[1].said;
            trial.lost =
                [0, 1].map(|n| sides[1 - n].said - counts[n].len().min(sides[1 - n].said)).iter().sum();
            trial.repeated = counts.iter().flat_map(HashMap::values).map(|times| times - 1).sum();
            if trial.lost == 0 || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let last = [0, 1].map(|n| sides[n].story.paths(&peers[1 - n]).pop());
        let is_direct = last.iter().all(|path| path.as_ref().is_some_and(|(_, path, _)| path == "direct"));
        trial.outcome = if is_direct { Outcome::Direct } else { Outcome::Relayed };
        trial.addrs = last.map(|path| path.map(|(.., addr)| addr).unwrap_or_default());
    }

    fn peers(&self, sides: &[Side; 2]) -> Result<[String; 2]> {
        let deadline = Instant::now() + PROMPTLY;
        loop {
            if let [Some(a), Some(b)] = [0, 1].map(|n: usize| sides[n].story.peer()) {
                return Ok([a, b]);
            }
            anyhow::ensure!(Instant::now() < deadline, "a node does not start");
            std::thread::sleep(LOOK);
        }
    }

    fn sent(&self, side: &Side) -> Result<u64> {
        self.lab.sent(&side.home.host, INTERFACE)
    }

    pub(super) fn log(&self, name: &str) -> Result<Option<File>> {
        let path = self.logs.map(|logs| logs.join(format!("{name}.log")));
        path.map(|path| File::create(&path).with_context(|| format!("cannot write {}", path.display())))
            .transpose()
    }
}

/// One more line of each that knows the other one to be in the room.
fn say(sides: &mut [Side; 2], peers: &[String; 2]) -> Result<()> {
    for (n, side) in sides.iter_mut().enumerate() {
        if side.story.first("member_joined", &peers[1 - n]).is_some() {
            side.said += 1;
            side.node.line(&format!("send {}", side.said))?;
        }
    }
    Ok(())
}

/// The later of two times, if there are both.
fn both(sides: &[Side; 2], of: impl Fn(&Side, usize) -> Option<Instant>) -> Option<Instant> {
    Some(of(&sides[0], 0)?.max(of(&sides[1], 1)?))
}

fn first_met(sides: &[Side; 2], peers: &[String; 2]) -> Option<Instant> {
    (0..2).filter_map(|n| sides[n].story.first("peer_connected", &peers[1 - n])).min()
}
