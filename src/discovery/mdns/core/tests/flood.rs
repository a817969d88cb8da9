//! Floods: what they cost is bounded, and those who are not part of them are found.

use super::*;

const BOGUS: u32 = 10_000;

/// A peer that does not exist, with as many addresses on the link as fit.
fn bogus(n: u32) -> Vec<u8> {
    let addrs: Vec<_> =
        (0..8).map(|k| multiaddr(&format!("/ip4/10.0.0.{}/tcp/{}", n % 200 + 20, k + 1))).collect();
    announced(PeerId::random(), &addrs, 360)
}

/// Ada hears of so many bogus peers, within ten seconds, each from the source that `from` says. Then Bob comes.
fn flood(from: impl Fn(u32) -> [u8; 4]) -> (Node, Node) {
    let start = Instant::now();
    let mut ada = Node::new(1, start);
    ada.core.subnet_up(SEGMENT.index, Subnet { ip: ada.ip, prefix: 8 }, start);
    let mut now = start;
    for n in 0..BOGUS {
        now = run(&mut [&mut ada], now, start + n * Duration::from_millis(1), never);
        ada.core.handle_datagram(SEGMENT, source(from(n)), &bogus(n), now);
        let (peers, addrs, accounts, transmits) = ada.core.sizes();
        assert!(peers <= limits::MDNS_PEERS && addrs <= limits::MDNS_PEER_ADDRESSES);
        assert!(accounts <= limits::MDNS_SOURCES && transmits <= limits::MDNS_TRANSMITS);
    }
    // It goes on while Bob comes.
    let mut bob = Node::on_link(2, now);
    for n in 0..2000 {
        now = run(&mut [&mut ada, &mut bob], now, now + Duration::from_millis(1), never);
        ada.core.handle_datagram(SEGMENT, source(from(n)), &bogus(n), now);
    }
    (ada, bob)
}

#[test]
fn a_flood_from_one_source_is_bounded_and_hides_nobody() {
    let (ada, bob) = flood(|_| [10, 0, 0, 66]);
    assert!(ada.found(&bob).is_some() && bob.found(&ada).is_some());
    // Each of these may cost a dial.
    assert_eq!(ada.events.len(), limits::MDNS_PEERS_PER_SOURCE + 1);
    // Twelve seconds: as many answers, whatever else went on.
    assert!(ada.sent.len() < 30, "{}", ada.sent.len());
}

#[test]
fn a_flood_from_forty_sources_hides_nobody() {
    let (ada, bob) = flood(|n| [10, 0, 0, 100 + (n % 40) as u8]);
    assert!(ada.found(&bob).is_some() && bob.found(&ada).is_some());
    assert_eq!(ada.core.sizes().0, limits::MDNS_PEERS);
}

/// What no bound can help against: whoever forges a source for each datagram fills the account that newcomers
/// share. The price stays the same.
#[test]
fn a_flood_from_forged_sources_is_bounded() {
    let (ada, _) = flood(|n| [10, 1, (n >> 8) as u8, n as u8]);
    // Those with an account send twice, the others share one.
    let most = 2 * limits::MDNS_SOURCES + limits::MDNS_NEW_BURST as usize + 12;
    assert!(ada.events.len() <= most, "{}", ada.events.len());
}

#[test]
fn a_flood_of_goodbyes_and_returns_is_paced() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let (peer, mut now) = (PeerId::random(), start);
    for n in 0..1000 {
        now = run(&mut [&mut ada], now, start + n * Duration::from_millis(600), never);
        let bytes = announced(peer, &[addr(66)], if n % 2 == 0 { 360 } else { 0 });
        ada.core.handle_datagram(SEGMENT, source([10, 0, 0, 66]), &bytes, now);
    }
    // Ten minutes.
    let most = 2 * (limits::MDNS_NEW_BURST as usize + 600 / limits::MDNS_NEW_PACE.as_secs() as usize);
    assert!(ada.events.len() <= most, "{}", ada.events.len());
}

#[test]
fn one_peer_with_ever_new_addresses_is_paced() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let peer = PeerId::random();
    for n in 0..1000u32 {
        let now = start + n * Duration::from_millis(50);
        let bytes = announced(peer, &[multiaddr(&format!("/ip4/10.0.0.66/tcp/{}", n + 1))], 360);
        ada.core.handle_datagram(SEGMENT, source([10, 0, 0, 66]), &bytes, now);
        exchange(&mut [&mut ada], now, &mut never);
    }
    let most = limits::MDNS_NEW_BURST as usize + 50 / limits::MDNS_NEW_PACE.as_secs() as usize;
    assert!(
        ada.events.len() <= most && ada.core.sizes() == (1, limits::MDNS_PEER_ADDRESSES, 1, 0),
        "{}",
        ada.events.len()
    );
}
