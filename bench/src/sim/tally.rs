//! What is counted.

use super::queue::Micros;

/// Copies of messages. Every one that is sent has one of the other fates in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) sent: u64,
    /// The first one that reached a node.
    pub(crate) delivered: u64,
    /// The node had it already.
    pub(crate) duplicate: u64,
    /// The connection ended while it was under way.
    pub(crate) cut: u64,
    /// Not there yet.
    pub(crate) under_way: u64,
}

/// Durations or counts, of which percentiles are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spread {
    /// How often each value was, by its number of units.
    counts: Vec<u64>,
    total: u64,
    sum: u64,
}

impl Spread {
    pub(crate) fn add(&mut self, value: u64) {
        let value = value as usize;
        if self.counts.len() <= value {
            self.counts.resize(value + 1, 0);
        }
        self.counts[value] += 1;
        self.total += 1;
        self.sum += value as u64;
    }

    /// The value that a share of all do not exceed; NaN of none.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut so_far = 0;
        for (value, count) in self.counts.iter().enumerate() {
            so_far += count;
            if so_far >= wanted {
                return value as f64;
            }
        }
        f64::NAN
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.total as f64
    }

    pub(crate) fn most(&self) -> f64 {
        self.percentile(1.0)
    }

    pub(crate) fn len(&self) -> u64 {
        self.total
    }
}

/// Bytes by what they are for. Each is counted where it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) text: u64,
    pub(crate) presence: u64,
    /// GRAFT, PRUNE, IHAVE, IWANT.
    pub(crate) control: u64,
    /// Connections that are set up, and what the DHT is asked and told.
    pub(crate) finding: u64,
}

impl Bytes {
    pub(crate) fn all(&self) -> u64 {
        self.text + self.presence + self.control + self.finding
    }
}

/// Those that joined: from a node's start to its first neighbour, to as many as it wants, to the first thing it heard,
/// and until all that were there before it have heard it. Unit: ms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Newcomers {
    pub(crate) joins: u64,
    pub(crate) joined: Spread,
    pub(crate) settled: Spread,
    pub(crate) heard: Spread,
    pub(crate) heard_by_all: Spread,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// While texts are counted.
    pub(crate) is_open: bool,
    pub(crate) copies: Copies,
    pub(crate) bytes: Bytes,
    /// Texts, and announcements, that were said.
    pub(crate) texts: u64,
    pub(crate) announcements: u64,
    /// First copies of counted texts, and copies of them that were not.
    pub(crate) text_deliveries: u64,
    pub(crate) text_duplicates: u64,
    /// Those that should have heard a text, summed over texts.
    pub(crate) text_audience: u64,
    /// From saying to hearing. Unit: ms.
    pub(crate) latency: Spread,
    /// Of what came by the mesh, and how many came because they were asked for.
    pub(crate) hops: Spread,
    pub(crate) asked_for: u64,
    /// Dials that connected, that a member denied for want of a place, that a bootstrap node did, and connections closed
    /// because there were too many.
    pub(crate) dials: u64,
    pub(crate) denied: u64,
    pub(crate) turned_away: u64,
    pub(crate) thinned: u64,
    /// Questions to the DHT who is in the room, and those that nobody answered.
    pub(crate) lookups: u64,
    pub(crate) unanswered: u64,
    pub(crate) newcomers: Newcomers,
    /// Members that spoke, and were not in a table that was full: for it they came anew, and another was forgotten.
    pub(crate) forgotten: u64,
    /// Segments that were lost and repeated.
    pub(crate) repeated: u64,
}

/// How many seconds of simulated time lie between two times.
pub(crate) fn seconds(from: Micros, to: Micros) -> f64 {
    (to - from) as f64 / 1e6
}
