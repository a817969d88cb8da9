//! `rooms`: nodes that know one address find the members of their rooms, and find each other again without it.
//!
//! ```text
//!   member 0   member 1   member 2   member 3 ...      room 0: members 0, 3, 6 ...; room 1: 1, 4, 7 ...
//!       └──────────┴─────┬────┴──────────┘
//!             a router: the Internet
//!                        │
//!                   fixed point (warren relay), in no room
//! ```
//! Every host is a network namespace (`lab.rs`) with public addresses in networks of its own, IPv4 and IPv6.

mod ear;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use argh::FromArgs;

use self::world::{Formation, Snapshot, World};
use crate::lab::Lab;
use crate::program::{self, Data, Profile};
use crate::table::{Limit, Table, aim, median, range};

/// Aim: by then every member has heard every other one of its room. Unit: seconds.
const FORMED: f64 = 10.0;

/// Aims for an idle member. Units: thousand bytes per minute, context switches per second.
const QUIET_KB: f64 = 20.0;
const QUIET_SWITCHES: f64 = 2.0;

/// An address book is saved a minute after there is something to save, and this is later.
const SAVED: Duration = Duration::from_secs(90);

/// So many failures of one kind are named, and the rest is counted.
const NAMED: usize = 8;

/// Formation of rooms through one bootstrap node, their life without it, and what an idle member costs.
#[derive(FromArgs)]
#[argh(subcommand, name = "rooms")]
pub(crate) struct Args {
    /// members (default 30)
    #[argh(option, default = "30")]
    nodes: usize,
    /// rooms they are spread over (default 3)
    #[argh(option, default = "3")]
    rooms: usize,
    /// members that leave, and that join instead (default 5, or a third of them if that is less)
    #[argh(option)]
    churn: Option<usize>,
    /// seconds of rest before the idle time (default 60, with --quick 5)
    #[argh(option)]
    settle: Option<u64>,
    /// seconds of idle time that are measured; 0 leaves them out (default 120)
    #[argh(option, default = "120")]
    idle: u64,
    /// do not wait for the address books of members that stay: newcomers get those of members that left, the reboot
    /// is a clean one
    #[argh(switch)]
    quick: bool,
    /// members use TCP only
    #[argh(switch)]
    tcp_only: bool,
    /// members use QUIC only
    #[argh(switch)]
    quic_only: bool,
    /// directory for logs of all nodes, which then say what they do and why
    #[argh(option)]
    logs: Option<PathBuf>,
    /// warren to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
}

