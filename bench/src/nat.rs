//! `nat`: two nodes behind any two kinds of NAT find each other through a relay, and connect directly if they can.
//!
//! ```text
//!   node a ── gateway ──┐                  ┌── gateway ── node b
//!   192.168.1.2         │                  │              192.168.1.2
//!                  11.0.2.0/24        11.0.3.0/24
//!                       └─── the Internet ─┘            30 ms each way, through a TUN device (lab/weather.rs)
//!                                 │
//!                            11.0.1.0/24
//!                               relay                   the only address that a and b know
//!
//!   cgnat:   node ── gateway ──100.64.0.0/24── carrier's gateway ── the Internet
//!   public:  node ── the Internet
//! ```
//! Everything is a network namespace (`lab.rs`), and each uplink has networks of its own, IPv4 and IPv6. Only homes
//! of the kinds `public` and `ipv6-firewall` have IPv6. Before any experiment a plain UDP reflector, which has two
//! addresses, checks that each NAT does what its name says.

mod kinds;
mod reach;
mod report;
mod trial;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use argh::FromArgs;

use self::kinds::{Expected, QUICK, expected};
use self::trial::{Trial, World};
use crate::lab::Lab;
use crate::lab::kind::{KINDS, Kind};
use crate::lab::{home, reflector};
use crate::program::{self, Data, Profile};
use crate::scratch::Scratch;

/// Two nodes behind NATs of two kinds, or of each two kinds: do they hear each other, and connect directly?
#[derive(FromArgs)]
#[argh(subcommand, name = "nat")]
pub(crate) struct Args {
    /// kinds of two homes: public, full-cone, address-restricted, port-restricted, symmetric-sequential,
    /// symmetric-random, cgnat, udp-blocked, ipv6-firewall (default: each two)
    #[argh(positional)]
    kinds: Vec<Kind>,
    /// how often each pair meets (default 1)
    #[argh(option, default = "1")]
    trials: usize,
    /// one node of each kind, which asks the relay whether it can be dialled, instead of pairs
    #[argh(switch)]
    reachability: bool,
    /// a few pairs only
    #[argh(switch)]
    quick: bool,
    /// only pairs that must become direct every time
    #[argh(switch)]
    plain: bool,
    /// pairs at once (default 4)
    #[argh(option, default = "4")]
    jobs: usize,
    /// one-way delay of the Internet in ms (default 30)
    #[argh(option, default = "30")]
    delay: u64,
    /// seconds that a pair stays together once all is as it shall be, silent but for the first and the last (default 1)
    #[argh(option, default = "1")]
    settle: u64,
    /// file to add one JSON object per meeting to
    #[argh(option)]
    jsonl: Option<PathBuf>,
    /// directory for logs of all nodes, which then say what they do and why
    #[argh(option)]
    logs: Option<PathBuf>,
    /// warren to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut pairs = match args.kinds[..] {
        [] if args.quick => QUICK.to_vec(),
        [] => KINDS.iter().flat_map(|a| KINDS.iter().filter(move |b| a <= b).map(|b| (*a, *b))).collect(),
        [a, b] => vec![(a.min(b), a.max(b))],
        _ => anyhow::bail!("give two kinds of homes, or none for all pairs"),
    };
    pairs.retain(|(a, b)| !args.plain || expected(*a, *b) == Expected::Direct);
    let meetings = pairs.len() * args.trials;
    ensure!(
        (1..=10_000).contains(&meetings),
        "--trials is 1 at least, and all meetings together 10000 at most"
    );
    if let Some(obstacle) = home::obstacle() {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let warren = program::warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    if let Some(logs) = &args.logs {
        std::fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    }
    let (scratch, lab) = (Scratch::new()?, Lab::new()?);
    let delay = match lab.slow_down(Duration::from_millis(args.delay)) {
        Ok(()) => format!("{} ms each way", args.delay),
        Err(e) => format!("without delay, as it cannot be made: {e:#}"),
    };
    println!("nat: {} pairs, {} meetings of each, {} at once; {delay}", pairs.len(), args.trials, args.jobs);
    let used = KINDS.into_iter().filter(|kind| pairs.iter().any(|(a, b)| a == kind || b == kind));
    reflector::verify(&lab, &used.collect::<Vec<_>>(), false)?;
    let settle = Duration::from_secs(args.settle);
    let world = World { lab: &lab, warren: &warren, scratch: &scratch, logs: args.logs.as_deref(), settle };
    if args.reachability {
        return world.reachability();
    }
    let start = Instant::now();
    // By turns, so that whatever else the machine does hits all pairs alike.
    let meetings: Vec<(Kind, Kind)> = (0..args.trials).flat_map(|_| pairs.iter().copied()).collect();
    let trials = meet(&world, &meetings, args.jobs)?;
    println!("{} meetings in {:.0} s\n", trials.len(), start.elapsed().as_secs_f64());
    if let Some(file) = &args.jsonl {
        report::record(file, &trials)?;
    }
    let failures = report::print(&pairs, &trials);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Has all of them meet, some at once.
fn meet(world: &World<'_>, meetings: &[(Kind, Kind)], jobs: usize) -> Result<Vec<Trial>> {
    let (next, trials) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some((a, b)) = meetings.get(number)
        {
            let trial = world.trial(*a, *b, number);
            eprintln!("  {}", report::line(&trial));
            if let Ok(mut trials) = trials.lock() {
                trials.push(trial);
            }
        }
    };
    std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut trials = trials.into_inner().map_err(|_| anyhow!("a meeting panicked"))?;
    ensure!(trials.len() == meetings.len(), "a meeting panicked");
    trials.sort_by_key(|trial| trial.number);
    Ok(trials)
}
