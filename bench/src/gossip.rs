//! `gossip`: what a message costs, warren beside the reference peer.
//!
//! ```text
//!   driver ──"send 00000017xxx…"──▶ publisher ══ loopback TCP ══▶ subscriber ──{"event":"message",…}──▶ driver
//! ```
//! The driver writes as fast as the publisher reads, so the publisher's own back-pressure sets the pace. Runs of
//! the programs alternate, so that whatever else the machine does hits all of them alike.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use argh::FromArgs;

use crate::mesh;
use crate::node::Node;
use crate::program::{self, Carrier, Data, Key, KeyType, Kind, Profile, Program, Setup};
use crate::scratch::Scratch;
use crate::table::{Limit, Table, aim, median, range};
use crate::tally::{DIGITS, Tally, text};

/// CPU time is quoted per this many messages.
const QUOTA: f64 = 100_000.0;

/// How long two nodes may take from joining to the first message that gets through.
const WARM_UP: Duration = Duration::from_secs(15);

/// Messages per second and CPU seconds per 100,000 of them, of warren beside upstream libp2p on tokio.
#[derive(FromArgs)]
#[argh(subcommand, name = "gossip")]
pub(crate) struct Args {
    /// messages per run (default 100000)
    #[argh(option, default = "100_000")]
    count: usize,
    /// bytes of text per message, 8 at least (default 128)
    #[argh(option, default = "128")]
    size: usize,
    /// runs of each program and kind of key (default 3)
    #[argh(option, default = "3")]
    runs: usize,
    /// measure this kind of key only: secp256k1 or ed25519 (default both)
    #[argh(option)]
    key_type: Option<KeyType>,
    /// measure warren in plain rooms only, not with its own envelope
    #[argh(switch)]
    plain_only: bool,
    /// nodes of the fully connected mesh, 0 for none (default 8)
    #[argh(option, default = "8")]
    mesh: usize,
    /// messages per second into the mesh (default 200)
    #[argh(option, default = "200")]
    mesh_rate: u32,
    /// seconds of messages into the mesh (default 10)
    #[argh(option, default = "10")]
    mesh_seconds: u32,
    /// warren to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// reference peer to measure (default: built)
    #[argh(option)]
    reference: Option<PathBuf>,
    /// measure the reference peer only, to try the bench itself
    #[argh(switch)]
    reference_only: bool,
}

/// What one run of one program gave.
struct Run {
    rate: f64,
    cpu: f64,
    rss_mb: f64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(
        args.size >= DIGITS,
        "--size {} is too short to number the messages: {DIGITS} at least",
        args.size
    );
    ensure!(args.count >= 1 && args.runs >= 1, "--count and --runs must be 1 at least");
    ensure!(args.mesh != 1, "--mesh 1 connects nobody: 0 or 2 at least");
    let reference = program::reference(args.reference.clone(), Profile::Measured)?;
    let mut programs = vec![reference.clone()];
    if !args.reference_only {
        let plain = program::warren(args.warren.clone(), Data::Plain, Profile::Measured)?;
        let envelope = Program { kind: Kind::Warren(Data::Envelope), path: plain.path.clone() };
        programs.push(plain);
        programs.extend((!args.plain_only).then_some(envelope));
    }
    let scratch = Scratch::new()?;
    let key_types =
        args.key_type.map_or(vec![KeyType::Secp256k1, KeyType::Ed25519], |key_type| vec![key_type]);
    println!(
        "gossip: {} messages of {} bytes, 1 publisher to 1 subscriber, {} runs",
        args.count, args.size, args.runs
    );
    let mut failures = 0;
    for key_type in key_types {
        let keys = keys(&reference, key_type, 2, &scratch)?;
        let (runs, failed) = alternate(&programs, args.runs, &key_type.to_string(), |program| {
            let run = pair(program, &keys, &args, &scratch)?;
            Ok((format!("{:.0} msg/s, {:.2} CPU s per {QUOTA}", run.rate, run.cpu), run))
        });
        failures += failed;
        report(key_type, &programs, &runs);
    }
    if args.mesh > 0 {
        let plan = mesh::Plan {
            nodes: args.mesh,
            rate: args.mesh_rate,
            seconds: args.mesh_seconds,
            size: args.size,
            runs: args.runs,
        };
        failures += mesh::run(&programs, &plan, &scratch);
    }
    ensure!(failures == 0, "{failures} runs failed: see above");
    Ok(())
}

/// Runs each program in turn, `rounds` times over. A run that fails (messages lost, or shown twice) is reported
/// and counted, and the others go on: their figures are worth having. `once` also says what to note of a run.
pub(crate) fn alternate<T>(
    programs: &[Program],
    rounds: usize,
    title: &str,
    mut once: impl FnMut(&Program) -> Result<(String, T)>,
) -> (Vec<Vec<T>>, usize) {
    let mut runs: Vec<Vec<T>> = programs.iter().map(|_| Vec::new()).collect();
    let mut failures = 0;
    for round in 1..=rounds {
        for (program, runs) in programs.iter().zip(&mut runs) {
            let name = format!("{title}, {}, run {round}", program.kind);
            match once(program) {
                Ok((note, run)) => {
                    eprintln!("  {name}: {note}");
                    runs.push(run);
                }
                Err(error) => {
                    println!("FAIL  {name}: {error:#}");
                    failures += 1;
                }
            }
        }
    }
    (runs, failures)
}

