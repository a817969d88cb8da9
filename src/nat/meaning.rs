//! What a NAT means to the person behind it. Pure.

use std::net::SocketAddr;

use super::stun::verdict::{Allocation, Filtering, Mapping, Verdict};

/// A NAT in words for programs, those of RFC 4787 and RFC 5780, and in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// `IPv4` or `IPv6`.
    pub family: String,
    pub mapping: &'static str,
    pub filtering: &'static str,
    /// How ports are given away: `single`, `sequential` or `random`.
    pub ports: &'static str,
    /// Where others see this node.
    pub external: Vec<SocketAddr>,
    /// To whom there can be a direct connection.
    pub reach: &'static str,
}

impl Meaning {
    pub fn of(verdict: &Verdict) -> Self {
        let mapping = match verdict.mapping {
            Mapping::NoNat => "none",
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "address-dependent",
            Mapping::AddressAndPortDependent => "address-and-port-dependent",
            Mapping::Unknown(_) => "unknown",
        };
        let filtering = match verdict.filtering {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
            Filtering::Unknown => "unknown",
        };
        let ports = match verdict.allocation {
            Allocation::Single => "single",
            Allocation::Sequential { .. } => "sequential",
            Allocation::Random { .. } => "random",
        };
        let (family, external) = (verdict.family.to_string(), verdict.external.clone());
        Meaning { family, mapping, filtering, ports, external, reach: reach(verdict) }
    }
}

fn reach(verdict: &Verdict) -> &'static str {
    if verdict.external.is_empty() {
        return "nobody answered: UDP may be blocked; direct by TCP to those who can be dialled, a relay for all others";
    }
    match (verdict.mapping, verdict.filtering, verdict.allocation) {
        (_, Filtering::EndpointIndependent, _) if !verdict.mapping.depends_on_destination() => {
            "others can dial this node: direct to everybody"
        }
        (mapping, ..) if !mapping.depends_on_destination() => {
            "direct to everybody, also behind other NATs; to those with random ports by guessing, which takes seconds \
             and may fail"
        }
        (_, _, Allocation::Sequential { .. }) => {
            "direct to those whose NAT keeps one port, by prediction of this NAT's next one; a relay for those like this"
        }
        _ => {
            "direct to those whose NAT keeps one port, by guessing, which takes seconds and may fail; a relay for those \
             like this"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stun::{Family, verdict::Ignorance};

    fn verdict(mapping: Mapping, filtering: Filtering, allocation: Allocation) -> Verdict {
        Verdict {
            family: Family::V4,
            mapping,
            filtering,
            allocation,
            preserves_port: None,
            external: vec!["203.0.113.1:4001".parse().expect("valid")],
            observations: Vec::new(),
            tests: Vec::new(),
            mapping_at: None,
            filtering_at: None,
        }
    }

    #[test]
    fn each_kind_has_its_words_and_its_reach() {
        let (open, closed) = (Filtering::EndpointIndependent, Filtering::AddressAndPortDependent);
        let random = Allocation::Random { spread: 9999 };
        for (mapping, filtering, allocation, words, reach) in [
            (Mapping::NoNat, open, Allocation::Single, "none", "others can dial"),
            (Mapping::NoNat, closed, Allocation::Single, "none", "direct to everybody, also"),
            (
                Mapping::EndpointIndependent,
                open,
                Allocation::Single,
                "endpoint-independent",
                "others can dial",
            ),
            (
                Mapping::Unknown(Ignorance::OneServer),
                closed,
                Allocation::Single,
                "unknown",
                "direct to everybody",
            ),
            (
                Mapping::AddressAndPortDependent,
                closed,
                random,
                "address-and-port-dependent",
                "direct to those",
            ),
        ] {
            let meaning = Meaning::of(&verdict(mapping, filtering, allocation));
            assert_eq!(meaning.mapping, words);
            assert!(meaning.reach.starts_with(reach), "{meaning:?}");
        }
        let mut silent = verdict(Mapping::Unknown(Ignorance::NoAnswer), closed, Allocation::Single);
        silent.external.clear();
        assert!(Meaning::of(&silent).reach.contains("blocked"));
    }
}
