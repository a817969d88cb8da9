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
    /// When it was last saved, or that was tried.
    last: Option<Instant>,
    /// The last try failed.
    is_failing: bool,
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
        self.is_failing = false;
    }

    /// It could not be saved. The next try is as late as the next save would be: a full disk seldom has room a
    /// minute later. Returns whether that is news: a read-only disk is worth one warning.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.last = Some(now);
        self.due = Some(now + limits::SAVE_EVERY);
        !std::mem::replace(&mut self.is_failing, true)
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

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

    use libp2p::multiaddr::Protocol;
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u64) -> PeerId {
        crate::identity::from_seed(n).public().to_peer_id()
    }

    fn saved(n: u64, addrs: &[&str]) -> SavedPeer {
        let with_peer = |text: &&str| -> Multiaddr {
            let addr: Multiaddr = text.parse().expect("a multiaddr");
            addr.with(Protocol::P2p(peer(n)))
        };
        SavedPeer { peer: peer(n), addrs: addrs.iter().map(with_peer).collect(), missed: n as u32 }
    }

    fn two() -> Vec<SavedPeer> {
        vec![
            saved(2, &["/ip4/203.0.113.7/udp/4001/quic-v1", "/ip4/203.0.113.7/tcp/4001"]),
            saved(1, &["/ip6/2001:db8::1/tcp/4001"]),
        ]
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let text = to_text(&two());
        let second = text.lines().filter(|line| !line.starts_with('#')).nth(1).expect("a line");
        assert_eq!(second, format!("/ip4/203.0.113.7/tcp/4001/p2p/{} missed=2", peer(2)));
        assert_eq!(from_text(&text), Contents { peers: two(), skipped: 0 });
        assert_eq!(from_text(&to_text(&[])), Contents::default());
    }

    #[test]
    fn a_bad_line_costs_itself_only() {
        let good = format!("/ip6/2001:db8::1/tcp/4001/p2p/{}", peer(1));
        let text = format!(
            "{HEADER}\r\n\n  {good} new=word missed=1 missed=5\n{good} missed=1\n/ip4/203.0.113.7/tcp/1\nhello\n\
             /ip4/203.0.113.7/tcp/99999/p2p/{}\n/unix/{}/p2p/{}\n",
            peer(2),
            "x".repeat(300),
            peer(2),
        );
        assert_eq!(
            from_text(&text),
            Contents { peers: vec![saved(1, &["/ip6/2001:db8::1/tcp/4001"])], skipped: 5 }
        );
        let no_number = format!("{HEADER}\n{good} missed=-1\n");
        assert_eq!(from_text(&no_number).peers[0].missed, 0);
    }

    #[test]
    fn another_version_is_skipped_whole() {
        let text = to_text(&two()).replace(HEADER, "# warren address book 2");
        let contents = from_text(&text);
        assert!(contents.peers.is_empty() && contents.skipped > 2);
        assert_eq!(from_text(""), Contents::default());
    }

    #[test]
    fn a_long_file_is_read_as_far_as_we_would_write() {
        let lines: Vec<_> = (1..=100).map(|n| saved(n, &["/ip4/203.0.113.7/tcp/1"])).collect();
        let contents = from_text(&to_text(&lines));
        assert_eq!(
            (contents.peers.len(), contents.skipped),
            (limits::SAVED_PEERS, 100 - limits::SAVED_PEERS)
        );
        let many: Vec<_> = (1..=9).map(|n| format!("/ip4/203.0.113.7/tcp/{n}")).collect();
        let many = saved(1, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(from_text(&to_text(&[many])).peers[0].addrs.len(), limits::SAVED_ADDRESSES);
    }

    #[test]
    fn the_longest_file_that_we_write_is_read_whole() {
        // As long as a multiaddr of so many bytes gets in text: hexadecimal groups and base58.
        let relay = peer(1000);
        let circuit = |n: usize| {
            format!("/ip6/2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n:x}/udp/40001/quic-v1/p2p/{relay}/p2p-circuit")
        };
        let all: Vec<_> = (0..limits::SAVED_PEERS as u64)
            .map(|n| {
                let addrs: Vec<_> = (0xf000..0xf000 + limits::SAVED_ADDRESSES).map(circuit).collect();
                SavedPeer {
                    missed: u32::MAX,
                    ..saved(n, &addrs.iter().map(String::as_str).collect::<Vec<_>>())
                }
            })
            .collect();
        let text = to_text(&all);
        assert!(text.len() as u64 <= limits::SAVED_FILE_BYTES, "{} bytes", text.len());
        assert_eq!(from_text(&text), Contents { peers: all, skipped: 0 });
    }

    #[test]
    fn a_file_is_replaced_for_its_owner_only_and_a_missing_one_is_empty() {
        let dir = Dir::new("save");
        let path = dir.0.join("state/peers");
        assert_eq!(load(&path).expect("no file"), Contents::default());
        save(&path, &[]).expect("saves");
        save(&path, &two()).expect("saves again");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(load(&path).expect("loads"), Contents { peers: two(), skipped: 0 });
        assert_eq!(fs::read_dir(dir.0.join("state")).expect("there").count(), 1, "no temporary file is left");
        let mut bytes = to_text(&two()).into_bytes();
        bytes.splice(..0, [0xff, 0xfe, b'\n']);
        fs::write(&path, bytes).expect("writes");
        assert!(load(&path).expect("loads").peers.is_empty());
        assert!(save(Path::new("/dev/null/peers"), &two()).is_err(), "no directory");
    }

    /// A directory that is gone when the test is over.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("warren-peers-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).expect("temporary directory");
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_book_is_saved_soon_and_then_seldom_and_only_when_it_changed() {
        let (start, mut schedule) = (Instant::now(), SaveSchedule::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        schedule.note(0, start);
        assert_eq!(schedule.due(), None, "an empty book");
        schedule.note(1, start);
        schedule.note(2, after(50));
        assert_eq!(schedule.due(), Some(start + limits::SAVE_FIRST), "news do not put it off");
        schedule.saved(after(60));
        assert!(!schedule.is_changed());
        schedule.note(2, after(4000));
        assert_eq!(schedule.due(), None);
        schedule.note(3, after(100));
        assert!(schedule.is_changed());
        assert_eq!(schedule.due(), Some(after(60) + limits::SAVE_EVERY));
        assert!(schedule.failed(after(2000)), "news");
        assert_eq!((schedule.due(), schedule.is_changed()), (Some(after(2000) + limits::SAVE_EVERY), true));
        assert!(!schedule.failed(after(2000)), "no news");
        schedule.note(4, after(2001));
        assert_eq!(schedule.due(), Some(after(2000) + limits::SAVE_EVERY));
        schedule.saved(after(3800));
        schedule.note(5, after(9000));
        assert_eq!(schedule.due(), Some(after(9000) + limits::SAVE_FIRST));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, lines: Vec<String>) {
            from_text(&text);
            let contents = from_text(&format!("{HEADER}\n{}", lines.join("\n")));
            prop_assert!(contents.peers.is_empty());
        }

        #[test]
        fn a_damaged_file_is_read(at: prop::sample::Index, byte: u8, end: prop::sample::Index) {
            let mut bytes = to_text(&two()).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(end.index(bytes.len()));
            let contents = from_text(&String::from_utf8_lossy(&bytes));
            prop_assert!(contents.peers.len() <= 3);
        }
    }
}
