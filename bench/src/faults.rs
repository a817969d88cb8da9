//! `faults`: what goes wrong at home and on the Internet, done for real: does the conversation resume by itself?
//!
//! ```text
//!   room "trio"      a: port-restricted   b: port-restricted   c: public        a, b and c: direct to each other
//!   room "pair"      a: port-restricted   b: port-restricted                    punched, and nobody else to help
//!   room "relayed"   a: symmetric-random  b: symmetric-random                   through one of the relays for ever
//!                               │
//!                         the Internet            30 ms each way, through a TUN device (lab/weather.rs)
//!                        │            │
//!                     relay 1      relay 2        known to all members by address
//! ```
//! Each fault has a lab of its own. Members say a numbered line five times a second. What is done to a home or to a
//! member is done to the `a` of each room at the same moment, so `b` and `c` are what must not notice.

mod account;
mod clock;
mod fault;
mod report;
mod world;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use argh::FromArgs;

use self::clock::Clocks;
use self::fault::{FAULTS, Fault, QUICK};
use self::report::Record;
use self::world::World;
use crate::lab::{Lab, home, reflector};
use crate::program::{self, Data, Profile};
use crate::scratch::Scratch;

/// Faults done for real: a relay dies or moves, NATs reboot, addresses change, cables are pulled, clocks jump by ten
/// years. Does the conversation resume by itself, and is nothing lost where nothing was touched?
#[derive(FromArgs)]
#[argh(subcommand, name = "faults")]
pub(crate) struct Args {
    /// faults to do (default: all); an unknown name lists them
    #[argh(positional)]
    names: Vec<Fault>,
    /// a few of them only
    #[argh(switch)]
    quick: bool,
    /// how often each is done (default 1)
    #[argh(option, default = "1")]
    trials: usize,
    /// faults at once, each in a lab of its own (default 4)
    #[argh(option, default = "4")]
    jobs: usize,
    /// one-way delay of the Internet in ms (default 30)
    #[argh(option, default = "30")]
    delay: u64,
    /// file to add one JSON object per room and fault to
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
    let mut faults = match args.names[..] {
        [] if args.quick => QUICK.to_vec(),
        [] => FAULTS.to_vec(),
        _ => args.names.clone(),
    };
    ensure!((1..=1000).contains(&args.trials), "--trials is 1 at least, and 1000 at most");
    if let Some(obstacle) = home::obstacle() {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let clocks = Clocks::find();
    if clocks.is_none() && faults.iter().any(Fault::turns_clocks) {
        println!("skipped: faults of clocks, which need libfaketime (Debian: faketime)");
        faults.retain(|fault| !fault.turns_clocks());
    }
    let warren = program::warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    if let Some(logs) = &args.logs {
        std::fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    }
    let scratch = Scratch::new()?;
    {
        let lab = Lab::new()?;
        reflector::verify(&lab, &world::kinds(), true)?;
        if let Some(clocks) = clocks.as_ref().filter(|_| faults.iter().any(Fault::turns_clocks)) {
            clocks.verify(&lab, &warren, &scratch)?;
        }
    }
    let world = World {
        warren: &warren,
        scratch: &scratch,
        clocks: clocks.as_ref(),
        logs: args.logs.as_deref(),
        delay: Duration::from_millis(args.delay),
    };
    let all: Vec<Fault> = (0..args.trials).flat_map(|_| faults.iter().copied()).collect();
    println!("faults: {} of them, {} at once, {} ms each way", all.len(), args.jobs, args.delay);
    let start = Instant::now();
    let records = strike(&world, &all, args.jobs)?;
    println!("done in {:.0} s\n", start.elapsed().as_secs_f64());
    if let Some(file) = &args.jsonl {
        report::record(file, &records)?;
    }
    let failures = report::print(&records);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Does all of them, some at once.
fn strike(world: &World<'_>, faults: &[Fault], jobs: usize) -> Result<Vec<Record>> {
    let (next, records) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(fault) = faults.get(number)
        {
            let mut done = world.strike(*fault, number);
            done.iter().for_each(|record| eprintln!("  {}", report::line(record)));
            if let Ok(mut records) = records.lock() {
                records.append(&mut done);
            }
        }
    };
    std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut records = records.into_inner().map_err(|_| anyhow!("a fault panicked"))?;
    let done: std::collections::BTreeSet<usize> = records.iter().map(|record| record.number).collect();
    ensure!(done.len() == faults.len(), "a fault panicked");
    records.sort_by_key(|record| record.number);
    Ok(records)
}
