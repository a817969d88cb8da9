//! `interop`: warren in a plain room with another implementation, over loopback TCP or QUIC, on a local network
//! where they find each other by mDNS, or behind NATs and through relays.

mod circuits;
mod pair;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;

use crate::lab::{Lab, home};
use crate::lan::Lan;
use crate::node::{Node, PROMPTLY};
use crate::program::{self, Carrier, Data, Key, Kind, Profile, Program, Setup};
use crate::scratch::Scratch;

/// A message between two implementations may have to wait for a mesh to form.
const DELIVERY: Duration = Duration::from_secs(15);

/// How soon two on one network must have found each other, counted from when the later one listens.
const FIND: Duration = Duration::from_secs(2);

/// Checks that warren and another libp2p implementation hear each other in a plain room.
#[derive(FromArgs)]
#[argh(subcommand, name = "interop")]
pub(crate) struct Args {
    /// the other implementation: rust (the reference peer) or js
    #[argh(option)]
    peer: String,
    /// warren to check (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// reference peer (default: built)
    #[argh(option)]
    reference: Option<PathBuf>,
    /// the JavaScript peer's script, for --peer js
    #[argh(option)]
    script: Option<PathBuf>,
    /// meet over /quic-v1 instead of TCP
    #[argh(switch)]
    quic: bool,
    /// find each other by mDNS, in a network of namespaces, for which it takes root
    #[argh(switch)]
    mdns: bool,
    /// meet behind NATs through relays of either side, and punch by DCUtR, for which it takes root and nftables
    #[argh(switch)]
    relay: bool,
    /// put the reference peer in warren's place, to try the check itself
    #[argh(switch)]
    without_warren: bool,
    /// directory for logs of all programs of --relay, which then say what they do and why
    #[argh(option)]
    logs: Option<PathBuf>,
    /// build with the profiles for measuring, which others may have built already, instead of dev
    #[argh(switch)]
    measured: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let obstacle = match () {
        () if args.relay => home::obstacle(),
        () if args.mdns => Lab::obstacle(),
        () => None,
    };
    if let Some(obstacle) = obstacle {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let profile = if args.measured { Profile::Measured } else { Profile::Dev };
    let peer = match args.peer.as_str() {
        "rust" => program::reference(args.reference.clone(), profile)?,
        "js" => Program { kind: Kind::Js, path: args.script.context("--peer js needs --script")? },
        other => bail!("`{other}` is no known peer: use rust or js"),
    };
    let subject = if args.without_warren {
        program::reference(args.reference, profile)?
    } else {
        program::warren(args.warren, Data::Plain, profile)?
    };
    let carrier = if args.quic { Carrier::Quic } else { Carrier::Tcp };
    let scratch = Scratch::new()?;
    let mut failures = 0;
    if args.relay {
        failures = circuits::run(&peer, &subject, &scratch, args.logs.as_deref())?;
        ensure!(failures == 0, "{failures} checks failed");
        return Ok(());
    }
    if args.mdns {
        for (dials, is_first) in [(false, true), (false, false), (true, true), (true, false)] {
            failures += find(&peer, &subject, dials, is_first, &scratch);
        }
        ensure!(failures == 0, "{failures} checks failed");
        return Ok(());
    }
    for (dialer, listener) in [(&peer, &subject), (&subject, &peer)] {
        failures += meet(dialer, listener, carrier, &scratch);
    }
    ensure!(failures == 0, "{failures} checks failed");
    Ok(())
}

/// Lets the two find each other on a network of their own. Unless the peer `dials` too, the connection is warren's
/// finding; that the peer finds warren it says. Prints a line per check and returns how many failed.
fn find(peer: &Program, subject: &Program, dials: bool, is_first: bool, scratch: &Scratch) -> usize {
    let (first, later) = if is_first { (peer, subject) } else { (subject, peer) };
    let title = format!(
        "{} comes to {}, {} dials",
        later.kind,
        first.kind,
        if dials { "each" } else { "only warren" }
    );
    let found = Lan::new().and_then(|lan| {
        let start = |program: &Program, machine: usize| program.start_on(&lan, machine, dials, scratch);
        let mut first = start(first, 0)?;
        first.listening()?;
        let mut later = start(later, 1)?;
        let from = later.wait_for("listening")?.at;
        let (peer, warren) = if is_first { (&mut first, &mut later) } else { (&mut later, &mut first) };
        let result = found_each_other(peer, warren, from);
        first.stop()?;
        later.stop()?;
        result
    });
    match &found {
        Ok(times) => println!("ok    {title}: {times}"),
        Err(error) => println!("FAIL  {title}: {error:#}"),
    }
    usize::from(found.is_err())
}

fn found_each_other(peer: &mut Node, warren: &mut Node, from: Instant) -> Result<String> {
    let (them, us) = (author(peer)?, author(warren)?);
    let about = |name: &str, id: &str| {
        let (name, id) = (name.to_owned(), id.to_owned());
        move |event: &crate::node::Event| event.is(&name) && event.str("peerId") == id
    };
    let found = peer.wait("found", PROMPTLY, about("found", &us))?.at;
    let ours = warren.wait("peer_connected", PROMPTLY, about("peer_connected", &them))?.at;
    let theirs = peer.wait("peer_connected", PROMPTLY, about("peer_connected", &us))?.at;
    let [found, ours, theirs] = [found, ours, theirs].map(|at| at.saturating_duration_since(from));
    let ms = |time: Duration| time.as_millis();
    let times =
        format!("the peer found warren after {} ms, connected {} and {} ms", ms(found), ms(theirs), ms(ours));
    ensure!(found.max(ours).max(theirs) <= FIND, "{times}, which is too late");
    Ok(times)
}

/// Lets one dial the other and each say something. Prints a line per check and returns how many failed.
fn meet(dialer: &Program, listener: &Program, carrier: Carrier, scratch: &Scratch) -> usize {
    let title = format!("{} dials {} over {carrier}", dialer.kind, listener.kind);
    let (mut left, mut right) = match connect(dialer, listener, carrier, scratch) {
        Ok(nodes) => nodes,
        Err(error) => {
            println!("FAIL  {title}: {error:#}");
            return 1;
        }
    };
    println!("ok    {title}: connected, both in the room");
    let mut failures = 0;
    for turn in 0..2 {
        let (from, to) = if turn == 0 { (&mut left, &mut right) } else { (&mut right, &mut left) };
        let what = format!("{title}: {} says, {} hears once", from.name(), to.name());
        match author(from).and_then(|author| exchange(from, &author, to, "hello")) {
            Ok(()) => println!("ok    {what}"),
            Err(error) => {
                println!("FAIL  {what}: {error:#}");
                failures += 1;
            }
        }
    }
    for node in [left, right] {
        if let Err(error) = node.stop() {
            println!("FAIL  {title}: {error:#}");
            failures += 1;
        }
    }
    failures
}

fn connect(
    dialer: &Program,
    listener: &Program,
    carrier: Carrier,
    scratch: &Scratch,
) -> Result<(Node, Node)> {
    let setup = Setup { carrier, key: Key::Seed(1), bootstrap: &[], scratch };
    let mut right = listener.start("listener", &setup, None)?;
    let bootstrap = [right.listening()?];
    let setup = Setup { carrier, key: Key::Seed(2), bootstrap: &bootstrap, scratch };
    let mut left = dialer.start("dialer", &setup, None)?;
    for node in [&mut left, &mut right] {
        let connected = node.wait_for("peer_connected")?;
        ensure!(carrier.carries(connected.str("addr")), "not over {carrier}: {connected}");
        node.members(1)?;
    }
    Ok((left, right))
}

/// Has one say something that the other one must hear exactly once, as from `author`. What is said is made of
/// `occasion`, another one each time: the same text again would be the same message.
fn exchange(from: &mut Node, author: &str, to: &mut Node, occasion: &str) -> Result<()> {
    let (text, last) =
        (format!("{occasion}, héllo from {}", from.name()), format!("{occasion}, over, {}", from.name()));
    let sent = from.send(&text)?;
    let heard = to.wait("the message", DELIVERY, |event| event.is("message") && event.str("text") == text)?;
    ensure!(heard.str("peerId") == author, "heard as from {}, was {author}", heard.str("peerId"));
    ensure!(
        heard.str("messageId") == sent.str("messageId") && !heard.str("messageId").is_empty(),
        "sent as message {}, heard as {}",
        sent.str("messageId"),
        heard.str("messageId")
    );
    // A later message is the fence behind which a second copy of the first would have been seen.
    from.send(&last)?;
    to.wait("the later message", DELIVERY, |event| event.is("message") && event.str("text") == last)?;
    let again = to.messages(&text).len();
    ensure!(again == 0, "heard {} times", again + 1);
    ensure!(from.messages(&text).is_empty(), "the sender heard itself");
    Ok(())
}

/// The peer id a node gave itself in `started`, which it says once.
fn author(node: &mut Node) -> Result<String> {
    Ok(node.wait("started", PROMPTLY, |event| event.is("started"))?.str("peerId").to_owned())
}
