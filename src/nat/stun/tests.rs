//! Client and server through NATs made of paper, in virtual time.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    Change, Family,
    client::{Client, Depth, Event, Failure, Target},
    message,
    server::{Server, Socket},
    verdict::{Allocation, Evidence, Filtering, Ignorance, Mapping, Verdict},
};
use crate::limits;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const INSIDE: &str = "192.168.1.2:4001";
const OUTSIDE: &str = "203.0.113.7:4001";

/// A server with two IP addresses and two ports, and one with neither.
const HELPER: [&str; 4] =
    ["198.51.100.10:3478", "198.51.100.10:3479", "198.51.100.11:3478", "198.51.100.11:3479"];
const PLAIN: &str = "198.51.100.20:3478";

/// What a NAT looks at, of whom we talk to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Looks {
    Nowhere,
    AtAddress,
    AtAddressAndPort,
}

impl Looks {
    fn key(self, remote: SocketAddr) -> (String, u16) {
        match self {
            Looks::Nowhere => (String::new(), 0),
            Looks::AtAddress => (remote.ip().to_string(), 0),
            Looks::AtAddressAndPort => (remote.ip().to_string(), remote.port()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ports {
    /// There is no translation, only filtering.
    Untouched,
    Preserved,
    Sequential(u16),
    Random,
}

struct Nat {
    mapping: Looks,
    filtering: Looks,
    ports: Ports,
    mappings: Vec<((String, u16), SocketAddr)>,
    doors: BTreeSet<(SocketAddr, (String, u16))>,
    random: fastrand::Rng,
}

impl Nat {
    fn new(mapping: Looks, filtering: Looks, ports: Ports) -> Self {
        let random = fastrand::Rng::with_seed(5);
        Nat { mapping, filtering, ports, mappings: Vec::new(), doors: BTreeSet::new(), random }
    }

    fn out(&mut self, to: SocketAddr) -> SocketAddr {
        let key = self.mapping.key(to);
        let outside = match self.mappings.iter().find(|(other, _)| *other == key) {
            Some((_, outside)) => *outside,
            None => {
                let count = self.mappings.len() as u16;
                let mut outside = addr(OUTSIDE);
                match self.ports {
                    Ports::Untouched => outside = addr(INSIDE),
                    Ports::Preserved => outside.set_port(addr(INSIDE).port() + count),
                    Ports::Sequential(step) => outside.set_port(20_000 + step * count),
                    Ports::Random => outside.set_port(self.random.u16(1024..)),
                }
                self.mappings.push((key, outside));
                outside
            }
        };
        self.doors.insert((outside, self.filtering.key(to)));
        outside
    }

    fn lets_in(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.doors.contains(&(to, self.filtering.key(from)))
    }
}

/// One client behind one NAT, and servers.
struct World {
    client: Client,
    nat: Nat,
    server: Server,
    now: Instant,
    evidence: Evidence,
    events: Vec<Event>,
    /// Times of sending, from the start, and where to.
    sent: Vec<(Duration, SocketAddr)>,
    /// What the way swallows: by the number of the datagram sent.
    loses: fn(usize) -> bool,
}

impl World {
    fn new(nat: Nat) -> Self {
        let now = Instant::now();
        let mut server = Server::new(now);
        server.set_sockets(HELPER.iter().chain([&PLAIN]).map(|text| Socket::bound(addr(text))));
        World {
            client: Client::new([7; 32]),
            nat,
            server,
            now,
            evidence: Evidence::new(Family::V4),
            events: Vec::new(),
            sent: Vec::new(),
            loses: |_| false,
        }
    }

    /// One whole check; returns the verdict at its end.
    fn check(&mut self, servers: &[&str], depth: Depth) -> Verdict {
        let begun = self.now;
        let targets: Vec<_> =
            servers.iter().map(|text| Target { server: addr(text), local: addr(INSIDE) }).collect();
        self.evidence.begin(self.now);
        self.client.check(Family::V4, &targets, depth, self.now);
        loop {
            while let Some(transmit) = self.client.poll_transmit() {
                self.sent.push((self.now - begun, transmit.to));
                if !(self.loses)(self.sent.len()) {
                    self.deliver(transmit.to, &transmit.bytes);
                }
            }
            while let Some(event) = self.client.poll_event() {
                match &event {
                    Event::Observed(seen) => self.evidence.observe(*seen),
                    Event::Tested(test) => self.evidence.test(*test),
                    _ => {}
                }
                self.events.push(event);
            }
            match self.client.poll_timeout() {
                Some(due) => self.now = self.now.max(due),
                None => return self.evidence.verdict(self.now),
            }
            self.client.handle_timeout(self.now);
        }
    }

    fn deliver(&mut self, to: SocketAddr, bytes: &[u8]) {
        let outside = self.nat.out(to);
        let is_there = HELPER.iter().chain([&PLAIN]).any(|text| addr(text) == to);
        if !is_there {
            return;
        }
        let Some(reply) = self.server.handle(outside, to, bytes, self.now) else { return };
        if self.nat.lets_in(reply.from, reply.to) {
            assert!(self.client.handle_input(reply.from, &reply.bytes, self.now));
        }
    }
}

/// A NAT, and what has to be found.
struct Case(&'static str, Looks, Looks, Ports, Mapping, Filtering);

impl Case {
    fn world(&self) -> World {
        World::new(Nat::new(self.1, self.2, self.3))
    }
}

fn cases() -> [Case; 8] {
    use Filtering::{
        AddressAndPortDependent as PortFilter, AddressDependent as AddressFilter,
        EndpointIndependent as NoFilter,
    };
    use Looks::*;
    use Mapping::*;
    [
        Case("public", Nowhere, Nowhere, Ports::Untouched, NoNat, NoFilter),
        Case("firewall", Nowhere, AtAddressAndPort, Ports::Untouched, NoNat, PortFilter),
        Case("full cone", Nowhere, Nowhere, Ports::Random, EndpointIndependent, NoFilter),
        Case("address-restr.", Nowhere, AtAddress, Ports::Preserved, EndpointIndependent, AddressFilter),
        Case("port-restr.", Nowhere, AtAddressAndPort, Ports::Random, EndpointIndependent, PortFilter),
        Case("by address", AtAddress, AtAddress, Ports::Sequential(1), AddressDependent, AddressFilter),
        Case(
            "symmetric, sequential",
            AtAddressAndPort,
            AtAddressAndPort,
            Ports::Sequential(2),
            AddressAndPortDependent,
            PortFilter,
        ),
        Case(
            "symmetric, random",
            AtAddressAndPort,
            AtAddressAndPort,
            Ports::Random,
            AddressAndPortDependent,
            PortFilter,
        ),
    ]
}

#[test]
fn every_kind_of_nat_gets_the_right_name() {
    for case in cases() {
        let Case(name, looks, _, ports, mapping, filtering) = case;
        for servers in [&HELPER[..1], &[HELPER[0], PLAIN]] {
            let verdict = case.world().check(servers, Depth::Full);
            assert_eq!((verdict.mapping, verdict.filtering), (mapping, filtering), "{name}: {verdict:?}");
            let is_right = match (verdict.allocation, ports) {
                (Allocation::Sequential { step, .. }, Ports::Sequential(real)) => step == i32::from(real),
                (Allocation::Random { .. }, Ports::Random) => looks != Looks::Nowhere,
                (Allocation::Single, _) => looks == Looks::Nowhere,
                _ => false,
            };
            assert!(is_right, "{name}: {:?}", verdict.allocation);
            let preserved = looks == Looks::Nowhere && matches!(ports, Ports::Untouched | Ports::Preserved);
            assert_eq!(verdict.preserves_port, Some(preserved), "{name}");
        }
    }
}

#[test]
fn two_servers_without_a_second_address_know_the_mapping_only() {
    for case in cases() {
        let Case(name, _, _, _, mapping, _) = case;
        let mut world = case.world();
        let plain = |text| Socket { bound: addr(text), seen: None };
        world.server.set_sockets([HELPER[0], PLAIN].map(plain));
        let verdict = world.check(&[HELPER[0], PLAIN], Depth::Full);
        let known = match mapping {
            // Which of the two it is, they cannot say.
            Mapping::AddressDependent => Mapping::AddressAndPortDependent,
            other => other,
        };
        assert_eq!((verdict.mapping, verdict.filtering), (known, Filtering::Unknown), "{name}");
    }
}

#[test]
fn one_server_alone_cannot_tell() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::Nowhere, Ports::Random));
    let verdict = world.check(&[PLAIN], Depth::Light);
    assert_eq!(verdict.mapping, Mapping::Unknown(Ignorance::OneServer));
    assert_eq!(world.sent.len(), 1);
    assert_eq!(verdict.external.len(), 1);
}

#[test]
fn lost_datagrams_do_not_change_the_verdict() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::AtAddress, Ports::Random));
    world.loses = |number| number % 2 == 1;
    let verdict = world.check(&HELPER[..1], Depth::Full);
    assert_eq!(
        (verdict.mapping, verdict.filtering),
        (Mapping::EndpointIndependent, Filtering::AddressDependent)
    );
}

