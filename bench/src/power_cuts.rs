//! `power-cuts`: a node is killed while it writes what it keeps, again and again, and must come back as who it was.
//!
//! ```text
//!   state directory ── inotify: "peers.4711.tmp is there" ──▶ driver ── after 0 to 2 times as long as a write ──▶ kill -9
//! ```
//! So every kill is aimed at a write. A temporary file that is left behind proves that it hit: the file was made, and not
//! yet renamed. A process that is killed loses nothing that the kernel has; what a disk loses is for `fsync`, which is
//! part of each write.

mod watch;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;

use self::watch::Watch;
use crate::node::{Node, PROMPTLY};
use crate::program::{self, Data, Profile};
use crate::scratch::Scratch;
use crate::table::{Table, median};

/// Kills a node while it writes its state, and fails unless it always comes back as who it was.
#[derive(FromArgs)]
#[argh(subcommand, name = "power-cuts")]
pub(crate) struct Args {
    /// kills (default 500)
    #[argh(option, default = "500")]
    cuts: usize,
    /// warren to kill (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// build with the profile for measuring, which others may have built already, instead of dev
    #[argh(switch)]
    measured: bool,
}

/// Writes that are watched to their end before the first kill: they tell how long one takes.
const CALIBRATION: usize = 3;

/// The least share of kills that must have fallen into a write. They are aimed at twice its length, so it is half of
/// them; a machine with much to do misses more.
const LEAST_HITS: f64 = 0.1;

/// Bytes of the full file system: enough for what is kept, and then it is filled.
const SMALL_DISK: &str = "size=64k";

/// An address book without the anchor, up to a number.
const BOOK: &str = "# warren address book 1\n/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmGHAcZdJTbyAoZARkTDFKZbzuEqFnfqX6nNpvJZoFuBmd missed=";

/// What is written when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    /// At the first start.
    Identity,
    /// At each start.
    Clock,
    /// At a clean end, with a peer to remember.
    Peers,
}

/// What came of the kills that were aimed at one file.
#[derive(Default)]
struct Tally {
    cuts: usize,
    hits: usize,
    /// Of those, with a temporary file that was not empty.
    partial: usize,
    /// Renamed before the kill.
    late: usize,
    writes_us: Vec<f64>,
}

/// One router: the program, its state, and somebody to remember.
struct Victim<'a> {
    warren: &'a Path,
    dir: PathBuf,
    anchor: &'a str,
    /// Who it is, once it has lasted.
    peer: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let profile = if args.measured { Profile::Measured } else { Profile::Dev };
    let warren = program::warren(args.warren, Data::Envelope, profile)?.path;
    let scratch = Scratch::new()?;
    let mut anchor = start(&warren, &scratch.state_dir("anchor")?, None)?;
    let anchor_addr = anchor.listening()?;

    let mut table =
        Table::new(&["file", "kills", "in the write", "of those with bytes", "after it", "a write, ms"]);
    let (mut cuts, mut hits) = (0, 0);
    for (file, share) in [(File::Identity, 5), (File::Clock, 2), (File::Peers, 3)] {
        let wanted = (args.cuts * share).div_ceil(10);
        let tally = cut(&warren, &scratch, &anchor_addr, file, wanted)
            .with_context(|| format!("cutting {}", file.name()))?;
        (cuts, hits) = (cuts + tally.cuts, hits + tally.hits);
        table.row(&tally.row(file));
    }
    table.print();
    ensure!(hits as f64 >= LEAST_HITS * cuts as f64, "only {hits} of {cuts} kills fell into a write");

    match disks(&warren, &scratch, &anchor_addr, (args.cuts / 20).max(2)) {
        Ok(text) => println!("{text}"),
        Err(e) if e.downcast_ref::<NoMount>().is_some() => println!("skipped: full and read-only disks, {e}"),
        Err(e) => return Err(e),
    }
    println!(
        "{cuts} kills, {hits} of them in a write: it always started again as who it was, each file old or new"
    );
    anchor.stop()
}

