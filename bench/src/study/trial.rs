//! One cell: everybody starts, gets to know each other, and is measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::ear::{Account, MEASURED, WARM};
use super::plan::{Cell, Line, Subject, Workload};
use super::progress::Progress;
use super::samples::{self, Samples};
use super::world::{Load, Programs, World};
use crate::lab::weather;

/// Who has not been heard by everybody by then is not waited for any more.
const STRANGERS: Duration = Duration::from_secs(60);

/// What has not arrived so long after it was said does not arrive.
const DRAIN: Duration = Duration::from_secs(10);

/// Nodes that take what they shall say so much later do not keep up with it.
const BEHIND: Duration = Duration::from_secs(5);

/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(5);

/// How long things take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Between the moment when all have heard all and the measurement.
    pub(super) settle: Duration,
    pub(super) measure: Duration,
    /// Between two scrapes.
    pub(super) scrape: Duration,
    /// Share of nodes that are away for a while.
    pub(super) churn: f64,
}

/// A peer of a node at the end, as the node says.
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) addr: String,
    pub(super) is_direct: bool,
    pub(super) rtt_ms: Option<f64>,
}

/// Everything that a cell yields.
pub(super) struct Record {
    pub(super) cell: Cell,
    /// When the first process was about to be started.
    pub(super) start: Instant,
    /// When all had heard all, if that was so before [`STRANGERS`]. Unit: seconds since the start.
    pub(super) heard_all: Option<f64>,
    /// When the measurement began, and how long CPU time and traffic were counted.
    pub(super) measured_from: Instant,
    pub(super) seconds: f64,
    pub(super) sent: Sent,
    pub(super) accounts: Vec<Account>,
    pub(super) before: Vec<Load>,
    pub(super) after: Vec<Load>,
    pub(super) samples: Samples,
    pub(super) peers: Vec<Vec<Peer>>,
    /// How many peers each warren has in its mesh at the end.
    pub(super) meshes: Vec<usize>,
    /// Nodes that were away for a while.
    pub(super) absent: Vec<usize>,
    /// What the router's thread did meanwhile, if it did the impairment.
    pub(super) line: Option<weather::Account>,
    /// Share of the machine's CPU time that was not idle, and CPU seconds of this process.
    pub(super) busy: f64,
    pub(super) own_cpu: f64,
    /// What went wrong beside what the figures tell.
    pub(super) troubles: Vec<String>,
}

/// Has a cell run. Everybody has ended when it returns.
pub(super) fn run(
    world: &mut World,
    cell: Cell,
    work: &Workload,
    times: &Times,
    programs: &Programs,
    progress: &Progress,
) -> Result<Record> {
    if cell.impaired {
        world.impair(true)?;
    }
    let done = Trial { cell, work, times, programs, progress }.measure(world);
    world.stop();
    if cell.impaired {
        world.impair(false)?;
    }
    done.with_context(|| format!("{cell}"))
}

/// When each message was written to its author, by author and number; `None` if the author was away.
pub(super) type Sent = Vec<Vec<Option<Instant>>>;

struct Trial<'a> {
    cell: Cell,
    work: &'a Workload,
    times: &'a Times,
    programs: &'a Programs,
    progress: &'a Progress,
}

