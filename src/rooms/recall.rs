//! What was said of late, kept for those whose connection could not carry it. Pure.
//!
//! gossipsub hands a message to one connection. When that dies, what it carried is gone, and it takes half a minute
//! until anybody notices. So whoever lost a connection asks the peers at the other ends what it has missed:
//!
//! ```text
//!   message Request {                 over /warren/recall/1.0.0, each behind its length in 4 bytes
//!     string room      = 1;
//!     bytes  known     = 2;           the first 8 bytes of each message's id that is there already
//!     uint32 within_ms = 3;           only what was said so long ago at the most
//!   }
//!   message Answer {
//!     repeated bytes envelopes = 1;   oldest first
//!   }
//! ```
//! An envelope proves its author, whoever hands it on, and the replay filter knows those that came twice. Only what
//! people say is kept: who is there is said again anyway.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use prost::Message as _;

use super::Room;
use crate::limits;

/// What all rooms said of late, as far as this node heard it.
#[derive(Debug, Default)]
pub struct Recent {
    /// The oldest first.
    lines: VecDeque<Line>,
    /// Of all their envelopes.
    bytes: usize,
}

#[derive(Debug)]
struct Line {
    room: Room,
    id: u64,
    envelope: Vec<u8>,
    heard: Instant,
}

/// What somebody has missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub room: Room,
    /// What the asker has: [`short_id`]s.
    known: BTreeSet<u64>,
    within: Duration,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestWire {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(bytes = "vec", tag = "2")]
    known: Vec<u8>,
    #[prost(uint32, tag = "3")]
    within_ms: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnswerWire {
    #[prost(bytes = "vec", repeated, tag = "1")]
    envelopes: Vec<Vec<u8>>,
}

impl Recent {
    /// Keeps a message of a room, and forgets what is too old or too much.
    pub fn note(&mut self, room: &Room, id: &[u8; 32], envelope: &[u8], now: Instant) {
        self.bytes += envelope.len();
        let (room, envelope) = (room.clone(), envelope.to_vec());
        self.lines.push_back(Line { room, id: short_id(id), envelope, heard: now });
        let is_old = |line: &Line| now.duration_since(line.heard) > limits::RECALL_AGE;
        while self.lines.front().is_some_and(is_old)
            || self.lines.len() > limits::RECALL_MESSAGES
            || self.bytes > limits::RECALL_BYTES
        {
            let Some(line) = self.lines.pop_front() else { return };
            self.bytes -= line.envelope.len();
        }
    }

    /// Asks for what was said in a room within a time, and is not here.
    pub fn request(&self, room: &Room, within: Duration) -> Request {
        let lines = self.lines.iter().filter(|line| line.room == *room);
        Request { room: room.clone(), known: lines.map(|line| line.id).collect(), within }
    }

    /// The answer to that.
    pub fn answer(&self, request: &Request, now: Instant) -> Vec<Vec<u8>> {
        let is_meant = |line: &&Line| {
            line.room == request.room
                && now.duration_since(line.heard) <= request.within.min(limits::RECALL_AGE)
                && !request.known.contains(&line.id)
        };
        self.lines.iter().filter(is_meant).map(|line| line.envelope.clone()).collect()
    }
}

impl Request {
    /// Only what was said so long ago at the most.
    pub fn within(&self) -> Duration {
        self.within
    }

    pub fn encode(&self) -> Vec<u8> {
        let known = self.known.iter().flat_map(|id| id.to_be_bytes()).collect();
        let within_ms = self.within.as_millis().try_into().unwrap_or(u32::MAX);
        RequestWire { room: self.room.as_str().to_owned(), known, within_ms }.encode_to_vec()
    }

    /// `None` where this is no request.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wire = RequestWire::decode(bytes).ok()?;
        let (ids, rest) = wire.known.as_chunks::<8>();
        if !rest.is_empty() || ids.len() > limits::RECALL_MESSAGES {
            return None;
        }
        Some(Request {
            room: wire.room.parse().ok()?,
            known: ids.iter().copied().map(u64::from_be_bytes).collect(),
            within: Duration::from_millis(wire.within_ms.into()),
        })
    }
}