/// Kills aimed at one file.
fn cut(warren: &Path, scratch: &Scratch, anchor: &str, file: File, wanted: usize) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut victim = Victim { warren, dir: scratch.state_dir(file.name())?, anchor, peer: None };
    let deadline = Instant::now() + PROMPTLY * (wanted as u32 + 10);
    while tally.cuts < wanted {
        ensure!(Instant::now() < deadline, "{} of {wanted} kills in {PROMPTLY:?} each", tally.cuts);
        if file == File::Identity {
            victim = Victim { dir: scratch.state_dir(file.name())?, peer: None, ..victim };
        } else if victim.peer.is_none() {
            victim.comes_back()?;
        }
        victim.one(file, &mut tally)?;
        victim.comes_back().with_context(|| format!("after kill {}", tally.cuts))?;
    }
    Ok(tally)
}

impl Victim<'_> {
    /// One life up to a kill.
    fn one(&mut self, file: File, tally: &mut Tally) -> Result<()> {
        let path = self.dir.join(file.name());
        if file == File::Peers {
            // Somebody else, so that there is something new to write about the anchor.
            fs::write(&path, format!("{BOOK}{}\n", fastrand::u16(..)))?;
        }
        let old = fs::read(&path).ok();
        let watch = Watch::new(&self.dir)?;
        let mut node = start(self.warren, &self.dir, Some(self.anchor))?;
        if file == File::Peers {
            node.members(1)?;
            node.line(r#"{"cmd":"quit"}"#)?;
        }
        watch.until(
            |event| event.starts_with(&format!("{}.", file.name())) && event.ends_with(".tmp"),
            PROMPTLY,
        )?;
        let begin = Instant::now();
        if tally.writes_us.len() < CALIBRATION {
            watch.until(|event| event == file.name(), PROMPTLY)?;
            tally.writes_us.push(begin.elapsed().as_secs_f64() * 1e6);
            return Ok(());
        }
        let pause = Duration::from_secs_f64(2.0 * median(&tally.writes_us) * fastrand::f64() / 1e6);
        while begin.elapsed() < pause {
            std::hint::spin_loop();
        }
        // Kills it by its own handle.
        drop(node);

        tally.cuts += 1;
        let left = temporary(&self.dir, file)?;
        if let Some(bytes) = left {
            tally.hits += 1;
            tally.partial += usize::from(bytes > 0);
        }
        let new = fs::read(&path).ok();
        if new != old || left.is_none() {
            tally.late += 1;
        }
        ensure!(left.is_none() || new == old, "{} has changed before it was renamed", file.name());
        match new {
            Some(new) => ensure!(file.is_whole(&new), "{} is neither old nor new: {new:?}", file.name()),
            None => ensure!(old.is_none(), "{} is gone", file.name()),
        }
        Ok(())
    }

    /// The next life, to a clean end: it is who it was, has a place to be so, and sweeps up.
    fn comes_back(&mut self) -> Result<()> {
        let had_key = self.dir.join(File::Identity.name()).exists();
        let mut node = start(self.warren, &self.dir, Some(self.anchor))?;
        let peer = node.wait_for("started")?.str("peerId").to_owned();
        if let (Some(before), true) = (&self.peer, had_key) {
            ensure!(*before == peer, "it was {before} and is {peer}");
        }
        ensure!(self.peer.is_none() || had_key, "its key is gone");
        self.peer = Some(peer);
        node.members(1)?;
        node.stop()?;
        for file in [File::Identity, File::Clock, File::Peers] {
            ensure!(
                temporary(&self.dir, file)?.is_none(),
                "what a kill left of {} is still there",
                file.name()
            );
        }
        let key = fs::read(self.dir.join(File::Identity.name())).context("it ended without a key")?;
        ensure!(File::Identity.is_whole(&key), "a key of {} bytes", key.len());
        Ok(())
    }
}

impl File {
    fn name(self) -> &'static str {
        match self {
            File::Identity => "identity.key",
            File::Clock => "clock",
            File::Peers => "peers",
        }
    }

    /// Whether this is all of such a file.
    fn is_whole(self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        match self {
            // A secp256k1 key in libp2p's protobuf. What it means the next start finds out.
            File::Identity => bytes.len() == 36,
            File::Clock => {
                text.ends_with('\n') && lines.next().is_some_and(|line| line.parse::<u64>().is_ok())
            }
            File::Peers => text.ends_with('\n') && lines.all(|line| line.contains(" missed=")),
        }
    }
}

