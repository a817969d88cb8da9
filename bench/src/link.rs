//! `link`: what distance costs, QUIC beside TCP, through a slow and lossy link in user space.
//!
//! ```text
//!   dialler ──▶ relay: 45 ms each way, give or take 10, 1 % lost ──▶ listener
//! ```
//! First over a link that has the delay and nothing else, where a duration is a count of round trips; then over
//! the lossy one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use serde_json::json;

use crate::node::{Node, PROMPTLY};
use crate::program::{self, Carrier, Data, Profile, Program};
use crate::relay::{Relay, Weather};
use crate::scratch::Scratch;
use crate::table::{Limit, Table, aim, median, range};
use crate::transport::{self, Streams};

/// Between two messages of the conversation.
const PACE: Duration = Duration::from_millis(100);

/// A message that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Round trips to connect and to greet, message latency and CPU time of QUIC beside TCP, over a slow link.
#[derive(FromArgs)]
#[argh(subcommand, name = "link")]
pub(crate) struct Args {
    /// delay of the link, each way, ms (default 45)
    #[argh(option, default = "45")]
    delay: u64,
    /// greatest deviation from the delay, ms (default 10)
    #[argh(option, default = "10")]
    jitter: u64,
    /// loss, per cent (default 1)
    #[argh(option, default = "1.0")]
    loss: f64,
    /// runs of each transport and link (default 7)
    #[argh(option, default = "7")]
    runs: usize,
    /// messages per run, ten a second (default 50)
    #[argh(option, default = "50")]
    messages: usize,
    /// warren to measure (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// warren-streams to measure (default: built)
    #[argh(option)]
    streams: Option<PathBuf>,
}

/// What the runs of one transport over one link gave; durations in seconds.
#[derive(Default)]
struct Figures {
    /// The transport alone: dial to connected.
    bare_connected: Vec<f64>,
    /// The transport alone: dial to the answer to a first byte.
    bare_greeted: Vec<f64>,
    /// warren: dial to `peer_connected`.
    connected: Vec<f64>,
    /// warren: dial to the first message at the other node.
    first_message: Vec<f64>,
    latency: Vec<f64>,
    /// CPU seconds of both nodes, from the dial to the last message.
    cpu: Vec<f64>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(args.runs >= 1 && args.messages >= 1, "--runs and --messages must be 1 at least");
    ensure!(args.jitter <= args.delay && args.delay <= 2000, "--jitter is --delay at most, and that is 2000");
    ensure!((0.0..=50.0).contains(&args.loss), "--loss is 0 to 50");
    let warren = program::warren(args.warren.clone(), Data::Envelope, Profile::Measured)?;
    let streams = transport::streams(args.streams.clone(), Streams::Warren)?;
    let scratch = Scratch::new()?;
    let delay = Duration::from_millis(args.delay);
    let exact = Weather { delay, jitter: Duration::ZERO, loss: 0.0 };
    let lossy = Weather { delay, jitter: Duration::from_millis(args.jitter), loss: args.loss / 100.0 };
    for weather in [exact, lossy] {
        let mut figures = [Figures::default(), Figures::default()];
        for round in 1..=args.runs {
            for (carrier, figures) in [Carrier::Quic, Carrier::Tcp].into_iter().zip(&mut figures) {
                let what = || format!("{carrier}, run {round}");
                greet(&streams, carrier, weather, figures).with_context(what)?;
                chat(&warren, carrier, weather, args.messages, &scratch, figures).with_context(what)?;
                eprintln!("  {}", what());
            }
        }
        report(&args, weather, &figures);
    }
    Ok(())
}

/// The transport alone.
fn greet(path: &PathBuf, carrier: Carrier, weather: Weather, figures: &mut Figures) -> Result<()> {
    let (listener, addr) = transport::start(path, carrier.word(), "listener")?;
    let (relay, addr) = relay(carrier, &addr, weather)?;
    let (mut dialler, _) = transport::start(path, carrier.word(), "dialler")?;
    dialler.line(&format!("hello {addr}"))?;
    let greeted = dialler.wait("greeted", PATIENCE, |event| event.is("greeted"))?;
    let seconds = |field: &str| greeted.body[field].as_f64().context("no time was given");
    figures.bare_connected.push(seconds("connected")?);
    figures.bare_greeted.push(seconds("seconds")?);
    dialler.stop()?;
    listener.stop()?;
    drop(relay);
    Ok(())
}