impl Trial<'_> {
    fn measure(&self, world: &mut World) -> Result<Record> {
        let start = Instant::now();
        self.progress.say(&format!("{}: starting", self.cell));
        world.start(&self.cell, self.work, self.programs)?;
        let heard_all = self.warm_up(world, start)?;

        for ear in &world.ears {
            // Before that a node may have had nobody to say anything to.
            ear.account().refusal = None;
        }
        let lines = self.work.lines(self.times.measure);
        let (before, line) = (world.loads()?, world.line());
        let (idle_before, own_before) = (cpu_of_machine()?, own_cpu()?);
        let measured_from = Instant::now();
        let (sent, samples, absent) = self.talk_and_watch(world, &lines, measured_from)?;
        self.drain(world, &sent, &absent);
        let seconds = measured_from.elapsed().as_secs_f64();
        let after = world.loads()?;
        let (idle, own) = (cpu_of_machine()?, own_cpu()?);

        let spent = world.line().zip(line).map(|(after, before)| after.since(&before));
        let (mut all_peers, mut meshes) = (Vec::new(), Vec::new());
        if matches!(self.cell.subject, Subject::Warren(_)) {
            for node in 0..self.nodes() {
                all_peers.push(peers(world, node)?);
                let mesh = &world.ask(node, "rooms")?["rooms"][0]["mesh"];
                meshes.push(mesh.as_u64().context("no mesh in the answer")? as usize);
            }
        }
        let accounts: Vec<Account> = world.ears.iter().map(|ear| ear.account().clone()).collect();
        let mut troubles = troubles(&accounts, &samples, &absent);
        if heard_all.is_none() {
            troubles.push(format!("not everybody had heard everybody within {} s", STRANGERS.as_secs()));
        }
        let turns: usize = sent.iter().map(Vec::len).sum();
        if turns < lines.len() {
            let left = lines.len() - turns;
            troubles
                .push(format!("{left} of {} messages were left out: the nodes did not keep up", lines.len()));
        }
        Ok(Record {
            cell: self.cell,
            start,
            heard_all,
            measured_from,
            seconds,
            sent,
            troubles,
            accounts,
            before,
            after,
            samples,
            peers: all_peers,
            meshes,
            absent,
            line: spent.filter(|_| self.cell.impaired),
            busy: 1.0 - (idle.0 - idle_before.0) / (idle.1 - idle_before.1),
            own_cpu: own - own_before,
        })
    }

    fn nodes(&self) -> usize {
        usize::from(self.work.nodes)
    }

    /// Everybody talks until everybody has heard everybody, and for a while after that. Returns when that was.
    fn warm_up(&self, world: &mut World, start: Instant) -> Result<Option<f64>> {
        let mut heard_all = None;
        let mut end = start + STRANGERS;
        let begin = Instant::now();
        let lines = self.work.lines(STRANGERS + self.times.settle + Duration::from_secs(5));
        for line in &lines {
            loop {
                if heard_all.is_none() && self.has_everybody_heard(world) {
                    let accounts =
                        world.ears.iter().flat_map(|ear| ear.account().first.values().max().copied());
                    let last = accounts.max().context("nobody has heard anybody")?;
                    heard_all = Some((last - start).as_secs_f64());
                    end = Instant::now() + self.times.settle;
                    self.progress.say(&format!("{}: all have heard all", self.cell));
                }
                let left = (begin + line.at).saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(LOOK.min(left));
            }
            if Instant::now() > end {
                break;
            }
            world.say(line.author.into(), &self.work.text(WARM, line))?;
        }
        Ok(heard_all)
    }

    fn has_everybody_heard(&self, world: &World) -> bool {
        world.ears.iter().all(|ear| ear.acquaintances() >= self.nodes() - 1)
    }

    /// Everybody says what is to be measured, while a second thread looks at the processes. Who was to be away was.
    fn talk_and_watch(
        &self,
        world: &mut World,
        lines: &[Line],
        start: Instant,
    ) -> Result<(Sent, Samples, Vec<usize>)> {
        let (spots, over) = (world.spots(), AtomicBool::new(false));
        let scrapes = matches!(self.cell.subject, Subject::Warren(_));
        let every = self.times.scrape;
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| samples::watch(&spots, scrapes, every, start, &over));
            let talked = self.talk(world, lines, start);
            over.store(true, Ordering::Relaxed);
            let samples = watcher.join().map_err(|_| anyhow::anyhow!("the watching thread panicked"))?;
            let (sent, absent) = talked?;
            Ok((sent, samples, absent))
        })
    }

    fn talk(&self, world: &mut World, lines: &[Line], start: Instant) -> Result<(Sent, Vec<usize>)> {
        let mut sent = vec![Vec::new(); self.nodes()];
        let absences = match self.times.churn > 0.0 {
            true => self.work.absences(self.times.churn, self.times.measure),
            false => Vec::new(),
        };
        let mut turns: Vec<(Duration, usize, bool)> = absences
            .iter()
            .flat_map(|away| [(away.from, usize::from(away.node), false), (away.to, away.node.into(), true)])
            .collect();
        turns.sort_by_key(|turn| std::cmp::Reverse(turn.0));
        for line in lines {
            while let Some((_, node, comes)) = turns.pop_if(|turn| turn.0 <= line.at) {
                match comes {
                    true => world.restart(node, &self.cell, self.programs)?,
                    false => world.kill(node),
                }
            }
            std::thread::sleep((start + line.at).saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if now > start + line.at + BEHIND {
                break;
            }
            let said = world.say(line.author.into(), &self.work.text(MEASURED, line))?;
            sent[usize::from(line.author)].push(said.then_some(now));
            self.progress.measured(&self.cell, line.at.as_secs_f64() / self.times.measure.as_secs_f64());
        }
        Ok((sent, absences.iter().map(|away| away.node.into()).collect()))
    }

    /// Waits until everything has arrived that those who stayed have said, or nothing more can.
    fn drain(&self, world: &World, sent: &[Vec<Option<Instant>>], absent: &[usize]) {
        let stays = |node: &usize| !absent.contains(node);
        let said: Vec<usize> = sent.iter().map(|lines| lines.iter().flatten().count()).collect();
        let all: usize = said.iter().sum();
        let deadline = Instant::now() + DRAIN;
        let misses = |node: usize| world.ears[node].count() < all - said[node];
        while (0..self.nodes()).filter(stays).any(misses) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

fn peers(world: &mut World, node: usize) -> Result<Vec<Peer>> {
    let answer = world.ask(node, "peers")?;
    let peers = answer["peers"].as_array().into_iter().flatten().map(|peer| Peer {
        id: peer["peerId"].as_str().unwrap_or_default().to_owned(),
        addr: peer["addrs"][0].as_str().unwrap_or_default().to_owned(),
        is_direct: peer["path"] == "direct",
        rtt_ms: peer["rttMs"].as_f64(),
    });
    Ok(peers.collect())
}

/// A node that was away has nobody to say anything to at first, and is not there to be scraped.
fn troubles(accounts: &[Account], samples: &Samples, absent: &[usize]) -> Vec<String> {
    let mut troubles = Vec::new();
    for (node, account) in accounts.iter().enumerate() {
        if account.lagged > 0 {
            troubles.push(format!("node {node} says that {} events were not read in time", account.lagged));
        }
        if let Some(refusal) = account.refusal.as_ref().filter(|_| !absent.contains(&node)) {
            troubles.push(format!("node {node} refused a message: {refusal}"));
        }
    }
    if samples.unanswered > 0 && absent.is_empty() {
        troubles.push(format!("{} scrapes were not answered", samples.unanswered));
    }
    troubles
}

/// Idle time and all time of all cores so far, in ticks: the line `cpu` of proc_stat(5).
fn cpu_of_machine() -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = ticks.filter_map(|ticks| ticks.parse().ok()).collect();
    let [_, _, _, idle, waiting, ..] = ticks[..] else { anyhow::bail!("/proc/stat has another form") };
    // The last two, of guests, are in the first two already.
    Ok((idle + waiting, ticks.iter().take(8).sum()))
}

fn own_cpu() -> Result<f64> {
    Ok(crate::process::usage(std::process::id())?.cpu.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_may_be_refused_and_who_stayed_may_not() {
        let mut refused = Account::default();
        refused.refusal = Some("no_peers".to_owned());
        let accounts = [refused.clone(), refused];
        let troubles = |absent: &[usize]| troubles(&accounts, &Samples::default(), absent).len();
        assert_eq!((troubles(&[]), troubles(&[1]), troubles(&[0, 1])), (2, 1, 0));
    }
}