/// An answer on the wire.
pub fn encode(envelopes: Vec<Vec<u8>>) -> Vec<u8> {
    AnswerWire { envelopes }.encode_to_vec()
}

/// The envelopes of an answer, as many as may be in one. None of them has been looked at. `None` where this is no
/// answer.
pub fn decode(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut envelopes = AnswerWire::decode(bytes).ok()?.envelopes;
    envelopes.truncate(limits::RECALL_MESSAGES);
    Some(envelopes)
}

/// The beginning of a message's id: enough to tell some hundreds from each other.
fn short_id(id: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(name: &str) -> Room {
        name.parse().expect("valid")
    }

    fn id(n: u8) -> [u8; 32] {
        [n; 32]
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_the_other_one_has_not_is_given_to_it() {
        let (now, home, mut ours, mut theirs) =
            (Instant::now(), room("home"), Recent::default(), Recent::default());
        for n in 1..=4 {
            ours.note(&home, &id(n), &[n], now);
        }
        theirs.note(&home, &id(2), &[2], now);
        ours.note(&room("other"), &id(5), &[5], now);
        let request = Request::decode(&theirs.request(&home, LONG).encode()).expect("valid");
        assert_eq!(ours.answer(&request, now), [[1], [3], [4]]);
        assert_eq!(decode(&encode(ours.answer(&request, now))), Some(vec![vec![1], vec![3], vec![4]]));
        assert!(theirs.answer(&ours.request(&home, LONG), now).is_empty());
    }

    #[test]
    fn what_was_said_before_is_not() {
        let (start, home, mut recent) = (Instant::now(), room("home"), Recent::default());
        recent.note(&home, &id(1), &[1], start);
        let later = start + Duration::from_secs(9);
        recent.note(&home, &id(2), &[2], later);
        let request = Recent::default().request(&home, Duration::from_secs(5));
        assert_eq!(recent.answer(&request, later), [[2]]);
        let request = Recent::default().request(&home, LONG);
        let much_later = later + limits::RECALL_AGE;
        assert_eq!(recent.answer(&request, much_later), [[2]], "whatever is asked for");
    }

    #[test]
    fn there_are_bounds() {
        let (now, home, mut recent) = (Instant::now(), room("home"), Recent::default());
        for n in 0..3 * limits::RECALL_MESSAGES {
            recent.note(&home, &id(n as u8), &[0; 100], now);
        }
        assert_eq!(
            (recent.lines.len(), recent.bytes),
            (limits::RECALL_MESSAGES, 100 * limits::RECALL_MESSAGES)
        );
        for n in 0..100 {
            recent.note(&home, &id(n), &[0; limits::ENVELOPE_BYTES], now);
        }
        assert!(recent.bytes <= limits::RECALL_BYTES && !recent.lines.is_empty());
        let late = now + limits::RECALL_AGE + Duration::from_secs(1);
        recent.note(&home, &id(0), &[7], late);
        assert_eq!((recent.lines.len(), recent.bytes), (1, 1));
    }

    #[test]
    fn the_largest_messages_fit() {
        let (now, home, mut recent) = (Instant::now(), room("home"), Recent::default());
        for n in 0..limits::RECALL_MESSAGES {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            recent.note(&home, &id, &[0; limits::RECALL_BYTES / limits::RECALL_MESSAGES], now);
        }
        let request = recent.request(&room(&"r".repeat(limits::ROOM_NAME_BYTES)), LONG);
        assert!(request.known.is_empty());
        assert!(
            recent.request(&home, LONG).encode().len() + limits::ROOM_NAME_BYTES
                <= limits::RECALL_REQUEST_BYTES
        );
        let all = recent.answer(&Recent::default().request(&home, LONG), now);
        assert_eq!(all.len(), limits::RECALL_MESSAGES);
        assert!(encode(all).len() <= limits::RECALL_ANSWER_BYTES);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Request::decode(&bytes), decode(&bytes));
        }
    }
}
