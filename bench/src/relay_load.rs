//! What a relay weighs and how it shares: many reservations, many circuits that chat, one that says all it can, and
//! all of them doing so.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use serde_json::Value;

use crate::node::{Event, Node};
use crate::process::Usage;
use crate::program::{Data, Profile, Program, build, warren};
use crate::scratch::Scratch;
use crate::table::{Limit, Table, aim, median};

/// Load a relay, warren's and upstream's in turns: memory, CPU time, latency and fairness.
#[derive(FromArgs)]
#[argh(subcommand, name = "relay-load")]
pub(crate) struct Args {
    /// peers with a reservation (default 200)
    #[argh(option, default = "200")]
    reservations: usize,
    /// circuits between them (default 60)
    #[argh(option, default = "60")]
    circuits: usize,
    /// length of each part (default 10)
    #[argh(option, default = "10")]
    seconds: u64,
    /// runs of each relay (default 3)
    #[argh(option, default = "3")]
    runs: usize,
    /// use this warren instead of building it
    #[argh(option)]
    warren: Option<PathBuf>,
    /// use these relay-peers instead of building them
    #[argh(option)]
    peers: Option<PathBuf>,
}

/// How long the crowd may take to do what a line says, beyond the time that the line itself names.
const PATIENCE: Duration = Duration::from_secs(120);

/// After a part: what is under way arrives, and the relay gives back what it will.
const REST: Duration = Duration::from_secs(1);

/// A relay that was loaded.
#[derive(Clone, Debug, Default)]
struct Load {
    /// Resident memory. Unit: kB. Idle, with all reservations, with all circuits chatting, and at the end of the flood.
    rss: [f64; 4],
    /// CPU time. Unit: ms per s. With idle reservations, and chatting.
    idle: f64,
    chatting: f64,
    /// Unit: ms.
    alone: [f64; 3],
    beside_greedy: [f64; 3],
    /// What the greedy one got. Unit: MB/s.
    greedy: f64,
    /// All circuits saying what they can. Unit: MB/s, CPU s per GB, Jain's index.
    flood: f64,
    flood_cpu: f64,
    fairness: f64,
    chat_fairness: f64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(2 * args.circuits <= args.reservations, "each circuit takes two of the peers with a reservation");
    let warren = warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    let peers = relay_peers(args.peers.clone(), Profile::Measured)?;
    let scratch = Scratch::new()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 1..=args.runs {
        eprintln!("run {run} of {}: warren", args.runs);
        ours.push(load(start_warren(&warren, &scratch, run)?, &peers, &args)?);
        eprintln!("run {run} of {}: upstream", args.runs);
        theirs.push(load(start_upstream(&peers)?, &peers, &args)?);
    }
    report(&args, &ours, &theirs);
    Ok(())
}

/// The peers at `path`, or else built.
pub(crate) fn relay_peers(path: Option<PathBuf>, profile: Profile) -> Result<PathBuf> {
    match path {
        Some(path) => {
            ensure!(path.is_file(), "there is no program at {}", path.display());
            Ok(path)
        }
        None => build("bench/relay-peers/Cargo.toml", "relay-peers", profile),
    }
}

