//! Numbered messages: their texts, and the account of which arrived how often.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::node::{Handled, Node, Tap};

/// Digits of the number at the start of a text.
pub(crate) const DIGITS: usize = 8;

/// A run in which nothing arrives for this long has failed.
const STALLED: Duration = Duration::from_secs(10);

/// How often a waiting driver looks at an account.
const LOOK: Duration = Duration::from_millis(2);

/// The n-th text: its number, filled up to `size` bytes.
pub(crate) fn text(number: usize, size: usize) -> String {
    format!("{number:0DIGITS$}{:x<fill$}", "", fill = size.saturating_sub(DIGITS))
}

/// Which of the numbered messages a node has shown.
#[derive(Clone)]
pub(crate) struct Tally(Arc<Mutex<Account>>);

struct Account {
    /// How often each number was seen.
    seen: Vec<u8>,
    /// How many different numbers were seen.
    distinct: usize,
    /// When the last of them was.
    last: Option<Instant>,
    /// Numbers seen more than once, or beyond the end.
    surplus: usize,
    /// Events the node itself says this reader missed.
    lagged: u64,
    /// The publisher's first refusal of a message.
    refusal: Option<String>,
}

/// The parts of a line that a tally looks at.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    cmd: Cow<'a, str>,
    #[serde(default)]
    missed: u64,
    id: Option<Value>,
}

impl Tally {
    pub(crate) fn new(count: usize) -> Self {
        let account =
            Account { seen: vec![0; count], distinct: 0, last: None, surplus: 0, lagged: 0, refusal: None };
        Tally(Arc::new(Mutex::new(account)))
    }

    /// Counts numbered messages and takes them out of the node's events.
    pub(crate) fn tap(&self) -> Tap {
        let tally = self.clone();
        Box::new(move |line| {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return Handled::No };
            match &*line.event {
                "message" => tally.account().enter(&line.text),
                "lagged" => {
                    tally.account().lagged += line.missed;
                    Handled::No
                }
                _ => Handled::No,
            }
        })
    }

    /// For the publisher: drops its replies to fed lines, which carry no id, and notes the first refusal.
    pub(crate) fn replies(&self) -> Tap {
        let tally = self.clone();
        Box::new(move |line| {
            let Ok(reply) = serde_json::from_slice::<Line<'_>>(line) else { return Handled::No };
            match (&*reply.event, reply.id) {
                ("ok", None) => Handled::Yes,
                ("error", None) if reply.cmd == "send" => {
                    tally
                        .account()
                        .refusal
                        .get_or_insert_with(|| String::from_utf8_lossy(line).trim_end().to_owned());
                    Handled::No
                }
                _ => Handled::No,
            }
        })
    }

    /// Waits until every number was seen, and tells when the last one was. `published` is the account that the
    /// publisher's [replies](Tally::replies) go to; a refusal there ends the wait.
    pub(crate) fn complete(&self, node: &Node, published: &Tally) -> Result<Instant> {
        let mut before = usize::MAX;
        let mut moved = Instant::now();
        loop {
            let (distinct, last) = {
                let account = self.account();
                (account.distinct, account.last.filter(|_| account.distinct == account.seen.len()))
            };
            if let Some(last) = last {
                return Ok(last);
            }
            if let Some(refusal) = &published.account().refusal {
                bail!("a message was refused: {refusal}");
            }
            if distinct != before {
                (before, moved) = (distinct, Instant::now());
            } else if moved.elapsed() > STALLED {
                bail!(
                    node.complaint(&format!("received {} and then nothing for {STALLED:?}", self.summary()))
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Fails unless every number was seen exactly once.
    pub(crate) fn verify(&self, node: &Node) -> Result<()> {
        let account = self.account();
        if account.distinct == account.seen.len() && account.surplus == 0 && account.lagged == 0 {
            return Ok(());
        }
        drop(account);
        bail!(node.complaint(&format!("received {}", self.summary())))
    }

    fn summary(&self) -> String {
        let account = self.account();
        format!(
            "{} of {} messages, {} too many, {} events reported missed",
            account.distinct,
            account.seen.len(),
            account.surplus,
            account.lagged
        )
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Whoever panicked did so between two entries; the account is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn enter(&mut self, text: &str) -> Handled {
        let Some(number) = text.get(..DIGITS).and_then(|digits| digits.parse::<usize>().ok()) else {
            return Handled::No;
        };
        match self.seen.get_mut(number) {
            Some(times @ 0) => {
                *times = 1;
                self.distinct += 1;
                self.last = Some(Instant::now());
            }
            _ => self.surplus += 1,
        }
        Handled::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(tally: &Tally, text: &str) -> bool {
        let line = format!("{{\"event\":\"message\",\"text\":\"{text}\"}}\n");
        matches!(tally.tap()(line.as_bytes()), Handled::Yes)
    }

    #[test]
    fn a_text_is_as_long_as_asked_and_carries_its_number() {
        assert_eq!(text(7, 12), "00000007xxxx");
        assert_eq!(text(7, 3), "00000007");
    }

    #[test]
    fn each_number_counts_once_and_repeats_are_surplus() {
        let tally = Tally::new(2);
        // One lock per statement: a second one in the same statement would wait for the first for ever.
        let counts = || {
            let account = tally.account();
            (account.distinct, account.surplus)
        };
        assert!(entered(&tally, &text(0, 20)));
        assert!(entered(&tally, &(text(1, 20) + "  ")), "a retried message has trailing spaces");
        assert_eq!(counts(), (2, 0));
        assert!(entered(&tally, &text(1, 20)));
        assert!(entered(&tally, &text(2, 20)), "a number beyond the end is surplus too");
        assert_eq!(counts(), (2, 2));
        assert!(!entered(&tally, "warm-up"), "other texts stay events");
    }
}