/// Two nodes.
fn chat(
    warren: &Program,
    carrier: Carrier,
    weather: Weather,
    messages: usize,
    scratch: &Scratch,
    figures: &mut Figures,
) -> Result<()> {
    let mut listener = warren.start_warren("listener", 1, carrier, None, scratch)?;
    let (relay, addr) = relay(carrier, &listener.listening()?, weather)?;
    let mut dialler = warren.start_warren("dialler", 2, carrier, Some("first"), scratch)?;
    dialler.listening()?;
    let cpu = |a: &Node, b: &Node| -> Result<f64> { Ok((a.usage()?.cpu + b.usage()?.cpu).as_secs_f64()) };
    let before = cpu(&dialler, &listener)?;
    let start = Instant::now();
    dialler.line(&json!({"cmd": "connect", "addr": addr}).to_string())?;
    let connected = dialler.wait_for("peer_connected")?;
    ensure!(
        connected.str("addr").contains(&format!("/{}", relay.addr.port())),
        "not over the link: {connected}"
    );
    figures.connected.push((connected.at - start).as_secs_f64());
    let first = message(&mut listener, "first")?;
    figures.first_message.push((first - start).as_secs_f64());
    let mut sent = Vec::new();
    for number in 0..messages {
        std::thread::sleep(PACE);
        sent.push(Instant::now());
        dialler.line(&json!({"cmd": "send", "text": format!("number {number}")}).to_string())?;
    }
    for (number, sent) in sent.into_iter().enumerate() {
        let shown = message(&mut listener, &format!("number {number}"))?;
        figures.latency.push((shown - sent).as_secs_f64());
    }
    figures.cpu.push(cpu(&dialler, &listener)? - before);
    dialler.stop()?;
    listener.stop()?;
    drop(relay);
    Ok(())
}

/// When a node showed the message of this text.
fn message(node: &mut Node, text: &str) -> Result<Instant> {
    let patience = PATIENCE.max(PROMPTLY);
    let what = format!("message '{text}'");
    Ok(node.wait(&what, patience, |event| event.is("message") && event.str("text") == text)?.at)
}

/// A link to the listener at this address, and the address on this side of it.
fn relay(carrier: Carrier, addr: &str, weather: Weather) -> Result<(Relay, String)> {
    // "/ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3..."
    let mut parts: Vec<&str> = addr.split('/').collect();
    let port: u16 = parts.get(4).and_then(|port| port.parse().ok()).with_context(|| addr.to_owned())?;
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let relay = match carrier {
        Carrier::Quic => Relay::udp(to, weather)?,
        Carrier::Tcp => Relay::tcp(to, weather)?,
    };
    let port = relay.addr.port().to_string();
    parts[4] = &port;
    let addr = parts.join("/");
    Ok((relay, addr))
}

fn report(args: &Args, weather: Weather, figures: &[Figures; 2]) {
    let Weather { delay, jitter, loss } = weather;
    println!(
        "link: {delay:?} +- {jitter:?} each way, {} % lost; {} runs, {} messages each",
        loss * 100.0,
        args.runs,
        args.messages
    );
    let trip = weather.round_trip().as_secs_f64();
    let mut table = Table::new(&["figure", "QUIC", "", "", "TCP", "", ""]);
    table.row(&["", "median", "least", "greatest", "median", "least", "greatest"].map(str::to_owned));
    let mut row = |name: &str, unit: f64, digits: usize, of: fn(&Figures) -> &Vec<f64>| -> [f64; 2] {
        let mut cells = vec![name.to_owned()];
        for figures in figures {
            let values = of(figures);
            let (least, greatest) = range(values);
            cells.extend([median(values), least, greatest].map(|value| format!("{:.digits$}", value / unit)));
        }
        table.row(&cells);
        [0, 1].map(|index| median(of(&figures[index])) / unit)
    };
    row("transport: dial to connected, round trips", trip, 2, |f| &f.bare_connected);
    let greeted = row("transport: dial to first byte and back, round trips", trip, 2, |f| &f.bare_greeted);
    row("warren: dial to connected, round trips", trip, 2, |f| &f.connected);
    row("warren: dial to first message, round trips", trip, 2, |f| &f.first_message);
    row("message latency, ms", 0.001, 1, |f| &f.latency);
    row("CPU of both nodes, ms per run", 0.001, 0, |f| &f.cpu);
    table.print();
    if loss == 0.0 && jitter.is_zero() {
        aim("QUIC, first byte and back", greeted[0], " round trips", Limit::AtMost(2.2));
        aim("TCP, first byte and back", greeted[1], " round trips", Limit::AtLeast(3.0));
    }
}