fn start_warren(warren: &Program, scratch: &Scratch, run: usize) -> Result<Node> {
    let mut command = Command::new(&warren.path);
    command.args(["relay", "--json", "--no-mdns", "--no-portmap", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    // What is measured is not to end with the bytes of a circuit.
    command
        .args(["--circuit-mib", "1048576", "--state-dir"])
        .arg(scratch.state_dir(&format!("relay-{run}"))?);
    command.env_remove("RUST_LOG");
    Node::start("warren relay", command, None)
}

fn start_upstream(peers: &PathBuf) -> Result<Node> {
    let mut command = Command::new(peers);
    command.args(["relay", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    Node::start("upstream's relay", command, None)
}

/// Has a crowd do what a line says.
pub(crate) fn tell(crowd: &mut Node, line: &str) -> Result<Event> {
    crowd.line(line)?;
    let answer = crowd.wait(&format!("an answer to '{line}'"), PATIENCE, |_| true)?;
    ensure!(!answer.is("error"), crowd.complaint(&format!("answered {answer}")));
    Ok(answer)
}

/// Has a crowd do something that has to succeed for all.
fn tell_all(crowd: &mut Node, line: &str) -> Result<Event> {
    let answer = tell(crowd, line)?;
    ensure!(answer.body["failed"] == 0, crowd.complaint(&format!("answered {answer} to '{line}'")));
    Ok(answer)
}

fn load(mut relay: Node, peers: &PathBuf, args: &Args) -> Result<Load> {
    let addr = relay.listening()?;
    let mut command = Command::new(peers);
    command.args(["crowd", "--relay", &addr]);
    let mut crowd = Node::start("the crowd", command, None)?;
    let mut load = Load::default();
    load.rss[0] = relay.usage()?.rss_kb as f64;
    tell_all(&mut crowd, &format!("reserve 0 {}", args.reservations))?;
    std::thread::sleep(REST);
    let before = relay.usage()?;
    load.rss[1] = before.rss_kb as f64;
    tell(&mut crowd, &format!("talk silence silence {}", args.seconds))?;
    load.idle = cpu_ms(before, relay.usage()?) / args.seconds as f64;
    tell_all(&mut crowd, &format!("circuits {}", args.circuits))?;
    std::thread::sleep(REST);
    let before = relay.usage()?;
    let talked = tell(&mut crowd, &format!("talk chat silence {}", args.seconds))?;
    let after = relay.usage()?;
    load.rss[2] = after.rss_kb as f64;
    load.chatting = cpu_ms(before, after) / args.seconds as f64;
    load.alone = latencies(&talked)?;
    load.chat_fairness = jain(&numbers(&talked, "bytes"));
    tell_all(&mut crowd, "greedy")?;
    let talked = tell(&mut crowd, &format!("talk chat flood {}", args.seconds))?;
    load.beside_greedy = latencies(&talked)?;
    load.greedy = numbers(&talked, "greedy").iter().sum::<f64>() / 1e6 / seconds(&talked);
    std::thread::sleep(REST);
    let before = relay.usage()?;
    let talked = tell(&mut crowd, &format!("talk flood silence {}", args.seconds))?;
    let after = relay.usage()?;
    let bytes = numbers(&talked, "bytes");
    let megabytes = bytes.iter().sum::<f64>() / 1e6;
    load.rss[3] = after.rss_kb as f64;
    load.flood = megabytes / seconds(&talked);
    load.flood_cpu = cpu_ms(before, after) / megabytes;
    load.fairness = jain(&bytes);
    let holding = tell(&mut crowd, "holding")?;
    ensure!(
        holding.body["count"].as_u64() >= Some(args.reservations as u64),
        "reservations were lost: {holding}"
    );
    crowd.stop()?;
    relay.stop()?;
    Ok(load)
}

fn report(args: &Args, ours: &[Load], theirs: &[Load]) {
    println!(
        "\n{} reservations, {} circuits; TCP on 127.0.0.1, medians of {} runs of {} s each part",
        args.reservations, args.circuits, args.runs, args.seconds
    );
    let mut table = Table::new(&["", "warren", "upstream", "ratio"]);
    let mut ratios = Vec::new();
    let mut row = |name: &str, digits: usize, of: &dyn Fn(&Load) -> f64| {
        let [a, b] = [ours, theirs].map(|loads| median(&loads.iter().map(of).collect::<Vec<_>>()));
        let number = |n: f64| format!("{n:.digits$}");
        table.row(&[name.to_owned(), number(a), number(b), format!("{:.2}", a / b)]);
        ratios.push((name.to_owned(), a / b, a));
    };
    let (reservations, circuits) = (args.reservations as f64, args.circuits as f64);
    row("RSS idle, kB", 0, &|load| load.rss[0]);
    row("RSS with reservations, kB", 0, &|load| load.rss[1]);
    row("  per reservation, kB", 1, &|load| (load.rss[1] - load.rss[0]) / reservations);
    row("RSS with circuits chatting, kB", 0, &|load| load.rss[2]);
    row("  per circuit, kB", 1, &|load| (load.rss[2] - load.rss[1]) / circuits);
    row("RSS after the flood, kB", 0, &|load| load.rss[3]);
    row("CPU, idle reservations, ms/s", 2, &|load| load.idle);
    row("CPU, circuits chatting, ms/s", 1, &|load| load.chatting);
    for (at, name) in ["p50", "p95", "p99"].into_iter().enumerate() {
        row(&format!("latency {name}, chatting, ms"), 2, &|load| load.alone[at]);
        row(&format!("latency {name}, beside a greedy one, ms"), 2, &|load| load.beside_greedy[at]);
    }
    row("the greedy one gets, MB/s", 1, &|load| load.greedy);
    row("all circuits say what they can, MB/s", 1, &|load| load.flood);
    row("  CPU s per GB", 2, &|load| load.flood_cpu);
    row("  fairness (Jain)", 3, &|load| load.fairness);
    row("fairness of chat (Jain)", 3, &|load| load.chat_fairness);
    table.print();
    println!();
    for (name, ratio, value) in ratios {
        match name.as_str() {
            "RSS with reservations, kB"
            | "RSS with circuits chatting, kB"
            | "RSS after the flood, kB"
            | "CPU, circuits chatting, ms/s"
            | "  CPU s per GB" => aim(&format!("{}, ratio", name.trim()), ratio, "x", Limit::AtMost(1.0)),
            "  fairness (Jain)" => aim("fairness under flood", value, "", Limit::AtLeast(0.9)),
            _ => {}
        }
    }
}

fn cpu_ms(before: Usage, after: Usage) -> f64 {
    (after.cpu - before.cpu).as_secs_f64() * 1000.0
}

fn numbers(talked: &Event, field: &str) -> Vec<f64> {
    talked.body[field].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn seconds(talked: &Event) -> f64 {
    talked.body["seconds"].as_f64().unwrap_or(f64::NAN)
}

fn latencies(talked: &Event) -> Result<[f64; 3]> {
    let at = |name: &str| {
        talked.body[name].as_f64().with_context(|| format!("nothing arrived while they talked: {talked}"))
    };
    Ok([at("p50")?, at("p95")?, at("p99")?])
}

/// Jain's index: 1 when all get the same, 1/n when one gets all.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_for_equals_and_little_for_one_that_gets_all() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[6.0, 0.0, 0.0]), 1.0 / 3.0);
    }
}
