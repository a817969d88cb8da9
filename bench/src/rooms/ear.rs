//! What one process has heard of the others: lines such as `A 3 17`, the 17th of member 3, in phase A.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use crate::node::{Handled, Tap};

/// A line that a member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// A capital letter while the rooms form, a small one in the exam.
    pub(super) phase: char,
    pub(super) author: usize,
    pub(super) number: u32,
}

impl Line {
    pub(super) fn text(&self) -> String {
        format!("{} {} {}", self.phase, self.author, self.number)
    }

    fn parse(text: &str) -> Option<Line> {
        let mut words = text.split(' ');
        let phase = words.next()?.parse().ok()?;
        let (author, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Line { phase, author, number })
    }
}

/// What a process has heard.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Account>>);

#[derive(Default)]
struct Account {
    heard: HashSet<Line>,
    /// When somebody was first heard in a phase.
    first: HashMap<(char, usize), Instant>,
    /// Lines heard again.
    again: Vec<Line>,
    /// Events that the node itself says this reader missed.
    lagged: u64,
}

/// The parts of a line of output that count here.
#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(default)]
    missed: u64,
    id: Option<u64>,
}

impl Ear {
    /// Takes in messages, drops what nobody asks for, and leaves the answers to numbered commands.
    pub(super) fn tap(&self) -> Tap {
        let ear = self.clone();
        Box::new(move |line| {
            let Ok(output) = serde_json::from_slice::<Output<'_>>(line) else { return Handled::No };
            match &*output.event {
                "message" => ear.account().hear(&output.text),
                "lagged" => {
                    ear.account().lagged += output.missed;
                    Handled::Yes
                }
                "started" | "listening" => Handled::No,
                _ if output.id.is_some() => Handled::No,
                _ => Handled::Yes,
            }
        })
    }

    pub(super) fn has(&self, line: &Line) -> bool {
        self.account().heard.contains(line)
    }

    /// When this author was first heard in this phase.
    pub(super) fn first(&self, phase: char, author: usize) -> Option<Instant> {
        self.account().first.get(&(phase, author)).copied()
    }

    /// What is wrong with what was heard.
    pub(super) fn repetitions(&self) -> Vec<String> {
        let account = self.account();
        let again = account.again.iter().map(|line| format!("heard '{}' again", line.text()));
        let lagged = (account.lagged > 0).then(|| format!("{} events were not read in time", account.lagged));
        again.chain(lagged).collect()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn hear(&mut self, text: &str) -> Handled {
        let Some(line) = Line::parse(text) else { return Handled::No };
        if !self.heard.insert(line) {
            self.again.push(line);
        }
        self.first.entry((line.phase, line.author)).or_insert_with(Instant::now);
        Handled::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_counts_once_and_repetitions_are_told() {
        let ear = Ear::default();
        let mut tap = ear.tap();
        let line = Line { phase: 'A', author: 3, number: 17 };
        let output = format!(r#"{{"event":"message","room":"room0","text":"{}"}}"#, line.text());
        assert!(!ear.has(&line) && ear.first('A', 3).is_none());
        assert!(matches!(tap(output.as_bytes()), Handled::Yes));
        assert!(ear.has(&line) && ear.first('A', 3).is_some() && ear.first('B', 3).is_none());
        assert!(ear.repetitions().is_empty());
        tap(output.as_bytes());
        assert_eq!(ear.repetitions(), ["heard 'A 3 17' again"]);
    }

    #[test]
    fn answers_stay_and_other_events_go() {
        let mut tap = Ear::default().tap();
        let mut stays = |line: &str| matches!(tap(line.as_bytes()), Handled::No);
        assert!(
            stays(r#"{"event":"ok","cmd":"stats","id":7}"#) && stays(r#"{"event":"started","peerId":"x"}"#)
        );
        assert!(!stays(r#"{"event":"error","cmd":"send","error":"no_peers"}"#));
        assert!(!stays(r#"{"event":"member_joined","peerId":"x"}"#));
    }
}