#[test]
fn a_door_that_we_opened_is_not_taken_for_an_open_house() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::AtAddressAndPort, Ports::Random));
    let first = world.check(&HELPER[..1], Depth::Full);
    // The NAT remembers whom we asked. A second test would be answered from there.
    world.events.clear();
    world.now += limits::STUN_QUIET / 2;
    let second = world.check(&HELPER[..1], Depth::Full);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Tested(_))));
    assert_eq!((second.filtering, first.filtering), (Filtering::AddressAndPortDependent, second.filtering));
    world.nat.doors.clear();
    world.now += limits::STUN_QUIET;
    world.check(&HELPER[..1], Depth::Full);
    assert!(world.events.iter().any(|event| matches!(event, Event::Tested(_))));
}

#[test]
fn requests_are_repeated_as_rfc_8489_says() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::Nowhere, Ports::Random));
    world.loses = |_| true;
    world.check(&[PLAIN], Depth::Full);
    let times: Vec<_> = world.sent.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    let server = addr(PLAIN);
    assert_eq!(world.events, [Event::Failed { server, cause: Failure::Silent }, Event::Done(Family::V4)]);
    assert_eq!(world.evidence.verdict(world.now).mapping, Mapping::Unknown(Ignorance::NoAnswer));
}

#[test]
fn a_server_that_is_down_delays_no_verdict() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::Nowhere, Ports::Random));
    let start = world.now;
    let down = Target { server: addr("198.51.100.99:1"), local: addr(INSIDE) };
    let up = Target { server: addr(PLAIN), local: addr(INSIDE) };
    world.client.check(Family::V4, &[down, up], Depth::Light, start);
    let settled = loop {
        while let Some(transmit) = world.client.poll_transmit() {
            world.deliver(transmit.to, &transmit.bytes);
        }
        if std::iter::from_fn(|| world.client.poll_event()).any(|event| event == Event::Settled(Family::V4)) {
            break world.now - start;
        }
        world.now = world.client.poll_timeout().expect("it waits");
        world.client.handle_timeout(world.now);
    };
    assert_eq!(settled, Duration::from_millis(1500));
}

