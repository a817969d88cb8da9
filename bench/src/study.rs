//! `study`: the questions that the project exists for, asked of real nodes in one command.
//!
//! ```text
//!   node 0    node 1    node 2   ...  node 66      each a network namespace with an address of its own
//!      └─────────┴────┬────┴─────────────┘
//!             a router: the Internet               45 ms +- 10 ms each way, 1 % lost (lab/weather.rs), or nothing of it
//!                     │
//!              fixed point (warren relay, in no room), or mosquitto
//! ```
//! Each cell is one program with one transport on an Internet that is impaired or not. `plan.rs` decides what is said,
//! `trial.rs` runs a cell, `figures.rs` makes numbers of what it recorded, and `report.rs` sentences of those.

mod ear;
mod figures;
mod files;
mod hops;
mod mqtt;
mod plan;
mod plots;
mod progress;
mod report;
mod samples;
mod soak;
mod trial;
mod verify;
mod words;
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use argh::FromArgs;

use self::figures::Figures;
use self::plan::{Cell, Subject, Sweep, Transport, Workload};
use self::progress::Progress;
use self::trial::{Record, Times};
use self::verify::Seen;
use self::words::{Share, Span};
use self::world::{Impairment, Programs, World};
use crate::lab::home;
use crate::lab::weather::Weather;
use crate::program::{self, Carrier, Data, Profile};

/// Of measured messages, at least these shares must arrive without impairment and with it.
const DELIVERED_CLEAN: f64 = 1.0;
const DELIVERED_IMPAIRED: f64 = 0.999;

/// What a delivery costs all nodes together, duplicates and the kernel included: 0.5 to 0.8 ms, measured with 16 nodes that
/// each say 6 messages a second, warren and upstream alike. Unit: seconds of CPU time.
const DELIVERY_COST: f64 = 0.0006;

/// Of the machine's cores so much shall be asked for at most where no rate is given: who waits for a core is late.
const CORES: f64 = 0.5;

/// Homes behind NATs in a study that has other cells as well.
const HOMES: u16 = 24;

/// Real nodes in namespaces of their own: delivery, latency and cost by transport, with and without impairment, beside
/// upstream libp2p and a central broker.
#[derive(FromArgs)]
#[argh(subcommand, name = "study")]
pub(crate) struct Args {
    /// nodes (default 67, with --quick, --soak and --sweep 16)
    #[argh(option)]
    nodes: Option<u16>,
    /// tcp, quic, mixed (every second node TCP only), both (each node has both) or all (default: tcp, quic and mixed)
    #[argh(option, default = "Transports::All")]
    transport: Transports,
    /// one-way delay (default 45ms)
    #[argh(option, default = "Span(Duration::from_millis(45))")]
    delay: Span,
    /// its standard deviation (default 10ms)
    #[argh(option, default = "Span(Duration::from_millis(10))")]
    jitter: Span,
    /// share of packets that are lost (default 1%)
    #[argh(option, default = "Share(0.01)")]
    loss: Share,
    /// messages per second and node (default 1, or what half of this machine's cores can carry if that is less)
    #[argh(option)]
    rate: Option<f64>,
    /// bytes of a message (default 128)
    #[argh(option, default = "128")]
    size: usize,
    /// measured time of each cell (default 60s, with --quick 6s)
    #[argh(option)]
    duration: Option<Span>,
    /// decides workload and impairment (default 1)
    #[argh(option, default = "1")]
    seed: u64,
    /// flat (default: each node has a public address) or nat (nodes live behind a mix of NATs)
    #[argh(option, default = "Topology::Flat")]
    topology: Topology,
    /// share of the nodes that are killed and come back 5 s later (default 0)
    #[argh(option, default = "Share(0.0)")]
    churn: Share,
    /// one impaired cell of warrens for so long, to see what grows
    #[argh(option)]
    soak: Option<Span>,
    /// impaired cells of upstream with several settings, beside warren: fan-out (3, 4, 6, 8) or validation (strict, none)
    #[argh(option)]
    sweep: Option<Sweep>,
    /// 16 nodes, warren only, no plots: under 2 minutes
    #[argh(switch)]
    quick: bool,
    /// leave upstream libp2p and mosquitto out
    #[argh(switch)]
    no_baselines: bool,
    /// leave the cells without impairment out
    #[argh(switch)]
    impaired_only: bool,
    /// do not write every message and metric, only the summary, plots and report
    #[argh(switch)]
    no_raw: bool,
    /// directory for results (default target/study)
    #[argh(option, default = "PathBuf::from(\"target/study\")")]
    out: PathBuf,
    /// warren to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// reference peer to measure beside it (default: built)
    #[argh(option)]
    reference: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transports {
    One(Transport),
    All,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Flat,
    Nat,
}

impl std::str::FromStr for Transports {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "tcp" => Ok(Transports::One(Transport::Tcp)),
            "quic" => Ok(Transports::One(Transport::Quic)),
            "mixed" => Ok(Transports::One(Transport::Mixed)),
            "both" => Ok(Transports::One(Transport::Both)),
            "all" => Ok(Transports::All),
            other => Err(format!("`{other}` is no transport: use tcp, quic, mixed, both or all")),
        }
    }
}

