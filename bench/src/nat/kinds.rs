//! What is expected of each two kinds of homes.

use std::fmt;

use crate::lab::kind::Kind::{self, *};

/// A few pairs that each need something else.
pub(crate) const QUICK: [(Kind, Kind); 7] = [
    (Public, PortRestricted),
    (Public, UdpBlocked),
    (FullCone, SymmetricRandom),
    (PortRestricted, PortRestricted),
    (AddressRestricted, Cgnat),
    (SymmetricSequential, SymmetricRandom),
    (Ipv6Firewall, Ipv6Firewall),
];

/// What it takes to get from one to the other directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Technique {
    /// One of them is dialled.
    Dial,
    /// Both send to where the other one is seen, at the same time.
    Punch,
    /// The same with TCP: simultaneous open (RFC 5382, REQ-2).
    TcpOpen,
    /// The next port is known.
    Prediction,
    /// Each knows the other's next port, if neither is disturbed.
    MutualPrediction,
    /// The port is one of 64,512, and is met by chance.
    Guessing,
}

/// The share of meetings that end well where chance is part of it.
pub(crate) const LIKELY: f64 = 0.95;

/// How a pair shall end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expected {
    /// Every time.
    Direct,
    /// In at least this share of the trials.
    Likely(f64),
    /// Every time: a direct one would be a wonder, or a mistake of the lab.
    Relayed,
}

/// By the table in which RFC 4787's kinds meet; the order does not matter.
pub(crate) fn expected(a: Kind, b: Kind) -> Expected {
    match technique(a.min(b), a.max(b)) {
        None => Expected::Relayed,
        Some(Technique::Prediction | Technique::MutualPrediction | Technique::Guessing) => {
            Expected::Likely(LIKELY)
        }
        Some(Technique::Dial | Technique::Punch | Technique::TcpOpen) => Expected::Direct,
    }
}

/// What it takes, if anything helps; `a` is not after `b`.
fn technique(a: Kind, b: Kind) -> Option<Technique> {
    match (a, b) {
        (Public, _) => Some(Technique::Dial),
        (Ipv6Firewall, Ipv6Firewall) => Some(Technique::Punch),
        // Nothing but TCP, and from symmetric NATs it comes from who knows where.
        (FullCone | AddressRestricted | PortRestricted | Cgnat | UdpBlocked, UdpBlocked) => {
            Some(Technique::TcpOpen)
        }
        (_, UdpBlocked) | (UdpBlocked, _) => None,
        (FullCone | AddressRestricted, _) => Some(Technique::Punch),
        (PortRestricted, PortRestricted | Cgnat) | (Cgnat, Cgnat) => Some(Technique::Punch),
        (PortRestricted, SymmetricSequential) | (SymmetricSequential, Cgnat) => Some(Technique::Prediction),
        (SymmetricSequential, SymmetricSequential) => Some(Technique::MutualPrediction),
        (PortRestricted | Cgnat, SymmetricRandom | Ipv6Firewall) | (SymmetricRandom, Cgnat) => {
            Some(Technique::Guessing)
        }
        _ => None,
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Direct => f.write_str("direct"),
            Expected::Likely(share) => write!(f, "direct in {:.0} %", 100.0 * share),
            Expected::Relayed => f.write_str("relayed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::kind::KINDS;

    #[test]
    fn what_is_expected_does_not_depend_on_the_order() {
        for (a, b) in KINDS.iter().flat_map(|a| KINDS.map(|b| (*a, b))) {
            assert_eq!(expected(a, b), expected(b, a), "{a} x {b}");
        }
        assert_eq!(expected(Public, SymmetricRandom), Expected::Direct);
        assert_eq!(expected(SymmetricRandom, SymmetricRandom), Expected::Relayed);
    }
}
