//! What the node counts for those who watch it: no more than an addition each, whether somebody asks or not, and
//! nothing at all in a build without the feature `metrics`.

#[cfg(feature = "metrics")]
mod counts;
#[cfg(feature = "metrics")]
mod ears;
#[cfg(not(feature = "metrics"))]
mod none;

#[cfg(feature = "metrics")]
pub use self::counts::{Histogram, RoomCounts};
#[cfg(not(feature = "metrics"))]
pub(super) use self::none::{Ears, Tally};
#[cfg(feature = "metrics")]
pub(super) use self::{counts::Tally, ears::Ears};

/// What became of a message of a room, the first time that gossipsub brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Good, new, and passed on.
    Accepted,
    /// We remembered it longer than gossipsub did.
    Known,
    /// Too old to tell.
    Stale,
    /// Forged, malformed or oversized: it costs its sender score.
    Invalid,
    /// Of a version that this program does not know.
    Unknown,
}

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    Connected,
    NoAnswer,
    Refused,
    Unreachable,
    WrongPeer,
    /// A bound of ours was in the way.
    Denied,
    Failed,
}

/// A way to make a direct connection out of a relayed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Dcutr,
    #[cfg(feature = "stun")]
    Prediction,
    #[cfg(feature = "stun")]
    Guessing,
    #[cfg(feature = "stun")]
    Walk,
    /// The two did not get as far as a plan.
    #[cfg(feature = "stun")]
    Unplanned,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A direct connection, or a hole to make one through.
    Opened,
    /// It was tried as agreed, in vain.
    Missed,
    /// The two did not agree.
    Failed,
}

/// What a node does about messages that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// Asked a peer.
    Asked,
    /// Answered one.
    Answered,
    /// Showed a message that gossip had not brought.
    Recovered,
}