impl Tally {
    fn row(&self, file: File) -> [String; 6] {
        let numbers = [self.cuts, self.hits, self.partial, self.late].map(|number| number.to_string());
        let [cuts, hits, partial, late] = numbers;
        [file.name().into(), cuts, hits, partial, late, format!("{:.2}", median(&self.writes_us) / 1000.0)]
    }
}

/// Bytes of a temporary file that a kill left behind.
fn temporary(dir: &Path, file: File) -> Result<Option<u64>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{}.", file.name())) && name.ends_with(".tmp") {
            return Ok(Some(entry.metadata()?.len()));
        }
    }
    Ok(None)
}

fn start(warren: &Path, dir: &Path, anchor: Option<&str>) -> Result<Node> {
    let mut command = Command::new(warren);
    command.args([
        "run",
        "--json",
        "--no-mdns",
        "--no-portmap",
        "--tcp-only",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ]);
    command.arg("--state-dir").arg(dir).env_remove("RUST_LOG");
    command.args(anchor.into_iter().flat_map(|addr| ["--bootstrap", addr]));
    Node::start("victim", command, None)
}

/// There are no file systems to be had.
#[derive(Debug)]
struct NoMount;

impl fmt::Display for NoMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("which need root and mount")
    }
}

impl std::error::Error for NoMount {}

/// A small disk of its own, gone when the run is.
struct Disk(PathBuf);

impl Disk {
    fn new(dir: PathBuf) -> Result<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"]).arg(&dir).output();
        if !done.is_ok_and(|done| done.status.success()) {
            bail!(NoMount);
        }
        Ok(Disk(dir))
    }

    fn remount(&self, option: &str) -> Result<()> {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status()?;
        ensure!(status.success(), "the disk cannot be mounted again, {option}");
        Ok(())
    }

    /// Takes what place is left.
    fn fill(&self) -> Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        while !chunk.is_empty() {
            let name = self.0.join(format!("filler-{}", chunk.len()));
            if fs::write(&name, &chunk).is_err() {
                let half = chunk.len() / 2;
                chunk.truncate(half);
            }
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it stays, so does the directory, which is temporary.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Full and read-only disks: it starts, it is who it was, and it is killed whenever.
fn disks(warren: &Path, scratch: &Scratch, anchor: &str, cuts: usize) -> Result<String> {
    let disk = Disk::new(scratch.state_dir("disk")?)?;
    let mut victim = Victim { warren, dir: disk.0.clone(), anchor, peer: None };
    victim.comes_back()?;
    let kept = |file: File| fs::read(disk.0.join(file.name())).ok();
    let old = [File::Identity, File::Peers].map(kept);
    ensure!(old.iter().all(Option::is_some), "it keeps nothing");
    disk.fill()?;
    for option in ["rw", "ro"] {
        disk.remount(option)?;
        for _ in 0..cuts {
            let mut node = start(warren, &disk.0, Some(anchor))?;
            let peer = node.wait_for("started")?.str("peerId").to_owned();
            ensure!(Some(&peer) == victim.peer.as_ref(), "with a disk {option} it is {peer}");
            node.wait_for("peer_connected")?;
            node.line(r#"{"cmd":"quit"}"#)?;
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..20)));
            drop(node);
            ensure!(
                [File::Identity, File::Peers].map(kept) == old,
                "with a disk {option} a file has changed"
            );
        }
    }
    // A router that never had place for a key talks all the same.
    disk.remount("rw")?;
    fs::remove_file(disk.0.join(File::Identity.name()))?;
    disk.fill()?;
    let mut node = start(warren, &disk.0, Some(anchor))?;
    node.wait_for("peer_connected")?;
    node.stop()?;
    Ok(format!("{cuts} kills with a full disk, {cuts} with a read-only one: the same identity, old files"))
}
