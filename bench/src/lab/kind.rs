//! The kinds of homes.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        assert!(KINDS.iter().all(|kind| kind.to_string().parse() == Ok(*kind)));
        assert!("nat".parse::<Kind>().is_err());
    }
}
