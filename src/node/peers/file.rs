//! The saved address book: a small text file, one address a line, that people can read.
//!
//! ```text
//! # warren address book 1
//! # ...
//! /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3KooW... missed=0
//! ```
//!
//! The best peer comes first. `missed` counts the starts of this node since the peer was last connected: a measure
//! of age for machines that do not know the time. Words that we do not know are skipped, as are lines.

use std::{fmt::Write as _, fs, io, io::Read, path::Path, time::Instant};

use libp2p::{Multiaddr, PeerId};

use super::peer_of;
use crate::{files, limits};

/// The first line. Another number would mean that the lines below it mean something else.
const HEADER: &str = "# warren address book 1";

const EXPLANATION: &str = "\
# Peers that this node reached, or met in a room, and how to reach them; the best first. It is read at the start and
# replaced now and then. missed: how often this node has started since it was last connected to that peer.
";

/// A peer in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPeer {
    pub peer: PeerId,
    /// Each with the peer at its end; at least one, at most [`limits::SAVED_ADDRESSES`].
    pub addrs: Vec<Multiaddr>,
    /// Starts of this node since the peer was last connected.
    pub missed: u32,
}

/// What was in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub peers: Vec<SavedPeer>,
    /// Lines that say nothing to us.
    pub skipped: usize,
}

/// When to save the book: rarely, and only what has changed. Pure.
#[derive(Debug, Default)]
pub struct SaveSchedule {
    /// [`super::Book::generation`] of what is in the file.
    saved: u32,
    /// Of what was last seen in the book.
    latest: u32,
    due: Option<Instant>,
    /// When it was last saved.
    last: Option<Instant>,
}

impl SaveSchedule {
    /// The book is at `generation` now. To be said now and then, and at least after every event that changes it.
    pub fn note(&mut self, generation: u32, now: Instant) {
        self.latest = generation;
        if !self.is_changed() {
            self.due = None;
        } else if self.due.is_none() {
            let soon = now + limits::SAVE_FIRST;
            self.due = Some(self.last.map_or(soon, |last| soon.max(last + limits::SAVE_EVERY)));
        }
    }

    /// When to save. `None`: there is nothing to.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether there is something to save at a clean end.
    pub fn is_changed(&self) -> bool {
        self.latest != self.saved
    }

    /// It has been saved.
    pub fn saved(&mut self, now: Instant) {
        self.saved = self.latest;
        self.last = Some(now);
        self.due = None;
    }

    /// It could not be saved. The next try is as late as the next save would be: a full disk seldom has room a
    /// minute later.
    pub fn failed(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = Some(now + limits::SAVE_EVERY);
    }
}

/// The text of a file.
pub fn to_text(peers: &[SavedPeer]) -> String {
    let mut text = format!("{HEADER}\n{EXPLANATION}");
    for SavedPeer { addrs, missed, .. } in peers {
        for addr in addrs {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{addr} missed={missed}");
        }
    }
    text
}

/// Reads the text of a file. Whatever is in it, something comes of it.
pub fn from_text(text: &str) -> Contents {
    let mut contents = Contents::default();
    let mut lines = text.lines();
    if lines.next().map(str::trim_end) != Some(HEADER) {
        contents.skipped = text.lines().count();
        return contents;
    }
    for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let is_taken = match from_line(line) {
            Some((peer, addr, missed)) => contents.add(peer, addr, missed),
            None => false,
        };
        contents.skipped += usize::from(!is_taken);
    }
    contents
}

/// Reads a file. One that is not there is an empty one.
///
/// # Errors
/// Those of the file system. What is in the file is no error.
pub fn load(path: &Path) -> io::Result<Contents> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(limits::SAVED_FILE_BYTES).read_to_end(&mut bytes)?;
    // The bytes that are no text spoil their line only.
    Ok(from_text(&String::from_utf8_lossy(&bytes)))
}

/// Replaces a file, at once or not at all, for its owner only.
///
/// # Errors
/// Those of the file system: the node does well without the file, so say it once and go on.
pub fn save(path: &Path, peers: &[SavedPeer]) -> io::Result<()> {
    files::write_atomically(path, to_text(peers).as_bytes())
}

impl Contents {
    fn add(&mut self, peer: PeerId, addr: Multiaddr, missed: u32) -> bool {
        let is_full = self.peers.len() >= limits::SAVED_PEERS;
        match self.peers.iter_mut().find(|saved| saved.peer == peer) {
            Some(saved) if saved.addrs.len() < limits::SAVED_ADDRESSES && !saved.addrs.contains(&addr) => {
                saved.addrs.push(addr);
                true
            }
            None if !is_full => {
                self.peers.push(SavedPeer { peer, addrs: vec![addr], missed });
                true
            }
            _ => false,
        }
    }
}

fn from_line(line: &str) -> Option<(PeerId, Multiaddr, u32)> {
    let mut words = line.split_whitespace();
    let addr: Multiaddr = words.next()?.parse().ok()?;
    let missed = words.find_map(|word| word.strip_prefix("missed=")).and_then(|n| n.parse().ok());
    let peer = peer_of(&addr)?;
    // A book takes it without the peer.
    (addr.len() <= limits::ADDRESS_BYTES + 64).then_some((peer, addr, missed.unwrap_or(0)))
}
