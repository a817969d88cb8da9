//! What kind of NAT there is, in the words of RFC 4787, and the evidence for it.
//!
//! [`Evidence`] collects what one check of one IP family saw; a [`Verdict`] is what follows from it. Answers of
//! different checks are never compared: a NAT that forgot its mapping in between would look like one that has
//! several. What one check could not see is taken from an earlier one, as long as it is likely to be the same NAT.

mod words;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

pub use self::words::Shown;
use super::{Change, Family};
use crate::limits;

/// A server told us how it sees us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Our socket, with the IP that the route to the server has.
    pub local: SocketAddr,
    /// Who was asked.
    pub server: SocketAddr,
    /// Where the request came from, for the server.
    pub mapped: SocketAddr,
    pub at: Instant,
    /// Orders the requests by when they were first sent.
    pub number: u32,
}

/// A server was asked to answer from another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterTest {
    pub local: SocketAddr,
    pub server: SocketAddr,
    pub change: Change,
    pub is_answered: bool,
    pub at: Instant,
}

/// By what a NAT tells its mappings apart (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Others see the address that we have.
    NoNat,
    /// One outside port for all.
    EndpointIndependent,
    /// Another outside port for each IP address we send to.
    AddressDependent,
    /// Another outside port for each IP address and port we send to: "symmetric". Also when no server could tell
    /// it from the former, which is not worse.
    AddressAndPortDependent,
    Unknown(Ignorance),
}

/// What is missing to know the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignorance {
    NoAnswer,
    OneServer,
    /// Two ports of one IP address see the same: it takes another IP address.
    OneAddress,
}

/// Who may send to a mapped port (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// IP addresses that we sent to. Also when the only server has no second IP address to tell this from the former.
    AddressDependent,
    /// IP addresses and ports that we sent to.
    AddressAndPortDependent,
    Unknown,
}

/// How a NAT with several mappings chooses their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// There is one port, or nothing is known.
    Single,
    /// One after the other: `step` is the most common difference, `spread` the largest less the smallest.
    Sequential {
        step: i32,
        spread: u16,
    },
    Random {
        spread: u16,
    },
}

/// What is known of the way out in one IP family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub family: Family,
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub allocation: Allocation,
    /// Whether the outside port is the inside one; in all observations or in none of them, otherwise unknown.
    pub preserves_port: Option<bool>,
    /// Where others see us, in the order of asking, each once. One, unless mappings depend on the destination.
    pub external: Vec<SocketAddr>,
    /// What the latest check saw, in the order of asking.
    pub observations: Vec<Observation>,
    pub tests: Vec<FilterTest>,
    /// When the kind of mapping was last seen: before the observations, if they do not tell it.
    pub mapping_at: Option<Instant>,
    /// Likewise for the filtering.
    pub filtering_at: Option<Instant>,
}

impl Mapping {
    /// Whether an address that one server saw is good for everybody.
    pub fn is_one_for_all(self) -> bool {
        matches!(self, Mapping::NoNat | Mapping::EndpointIndependent)
    }

    /// Whether each destination sees another address.
    pub fn depends_on_destination(self) -> bool {
        matches!(self, Mapping::AddressDependent | Mapping::AddressAndPortDependent)
    }
}

impl Verdict {
    /// Whether it is certain that only IP addresses are let in that something was sent to.
    #[cfg(feature = "autonat")]
    pub fn is_address_dependent(&self) -> bool {
        let is_unheard = |test: &FilterTest| test.change == Change::BOTH && !test.is_answered;
        self.filtering == Filtering::AddressDependent && self.tests.iter().any(is_unheard)
    }

    /// Until when the observed ports may be used to foretell others. `None` without observations.
    pub fn fresh_until(&self) -> Option<Instant> {
        fresh_until(&self.observations)
    }