/// A key for each of two nodes: written to files, as no program but the reference takes an Ed25519 seed.
fn keys(
    reference: &Program,
    key_type: KeyType,
    count: u64,
    scratch: &Scratch,
) -> Result<Vec<(PathBuf, KeyType, u64)>> {
    (1..=count)
        .map(|seed| {
            let path = scratch.path(&format!("{key_type}-{seed}.key"));
            reference.write_key(key_type, seed, &path)?;
            Ok((path, key_type, seed))
        })
        .collect()
}

fn pair(program: &Program, keys: &[(PathBuf, KeyType, u64)], args: &Args, scratch: &Scratch) -> Result<Run> {
    let key = |index: usize| {
        let (path, key_type, seed) = &keys[index];
        Key::File(path, *key_type, *seed)
    };
    let tally = Tally::new(args.count);
    let setup = Setup { carrier: Carrier::Tcp, key: key(0), bootstrap: &[], scratch };
    let mut subscriber = program.start("subscriber", &setup, Some(tally.tap()))?;
    let bootstrap = [subscriber.listening()?];
    let setup = Setup { carrier: Carrier::Tcp, key: key(1), bootstrap: &bootstrap, scratch };
    let mut publisher = program.start("publisher", &setup, Some(tally.replies()))?;
    publisher.members(1)?;
    subscriber.members(1)?;
    warm_up(&mut publisher, &mut [&mut subscriber])?;

    let before = publisher.usage()?.cpu + subscriber.usage()?.cpu;
    let (count, size) = (args.count, args.size);
    let start = Instant::now();
    let feed = publisher.feed((0..count).map(move |number| format!("send {}", text(number, size))), None)?;
    let end = tally.complete(&subscriber, &tally)?;
    let (left, right) = (publisher.usage()?, subscriber.usage()?);
    publisher.fed(feed)?;
    fence(&mut publisher, &mut subscriber)?;
    tally.verify(&subscriber)?;
    publisher.stop()?;
    subscriber.stop()?;
    Ok(Run {
        rate: count as f64 / end.duration_since(start).as_secs_f64(),
        cpu: (left.cpu + right.cpu - before).as_secs_f64() * QUOTA / count as f64,
        rss_mb: left.rss_kb.max(right.rss_kb) as f64 / 1024.0,
    })
}

/// Sends words until each subscriber has heard one: only then is the way through known to be open.
pub(crate) fn warm_up(publisher: &mut Node, subscribers: &mut [&mut Node]) -> Result<()> {
    let deadline = Instant::now() + WARM_UP;
    let mut deaf: Vec<usize> = (0..subscribers.len()).collect();
    for number in 1.. {
        let word = format!("warm-up {number}");
        let sent = publisher.send(&word);
        deaf.retain(|index| {
            let heard = subscribers[*index].wait("a warm-up message", Duration::from_millis(500), |event| {
                event.is("message") && event.str("text").starts_with("warm-up")
            });
            sent.is_err() || heard.is_err()
        });
        if deaf.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            sent.context("the publisher could not send at all")?;
            let names: Vec<&str> = deaf.iter().map(|index| subscribers[*index].name()).collect();
            anyhow::bail!(
                publisher.complaint(&format!("was not heard by {} within {WARM_UP:?}", names.join(", ")))
            );
        }
    }
    Ok(())
}

/// Sends a last word and waits for it: what was sent before has then been shown, twice if it came twice.
pub(crate) fn fence(publisher: &mut Node, subscriber: &mut Node) -> Result<()> {
    let word = format!("fence for {}", subscriber.name());
    publisher.send(&word)?;
    subscriber.wait("the last message", WARM_UP, |event| {
        event.is("message") && event.str("text").trim_end() == word
    })?;
    Ok(())
}

fn report(key_type: KeyType, programs: &[Program], runs: &[Vec<Run>]) {
    let column = |index: usize, of: fn(&Run) -> f64| runs[index].iter().map(of).collect::<Vec<f64>>();
    println!("\n{key_type}: medians (least to greatest); ratios are to the reference");
    let mut table =
        Table::new(&["program", "msg/s", "", "ratio", "CPU s / 100,000", "", "ratio", "RSS after, MB"]);
    let base = (median(&column(0, |run| run.rate)), median(&column(0, |run| run.cpu)));
    for (index, program) in programs.iter().enumerate() {
        if runs[index].is_empty() {
            table.row(&[program.kind.to_string(), "failed".to_owned()]);
            continue;
        }
        let (rates, cpus) = (column(index, |run| run.rate), column(index, |run| run.cpu));
        let (slowest, fastest) = range(&rates);
        let (least, most) = range(&cpus);
        table.row(&[
            program.kind.to_string(),
            format!("{:.0}", median(&rates)),
            format!("({slowest:.0} to {fastest:.0})"),
            format!("{:.2}", median(&rates) / base.0),
            format!("{:.2}", median(&cpus)),
            format!("({least:.2} to {most:.2})"),
            format!("{:.2}", median(&cpus) / base.1),
            format!("{:.1}", median(&column(index, |run| run.rss_mb))),
        ]);
    }
    table.print();
    for (index, program) in programs.iter().enumerate().skip(1).filter(|(index, _)| !runs[*index].is_empty())
    {
        let what = |figure: &str| format!("{} {figure}, {key_type}", program.kind);
        aim(&what("throughput"), median(&column(index, |run| run.rate)) / base.0, "x", Limit::AtLeast(1.0));
        aim(&what("CPU"), median(&column(index, |run| run.cpu)) / base.1, "x", Limit::AtMost(0.9));
    }
}