impl std::str::FromStr for Topology {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "flat" => Ok(Topology::Flat),
            "nat" => Ok(Topology::Nat),
            other => Err(format!("`{other}` is no topology: use flat or nat")),
        }
    }
}

/// A cell's record and what it comes to.
struct Done {
    record: Record,
    figures: Figures,
}

/// What the report has to know beside the cells.
struct Setting {
    work: Workload,
    weather: Weather,
    times: Times,
    /// What the way was like before the first node: by itself, and impaired.
    seen: Option<[Seen; 2]>,
    /// The kernel impairs, rather than the router's thread.
    is_kernel: bool,
    /// What the machine had to do when it began.
    load: String,
    /// What was left out or made smaller, and why.
    remarks: Vec<String>,
    start: Instant,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let work = args.workload()?;
    let is_nat = args.topology == Topology::Nat;
    if let Some(obstacle) = world::obstacle(is_nat) {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let mut setting = args.setting(work);
    let cells = args.cells(&mut setting.remarks);
    let programs = args.programs(&cells)?;
    files::prepare(&args.out)?;
    let with_homes = cells.iter().any(|cell| cell.nat);
    let (homes, flat): (Vec<Cell>, Vec<Cell>) = cells.iter().partition(|cell| cell.nat);
    println!(
        "study: {} cells of {} nodes, seed {}, into {}",
        cells.len(),
        work.nodes,
        work.seed,
        args.out.display()
    );
    let progress = Progress::new(cells.len());
    let mut done = Vec::new();
    if !flat.is_empty() {
        args.run_world(&flat, work, &mut setting, &programs, &progress, &mut done)?;
    }
    if with_homes {
        let nodes = if is_nat { work.nodes } else { work.nodes.min(HOMES) };
        args.run_world(&homes, Workload { nodes, ..work }, &mut setting, &programs, &progress, &mut done)?;
    }
    if !args.quick {
        plots::draw(&args.out, &done).context("the plots cannot be drawn")?;
    }
    let report = report::write(&args.out, &setting, &done)?;
    println!("{report}");
    println!("{} cells in {:.0} s", done.len(), setting.start.elapsed().as_secs_f64());
    let failures: Vec<String> = done.iter().flat_map(failures).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

impl Args {
    fn workload(&self) -> Result<Workload> {
        ensure!(
            self.sweep.is_none() || (self.topology == Topology::Flat && self.soak.is_none() && !self.quick),
            "--sweep goes with neither --topology nat nor --soak nor --quick"
        );
        ensure!(
            self.sweep.is_none()
                || !matches!(self.transport, Transports::One(Transport::Mixed | Transport::Both)),
            "--sweep is done with --transport tcp or quic: upstream's peers listen on one"
        );
        ensure!(
            self.sweep.is_none() || self.churn.0 == 0.0,
            "--sweep goes without --churn: upstream's peers do not find each other again"
        );
        let small = self.quick || self.soak.is_some() || self.sweep.is_some();
        let nodes = self.nodes.unwrap_or(if small { 16 } else { 67 });
        ensure!((3..=250).contains(&nodes), "--nodes is from 3 to 250, not {nodes}");
        let rate = self.rate.unwrap_or_else(|| affordable(nodes));
        ensure!((0.01..=1000.0).contains(&rate), "--rate is from 0.01 to 1000, not {rate}");
        ensure!((16..=8192).contains(&self.size), "--size is from 16 to 8192, not {}", self.size);
        ensure!(self.churn.0 <= 0.5, "--churn is a half at most");
        ensure!(self.loss.0 <= 0.5, "--loss is a half at most");
        Ok(Workload { nodes, rate, size: self.size, seed: self.seed })
    }

    fn setting(&self, work: Workload) -> Setting {
        let weather =
            Weather { delay: self.delay.0, jitter: self.jitter.0, loss: self.loss.0, seed: self.seed };
        let measure = match (self.soak, self.duration) {
            (Some(soak), _) => soak.0,
            (None, Some(duration)) => duration.0,
            (None, None) => Duration::from_secs(if self.quick { 6 } else { 60 }),
        };
        // At most 500 looks at everybody, however long it takes.
        let scrape = Duration::from_secs(15).min(measure).max(measure / 500);
        let settle = Duration::from_secs(if self.quick { 2 } else { 10 });
        let times = Times { settle, measure, scrape, churn: self.churn.0 };
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let mut remarks = Vec::new();
        if self.rate.is_none() && work.rate < 1.0 {
            remarks.push(format!(
                "each node says {} messages a second instead of one, as half of this machine's cores can carry no more \
                 at {:.1} ms of CPU time a delivery; `--rate 1` asks for it all the same",
                work.rate,
                1000.0 * DELIVERY_COST
            ));
        }
        if self.soak.is_some() && measure.as_secs_f64() < soak::LEAST {
            remarks.push(format!(
                "{} s are too short to tell growth from warming up, which takes {} s",
                measure.as_secs_f64(),
                soak::LEAST
            ));
        }
        let start = Instant::now();
        Setting { work, weather, times, seen: None, is_kernel: false, load, remarks, start }
    }

    /// What is to be measured. What cannot be is named in `remarks`.
    fn cells(&self, remarks: &mut Vec<String>) -> Vec<Cell> {
        if let Some(sweep) = self.sweep {
            return self.swept_cells(sweep);
        }
        let nat = self.topology == Topology::Nat;
        let transports = match self.transport {
            Transports::One(transport) => vec![transport],
            Transports::All if nat || self.soak.is_some() => vec![Transport::Both],
            Transports::All => vec![Transport::Tcp, Transport::Quic, Transport::Mixed],
        };
        let mut subjects: Vec<Subject> = transports.into_iter().map(Subject::Warren).collect();
        let is_alone = self.no_baselines || self.quick || nat || self.soak.is_some();
        if self.churn.0 > 0.0 && !is_alone {
            remarks.push(
                "skipped: upstream and mosquitto, since with --churn only warrens come back".to_owned(),
            );
        }
        if !is_alone && self.churn.0 == 0.0 {
            let carriers: &[Carrier] = match self.transport {
                Transports::One(Transport::Tcp) => &[Carrier::Tcp],
                Transports::One(Transport::Quic) => &[Carrier::Quic],
                _ => &[Carrier::Tcp, Carrier::Quic],
            };
            subjects.extend(carriers.iter().map(|carrier| Subject::Reference(*carrier)));
            match mosquitto() {
                Some(_) => subjects.push(Subject::Broker),
                None => remarks.push(
                    "skipped: mosquitto is not installed (Debian has it in the package mosquitto)".to_owned(),
                ),
            }
        }
        let ways: &[bool] = if self.impaired_only || self.soak.is_some() { &[true] } else { &[false, true] };
        let cell = |subject| ways.iter().map(move |impaired| Cell { subject, impaired: *impaired, nat });
        let mut cells: Vec<Cell> = subjects.into_iter().flat_map(cell).collect();
        if !(nat || self.quick || self.soak.is_some()) && self.transport == Transports::All {
            match home::obstacle() {
                None => {
                    cells.push(Cell { subject: Subject::Warren(Transport::Both), impaired: true, nat: true })
                }
                Some(obstacle) => remarks.push(format!("skipped: {obstacle}")),
            }
        }
        cells
    }

    /// With one carrier: the one that was asked for, and QUIC otherwise.
    fn swept_cells(&self, sweep: Sweep) -> Vec<Cell> {
        let (transport, carrier) = match self.transport {
            Transports::One(Transport::Tcp) => (Transport::Tcp, Carrier::Tcp),
            _ => (Transport::Quic, Carrier::Quic),
        };
        let tuned = sweep.tunings().into_iter().map(|tuning| Subject::Tuned(carrier, tuning));
        let subjects = [Subject::Warren(transport)].into_iter().chain(tuned);
        subjects.map(|subject| Cell { subject, impaired: true, nat: false }).collect()
    }

    fn programs(&self, cells: &[Cell]) -> Result<Programs> {
        let warren = program::warren(self.warren.clone(), Data::Envelope, Profile::Measured)?;
        let is_reference = |cell: &Cell| matches!(cell.subject, Subject::Reference(_) | Subject::Tuned(..));
        let has_reference = cells.iter().any(is_reference);
        let reference = has_reference.then(|| program::reference(self.reference.clone(), Profile::Measured));
        Ok(Programs { warren, reference: reference.transpose()?, broker: mosquitto() })
    }

    /// Has cells run in a network of their own, and writes what each recorded.
    fn run_world(
        &self,
        cells: &[Cell],
        work: Workload,
        setting: &mut Setting,
        programs: &Programs,
        progress: &Progress,
        done: &mut Vec<Done>,
    ) -> Result<()> {
        let is_nat = cells.iter().any(|cell| cell.nat);
        progress.say(&format!(
            "{} hosts {}",
            work.nodes,
            if is_nat { "behind NATs" } else { "on the Internet" }
        ));
        let mut world = World::new(&work, setting.weather, is_nat)?;
        if !is_nat || setting.seen.is_none() {
            progress.say("looking at the network");
            setting.is_kernel = matches!(world.impairment, Impairment::Kernel);
            setting.seen =
                Some(verify::verify(&world, &setting.weather, if self.quick { 1000 } else { 4000 })?);
        }
        for cell in cells {
            let record = trial::run(&mut world, *cell, &work, &setting.times, programs, progress);
            let record = record.with_context(|| format!("{} cells are done", done.len()))?;
            let figures = Figures::new(&record, setting.weather.delay.as_secs_f64() * 1000.0);
            if !self.no_raw {
                // Of a soak single messages would be gigabytes.
                files::record(
                    &self.out.join(cell.to_string()),
                    &record,
                    &world.kinds(),
                    self.soak.is_none(),
                )?;
            }
            progress.cell_done();
            progress.say(&report::line(&figures));
            done.push(Done { record, figures });
            // Whatever comes next, this much is there.
            files::summary(&self.out, done)?;
            report::write(&self.out, setting, done)?;
        }
        Ok(())
    }
}

/// Messages a second from each of so many nodes that this machine can carry, 1 at most; in tenths.
fn affordable(nodes: u16) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let deliveries = f64::from(nodes) * f64::from(nodes - 1);
    let rate = CORES * cores / (deliveries * DELIVERY_COST);
    ((10.0 * rate).floor() / 10.0).clamp(0.1, 1.0)
}

/// What a warren has to do, and has not done.
fn failures(done: &Done) -> Vec<String> {
    let (figures, cell) = (&done.figures, done.figures.cell);
    if !cell.is_warren() {
        return Vec::new();
    }
    let aim = if cell.impaired { DELIVERED_IMPAIRED } else { DELIVERED_CLEAN };
    let mut failures = Vec::new();
    if figures.delivery() < aim {
        failures.push(format!(
            "{cell}: {} of {} deliveries are missing ({:.4} % arrived, {} % shall)",
            figures.expected - figures.delivered,
            figures.expected,
            100.0 * figures.delivery(),
            100.0 * aim
        ));
    }
    if figures.repeated > 0 {
        failures.push(format!("{cell}: {} messages were shown again", figures.repeated));
    }
    failures.extend(done.record.troubles.iter().map(|trouble| format!("{cell}: {trouble}")));
    failures
}

fn mosquitto() -> Option<PathBuf> {
    // Debian has it where root alone looks by itself.
    let places = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let works = |path: &&&str| Command::new(path).arg("-h").output().is_ok();
    places.iter().find(works).map(|path| Path::new(path).to_owned())
}