impl Args {
    fn churn(&self) -> usize {
        self.churn.unwrap_or(5.min(self.nodes / 3))
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(args.rooms >= 1 && args.nodes >= 2 * args.rooms, "--nodes must be twice --rooms at least");
    ensure!(args.churn() <= args.nodes / 3, "--churn is a third of --nodes at most");
    ensure!(args.nodes + args.churn() <= 250, "--nodes and --churn are 250 together at most");
    ensure!(!(args.tcp_only && args.quic_only), "--tcp-only and --quic-only exclude each other");
    if let Some(obstacle) = Lab::obstacle() {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let warren = program::warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    println!("rooms: {} members of {} rooms, each in a network of its own", args.nodes, args.rooms);
    let mut world = World::new(&args, warren)?;
    let mut failures = Vec::new();
    start(&args, &mut world, &mut failures)?;
    churn(&args, &mut world, &mut failures)?;
    reboot(&args, &mut world, &mut failures)?;
    if args.idle > 0 {
        idle(&args, &mut world)?;
    }
    failures.extend(world.repetitions());
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// A: all members start at once and know the fixed point.
fn start(args: &Args, world: &mut World, failures: &mut Vec<String>) -> Result<()> {
    println!("\nA: {} members start at once, each with one bootstrap address", args.nodes);
    world.start_fixed_point()?;
    let start = Instant::now();
    for member in 0..args.nodes {
        world.start(member, true)?;
    }
    phase(world, 'A', start, &Snapshot::default(), failures)
}

/// B: the fixed point and some members go, others come and know what is in somebody's address book.
fn churn(args: &Args, world: &mut World, failures: &mut Vec<String>) -> Result<()> {
    let (leavers, newcomers) = (0..args.churn(), args.nodes..args.nodes + args.churn());
    let killed = args.churn() * 2 / 5;
    println!(
        "\nB: the bootstrap node ends, {} members leave ({killed} of them killed), {} come with address books of others",
        leavers.len(),
        newcomers.len()
    );
    let stayers = args.churn()..args.nodes;
    if !args.quick {
        eprintln!("  waiting for the address books of those that stay");
        stayers.clone().take(args.churn()).try_for_each(|member| world.wait_for_book(member, SAVED))?;
    }
    let before = world.snapshot()?;
    world.stop_fixed_point()?;
    for (nth, member) in leavers.clone().enumerate() {
        if nth < killed { world.kill(member) } else { world.leave(member)? }
    }
    let mut donors: Vec<usize> = leavers.skip(killed).collect();
    if !args.quick {
        donors.extend(stayers.take(args.churn()));
    }
    for (nth, member) in newcomers.clone().enumerate() {
        // From both ends: books of those that left and of those that stay.
        let donor = if nth % 2 == 0 { donors[nth / 2] } else { donors[donors.len() - 1 - nth / 2] };
        world.give_book(donor, member)?;
        eprintln!("  member {member} of room {} has the book of {donor}", member % args.rooms);
    }
    let start = Instant::now();
    for member in newcomers {
        world.start(member, false)?;
    }
    phase(world, 'B', start, &before, failures)
}

/// C: one member starts again with what it saved.
fn reboot(args: &Args, world: &mut World, failures: &mut Vec<String>) -> Result<()> {
    let member = args.nodes - 1;
    println!("\nC: member {member} is {} and starts again", if args.quick { "ended" } else { "killed" });
    let before = world.snapshot()?;
    match args.quick {
        true => world.leave(member)?,
        false => {
            world.wait_for_book(member, SAVED)?;
            world.kill(member);
        }
    }
    let start = Instant::now();
    world.start(member, false)?;
    phase(world, 'C', start, &before, failures)
}

/// D: nobody says anything.
fn idle(args: &Args, world: &mut World) -> Result<()> {
    let settle = Duration::from_secs(args.settle.unwrap_or(if args.quick { 5 } else { 60 }));
    println!("\nD: {} s of silence, after {settle:?} of rest", args.idle);
    eprintln!("  nobody says anything for {} s", settle.as_secs() + args.idle);
    std::thread::sleep(settle);
    let before = world.loads()?;
    std::thread::sleep(Duration::from_secs(args.idle));
    let after = world.loads()?;
    let seconds = args.idle as f64;
    let each = |of: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..after.len()).map(of).collect() };
    let spent = |i: usize| after[i].traffic.since(before[i].traffic);
    let kb = each(&|i| spent(i).bytes as f64 / 1000.0 * 60.0 / seconds);
    let switches = each(&|i| (after[i].usage.switches - before[i].usage.switches) as f64 / seconds);
    let mut table = Table::new(&["each member", "median", "least", "greatest"]);
    let mut row = |name: &str, digits: usize, values: &[f64]| {
        let (least, greatest) = range(values);
        let cells = [median(values), least, greatest].map(|value| format!("{value:.digits$}"));
        table.row(&[&[name.to_owned()], &cells[..]].concat());
    };
    row("kB/min, with Ethernet headers", 1, &kb);
    row("kB/min, IP", 1, &each(&|i| spent(i).ip_bytes() as f64 / 1000.0 * 60.0 / seconds));
    row("packets/min", 0, &each(&|i| spent(i).packets as f64 * 60.0 / seconds));
    row("context switches/s", 2, &switches);
    row(
        "CPU ms/s",
        2,
        &each(&|i| (after[i].usage.cpu - before[i].usage.cpu).as_secs_f64() * 1000.0 / seconds),
    );
    row("RSS, kB", 0, &each(&|i| after[i].usage.rss_kb as f64));
    row("anonymous RSS, kB", 0, &each(&|i| after[i].usage.anonymous_kb as f64));
    table.print();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    aim("idle member, mean", mean(&kb), " kB/min", Limit::AtMost(QUIET_KB));
    aim("idle member, mean", mean(&switches), " switches/s", Limit::AtMost(QUIET_SWITCHES));
    nodes(&world.snapshot()?, &Snapshot::default());
    Ok(())
}

/// Waits until all have heard all of their rooms since `start`, then has everybody say something that nobody may miss.
fn phase(
    world: &mut World,
    name: char,
    start: Instant,
    before: &Snapshot,
    failures: &mut Vec<String>,
) -> Result<()> {
    let formation = world.form(name, start)?;
    if !formation.missing.is_empty() {
        let (count, some) =
            (formation.missing.len(), &formation.missing[..formation.missing.len().min(NAMED)]);
        failures.push(format!("{name}: {count} not heard, among them {}", some.join(", ")));
    }
    // Those who have not found each other would miss it, and have been told of already.
    if formation.missing.is_empty() {
        let lost = world.exam(name)?;
        failures.extend(lost.iter().take(NAMED).map(|lost| format!("{name}: {lost}")));
    }
    let snapshot = world.snapshot()?;
    rooms(&formation, &snapshot);
    nodes(&snapshot, before);
    let reached = match formation.missing.is_empty() {
        true => formation.rooms.iter().map(|times| range(times).1).fold(0.0, f64::max),
        false => f64::INFINITY,
    };
    aim(&format!("{name}: all have heard all of their rooms"), reached, " s", Limit::AtMost(FORMED));
    Ok(())
}

fn rooms(formation: &Formation, snapshot: &Snapshot) {
    let mut table =
        Table::new(&["room", "members", "pairs: s, median", "last", "mesh, median", "least", "parts"]);
    for (room, times) in formation.rooms.iter().enumerate() {
        let members: Vec<_> = snapshot.members.iter().filter(|member| member.room == room).collect();
        let mesh: Vec<f64> = members.iter().map(|member| member.mesh).collect();
        table.row(&[
            room.to_string(),
            members.len().to_string(),
            format!("{:.2}", median(times)),
            format!("{:.2}", range(times).1),
            format!("{:.0}", median(&mesh)),
            format!("{:.0}", range(&mesh).0),
            snapshot.parts(room).to_string(),
        ]);
    }
    table.print();
}

fn nodes(snapshot: &Snapshot, before: &Snapshot) {
    let mut table = Table::new(&["each member", "median", "least", "greatest"]);
    let mut row = |name: &str, values: Vec<f64>| {
        let (least, greatest) = range(&values);
        let cells = [median(&values), least, greatest].map(|value| format!("{value:.0}"));
        table.row(&[&[name.to_owned()], &cells[..]].concat());
    };
    let each = |of: &dyn Fn(&world::Figures) -> f64| snapshot.members.iter().map(of).collect::<Vec<f64>>();
    // What a process did before the phase is not the phase's.
    let grown = |of: fn(&world::Figures) -> f64| {
        each(&|member| {
            let earlier = before.members.iter().find(|before| before.pid == member.pid);
            of(member) - earlier.map_or(0.0, of)
        })
    };
    row("connections", each(&|member| member.connections));
    row("neighbours in the room", each(&|member| snapshot.neighbours(member).count() as f64));
    row("dials that connected", grown(|member| member.dials));
    row("dials that failed", grown(|member| member.dial_failures));
    row("peers in the DHT's table", each(&|member| member.routes));
    row("peers in the address book", each(&|member| member.known));
    row("CPU ms", grown(|member| member.cpu_ms));
    row("RSS, kB", each(&|member| member.rss_kb));
    table.print();
}
