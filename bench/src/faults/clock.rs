//! Wrong clocks for programs, never for the machine: libfaketime, which a file tells how wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::lab::{Host, Lab};
use crate::node::{Node, PROMPTLY};
use crate::program::Program;
use crate::scratch::Scratch;

/// Unit: seconds.
const YEAR: i64 = 365 * 24 * 3600;

/// The library.
pub(super) struct Clocks(PathBuf);

/// A clock that several programs may share.
pub(super) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clocks {
    /// Where Debian and others put it.
    pub(super) fn find() -> Option<Self> {
        let multiarch = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let dirs = multiarch.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
        let mut found = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1"));
        found.find(|library| library.is_file()).map(Clocks)
    }

    /// A clock that is right, until it is set.
    pub(super) fn clock(&self, file: PathBuf) -> Result<Clock> {
        let clock = Clock { library: self.0.clone(), file };
        clock.set(0)?;
        Ok(clock)
    }

    /// Fails unless warren believes such a clock, and no other of its clocks runs after it: two nodes that share one
    /// say when it is. A static warren does not ask the library, for example.
    pub(super) fn verify(&self, lab: &Lab, warren: &Program, scratch: &Scratch) -> Result<()> {
        let (clock, host) = (self.clock(scratch.path("clock-tried"))?, lab.host("clock")?);
        clock.set(-10)?;
        let mut one = start(lab, &host, warren, scratch, &clock, 1, None)?;
        let addr = one.listening()?;
        let mut two = start(lab, &host, warren, scratch, &clock, 2, Some(&addr))?;
        two.members(1)?;
        for years in [-10, 10] {
            clock.set(years)?;
            let text = format!("{years} years");
            one.send(&text)?;
            let heard = two.wait("what was said", PROMPTLY, |event| event.str("text") == text)?;
            let off = heard.body["timeMs"].as_i64().context("a message without a time")? / 1000 - now();
            ensure!(
                (off - years * YEAR).abs() < 60,
                "a clock set {years} years off is {off} s off in warren"
            );
            let uptime = one.command(json!({"cmd": "stats"}))?.body["uptimeMs"].as_i64();
            ensure!(uptime.is_some_and(|ms| ms < 60_000), "warren believes to be up for {uptime:?} ms");
        }
        println!("a clock that is set 10 years back, and then forth, is so in warren");
        [one, two].into_iter().try_for_each(Node::stop)?;
        lab.remove(&host)
    }
}

fn start(
    lab: &Lab,
    host: &Host,
    warren: &Program,
    scratch: &Scratch,
    clock: &Clock,
    seed: u64,
    bootstrap: Option<&str>,
) -> Result<Node> {
    let mut command = lab.command(host, &warren.path);
    let name = format!("clock-{seed}");
    warren.member(&mut command, "clock", seed, &scratch.state_dir(&name)?, false);
    command.args(["--no-mdns", "--no-portmap", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(bootstrap.map(|addr| ["--bootstrap", addr]).into_iter().flatten());
    clock.wear(&mut command);
    Node::start(&name, command, None)
}

impl Clock {
    /// Off by so many years from now on.
    pub(super) fn set(&self, years: i64) -> Result<()> {
        // Whoever reads it reads all of the old or all of the new.
        let new = self.file.with_extension("new");
        let write = |new: &Path| {
            std::fs::write(new, format!("{:+}\n", years * YEAR))?;
            std::fs::rename(new, &self.file)
        };
        write(&new).with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// The program will look at this clock. Its clock for durations stays the machine's.
    pub(super) fn wear(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
    }
}

/// Unit: seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}
