//! `transport`: what a connection and its bytes cost, warren's transports beside upstream's.
//!
//! ```text
//!   dialler ══ loopback: one connection, one stream, or many idle connections ══ listener
//! ```
//! Two processes of one program, driven by lines: `bench/streams/src/peer.rs`. Runs of the programs alternate.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use argh::FromArgs;

use crate::node::Node;
use crate::process::Usage;
use crate::program::{self, Profile};
use crate::table::{Limit, Table, aim, median, range};

/// A transfer or a series of dials that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between the last dial and the look at what idle connections hold: more than a handshake's leftovers live,
/// less than it takes an idle connection to end.
const SETTLE: Duration = Duration::from_secs(4);

/// Throughput, CPU time and memory of warren's QUIC and TCP beside those of upstream libp2p on tokio.
#[derive(FromArgs)]
#[argh(subcommand, name = "transport")]
pub(crate) struct Args {
    /// megabytes per transfer (default 500)
    #[argh(option, default = "500")]
    megabytes: u64,
    /// idle connections (default 200)
    #[argh(option, default = "200")]
    connections: u64,
    /// runs of each (default 3)
    #[argh(option, default = "3")]
    runs: usize,
    /// measure QUIC only
    #[argh(switch)]
    quic_only: bool,
    /// warren-streams to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// streams-reference to measure (default: built)
    #[argh(option)]
    reference: Option<PathBuf>,
}

/// A program and the transport it is to use.
struct Subject {
    name: &'static str,
    path: PathBuf,
    carrier: &'static str,
}

/// What one transfer gave.
struct Transfer {
    /// Millions of bytes per second.
    rate: f64,
    /// CPU seconds per billion bytes, of the dialler and of the listener.
    cpu: [f64; 2],
}

/// What one idle connection holds at the dialler and at the listener: kB, anonymous memory.
type Idle = [f64; 2];

#[derive(Default)]
struct Figures {
    upload: Vec<Transfer>,
    download: Vec<Transfer>,
    idle: Vec<Idle>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(args.megabytes >= 1 && args.runs >= 1, "--megabytes and --runs must be 1 at least");
    let warren = streams(args.warren.clone(), Streams::Warren)?;
    let reference = streams(args.reference.clone(), Streams::Reference)?;
    let subject = |name, path: &PathBuf, carrier| Subject { name, path: path.clone(), carrier };
    let mut subjects =
        vec![subject("upstream QUIC", &reference, "quic"), subject("warren QUIC", &warren, "quic")];
    if !args.quic_only {
        subjects.push(subject("upstream TCP", &reference, "tcp"));
        subjects.push(subject("warren TCP", &warren, "tcp"));
    }
    let mut figures: Vec<Figures> = subjects.iter().map(|_| Figures::default()).collect();
    for round in 1..=args.runs {
        for (subject, figures) in subjects.iter().zip(&mut figures) {
            subject.measure(&args, figures).with_context(|| format!("{}, run {round}", subject.name))?;
            let last = |transfers: &[Transfer]| transfers.last().map_or(f64::NAN, |transfer| transfer.rate);
            let (up, down) = (last(&figures.upload), last(&figures.download));
            eprintln!("  {}, run {round}: {up:.0} MB/s up, {down:.0} MB/s down", subject.name);
        }
    }
    report(&args, &subjects, &figures);
    Ok(())
}

/// Which of the two programs that carry streams.
#[derive(Clone, Copy)]
pub(crate) enum Streams {
    Warren,
    Reference,
}

/// The program at `path`, or else built.
pub(crate) fn streams(path: Option<PathBuf>, which: Streams) -> Result<PathBuf> {
    let (manifest, name) = match which {
        Streams::Warren => ("Cargo.toml", "warren-streams"),
        Streams::Reference => ("bench/streams-reference/Cargo.toml", "streams-reference"),
    };
    path.map_or_else(|| program::build(manifest, name, Profile::Measured), Ok)
}

/// Starts a program that carries streams; it listens at once.
pub(crate) fn start(path: &PathBuf, carrier: &str, name: &str) -> Result<(Node, String)> {
    let mut command = Command::new(path);
    command.arg(carrier).env_remove("RUST_LOG");
    let mut node = Node::start(name, command, None)?;
    let addr = node.listening()?;
    Ok((node, addr))
}

impl Subject {
    fn measure(&self, args: &Args, figures: &mut Figures) -> Result<()> {
        let (listener, addr) = self.start("listener")?;
        let (mut dialler, _) = self.start("dialler")?;
        dialler.line(&format!("connect {addr} 1"))?;
        dialler.wait("connected", PATIENCE, |event| event.is("connected"))?;
        let bytes = args.megabytes * 1_000_000;
        // What comes first finds cold buffers and a closed congestion window; it is not counted.
        transfer(&mut dialler, &listener, "upload", bytes.min(20_000_000))?;
        figures.upload.push(transfer(&mut dialler, &listener, "upload", bytes)?);
        figures.download.push(transfer(&mut dialler, &listener, "download", bytes)?);
        dialler.stop()?;
        listener.stop()?;
        if args.connections > 0 {
            figures.idle.push(self.idle(args.connections)?);
        }
        Ok(())
    }