/// A client that has asked one server, and the answer to that.
fn asked() -> (Client, Vec<u8>, Instant) {
    let now = Instant::now();
    let mut client = Client::new([1; 32]);
    let target = Target { server: addr(PLAIN), local: addr(INSIDE) };
    client.check(Family::V4, &[target], Depth::Full, now);
    let request = client.poll_transmit().expect("a request").bytes;
    let mut server = Server::new(now);
    let reply = server.handle(addr(OUTSIDE), addr(PLAIN), &request, now).expect("an answer");
    (client, reply.bytes, now)
}

fn observed(client: &mut Client) -> Option<SocketAddr> {
    std::iter::from_fn(|| client.poll_event()).find_map(|event| match event {
        Event::Observed(seen) => Some(seen.mapped),
        _ => None,
    })
}

#[test]
fn a_response_from_another_server_is_discarded() {
    let (mut client, answer, now) = asked();
    for stranger in ["198.51.100.20:3479", "198.51.100.21:3478"] {
        assert!(client.handle_input(addr(stranger), &answer, now));
    }
    assert_eq!((observed(&mut client), client.counters().stranger), (None, 2));
    assert!(client.handle_input(addr(PLAIN), &answer, now));
    assert_eq!(observed(&mut client), Some(addr(OUTSIDE)));
}

