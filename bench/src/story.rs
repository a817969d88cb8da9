//! What a node has said so far, with times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use crate::node::{Handled, Tap};

/// Shared by the thread that reads the node's output and the one that asks.
#[derive(Clone, Default)]
pub(crate) struct Story(Arc<Mutex<Vec<(Instant, Value)>>>);

impl Story {
    /// Takes all of the node's output.
    pub(crate) fn tap(&self) -> Tap {
        let story = self.clone();
        Box::new(move |line| {
            if let Ok(event) = serde_json::from_slice(line) {
                story.events().push((Instant::now(), event));
            }
            Handled::Yes
        })
    }

    /// The node's own name, once it is known.
    pub(crate) fn peer(&self) -> Option<String> {
        let events = self.events();
        let (_, started) = events.iter().find(|(_, event)| event["event"] == "started")?;
        started["peerId"].as_str().map(str::to_owned)
    }

    /// When it first said something of this name about a peer.
    pub(crate) fn first(&self, name: &str, peer: &str) -> Option<Instant> {
        let events = self.events();
        let found = events.iter().find(|(_, event)| event["event"] == name && event["peerId"] == peer);
        found.map(|(at, _)| *at)
    }

    /// Each change of the way to a peer: when, and `direct`, `relayed` or `none`, with the address.
    pub(crate) fn paths(&self, peer: &str) -> Vec<(Instant, String, String)> {
        let events = self.events();
        let about = events.iter().filter(|(_, event)| event["peerId"] == peer);
        let paths = about.filter_map(|(at, event)| {
            let path = match event["event"].as_str()? {
                "peer_connected" | "peer_path" => event["path"].as_str()?,
                "peer_disconnected" => "none",
                _ => return None,
            };
            Some((*at, path.to_owned(), event["addr"].as_str().unwrap_or_default().to_owned()))
        });
        paths.collect()
    }

    /// The texts it heard from a peer, with their times.
    pub(crate) fn heard(&self, peer: &str) -> Vec<(Instant, String)> {
        let events = self.events();
        let messages =
            events.iter().filter(|(_, event)| event["event"] == "message" && event["peerId"] == peer);
        messages.map(|(at, event)| (*at, event["text"].as_str().unwrap_or_default().to_owned())).collect()
    }

    /// The ids of the commands `send` that it took.
    pub(crate) fn taken(&self) -> Vec<u64> {
        let events = self.events();
        let replies = events.iter().filter(|(_, event)| event["event"] == "ok" && event["cmd"] == "send");
        replies.filter_map(|(_, event)| event["id"].as_u64()).collect()
    }

    fn events(&self) -> MutexGuard<'_, Vec<(Instant, Value)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
