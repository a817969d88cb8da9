//! `footprint`: what a node weighs when nothing happens, warren beside the reference peer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use argh::FromArgs;

use crate::node::Node;
use crate::process::Usage;
use crate::program::{self, Carrier, Data, Key, Profile, Program, Setup};
use crate::scratch::Scratch;
use crate::table::{Limit, Table, aim, median, range};

/// Between the last event of starting and connecting and the first look.
const SETTLE: Duration = Duration::from_secs(5);

/// Start-up time, size, and idle memory, threads and wake-ups, of warren beside upstream libp2p on tokio.
#[derive(FromArgs)]
#[argh(subcommand, name = "footprint")]
pub(crate) struct Args {
    /// starts of each program (default 15)
    #[argh(option, default = "15")]
    starts: usize,
    /// seconds of idling to watch (default 30)
    #[argh(option, default = "30")]
    seconds: u64,
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

/// One node over the idle time.
struct Idle {
    after: Usage,
    /// Context switches per second.
    switches: f64,
    /// CPU milliseconds per second.
    cpu: f64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(args.starts >= 1 && args.seconds >= 1, "--starts and --seconds must be 1 at least");
    let mut programs = vec![program::reference(args.reference, Profile::Measured)?];
    if !args.reference_only {
        programs.push(program::warren(args.warren, Data::Envelope, Profile::Measured)?);
    }
    let scratch = Scratch::new()?;
    let sizes: Vec<(String, String)> =
        programs.iter().map(|program| sizes(&program.path, &scratch)).collect::<Result<_>>()?;
    let starts = start_times(&programs, args.starts, &scratch)?;
    let idle = idle(&programs, args.seconds, &scratch)?;
    report(&programs, &sizes, &starts, &idle, args.seconds);
    Ok(())
}

/// Milliseconds from exec until the `listening` line was read, alternating between the programs.
fn start_times(programs: &[Program], starts: usize, scratch: &Scratch) -> Result<Vec<Vec<f64>>> {
    let mut times: Vec<Vec<f64>> = programs.iter().map(|_| Vec::new()).collect();
    // One more than asked: the first start of each also reads its binary from the disk.
    for number in 0..=starts {
        for (program, times) in programs.iter().zip(&mut times) {
            let setup = Setup { carrier: Carrier::Tcp, key: Key::Seed(1), bootstrap: &[], scratch };
            let mut node = program.start("starting", &setup, None)?;
            let listening = node.wait_for("listening")?;
            if number > 0 {
                times.push(listening.at.duration_since(node.started_at()).as_secs_f64() * 1000.0);
            }
            node.stop()?;
        }
    }
    Ok(times)
}

/// For each program a node without peers and one with one peer, all watched over the same seconds.
fn idle(programs: &[Program], seconds: u64, scratch: &Scratch) -> Result<Vec<[Idle; 2]>> {
    let mut alone = Vec::new();
    let mut pairs = Vec::new();
    for program in programs {
        let setup = Setup { carrier: Carrier::Tcp, key: Key::Seed(1), bootstrap: &[], scratch };
        let mut node = program.start("alone", &setup, None)?;
        node.listening()?;
        alone.push(node);
        let setup = Setup { carrier: Carrier::Tcp, key: Key::Seed(2), bootstrap: &[], scratch };
        let mut listener = program.start("with a peer", &setup, None)?;
        let bootstrap = [listener.listening()?];
        let setup = Setup { carrier: Carrier::Tcp, key: Key::Seed(3), bootstrap: &bootstrap, scratch };
        let mut dialer = program.start("the peer", &setup, None)?;
        listener.members(1)?;
        dialer.members(1)?;
        pairs.push((listener, dialer));
    }
    eprintln!("  watching {} idle nodes for {seconds} s", programs.len() * 3);
    std::thread::sleep(SETTLE);
    let look = || -> Result<Vec<[Usage; 2]>> {
        alone
            .iter()
            .zip(&pairs)
            .map(|(alone, (listener, _))| Ok([alone.usage()?, listener.usage()?]))
            .collect()
    };
    let before = look()?;
    std::thread::sleep(Duration::from_secs(seconds));
    let after = look()?;
    alone.into_iter().chain(pairs.into_iter().flat_map(<[Node; 2]>::from)).try_for_each(Node::stop)?;
    let over = |before: Usage, after: Usage| Idle {
        after,
        // A thread that ended in between takes its switches along.
        switches: after.switches.saturating_sub(before.switches) as f64 / seconds as f64,
        cpu: (after.cpu - before.cpu).as_secs_f64() * 1000.0 / seconds as f64,
    };
    Ok(before.iter().zip(after).map(|(before, after)| [0, 1].map(|i| over(before[i], after[i]))).collect())
}

/// Bytes stripped, and those bytes under xz; a dash where the tool is missing.
fn sizes(path: &Path, scratch: &Scratch) -> Result<(String, String)> {
    let copy = scratch.path("stripped");
    std::fs::copy(path, &copy)?;
    let stripped = Command::new("strip").arg(&copy).stderr(Stdio::null()).status();
    let bytes = match stripped {
        Ok(status) if status.success() => std::fs::metadata(&copy)?.len().to_string(),
        _ => "-".to_owned(),
    };
    let packed = match Command::new("xz").args(["-9e", "--stdout"]).arg(&copy).stderr(Stdio::null()).output()
    {
        Ok(output) if output.status.success() => output.stdout.len().to_string(),
        _ => "-".to_owned(),
    };
    Ok((bytes, packed))
}

fn report(
    programs: &[Program],
    sizes: &[(String, String)],
    starts: &[Vec<f64>],
    idle: &[[Idle; 2]],
    seconds: u64,
) {
    println!("footprint: {} starts each, idle over {seconds} s", starts[0].len());
    let mut heading = vec!["figure".to_owned()];
    heading.extend(programs.iter().map(|program| program.kind.to_string()));
    heading.extend((programs.len() > 1).then(|| "ratio".to_owned()));
    let mut table = Table::new(&heading.iter().map(String::as_str).collect::<Vec<_>>());
    let mut row = |name: &str, values: Vec<f64>, digits: usize| {
        let mut cells = vec![name.to_owned()];
        cells.extend(values.iter().map(|value| format!("{value:.digits$}")));
        // No ratio to nothing.
        let ratio =
            |value: &f64| if values[0] > 0.0 { format!("{:.2}", value / values[0]) } else { "-".to_owned() };
        cells.extend(values.get(1).map(ratio));
        table.row(&cells);
    };
    row("exec to listening, ms, median", starts.iter().map(|times| median(times)).collect(), 1);
    row("exec to listening, ms, greatest", starts.iter().map(|times| range(times).1).collect(), 1);
    let number = |word: &String| word.parse().unwrap_or(f64::NAN);
    row("bytes, stripped", sizes.iter().map(|(bytes, _)| number(bytes)).collect(), 0);
    row("bytes, xz -9e", sizes.iter().map(|(_, packed)| number(packed)).collect(), 0);
    for (which, state) in ["no peers", "1 peer"].into_iter().enumerate() {
        let column = |of: fn(&Idle) -> f64| idle.iter().map(|idle| of(&idle[which])).collect::<Vec<f64>>();
        row(&format!("RSS, kB, {state}"), column(|idle| idle.after.rss_kb as f64), 0);
        row(&format!("anonymous RSS, kB, {state}"), column(|idle| idle.after.anonymous_kb as f64), 0);
        row(&format!("threads, {state}"), column(|idle| idle.after.threads as f64), 0);
        row(&format!("context switches/s, {state}"), column(|idle| idle.switches), 2);
        row(&format!("CPU ms/s, {state}"), column(|idle| idle.cpu), 2);
    }
    table.print();
    for (index, program) in programs.iter().enumerate().skip(1) {
        let what = |figure: &str| format!("{} {figure}", program.kind);
        aim(&what("exec to listening"), median(&starts[index]), " ms", Limit::AtMost(20.0));
        for (idle, state) in idle[index].iter().zip(["no peers", "1 peer"]) {
            let what = |figure: &str| what(&format!("{figure}, {state}"));
            aim(&what("anonymous RSS"), idle.after.anonymous_kb as f64 / 1024.0, " MB", Limit::AtMost(2.0));
            aim(&what("threads"), idle.after.threads as f64, "", Limit::AtMost(3.0));
            aim(&what("wake-ups"), idle.switches, "/s", Limit::AtMost(5.0));
        }
    }
}