    pub fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until().is_some_and(|until| now < until)
    }

    /// Time since the kind of mapping was last seen.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.mapping_at.map(|at| now.saturating_duration_since(at))
    }

    /// Whether another verdict says the same, whatever its evidence.
    pub fn agrees_with(&self, other: &Verdict) -> bool {
        let said = |verdict: &Verdict| {
            (verdict.mapping, verdict.filtering, verdict.allocation, verdict.preserves_port)
        };
        self.family == other.family && said(self) == said(other) && self.external == other.external
    }

    /// Shows it to a person, with the evidence and its age.
    pub fn shown(&self, now: Instant) -> Shown<'_> {
        Shown { verdict: self, now }
    }
}

/// What was seen in one IP family.
#[derive(Clone, Debug)]
pub struct Evidence {
    family: Family,
    /// Of the check that is under way or was the last.
    observations: Vec<Observation>,
    tests: Vec<FilterTest>,
    /// What earlier checks found.
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Another address of ours means another network.
    local: SocketAddr,
    /// Another outside address means another NAT, or the same one somewhere else.
    external: IpAddr,
    mapping: Option<(Mapping, Instant)>,
    filtering: Option<(Filtering, Instant)>,
}

impl Evidence {
    pub fn new(family: Family) -> Self {
        Evidence { family, observations: Vec::new(), tests: Vec::new(), known: None }
    }

    /// A check begins: what the last one saw is kept as knowledge only.
    pub fn begin(&mut self, now: Instant) {
        if let Some(first) = self.observations.first() {
            let verdict = self.verdict(now);
            self.known = Some(Known {
                local: first.local,
                external: first.mapped.ip(),
                mapping: verdict.mapping_at.map(|at| (verdict.mapping, at)),
                filtering: verdict.filtering_at.map(|at| (verdict.filtering, at)),
            });
        }
        self.observations.clear();
        self.tests.clear();
    }

    /// Forgets everything: this is another network.
    pub fn forget(&mut self) {
        *self = Evidence::new(self.family);
    }

    pub fn observe(&mut self, observation: Observation) {
        if self.observations.len() < limits::STUN_TRANSACTIONS
            && Family::of(observation.server) == self.family
        {
            let at = self.observations.partition_point(|other| other.number <= observation.number);
            self.observations.insert(at, observation);
        }
    }

    pub fn test(&mut self, test: FilterTest) {
        if self.tests.len() < limits::STUN_TRANSACTIONS && Family::of(test.server) == self.family {
            self.tests.push(test);
        }
    }

    /// [`Verdict::fresh_until`], without the rest.
    pub fn fresh_until(&self) -> Option<Instant> {
        fresh_until(&self.observations)
    }

    /// Whether what was seen cannot come through the NAT of the check before.
    pub fn is_another_nat(&self) -> bool {
        self.known.is_some_and(|known| !self.is_same_nat(&known))
    }

    pub fn verdict(&self, now: Instant) -> Verdict {
        let mut external: Vec<SocketAddr> = Vec::new();
        for seen in &self.observations {
            if !external.contains(&seen.mapped) {
                external.push(seen.mapped);
            }
        }
        let known = self.known.filter(|known| self.is_same_nat(known));
        let is_recent = |at: Instant| now.saturating_duration_since(at) < limits::STUN_KIND;
        let latest = self.observations.iter().map(|seen| seen.at).max();
        let (mapping, mapping_at) = match (mapping(&self.observations), latest) {
            (Mapping::Unknown(why), _) => {
                let earlier = known.and_then(|known| known.mapping).filter(|(_, at)| is_recent(*at));
                earlier.map_or((Mapping::Unknown(why), None), |(mapping, at)| (mapping, Some(at)))
            }
            (mapping, at) => (mapping, at),
        };
        let tested = self.tests.iter().map(|test| test.at).max();
        let (filtering, filtering_at) = match filtering(&self.tests) {
            Filtering::Unknown => {
                let earlier = known.and_then(|known| known.filtering).filter(|(_, at)| is_recent(*at));
                earlier.map_or((Filtering::Unknown, None), |(filtering, at)| (filtering, Some(at)))
            }
            filtering => (filtering, tested),
        };
        Verdict {
            family: self.family,
            mapping,
            filtering,
            allocation: allocation(&self.observations),
            preserves_port: preserves_port(&self.observations),
            external,
            observations: self.observations.clone(),
            tests: self.tests.clone(),
            mapping_at,
            filtering_at,
        }
    }

