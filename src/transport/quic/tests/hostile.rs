//! What strangers can do to a core: floods of handshakes, noise, and packets that are nearly right.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::{
    super::core::{Core, Id, Meta},
    pair::*,
};
use crate::limits;

/// Handshakes that stay half-open: their clients never hear the answers.
fn half_open(pair: &mut Pair, count: usize) -> Vec<Id> {
    pair.filter = |datagram| datagram.from.port() == 1001;
    (0..count)
        .map(|_| {
            pair.connect();
            pair.arrival()
        })
        .collect()
}

#[test]
fn many_handshakes_make_the_next_one_prove_its_address() {
    let mut pair = Pair::new(CLEAN, 1);
    half_open(&mut pair, limits::QUIC_RETRY_ABOVE);
    assert_eq!(pair.server.core.drops().retried, 0);
    pair.filter = |_| true;
    let begun = pair.now;
    let client = pair.connect();
    pair.until("the handshake", |pair| pair.client.is_connected(client));
    assert!(pair.server.core.drops().retried >= 1);
    assert_eq!(pair.now - begun, 4 * DELAY, "the proof costs a round trip");
}

#[test]
fn too_many_handshakes_are_ignored_until_others_end() {
    let mut pair = Pair::new(CLEAN, 1);
    half_open(&mut pair, limits::QUIC_RETRY_ABOVE);
    // From here on they prove their address, but all they ever hear is the Retry that asks for it.
    pair.filter = |datagram| datagram.to.port() != 1001 || datagram.bytes[0] & 0xf0 == 0xf0;
    let held: Vec<Id> = (limits::QUIC_RETRY_ABOVE..limits::QUIC_HALF_OPEN)
        .map(|_| {
            pair.connect();
            pair.arrival()
        })
        .collect();
    let before = pair.server.core.drops();
    pair.client.addr.set_port(1002);
    let client = pair.connect();
    pair.pass(3 * DELAY);
    assert!(!pair.client.is_connected(client));
    assert!(pair.server.core.drops().refused > before.refused);
    assert_eq!(pair.server.core.drops().retried, before.retried, "no work for it, and no answer");
    // Those who had a place give it back.
    for id in held {
        pair.server.core.release(id);
    }
    pair.until("the handshake", |pair| pair.client.is_connected(client));
}

#[test]
fn a_handshake_that_goes_on_for_ever_is_given_up() {
    let mut pair = Pair::new(CLEAN, 1);
    let ids = half_open(&mut pair, limits::QUIC_RETRY_ABOVE);
    pair.pass(limits::QUIC_HANDSHAKE_TIMEOUT);
    for id in ids {
        assert!(pair.server.lost(id).is_some());
        pair.server.core.release(id);
    }
    pair.pass(Duration::from_secs(10));
    assert!(pair.server.core.is_empty());
    pair.filter = |_| true;
    let client = pair.connect();
    pair.until("the handshake", |pair| pair.client.is_connected(client));
    assert_eq!(pair.server.core.drops().retried, 0);
}

#[test]
fn a_dial_that_nobody_answers_ends_in_time() {
    let mut pair = Pair::new(CLEAN, 1);
    pair.filter = |_| false;
    let client = pair.connect();
    pair.until("the end", |pair| pair.client.lost(client).is_some());
    assert_eq!(pair.elapsed(), limits::QUIC_HANDSHAKE_TIMEOUT);
    pair.client.core.release(client);
    pair.until("oblivion", |pair| pair.client.core.is_empty());
}

#[test]
fn refusals_do_not_pile_up_while_the_socket_is_full() {
    let mut pair = Pair::new(CLEAN, 1);
    let meta = Meta { from: stranger(), local_ip: None, ecn: None };
    for n in 0..limits::QUIC_REPLIES as u8 + 5 {
        // An unknown version, which is answered by the versions we know.
        let mut bytes = vec![0xc0, 9, 9, 9, 9, 8, n, 1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0];
        bytes.resize(1200, 0);
        pair.server.core.handle_datagram(pair.now, meta, &bytes);
    }
    assert_eq!(sent(&mut pair.server.core, &pair.now), limits::QUIC_REPLIES);
    assert_eq!(pair.server.core.drops().replies, 5);
}