    /// In fresh processes, as a transfer leaves memory behind. The first connections are not counted: they
    /// bring what all share.
    fn idle(&self, count: u64) -> Result<Idle> {
        let (listener, addr) = self.start("listener")?;
        let (mut dialler, _) = self.start("dialler")?;
        let mut connect = |count: u64| -> Result<[Usage; 2]> {
            dialler.line(&format!("connect {addr} {count}"))?;
            dialler.wait("connected", PATIENCE, |event| event.is("connected"))?;
            std::thread::sleep(SETTLE);
            Ok([dialler.usage()?, listener.usage()?])
        };
        let before = connect(5)?;
        let after = connect(count)?;
        dialler.stop()?;
        listener.stop()?;
        let each =
            |side: usize| (after[side].anonymous_kb as f64 - before[side].anonymous_kb as f64) / count as f64;
        Ok([each(0), each(1)])
    }

    fn start(&self, role: &str) -> Result<(Node, String)> {
        start(&self.path, self.carrier, &format!("{} {role}", self.name))
    }
}

fn transfer(dialler: &mut Node, listener: &Node, what: &str, bytes: u64) -> Result<Transfer> {
    let before = [dialler.usage()?.cpu, listener.usage()?.cpu];
    dialler.line(&format!("{what} {bytes}"))?;
    let moved = dialler.wait("moved", PATIENCE, |event| event.is("moved"))?;
    let after = [dialler.usage()?.cpu, listener.usage()?.cpu];
    let seconds = moved.body["seconds"].as_f64().context("no time was given")?;
    let cpu = |side: usize| (after[side] - before[side]).as_secs_f64() * 1e9 / bytes as f64;
    Ok(Transfer { rate: bytes as f64 / 1e6 / seconds, cpu: [cpu(0), cpu(1)] })
}

fn report(args: &Args, subjects: &[Subject], figures: &[Figures]) {
    println!(
        "transport: {} MB on one stream over loopback; {} idle connections; {} runs, medians",
        args.megabytes, args.connections, args.runs
    );
    let mut heading = vec!["figure"];
    heading.extend(subjects.iter().map(|subject| subject.name));
    heading.push("QUIC, ratio");
    heading.extend((subjects.len() > 2).then_some("TCP, ratio"));
    let mut table = Table::new(&heading);
    let mut row = |name: &str, of: &dyn Fn(&Figures) -> Vec<f64>, digits: usize| -> Vec<f64> {
        let values: Vec<f64> = figures.iter().map(|figures| median(&of(figures))).collect();
        let mut cells = vec![name.to_owned()];
        cells.extend(values.iter().map(|value| format!("{value:.digits$}")));
        cells.extend(values.chunks(2).map(|pair| format!("{:.2}", pair[1] / pair[0])));
        table.row(&cells);
        values
    };
    let rates = |transfers: &[Transfer]| transfers.iter().map(|transfer| transfer.rate).collect::<Vec<_>>();
    let cpu = |transfers: &[Transfer], side: fn([f64; 2]) -> f64| {
        transfers.iter().map(|transfer| side(transfer.cpu)).collect::<Vec<_>>()
    };
    let up = row("MB/s, dialler to listener", &|f| rates(&f.upload), 0);
    row("  least", &|f| vec![range(&rates(&f.upload)).0], 0);
    row("  greatest", &|f| vec![range(&rates(&f.upload)).1], 0);
    let down = row("MB/s, listener to dialler", &|f| rates(&f.download), 0);
    row("  least", &|f| vec![range(&rates(&f.download)).0], 0);
    row("  greatest", &|f| vec![range(&rates(&f.download)).1], 0);
    row("CPU s/GB, both processes, up", &|f| cpu(&f.upload, |[a, b]| a + b), 2);
    row("  sender", &|f| cpu(&f.upload, |[a, _]| a), 2);
    row("  receiver", &|f| cpu(&f.upload, |[_, b]| b), 2);
    row("CPU s/GB, both processes, down", &|f| cpu(&f.download, |[a, b]| a + b), 2);
    let dialler = row("kB per idle connection, dialler", &|f| f.idle.iter().map(|idle| idle[0]).collect(), 1);
    let listener =
        row("kB per idle connection, listener", &|f| f.idle.iter().map(|idle| idle[1]).collect(), 1);
    table.print();
    aim("QUIC throughput, up, of upstream's", up[1] / up[0], "x", Limit::AtLeast(1.0));
    aim("QUIC throughput, down, of upstream's", down[1] / down[0], "x", Limit::AtLeast(1.0));
    if args.connections > 0 {
        aim("memory per idle QUIC connection, dialler", dialler[1], " kB", Limit::AtMost(60.0));
        aim("memory per idle QUIC connection, listener", listener[1], " kB", Limit::AtMost(60.0));
    }
}
