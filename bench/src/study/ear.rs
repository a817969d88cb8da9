//! What a node has shown of the others, with the times at which it was read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use super::plan;
use super::verify::precede;
use crate::node::{Handled, Tap};

/// The phase of which every message counts.
pub(super) const MEASURED: char = 'm';

/// The phase before it.
pub(super) const WARM: char = 'w';

/// Shared by the thread that reads the node's output and the one that measures.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Account>>);

/// What was heard so far.
#[derive(Clone, Default)]
pub(super) struct Account {
    /// Measured messages in the order in which they were shown: author, number, when.
    pub(super) heard: Vec<(u16, u32, Instant)>,
    /// Whom it has heard in any phase, and when first.
    pub(super) first: BTreeMap<u16, Instant>,
    /// How many members it knew of, each time that changed.
    pub(super) members: Vec<(Instant, usize)>,
    /// How many peers it was connected with, each time that changed.
    pub(super) connections: Vec<(Instant, usize)>,
    /// Whom it is connected with now.
    pub(super) peers: BTreeSet<String>,
    /// Who is in the room now.
    room: BTreeSet<String>,
    /// Its own name.
    pub(super) id: String,
    /// STUN has found an address of this family at which others see it.
    pub(super) external: BTreeSet<String>,
    /// Events that the node itself says this reader missed.
    pub(super) lagged: u64,
    /// The first message that the node refused.
    pub(super) refusal: Option<String>,
}

/// The parts of a line of output that count here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    peer_id: Cow<'a, str>,
    #[serde(borrow, default)]
    family: Cow<'a, str>,
    #[serde(default)]
    external: Vec<String>,
    #[serde(borrow, default)]
    cmd: Cow<'a, str>,
    #[serde(default)]
    missed: u64,
    id: Option<u64>,
}

impl Ear {
    /// Takes in everything but answers to numbered commands and what tells where the node is.
    pub(super) fn tap(&self) -> Tap {
        let (ear, mut is_first) = (self.clone(), true);
        Box::new(move |line| {
            let at = Instant::now();
            if std::mem::take(&mut is_first) {
                // The reading thread's.
                precede();
            }
            match serde_json::from_slice::<Output<'_>>(line) {
                Ok(output) => ear.account().take(&output, line, at),
                Err(_) => Handled::No,
            }
        })
    }

    /// A message that came by another way than a line of output.
    pub(super) fn hear(&self, text: &str) {
        let at = Instant::now();
        self.account().hear(text, at);
    }

    /// The node is another process from now on, which knows nobody yet.
    pub(super) fn forget(&self) {
        let (at, mut account) = (Instant::now(), self.account());
        account.peers.clear();
        account.room.clear();
        account.members.push((at, 0));
        account.connections.push((at, 0));
    }

    /// How many measured messages it has shown.
    pub(super) fn count(&self) -> usize {
        self.account().heard.len()
    }

    /// How many others it has heard.
    pub(super) fn acquaintances(&self) -> usize {
        self.account().first.len()
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        // Whoever panicked did so between two entries; the account is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn take(&mut self, output: &Output<'_>, line: &[u8], at: Instant) -> Handled {
        match &*output.event {
            "message" => self.hear(&output.text, at),
            "member_joined" | "member_left" => {
                match &*output.event == "member_joined" {
                    true => self.room.insert(output.peer_id.clone().into_owned()),
                    false => self.room.remove(&*output.peer_id),
                };
                self.members.push((at, self.room.len()));
            }
            "peer_connected" | "peer_disconnected" => {
                match &*output.event == "peer_connected" {
                    true => self.peers.insert(output.peer_id.clone().into_owned()),
                    false => self.peers.remove(&*output.peer_id),
                };
                self.connections.push((at, self.peers.len()));
            }
            "nat" if !output.external.is_empty() => {
                self.external.insert(output.family.clone().into_owned());
            }
            "lagged" => self.lagged += output.missed,
            "started" => {
                self.id = output.peer_id.clone().into_owned();
                return Handled::No;
            }
            "listening" => return Handled::No,
            "error" if output.cmd == "send" && output.id.is_none() => {
                self.refusal.get_or_insert_with(|| String::from_utf8_lossy(line).trim_end().to_owned());
            }
            _ if output.id.is_some() => return Handled::No,
            _ => {}
        }
        Handled::Yes
    }

    fn hear(&mut self, text: &str, at: Instant) {
        let Some((phase, author, number)) = plan::read(text) else { return };
        self.first.entry(author).or_insert(at);
        if phase == MEASURED {
            self.heard.push((author, number, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_counts() {
        let ear = Ear::default();
        let mut tap = ear.tap();
        let mut says = |line: &str| matches!(tap(line.as_bytes()), Handled::Yes);
        assert!(!says(r#"{"event":"started","peerId":"me"}"#));
        assert!(says(r#"{"event":"peer_connected","peerId":"a"}"#));
        assert!(says(r#"{"event":"member_joined","room":"study","peerId":"a"}"#));
        assert!(says(r#"{"event":"message","text":"w 2 0 xx"}"#));
        assert!(says(r#"{"event":"message","text":"m 3 5 xx"}"#));
        assert!(says(r#"{"event":"nat","family":"IPv4","external":["11.0.0.1:5"]}"#));
        assert!(says(r#"{"event":"ok","cmd":"send"}"#) && !says(r#"{"event":"ok","cmd":"peers","id":3}"#));
        assert!(says(r#"{"event":"error","cmd":"send","error":"no_peers"}"#));
        assert_eq!((ear.count(), ear.acquaintances()), (1, 2));
        let account = ear.account();
        assert_eq!((account.id.as_str(), account.peers.len(), account.members.len()), ("me", 1, 1));
        assert!(account.external.contains("IPv4") && account.refusal.is_some());
    }

    #[test]
    fn who_starts_anew_knows_nobody() {
        let ear = Ear::default();
        ear.tap()(br#"{"event":"peer_connected","peerId":"a"}"#);
        ear.forget();
        assert_eq!(ear.account().connections.last().map(|(_, count)| *count), Some(0));
    }
}
