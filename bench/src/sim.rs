//! `sim`: rooms larger than any lab here, as a simulation of discrete events. The same seed gives the same run.
//!
//! `sim/world.rs` says what is as in warren and what is left out, `bench/SCALE.md` what came of it.

mod calibrate;
mod company;
mod gossip;
mod line;
mod links;
mod members;
mod newcomers;
mod plan;
mod queue;
mod report;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod wire;
mod wishes;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use argh::FromArgs;

use self::plan::{Bounds, Plan};
use self::queue::Micros;
use self::sweep::Sweep;
use self::world::World;

/// How long after the last text copies are waited for.
const DRAIN: Duration = Duration::from_secs(10);

/// Nodes at most: a message has a bit for each, and 20,000 messages may be remembered.
const NODES: usize = 50_000;

/// Simulates a large room: latency, bytes, tables, joins.
#[derive(FromArgs)]
#[argh(subcommand, name = "sim")]
pub(crate) struct Args {
    /// members (default 1000)
    #[argh(option, default = "1000")]
    nodes: usize,
    /// one way between any two, in ms (default 45)
    #[argh(option, default = "45.0")]
    delay: f64,
    /// standard deviation of that, in ms (default 10)
    #[argh(option, default = "10.0")]
    jitter: f64,
    /// packets that are lost, in percent (default 1)
    #[argh(option, default = "1.0")]
    loss: f64,
    /// microseconds that a node works on a message that is new to it (default 300)
    #[argh(option, default = "300")]
    work_us: u64,
    /// members that talk (default 10)
    #[argh(option, default = "10")]
    talkers: usize,
    /// texts a second from each of them (default 1)
    #[argh(option, default = "1.0")]
    rate: f64,
    /// bytes of a text (default 128)
    #[argh(option, default = "128")]
    size: usize,
    /// seconds before texts are counted (default 20)
    #[argh(option, default = "20")]
    warmup: u64,
    /// seconds in which they are (default 30)
    #[argh(option, default = "30")]
    seconds: u64,
    /// nodes that join, a second (default 0)
    #[argh(option, default = "0.0")]
    joins: f64,
    /// the room begins empty, and its members join one after the other
    #[argh(switch)]
    form: bool,
    /// bootstrap nodes (default 1)
    #[argh(option, default = "1")]
    bootstraps: usize,
    /// gossipsub's D: whom each hands a message on to (default 5, as warren has it)
    #[argh(option, default = "warren::limits::MESH[0]")]
    fan_out: usize,
    /// connections that a node keeps, and above which it closes some: LOW..HIGH (default: warren's own)
    #[argh(option, default = "Bounds::default()")]
    links: Bounds,
    /// one run for each of several values of this: fan-out or joins
    #[argh(option)]
    sweep: Option<Sweep>,
    /// of all that is random (default 1)
    #[argh(option, default = "1")]
    seed: u64,
    /// folder of a study's results: simulates each of its cells, and prints both
    #[argh(option)]
    calibrate: Option<PathBuf>,
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        ensure!((2..=NODES).contains(&self.nodes), "--nodes is 2 to {NODES}, not {}", self.nodes);
        ensure!((0.0..100.0).contains(&self.loss), "--loss is a percentage below 100, not {}", self.loss);
        ensure!(self.delay >= 0.0 && self.jitter >= 0.0, "--delay and --jitter are 0 at least");
        ensure!(self.rate >= 0.0 && self.rate <= 1000.0, "--rate is 0 to 1000, not {}", self.rate);
        ensure!((1..=warren::limits::TEXT_BYTES).contains(&self.size), "--size is not {}", self.size);
        ensure!(!self.form || self.joins > 0.0, "--form needs --joins: how many a second");
        ensure!(self.joins >= 0.0 && self.bootstraps >= 1, "--joins is 0, and --bootstraps 1 at least");
        ensure!((2..=32).contains(&self.fan_out), "--fan-out is 2 to 32, not {}", self.fan_out);
        ensure!(
            !(self.form && self.sweep == Some(Sweep::Joins)),
            "--sweep joins is for a room that is there: no --form"
        );
        let joiners = self.joins * self.seconds as f64;
        ensure!(
            self.form || self.nodes as f64 + joiners <= NODES as f64,
            "--joins makes it more than {NODES}"
        );
        Ok(Plan {
            nodes: self.nodes,
            delay: (self.delay * 1000.0) as Micros,
            jitter: (self.jitter * 1000.0) as Micros,
            loss: self.loss / 100.0,
            work: self.work_us,
            talkers: self.talkers.max(1),
            rate: self.rate,
            size: self.size,
            warmup: self.warmup * 1_000_000,
            duration: self.seconds.max(1) * 1_000_000,
            joins: self.joins,
            form: self.form,
            hubs: self.bootstraps,
            fan_out: self.fan_out,
            links: self.links,
            seed: self.seed,
        })
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let plan = args.plan()?;
    if let Some(folder) = &args.calibrate {
        return calibrate::run(folder, &plan);
    }
    println!("{}", report::heading(&plan));
    if let Some(sweep) = args.sweep {
        return sweep::run(sweep, &plan);
    }
    let world = ran(plan)?;
    report::print(&world);
    Ok(())
}

/// Between two lines that tell how far a simulation is.
const TELL: Duration = Duration::from_secs(10);

/// A simulation from beginning to end. How far it is goes to standard error.
fn ran(plan: Plan) -> Result<World> {
    let started = Instant::now();
    let mut told = started;
    let mut world = World::new(plan)?;
    world.run(|at, end| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            eprintln!(
                "  {} of {} s simulated after {:.0} s",
                at / 1_000_000,
                end / 1_000_000,
                started.elapsed().as_secs_f64()
            );
        }
    });
    eprintln!(
        "  {} s simulated within {:.1} s",
        world.now.div_ceil(1_000_000),
        started.elapsed().as_secs_f64()
    );
    Ok(world)
}

fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}