#[test]
fn an_answer_counts_once() {
    let (mut client, answer, now) = asked();
    client.handle_input(addr(PLAIN), &answer, now);
    assert!(observed(&mut client).is_some());
    client.handle_input(addr(PLAIN), &answer, now);
    assert_eq!((observed(&mut client), client.counters().unmatched), (None, 1));
}

#[test]
fn what_would_have_to_be_understood_is_not_believed() {
    for kind in [0x0008_u16, 0x001c, 0x7fff] {
        let (mut client, answer, now) = asked();
        let id: [u8; 12] = answer[8..20].try_into().expect("an id");
        // An integrity that nobody can check: we have no key with a server.
        let more = [&answer[20..answer.len() - 8], &kind.to_be_bytes(), &[0, 4, 1, 2, 3, 4]].concat();
        client.handle_input(addr(PLAIN), &message::framed(0x0101, id, &more, true), now);
        assert_eq!((observed(&mut client), client.counters().not_understood), (None, 1));
    }
}

#[test]
fn requests_of_others_are_not_for_the_client() {
    let (mut client, _, now) = asked();
    let before = client.counters();
    let request = message::request([9; 12], None).expect("short");
    assert!(!client.handle_input(addr(PLAIN), &request, now));
    assert_eq!((client.counters(), before.checks), (before, 1));
}

#[test]
fn a_refusal_ends_the_request() {
    let (mut client, answer, now) = asked();
    let id: [u8; 12] = answer[8..20].try_into().expect("an id");
    let refusal = message::unknown_attributes(id, &[0x7fff], true).expect("short");
    client.handle_input(addr(PLAIN), &refusal, now);
    let events: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
    let server = addr(PLAIN);
    assert_eq!(events, [Event::Failed { server, cause: Failure::Refused(420) }, Event::Done(Family::V4)]);
    assert_eq!((client.poll_timeout(), client.counters().errors), (None, 1));
}

#[test]
fn ids_are_never_the_same() {
    let now = Instant::now();
    let target = Target { server: addr(PLAIN), local: addr(INSIDE) };
    let mut seen = BTreeSet::new();
    for seed in [[1; 32], [2; 32]] {
        let mut client = Client::new(seed);
        for _ in 0..100 {
            client.check(Family::V4, &[target], Depth::Light, now);
            let request = client.poll_transmit().expect("a request").bytes;
            assert!(seen.insert(request[8..20].to_vec()));
        }
    }
}

#[test]
fn no_server_sends_us_knocking_at_doors_inside() {
    for (server, other, expected) in [
        (PLAIN, "192.168.1.1:80", false),
        (PLAIN, "127.0.0.1:80", false),
        (PLAIN, "224.0.0.1:80", false),
        (PLAIN, "203.0.113.1:0", false),
        (PLAIN, "[2001:db8::1]:80", false),
        (PLAIN, "203.0.113.1:80", true),
        ("192.168.1.1:3478", "192.168.1.2:3479", true),
        ("192.168.1.1:3478", "192.168.7.2:3479", false),
        ("192.168.1.1:3478", "203.0.113.1:80", false),
        ("127.0.0.1:3478", "127.0.0.2:3479", true),
    ] {
        let now = Instant::now();
        let mut client = Client::new([1; 32]);
        client.check(Family::V4, &[Target { server: addr(server), local: addr(INSIDE) }], Depth::Full, now);
        let request = client.poll_transmit().expect("a request").bytes;
        let answer = message::success(&message::Success {
            id: request[8..20].try_into().expect("an id"),
            mapped: addr(OUTSIDE),
            origin: None,
            other: Some(addr(other)),
            fingerprint: true,
        });
        client.handle_input(addr(server), &answer.expect("short"), now);
        // The first request after that is to the server itself, to be answered from elsewhere.
        assert_eq!(client.poll_transmit().is_some(), expected, "{server} names {other}");
    }
}

