//! What two NATs make of each other: who sends what where. Pure; both sides come to matching plans.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::limits;

/// A NAT, as far as a plan needs to know it. IPv4 only: IPv6 has firewalls, whose ports are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// One outside address for all destinations, or no NAT at all.
    Steady { addr: SocketAddrV4 },
    /// Another port for each destination, one after the other: the latest, and the usual difference.
    Sequential { last: SocketAddrV4, step: i16 },
    /// Another port for each destination, any.
    Random { ip: Ipv4Addr },
}

/// Our side of a plan, and what it promises.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub kind: Kind,
    pub part: Part,
    /// How likely it is that they meet.
    pub chance: f64,
}

/// What the plan counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One side's next port is known.
    Prediction,
    /// One side's ports are any: the birthday paradox.
    Guessing,
    /// Both sides' next ports are known.
    Walk,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Send from the listening socket to these ports, in this order.
    Probe { ip: Ipv4Addr, ports: Vec<u16> },
    /// Send from so many new sockets to this address.
    Open { sockets: usize, to: SocketAddr },
    /// Send from one new socket to these ports, in this order.
    Walk { ip: Ipv4Addr, ports: Vec<u16> },
}

impl Nat {
    /// Where it is seen from the outside.
    pub fn ip(self) -> Ipv4Addr {
        match self {
            Nat::Steady { addr: at } | Nat::Sequential { last: at, .. } => *at.ip(),
            Nat::Random { ip } => ip,
        }
    }
}

/// The plan for our side; `None` where there is no use in one: two steady NATs need none, and who has random ports
/// cannot be met by anybody whose ports change too. `seed` decides on the ports to guess.
pub fn plan(own: Nat, other: Nat, seed: u64) -> Option<Plan> {
    if own.ip() == other.ip() {
        // Behind the same NAT: what leads out and back in again is for the NAT to know (hairpinning), not to guess.
        return None;
    }
    let (part, shifty) = match (own, other) {
        (Nat::Steady { .. }, Nat::Random { ip }) => (Part::Probe { ip, ports: guesses(seed) }, other),
        (Nat::Steady { .. }, Nat::Sequential { last, step }) => {
            (Part::Probe { ip: *last.ip(), ports: predictions(last.port(), step) }, other)
        }
        (Nat::Random { .. }, Nat::Steady { addr }) => {
            (Part::Open { sockets: limits::PUNCH_SOCKETS, to: addr.into() }, own)
        }
        (Nat::Sequential { .. }, Nat::Steady { addr }) => {
            (Part::Open { sockets: limits::PUNCH_PREDICTED_SOCKETS, to: addr.into() }, own)
        }
        (Nat::Sequential { last: ours, .. }, Nat::Sequential { last, step }) => {
            let (ip, is_probe) = (*last.ip(), ours < last);
            let ports = walk(last.port(), step, is_probe);
            (if is_probe { Part::Probe { ip, ports } } else { Part::Walk { ip, ports } }, other)
        }
        _ => return None,
    };
    let kind = match (own, other) {
        (Nat::Sequential { .. }, Nat::Sequential { .. }) => Kind::Walk,
        (Nat::Random { .. }, _) | (_, Nat::Random { .. }) => Kind::Guessing,
        _ => Kind::Prediction,
    };
    let chance = match shifty {
        Nat::Random { .. } => birthday(limits::PUNCH_SOCKETS, limits::PUNCH_PROBES),
        // What others do behind the same NAT meanwhile moves the ports; measured in the lab.
        _ => 0.95,
    };
    Some(Plan { kind, part, chance })
}

/// Distinct ports, any but those that a NAT leaves alone.
fn guesses(seed: u64) -> Vec<u16> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ports: Vec<u16> = (limits::PUNCH_LEAST_PORT..=u16::MAX).collect();
    let (guesses, _) = partial_shuffle(&mut random, &mut ports, limits::PUNCH_PROBES);
    guesses.to_vec()
}

/// The first `count` of `items` become a random choice of all.
fn partial_shuffle<'a, T>(
    random: &mut fastrand::Rng,
    items: &'a mut [T],
    count: usize,
) -> (&'a mut [T], &'a mut [T]) {
    let count = count.min(items.len());
    for i in 0..count {
        let j = random.usize(i..items.len());
        items.swap(i, j);
    }
    items.split_at_mut(count)
}

/// The ports that come next, twice, since the sockets there may be late; then the ones before, in case that the
/// NAT counts from somewhere else.
fn predictions(last: u16, step: i16) -> Vec<u16> {
    let step = i32::from(if step == 0 { 1 } else { step });
    let count = limits::PUNCH_PREDICTIONS as i32;
    let at = |n: i32| {
        u16::try_from(i32::from(last) + n * step).ok().filter(|port| *port >= limits::PUNCH_LEAST_PORT)
    };
    let (next, before) = ((1..=count).filter_map(at), (1..=count / 2).filter_map(|n| at(-n)));
    let next: Vec<u16> = next.collect();
    next.iter().copied().chain(next.iter().copied()).chain(before).chain(next.iter().copied()).collect()
}