    /// Without any answer it may be: a NAT does not change because servers are down.
    fn is_same_nat(&self, known: &Known) -> bool {
        self.observations
            .first()
            .is_none_or(|seen| seen.local == known.local && seen.mapped.ip() == known.external)
    }
}

fn fresh_until(observations: &[Observation]) -> Option<Instant> {
    Some(observations.iter().map(|seen| seen.at).min()? + limits::STUN_FRESH)
}

/// The kind of mapping that observations of one check show.
///
/// Only those from one socket are compared: a machine with two ways out has two addresses without any NAT.
fn mapping(observations: &[Observation]) -> Mapping {
    let Some(first) = observations.first() else { return Mapping::Unknown(Ignorance::NoAnswer) };
    let seen: Vec<&Observation> = observations.iter().filter(|seen| seen.local == first.local).collect();
    if seen.iter().all(|seen| seen.mapped == seen.local) {
        return Mapping::NoNat;
    }
    let pairs = || seen.iter().enumerate().flat_map(|(i, a)| seen[i + 1..].iter().map(move |b| (a, b)));
    let is_one_ip = |(a, b): &(&&Observation, &&Observation)| a.server.ip() == b.server.ip();
    let differ = |(a, b): (&&Observation, &&Observation)| a.mapped != b.mapped;
    if pairs().any(differ) {
        // Two ports of one address that see the same show that only the address matters.
        let mut siblings = pairs().filter(is_one_ip).peekable();
        return match siblings.peek().is_some() && !siblings.any(differ) {
            true => Mapping::AddressDependent,
            false => Mapping::AddressAndPortDependent,
        };
    }
    match pairs().next() {
        None => Mapping::Unknown(Ignorance::OneServer),
        Some(_) if pairs().all(|pair| is_one_ip(&pair)) => Mapping::Unknown(Ignorance::OneAddress),
        Some(_) => Mapping::EndpointIndependent,
    }
}

/// RFC 5780, section 4.4.
fn filtering(tests: &[FilterTest]) -> Filtering {
    let outcome = |change| tests.iter().rev().find(|test| test.change == change).map(|test| test.is_answered);
    match (outcome(Change::BOTH), outcome(Change::PORT)) {
        (Some(true), _) => Filtering::EndpointIndependent,
        (_, Some(true)) => Filtering::AddressDependent,
        (_, Some(false)) => Filtering::AddressAndPortDependent,
        (_, None) => Filtering::Unknown,
    }
}

fn allocation(observations: &[Observation]) -> Allocation {
    let mut ports: Vec<u16> = observations.iter().map(|seen| seen.mapped.port()).collect();
    ports.dedup();
    let (Some(low), Some(high)) = (ports.iter().min(), ports.iter().max()) else { return Allocation::Single };
    let spread = high - low;
    if spread == 0 {
        return Allocation::Single;
    }
    if spread > limits::STUN_SPREAD {
        return Allocation::Random { spread };
    }
    let steps: Vec<i32> = ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    let count = |step: &i32| steps.iter().filter(|other| *other == step).count();
    // Of two that are as common the smaller: the larger has somebody else's mapping in it.
    let step = steps.iter().max_by_key(|step| (count(step), -step.abs()));
    Allocation::Sequential { step: step.copied().unwrap_or(1), spread }
}

