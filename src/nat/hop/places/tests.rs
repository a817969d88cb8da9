use proptest::prelude::*;

use super::*;

fn peer(n: usize) -> PeerId {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend([0; 24]);
    bytes.extend((n as u64).to_be_bytes());
    PeerId::from_bytes(&bytes).expect("a SHA-256 multihash")
}

fn end(n: usize) -> End {
    (peer(n), ConnectionId::new_unchecked(n))
}

/// A machine in the network that is the `n`th.
fn at(n: usize, host: u8) -> Origin {
    Some(IpAddr::from([11, (n / 256) as u8, n as u8, host]))
}

fn places(reservations: usize, circuits: usize) -> Places {
    Places::new(Limits { reservations, circuits, ..Limits::default() })
}

/// How many of `peers` get a reservation.
fn reserve(places: &mut Places, peers: std::ops::Range<usize>, origin: Origin, now: Instant) -> usize {
    peers.filter(|n| places.reserve(end(*n), origin, now).is_ok()).count()
}

#[test]
fn circuits_come_where_the_place_was_asked_for() {
    let (now, mut places) = (Instant::now(), places(8, 8));
    assert_eq!(places.reserved_at(&peer(1)), None);
    for connection in [5, 6].map(ConnectionId::new_unchecked) {
        places.reserve((peer(1), connection), at(1, 1), now).expect("a place");
        assert_eq!(places.reserved_at(&peer(1)), Some(connection));
    }
}

/// A circuit from one peer to another, both with a connection of their number.
fn connect(places: &mut Places, from: usize, origin: Origin, to: usize) -> Result<CircuitId, Refusal> {
    let (target, connection) = end(to);
    places.connect(end(from), origin, target, Some(connection))
}

#[test]
fn one_address_gets_a_third_one_network_half_and_others_find_places() {
    let (mut places, now) = (places(240, 10), Instant::now());
    assert_eq!(reserve(&mut places, 0..1000, at(1, 1), now), 80);
    for host in 2..200 {
        reserve(&mut places, 1000 * usize::from(host)..1000 * usize::from(host) + 10, at(1, host), now);
    }
    assert_eq!(places.reservations(), 120);
    assert_eq!(places.reserve(end(7), at(1, 99), now), Ok(()), "who has one may prolong it");
    assert_eq!(reserve(&mut places, 1_000_000..1_000_030, at(2, 1), now), 30, "a home from elsewhere");
}

#[test]
fn who_has_a_place_keeps_it_also_when_there_are_no_more() {
    let (mut places, now) = (places(8, 8), Instant::now());
    (0..8).for_each(|n| assert_eq!(places.reserve(end(n), at(n, 1), now), Ok(()), "{n}"));
    assert_eq!(places.reserve(end(8), at(8, 1), now), Err(Refusal::Full));
    let later = now + limits::RELAY_RESERVATION - Duration::from_secs(1);
    (0..7).for_each(|n| assert_eq!(places.reserve(end(n), at(n, 1), later), Ok(()), "{n}"));
    assert_eq!(places.next_due(), Some(now + limits::RELAY_RESERVATION));
    assert_eq!(places.expire(now + limits::RELAY_RESERVATION), [peer(7)]);
    assert!(!places.has(&peer(7)) && places.has(&peer(6)));
    assert_eq!(places.reserve(end(8), at(8, 1), later), Ok(()));
}

#[test]
fn neighbours_are_bounded_by_the_whole_only() {
    let (mut places, now) = (places(200, 10), Instant::now());
    assert_eq!(reserve(&mut places, 0..1000, None, now), 200);
}

#[test]
fn a_circuit_needs_a_reservation_and_a_connection_at_its_end() {
    let (mut places, now) = (places(8, 8), Instant::now());
    assert_eq!(connect(&mut places, 1, at(1, 1), 2), Err(Refusal::NoReservation));
    places.reserve(end(2), at(2, 1), now).expect("a place");
    assert_eq!(places.connect(end(1), at(1, 1), peer(2), None), Err(Refusal::NoReservation));
    assert_eq!(connect(&mut places, 2, at(2, 1), 2), Err(Refusal::Itself));
    let circuit = connect(&mut places, 1, at(1, 1), 2).expect("a place");
    assert_eq!(places.ends(circuit), Some([end(1), end(2)]));
    assert_eq!((places.over(end(1)), places.over(end(2))), (vec![circuit], vec![circuit]));
    places.leave(&peer(2));
    assert!(places.has(&peer(1)) && places.has(&peer(2)));
    assert_eq!(places.close(circuit), Some([end(1), end(2)]));
    assert!(!places.has(&peer(1)) && !places.has(&peer(2)));
    assert_eq!(places.close(circuit), None);
}