/// The ports to send to when both sides have sequential ones, so that every packet makes a port of our own as well. Our
/// `k`-th packet leaves by our `k`-th port, if nobody disturbs that, and should go to the other's `k`-th port, whose
/// packet goes to ours:
///
/// ```text
///   ours:   port a+k, disturbed a+k+d, to b+k+x     theirs: port b+m, disturbed b+m+e, to a+m
///   they meet where k+x = m+e and m = k+d, which is x = d+e
/// ```
/// So the one that probes tries an `x` for a while, and then the next, and the other one goes straight on. No port
/// comes twice in a round, as that would make no new one. A second round is for what was lost. Only the direction of
/// `step` counts: what was seen between two answers of STUN servers is one port and those that others took meanwhile.
fn walk(last: u16, step: i16, is_probe: bool) -> Vec<u16> {
    let step = if step < 0 { -1 } else { 1 };
    let stray =
        |k: i32| if is_probe { k / limits::PUNCH_STAY as i32 - limits::PUNCH_STRAY_BACK as i32 } else { 0 };
    let at = |k: i32| u16::try_from(i32::from(last) + (k + stray(k)) * step).ok();
    let round = (1..=limits::PUNCH_WALK as i32).filter_map(at);
    let round: Vec<u16> = round.filter(|port| *port >= limits::PUNCH_LEAST_PORT).collect();
    [&round[..], &round[..]].concat()
}

/// The chance that one of `probes` distinct ports is one of `sockets`, of all that a NAT gives away.
pub fn birthday(sockets: usize, probes: usize) -> f64 {
    let all = f64::from(u16::MAX) - f64::from(limits::PUNCH_LEAST_PORT) + 1.0;
    let miss = |n: usize| (all - sockets as f64 - n as f64) / (all - n as f64);
    1.0 - (0..probes).map(miss).product::<f64>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn addr(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, last), port)
    }

    /// The figures of the design: 256 sockets against 174, 256 and 1,024 probes.
    #[test]
    fn the_birthday_paradox() {
        let chances = [174, 256, 1024].map(|probes| (birthday(256, probes) * 1000.0).round() / 1000.0);
        assert_eq!(chances, [0.5, 0.639, 0.983]);
    }

    #[test]
    fn a_plan_has_two_matching_sides_or_none() {
        let (steady, random) = (Nat::Steady { addr: addr(1, 7) }, Nat::Random { ip: *addr(2, 1).ip() });
        let sequential = Nat::Sequential { last: addr(3, 5000), step: 1 };
        for shifty in [random, sequential] {
            let probe = plan(steady, shifty, 1).expect("a plan");
            let open = plan(shifty, steady, 1).expect("a plan");
            assert_eq!(probe.chance, open.chance);
            assert!(probe.chance > 0.9);
            assert!(matches!(probe.part, Part::Probe { ip, .. } if ip == shifty.ip()));
            assert!(matches!(open.part, Part::Open { to, .. } if to == addr(1, 7).into()));
        }
        for (own, other) in [(steady, steady), (random, random), (random, sequential)] {
            assert_eq!(plan(own, other, 1), None);
        }
        let other = Nat::Sequential { last: addr(4, 9000), step: 2 };
        let (probe, walk) = (plan(sequential, other, 1).expect("a plan"), plan(other, sequential, 1));
        assert!(matches!(probe.part, Part::Probe { ip, .. } if ip == other.ip()));
        assert!(matches!(walk.expect("a plan").part, Part::Walk { ip, .. } if ip == sequential.ip()));
    }

    /// Where the packets of one side come from, in order: the NAT goes on from `last`, after others took some ports.
    fn sent(last: u16, step: i16, disturbed: usize, ports: &[u16]) -> Vec<(u16, u16)> {
        let mut mapped: Vec<(u16, u16)> = Vec::new();
        for port in ports {
            let n = 1 + disturbed + mapped.len();
            if !mapped.iter().any(|(_, to)| to == port) {
                mapped.push((last.wrapping_add_signed(step * n as i16), *port));
            }
        }
        mapped
    }

    #[test]
    fn two_that_count_meet_though_others_take_some_ports() {
        let (a, b) = (20_000, 30_000);
        let most = limits::PUNCH_WALK / limits::PUNCH_STAY - limits::PUNCH_STRAY_BACK - 1;
        for (step_a, step_b) in [(1, 1), (1, -1), (-1, -1)] {
            let (probe, walk) = (walk(b, step_b, true), walk(a, step_a, false));
            for disturbed_a in 0..most {
                for disturbed_b in 0..most - disturbed_a {
                    let ours = sent(a, step_a, disturbed_a, &probe);
                    let theirs = sent(b, step_b, disturbed_b, &walk);
                    let met = ours.iter().filter(|(from, to)| theirs.contains(&(*to, *from))).count();
                    assert!(met > 0, "{disturbed_a} and {disturbed_b} ports were taken");
                }
            }
        }
    }

    #[test]
    fn two_behind_one_nat_have_no_plan() {
        let (own, other) = (Nat::Steady { addr: addr(1, 7) }, Nat::Random { ip: *addr(1, 1).ip() });
        assert_eq!(plan(own, other, 1), None);
    }

    #[test]
    fn what_comes_next_is_probed_first() {
        assert_eq!(predictions(5000, 2)[..3], [5002, 5004, 5006]);
        assert_eq!(predictions(5000, -1)[..2], [4999, 4998]);
        assert_eq!(predictions(u16::MAX, 1)[..1], [u16::MAX - 1], "there is nothing above");
    }

    proptest! {
        #[test]
        fn a_plan_never_exceeds_its_budget(seed: u64, last: u16, step: i16) {
            for ports in [guesses(seed), predictions(last, step), walk(last, step, true), walk(last, step, false)] {
                prop_assert!(ports.len() <= limits::PUNCH_PROBES);
                prop_assert!(ports.iter().all(|port| *port >= limits::PUNCH_LEAST_PORT));
            }
            let ports = guesses(seed);
            prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), limits::PUNCH_PROBES);
        }
    }
}