fn preserves_port(observations: &[Observation]) -> Option<bool> {
    let preserved = observations.iter().filter(|seen| seen.mapped.port() == seen.local.port()).count();
    match preserved {
        0 if observations.is_empty() => None,
        0 => Some(false),
        all if all == observations.len() => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    const LOCAL: &str = "192.168.1.2:4001";

    /// Evidence of one check: whom we asked and what he saw.
    fn evidence(now: Instant, seen: &[(&str, &str)]) -> Evidence {
        let mut evidence = Evidence::new(Family::V4);
        for (number, (server, mapped)) in seen.iter().enumerate() {
            let (server, mapped) = (addr(server), addr(mapped));
            evidence.observe(Observation {
                local: addr(LOCAL),
                server,
                mapped,
                at: now,
                number: number as u32,
            });
        }
        evidence
    }

    fn verdict(seen: &[(&str, &str)]) -> Verdict {
        let now = Instant::now();
        evidence(now, seen).verdict(now)
    }

    #[test]
    fn the_mapping_follows_from_who_sees_what() {
        use Mapping::*;
        let (x, y, z) = ("203.0.113.1:1000", "203.0.113.1:1001", "203.0.113.1:1002");
        let (a, a2, b, b2) = ("198.51.100.10:1", "198.51.100.10:2", "198.51.100.11:1", "198.51.100.11:2");
        let cases: &[(&[(&str, &str)], Mapping)] = &[
            (&[], Unknown(Ignorance::NoAnswer)),
            (&[(a, x)], Unknown(Ignorance::OneServer)),
            (&[(a, LOCAL)], NoNat),
            (&[(a, x), (a2, x)], Unknown(Ignorance::OneAddress)),
            (&[(a, x), (b, x)], EndpointIndependent),
            (&[(a, x), (b, x), (a2, x)], EndpointIndependent),
            (&[(a, x), (b, y)], AddressAndPortDependent),
            (&[(a, x), (b, y), (a2, x)], AddressDependent),
            (&[(a, x), (b, y), (a2, x), (b2, y)], AddressDependent),
            (&[(a, x), (a2, y)], AddressAndPortDependent),
            (&[(a, x), (b, y), (a2, z)], AddressAndPortDependent),
            // The address is ours for one and somebody else's for the other.
            (&[(a, LOCAL), (b, y)], AddressAndPortDependent),
        ];
        for (seen, expected) in cases {
            assert_eq!(verdict(seen).mapping, *expected, "{seen:?}");
        }
    }

    #[test]
    fn two_ways_out_are_no_nat_of_many_ports() {
        let now = Instant::now();
        let mut evidence = evidence(now, &[("198.51.100.10:1", "203.0.113.1:1000")]);
        let (local, server, mapped) =
            (addr("192.168.2.2:4001"), addr("198.51.100.11:1"), addr("203.0.113.2:1000"));
        evidence.observe(Observation { local, server, mapped, at: now, number: 1 });
        assert_eq!(evidence.verdict(now).mapping, Mapping::Unknown(Ignorance::OneServer));
    }

    #[test]
    fn ports_one_after_the_other_are_sequential() {
        let of = |ports: &[u16]| {
            let seen: Vec<_> = ports.iter().map(|port| format!("203.0.113.1:{port}")).collect();
            let servers: Vec<_> = (1..).map(|i| format!("198.51.100.{i}:1")).take(seen.len()).collect();
            let pairs: Vec<_> =
                servers.iter().zip(&seen).map(|(server, seen)| (server.as_str(), seen.as_str())).collect();
            verdict(&pairs).allocation
        };
        assert_eq!(of(&[]), Allocation::Single);
        assert_eq!(of(&[5000, 5000]), Allocation::Single);
        assert_eq!(of(&[5000, 5001, 5002]), Allocation::Sequential { step: 1, spread: 2 });
        assert_eq!(of(&[5000, 5002, 5004, 5010]), Allocation::Sequential { step: 2, spread: 10 });
        assert_eq!(of(&[5003, 5002]), Allocation::Sequential { step: -1, spread: 1 });
        assert_eq!(of(&[5000, 5016]), Allocation::Random { spread: 16 });
        assert_eq!(of(&[1024, 65535]), Allocation::Random { spread: 64511 });
    }

    #[test]
    fn the_inside_port_may_be_seen_outside() {
        let of = |a: &str, b: &str| verdict(&[("198.51.100.1:1", a), ("198.51.100.2:1", b)]).preserves_port;
        assert_eq!(of("203.0.113.1:4001", "203.0.113.1:4001"), Some(true));
        assert_eq!(of("203.0.113.1:1", "203.0.113.1:2"), Some(false));
        assert_eq!(of("203.0.113.1:4001", "203.0.113.1:2"), None);
        assert_eq!(verdict(&[]).preserves_port, None);
    }

    #[test]
    fn what_a_light_check_cannot_see_is_remembered_for_a_while() {
        let start = Instant::now();
        let two = [("198.51.100.10:1", "203.0.113.1:1000"), ("198.51.100.11:1", "203.0.113.1:1000")];
        let mut evidence = evidence(start, &two);
        let test = |change, is_answered| FilterTest {
            local: addr(LOCAL),
            server: addr(two[0].0),
            change,
            is_answered,
            at: start,
        };
        evidence.test(test(Change::BOTH, false));
        evidence.test(test(Change::PORT, true));
        assert_eq!(evidence.verdict(start).filtering, Filtering::AddressDependent);

        let again = |mapped: &str, at| Observation {
            local: addr(LOCAL),
            server: addr(two[0].0),
            mapped: addr(mapped),
            at,
            number: 9,
        };
        let later = start + limits::STUN_KIND / 2;
        evidence.begin(later);
        assert_eq!(evidence.verdict(later).mapping, Mapping::EndpointIndependent, "nobody answers");
        evidence.observe(again("203.0.113.1:2000", later));
        let verdict = evidence.verdict(later);
        assert_eq!(
            (verdict.mapping, verdict.filtering),
            (Mapping::EndpointIndependent, Filtering::AddressDependent)
        );
        assert_eq!(verdict.age(later), Some(limits::STUN_KIND / 2));
        assert_eq!(verdict.external, [addr("203.0.113.1:2000")]);

        let too_late = start + limits::STUN_KIND;
        let verdict = evidence.verdict(too_late);
        assert_eq!((verdict.mapping, verdict.filtering), (UNKNOWN, Filtering::Unknown));
        evidence.begin(later);
        evidence.observe(again("203.0.113.99:2000", later));
        assert_eq!(evidence.verdict(later).mapping, UNKNOWN, "another NAT");
    }

    const UNKNOWN: Mapping = Mapping::Unknown(Ignorance::OneServer);

    #[test]
    fn ports_go_stale_before_nats_forget() {
        let now = Instant::now();
        let verdict = evidence(now, &[("198.51.100.10:1", "203.0.113.1:1000")]).verdict(now);
        assert!(verdict.is_fresh(now + limits::STUN_FRESH - Duration::from_millis(1)));
        assert!(!verdict.is_fresh(now + limits::STUN_FRESH));
    }

    #[test]
    fn a_person_can_read_it() {
        let now = Instant::now();
        let mut evidence = evidence(
            now,
            &[("198.51.100.10:3478", "203.0.113.1:1000"), ("198.51.100.11:3478", "203.0.113.1:1001")],
        );
        for change in [Change::BOTH, Change::PORT] {
            let server = addr("198.51.100.10:3478");
            evidence.test(FilterTest { local: addr(LOCAL), server, change, is_answered: false, at: now });
        }
        let verdict = evidence.verdict(now);
        let later = now + Duration::from_secs(90);
        assert_eq!(
            verdict.shown(later).to_string(),
            "IPv4: a NAT that uses another outside port for each address and port we send to (address- and \
             port-dependent mapping, \"symmetric\"), and lets in only addresses and ports that we sent to \
             (address- and port-dependent filtering); ports one after the other (step 1, spread 1); \
             seen as 203.0.113.1:1000, 203.0.113.1:1001 instead of 192.168.1.2:4001; \
             says 198.51.100.10:3478, 198.51.100.11:3478, 90 s ago"
        );
        assert_eq!(
            Evidence::new(Family::V6).verdict(now).shown(now).to_string(),
            "IPv6: unknown: no server answers"
        );
    }
}