#[test]
fn a_peer_has_so_many_circuits_from_it_and_to_it() {
    let (mut places, now) = (places(100, 1000), Instant::now());
    (0..100).for_each(|n| places.reserve(end(n), None, now).expect("a place"));
    let most = places.limits.circuits_per_peer;
    assert_eq!((1..100).filter(|n| connect(&mut places, 0, None, *n).is_ok()).count(), most);
    assert_eq!((1..100).filter(|n| connect(&mut places, *n, None, 0).is_ok()).count(), most);
}

#[test]
fn one_network_cannot_take_all_circuits_nor_all_of_one_target() {
    let (mut places, now) = (places(300, 120), Instant::now());
    (0..200).for_each(|n| places.reserve(end(n), None, now).expect("a place"));
    for from in 1000..2000 {
        // Refusals are what is counted below.
        let _ = connect(&mut places, from, at(1, from as u8), 0);
    }
    assert_eq!(places.circuits(), places.limits.circuits_per_peer / 2);
    assert!(connect(&mut places, 1, at(2, 1), 0).is_ok(), "somebody else reaches that target");
    for from in 1000..2000 {
        for to in 1..200 {
            let _ = connect(&mut places, from, at(1, from as u8), to);
        }
    }
    assert_eq!(places.circuits(), 61, "half, beside the one of somebody else");
    let elsewhere = (0..20).filter(|n| connect(&mut places, *n, at(3, 1), n + 1).is_ok()).count();
    assert_eq!(elsewhere, 20);
}

#[test]
fn requests_have_a_burst_and_a_pace() {
    let (mut places, now) = (places(8, 8), Instant::now());
    let mut pace = None;
    let asked = (0..1000).filter(|_| places.may_ask(&mut pace, at(1, 1), now)).count();
    assert_eq!(asked, limits::RELAY_BURST_PER_PEER as usize);
    let later = now + 3 * limits::RELAY_PACE_PER_PEER;
    assert_eq!((0..1000).filter(|_| places.may_ask(&mut pace, at(1, 1), later)).count(), 3);
    let left = limits::RELAY_BURST_PER_OWNER as usize - 3;
    // The network has got 30 s worth of its allowance back, which is all that was used at first.
    assert_eq!((0..1000).filter(|_| places.may_ask(&mut None, at(1, 2), later)).count(), left);
    assert!(places.may_ask(&mut None, at(2, 1), later), "somebody else");
    assert!(places.may_ask(&mut None, None, later), "a neighbour");
}

#[test]
fn the_table_of_networks_is_bounded_and_a_newcomer_may_ask() {
    let (mut places, now) = (places(8, 8), Instant::now());
    for n in 0..2 * limits::RELAY_OWNERS {
        assert!(places.may_ask(&mut None, at(n, 1), now), "{n}");
        assert!(places.paces.len() <= limits::RELAY_OWNERS);
    }
}

proptest! {
    /// Whatever networks do, bounds hold, and while hostile ones are few somebody new finds a place.
    #[test]
    fn bounds_hold(
        networks in 1usize..6,
        asks in prop::collection::vec((any::<bool>(), 0usize..200, 0usize..200, any::<u8>()), 0..800),
    ) {
        let (mut places, now) = (places(64, 32), Instant::now());
        for (is_circuit, from, to, host) in asks {
            let origin = at(from % networks, host);
            // Refusals are part of it.
            match is_circuit {
                true => drop(connect(&mut places, from, origin, to)),
                false => drop(places.reserve(end(from), origin, now)),
            }
        }
        // Each network may take half of what those before it left.
        let most = |all: usize| all - (all >> networks);
        prop_assert!(places.reservations() <= most(64) && places.circuits() <= most(32));
        prop_assert_eq!(places.reserve(end(1000), at(77, 1), now), Ok(()));
        prop_assert!(connect(&mut places, 1001, at(78, 1), 1000).is_ok());
    }
}