#[test]
fn a_server_that_stays_where_it_is_proves_nothing() {
    let now = Instant::now();
    let mut client = Client::new([1; 32]);
    client.check(Family::V4, &[Target { server: addr(PLAIN), local: addr(INSIDE) }], Depth::Full, now);
    let answer = |client: &mut Client| {
        let request = client.poll_transmit().expect("a request");
        let success = message::Success {
            id: request.bytes[8..20].try_into().expect("an id"),
            mapped: addr(OUTSIDE),
            origin: None,
            other: Some(addr("198.51.100.21:3479")),
            fingerprint: false,
        };
        client.handle_input(addr(PLAIN), &message::success(&success).expect("short"), now);
        message::read(&request.bytes).expect("valid").change
    };
    assert_eq!(answer(&mut client), None);
    assert_eq!(answer(&mut client), Some(Change::BOTH));
    assert_eq!(answer(&mut client), Some(Change::PORT));
    let events: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
    assert!(!events.iter().any(|event| matches!(event, Event::Tested(_))), "{events:?}");
}

#[test]
fn what_nobody_reads_does_not_pile_up() {
    let mut world = World::new(Nat::new(Looks::Nowhere, Looks::Nowhere, Ports::Random));
    for _ in 0..1000 {
        world.client.check(Family::V4, &[], Depth::Full, world.now);
    }
    let told = std::iter::from_fn(|| world.client.poll_event()).count();
    assert_eq!(told, 2 * limits::STUN_EVENTS);
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes: Vec<u8>, from_server: bool) {
        let (mut client, _, now) = asked();
        let from = if from_server { addr(PLAIN) } else { addr(OUTSIDE) };
        client.handle_input(from, &bytes, now);
        let mut server = Server::new(now);
        let _ = server.handle(from, addr(PLAIN), &bytes, now);
    }

    /// Only type and length of the fingerprint are covered by nothing, and then the rest is as it was.
    #[test]
    fn a_flipped_bit_is_never_believed(bit: prop::sample::Index) {
        let (mut client, mut answer, now) = asked();
        let bit = bit.index(answer.len() * 8);
        answer[bit / 8] ^= 1 << (bit % 8);
        client.handle_input(addr(PLAIN), &answer, now);
        let seen = observed(&mut client);
        if (answer.len() - 8..answer.len() - 4).contains(&(bit / 8)) {
            prop_assert!(seen.is_none_or(|seen| seen == addr(OUTSIDE)));
        } else {
            prop_assert_eq!(seen, None);
        }
    }

    /// What `bench/fuzz` does for longer.
    #[cfg(feature = "fuzzing")]
    #[test]
    fn what_is_fuzzed_holds(shape: u8, kinds in proptest::collection::vec((0..0x30u16, any::<bool>(), any::<[u8; 8]>()), 0..6)) {
        let mut data = vec![shape];
        for (kind, optional, value) in kinds {
            data.extend((kind | u16::from(optional) << 15).to_be_bytes());
            let length = usize::from(value[0] % 9);
            data.extend((length as u16).to_be_bytes());
            // Mostly addresses.
            data.extend([0, 1 + value[0] % 2]);
            data.extend(&value[2..]);
            data.truncate(data.len() - 8 + length.next_multiple_of(4));
        }
        super::fuzzing::datagram(&data);
    }
}
