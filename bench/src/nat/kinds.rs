//! The kinds of homes, and what is expected of each two of them.

use std::fmt;
use std::str::FromStr;

/// What a node lives behind. Mapping and filtering as in RFC 4787.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing: a public address of each family.
    Public,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering.
    PortRestricted,
    /// Address-and-port-dependent mapping and filtering; each mapping has the next port.
    SymmetricSequential,
    /// The same, with random ports.
    SymmetricRandom,
    /// A carrier's NAT in front of the home's; both port-restricted.
    Cgnat,
    /// A firewall that lets no UDP through, and a port-restricted NAT for TCP.
    UdpBlocked,
    /// Public IPv6 addresses behind a stateful firewall. IPv4 is behind random symmetric NAT, as with DS-Lite, so
    /// that what becomes direct with a second one of these does so over IPv6.
    Ipv6Firewall,
}

use Kind::*;

/// All, in the order of the table.
pub(crate) const KINDS: [Kind; 9] = [
    Public,
    FullCone,
    AddressRestricted,
    PortRestricted,
    SymmetricSequential,
    SymmetricRandom,
    Cgnat,
    UdpBlocked,
    Ipv6Firewall,
];

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
        Some(Technique::Prediction | Technique::MutualPrediction) => Expected::Likely(0.95),
        Some(Technique::Guessing) => Expected::Likely(0.95),
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Public => "public",
            FullCone => "full-cone",
            AddressRestricted => "address-restricted",
            PortRestricted => "port-restricted",
            SymmetricSequential => "symmetric-sequential",
            SymmetricRandom => "symmetric-random",
            Cgnat => "cgnat",
            UdpBlocked => "udp-blocked",
            Ipv6Firewall => "ipv6-firewall",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = KINDS.into_iter().find(|kind| kind.to_string() == word);
        found.ok_or_else(|| {
            let all = KINDS.map(|kind| kind.to_string()).join(", ");
            format!("`{word}` is no kind of home: use one of {all}")
        })
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

    #[test]
    fn names_are_read_as_they_are_written() {
        assert!(KINDS.iter().all(|kind| kind.to_string().parse() == Ok(*kind)));
        assert!("nat".parse::<Kind>().is_err());
    }

    #[test]
    fn what_is_expected_does_not_depend_on_the_order() {
        for (a, b) in KINDS.iter().flat_map(|a| KINDS.map(|b| (*a, b))) {
            assert_eq!(expected(a, b), expected(b, a), "{a} x {b}");
        }
        assert_eq!(expected(Public, SymmetricRandom), Expected::Direct);
        assert_eq!(expected(SymmetricRandom, SymmetricRandom), Expected::Relayed);
    }
}