fn stranger() -> SocketAddr {
    ([203, 0, 113, 5], 6666).into()
}

/// How many datagrams a core has to send to somebody. None is longer than what was received.
fn sent(core: &mut Core, now: &std::time::Instant) -> usize {
    let mut bytes = Vec::new();
    let mut count = 0;
    while let Some(transmit) = core.poll_transmit(*now, 1, &mut bytes) {
        assert!(transmit.size <= 1200);
        bytes.clear();
        count += 1;
    }
    count
}

/// Real datagrams of a connection's whole life.
fn recorded() -> Vec<Vec<u8>> {
    let mut pair = Pair::new(CLEAN, 1);
    pair.recorded = Some(Vec::new());
    let client = pair.connect();
    let server = pair.arrival();
    transfer_when_connected(&mut pair, client, server);
    pair.client.close(client);
    pair.pass(Duration::from_secs(5));
    pair.recorded.take().expect("asked for")
}

fn transfer_when_connected(pair: &mut Pair, client: Id, server: Id) {
    pair.until("the handshake", |pair| pair.client.is_connected(client) && pair.server.is_connected(server));
    assert_eq!(transfer(pair, End::Client, (client, server), b"hello").as_slice(), b"hello");
}

fn mutate(bytes: &[u8], cut: usize, flips: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - cut % bytes.len()].to_vec();
    let len = bytes.len();
    for (at, flip) in flips {
        bytes[at % len] ^= flip;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn noise_leaves_no_trace(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1400), 1..40)) {
        let (mut pair, client, server) = Pair::connected(CLEAN, 1);
        pair.pass(Duration::from_secs(1));
        for (n, bytes) in datagrams.iter().enumerate() {
            // Strangers, and somebody who pretends to be the peer.
            let from = if n % 2 == 0 { stranger() } else { pair.client.addr };
            pair.server.core.handle_datagram(pair.now, Meta { from, local_ip: None, ecn: None }, bytes);
        }
        prop_assert!(pair.server.core.poll_incoming().is_none());
        prop_assert_eq!(pair.server.core.size(), (1, 1));
        prop_assert!(sent(&mut pair.server.core, &pair.now) <= datagrams.len());
        prop_assert!(pair.server.is_connected(server) && pair.client.is_connected(client));
        prop_assert_eq!(transfer(&mut pair, End::Server, (client, server), b"still here"), b"still here");
    }

    #[test]
    fn packets_that_are_nearly_right_do_no_harm(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..1500, prop::collection::vec((any::<usize>(), any::<u8>()), 0..4)), 1..40),
    ) {
        let real = recorded();
        let (mut pair, client, server) = Pair::connected(CLEAN, 1);
        for (pick, cut, flips) in picks {
            let bytes = mutate(pick.get::<Vec<u8>>(&real), cut, &flips);
            let (client_addr, server_addr) = (pair.client.addr, pair.server.addr);
            for (side, other) in [(&mut pair.server, client_addr), (&mut pair.client, server_addr)] {
                for from in [stranger(), other] {
                    side.core.handle_datagram(pair.now, Meta { from, local_ip: None, ecn: None }, &bytes);
                }
            }
        }
        // What looks like the beginning of a handshake is one, and ends in time.
        while let Some(arrival) = pair.server.core.poll_incoming() {
            pair.server.core.release(arrival.id);
        }
        while let Some(arrival) = pair.client.core.poll_incoming() {
            pair.client.core.release(arrival.id);
        }
        prop_assert!(pair.server.core.size().0 <= 1 + limits::QUIC_HALF_OPEN);
        pair.pass(Duration::from_secs(20));
        prop_assert_eq!(pair.server.core.size(), (1, 1));
        prop_assert_eq!(pair.client.core.size(), (1, 1));
        prop_assert_eq!(transfer(&mut pair, End::Client, (client, server), b"still here"), b"still here");
    }
}
