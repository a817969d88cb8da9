use proptest::prelude::*;

use super::*;
use crate::discovery::scope::ip_of;

const SECOND: Duration = Duration::from_secs(1);

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn addrs(texts: &[&str]) -> Vec<Multiaddr> {
    texts.iter().map(|text| addr(text)).collect()
}

fn peer(n: u64) -> PeerId {
    crate::identity::from_seed(n).public().to_peer_id()
}

/// A peer without a key, which costs less to make.
fn bogus(n: u64) -> PeerId {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend([0; 24]);
    bytes.extend(n.to_be_bytes());
    PeerId::from_bytes(&bytes).expect("a SHA-256 multihash")
}

fn book() -> (Book, Instant) {
    (Book::new(peer(0)), Instant::now())
}

/// What is dialled, without the peer.
fn due(book: &Book, peer: PeerId, now: Instant) -> Vec<String> {
    let list = book.due(peer, now).unwrap_or_default();
    list.into_iter().map(|addr| without_peer(addr, peer).to_string()).collect()
}

fn reach(book: &mut Book, peer: PeerId, at: &str, now: Instant) {
    book.connected(peer, Some(&addr(at)), now);
    book.disconnected(peer, now + limits::REDIAL_SETTLED, 1.0);
}

#[test]
fn what_worked_comes_before_the_peers_word_and_that_before_hearsay() {
    let (mut book, now) = book();
    let p = peer(1);
    reach(&mut book, p, "/ip4/203.0.113.1/tcp/1", now);
    book.learn(p, [addr("/ip4/203.0.113.3/tcp/3")], Source::Dht, now + SECOND);
    book.learn(p, [addr("/ip4/203.0.113.2/tcp/2")], Source::Identify, now + SECOND);
    let later = now + 60 * SECOND;
    let best = ["/ip4/203.0.113.1/tcp/1", "/ip4/203.0.113.2/tcp/2", "/ip4/203.0.113.3/tcp/3"];
    assert_eq!(due(&book, p, later), best);
    // It moved: what fails goes behind what does not, whoever says so.
    for _ in 0..limits::BOOK_DOUBT {
        book.failed(p, [&addr(best[0])], later, 0.0);
    }
    assert_eq!(due(&book, p, later + 600 * SECOND), [best[1], best[2], best[0]]);
}

#[test]
fn quic_and_tcp_of_one_machine_are_both_kept_and_quic_is_first() {
    let (mut book, now) = book();
    let both = ["/ip4/203.0.113.1/udp/1/quic-v1", "/ip4/203.0.113.1/tcp/1"];
    book.learn(peer(1), addrs(&[both[1], both[0]]), Source::Identify, now);
    assert_eq!(due(&book, peer(1), now), both);
}

#[test]
fn addresses_come_out_with_their_peer_however_they_came_in() {
    let (mut book, now) = book();
    let p = peer(1);
    let with = addr("/ip4/203.0.113.1/tcp/1").with(Protocol::P2p(p));
    book.learn(p, [with.clone(), addr("/ip4/203.0.113.1/tcp/1")], Source::Dht, now);
    assert_eq!(book.due(p, now), Some(vec![with]));
}

#[test]
fn what_is_no_address_of_this_peer_is_left_out() {
    let (mut book, now) = book();
    let (me, p, other) = (peer(0), peer(1), peer(2));
    let wrong = [
        addr("/ip4/203.0.113.1/tcp/1").with(Protocol::P2p(other)),
        addr("/ip4/203.0.113.1/tcp/1/ws"),
        addr("/dns4/example.com/tcp/1"),
        addr("/ip4/203.0.113.1/tcp/1").with(Protocol::P2p(me)).with(Protocol::P2pCircuit),
        addr("/ip4/203.0.113.1/tcp/1").with(Protocol::P2p(p)).with(Protocol::P2p(p)),
        Multiaddr::empty(),
    ];
    for source in [Source::Dht, Source::Identify, Source::Saved] {
        book.learn(p, wrong.clone(), source, now);
    }
    book.learn(me, [addr("/ip4/203.0.113.1/tcp/1")], Source::Operator, now);
    assert!(book.is_empty(), "{book:?}");
    let relayed = addr("/ip4/203.0.113.1/tcp/1").with(Protocol::P2p(other)).with(Protocol::P2pCircuit);
    book.learn(p, [relayed.clone()], Source::Dht, now);
    assert_eq!(book.due(p, now), Some(vec![relayed.with(Protocol::P2p(p))]));
}

#[test]
fn private_addresses_are_dialled_in_their_own_network_only() {
    let (mut book, now) = book();
    let p = peer(1);
    book.learn(p, [addr("/ip4/192.168.1.7/tcp/1")], Source::Identify, now);
    assert_eq!(book.due(p, now), None, "told, of some other network");
    let home = Networks::new([("192.168.1.2".parse().expect("an address"), 24)], &[]);
    book.set_networks(home);
    book.learn(p, [addr("/ip4/192.168.1.7/tcp/1")], Source::Identify, now);
    assert_eq!(due(&book, p, now), ["/ip4/192.168.1.7/tcp/1"]);
    book.connected(p, Some(&addr("/ip4/192.168.1.7/tcp/1")), now);
    book.disconnected(p, now + 60 * SECOND, 0.0);
    book.set_networks(Networks::default());
    assert_eq!(book.due(p, now + 600 * SECOND), None, "the machine moved");
    book.learn(p, [addr("/ip4/10.0.0.1/tcp/1")], Source::Operator, now);
    assert_eq!(due(&book, p, now + 600 * SECOND), ["/ip4/10.0.0.1/tcp/1"], "the operator knows");
}

#[test]
fn names_are_dialled_for_the_operator_only() {
    let (mut book, now) = book();
    let name = addr("/dns4/example.com/tcp/1");
    book.learn(peer(1), [name.clone()], Source::Operator, now);
    assert_eq!(due(&book, peer(1), now), ["/dns4/example.com/tcp/1"]);
    book.connected(peer(1), Some(&name), now);
    assert_eq!(book.saved(), [], "and he will say so again");
    book.connected(peer(2), Some(&name), now);
    assert_eq!(book.addresses(peer(2)).count(), 0);
    book.disconnected(peer(2), now, 0.0);
    assert_eq!(book.len(), 1);
}

#[test]
fn an_address_that_failed_beside_a_better_one_goes_behind() {
    let (mut book, now) = book();
    let (p, both) = (peer(1), ["/ip4/203.0.113.1/udp/1/quic-v1", "/ip4/203.0.113.1/tcp/1"]);
    book.learn(p, addrs(&both), Source::Identify, now);
    book.connected(p, Some(&addr(both[1])), now);
    assert_eq!(book.failed(p, [&addr(both[0])], now, 0.0), None);
    book.disconnected(p, now + limits::REDIAL_SETTLED, 0.0);
    assert_eq!(due(&book, p, now + limits::REDIAL_SETTLED + limits::REDIAL_FIRST), [both[1], both[0]]);
}

#[test]
fn hearsay_leaves_place_for_a_peers_own_word() {
    let (mut book, now) = book();
    let p = peer(1);
    let lies: Vec<_> = (1..=200).map(|n| addr(&format!("/ip4/198.51.100.{n}/tcp/1"))).collect();
    book.learn(p, lies.clone(), Source::Dht, now);
    assert_eq!(due(&book, p, now).len(), limits::BOOK_HEARSAY_ADDRESSES);
    let own: Vec<_> = (1..=8).map(|n| addr(&format!("/ip4/203.0.113.{n}/tcp/1"))).collect();
    book.learn(p, own.clone(), Source::Identify, now);
    lies.chunks(10).for_each(|lies| book.learn(p, lies.to_vec(), Source::Dht, now));
    let known: Vec<_> = book.addresses(p).map(|(addr, _)| addr.clone()).collect();
    assert!(own.iter().all(|addr| known.contains(addr)), "{known:?}");
}

#[test]
fn a_peer_that_is_down_is_dialled_with_growing_capped_delays() {
    let (mut book, mut now) = book();
    let p = peer(1);
    let one = addr("/ip4/203.0.113.1/tcp/1");
    reach(&mut book, p, "/ip4/203.0.113.1/tcp/1", now);
    now += 60 * SECOND;
    let mut delays = Vec::new();
    for _ in 0..12 {
        let list = book.due(p, now).expect("due");
        book.dialing(p);
        assert_eq!((book.due(p, now), book.next_due(p)), (None, None), "under way");
        let delay = book.failed(p, &list, now, 0.0).expect("in the book");
        assert_eq!(book.next_due(p), Some(now + delay));
        delays.push(delay.as_secs());
        now += delay;
    }
    assert_eq!(delays, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
    book.connected(p, Some(&one), now);
    assert_eq!(book.next_due(p), None, "connected");
    book.disconnected(p, now + SECOND, 0.0);
    assert_eq!(book.next_due(p), Some(now + SECOND + limits::BOOK_REDIAL_MOST), "it drops us at once");
    book.connected(p, None, now);
    book.disconnected(p, now + limits::REDIAL_SETTLED, 0.0);
    assert_eq!(book.next_due(p), Some(now + limits::REDIAL_SETTLED + limits::REDIAL_FIRST));
}

#[test]
fn what_never_worked_is_forgotten_and_what_worked_is_not() {
    let (mut book, now) = book();
    let (told, reached, saved) = (peer(1), peer(2), peer(3));
    let at = addr("/ip4/203.0.113.1/tcp/1");
    book.learn(told, [at.clone()], Source::Identify, now);
    reach(&mut book, reached, "/ip4/203.0.113.1/tcp/1", now);
    book.restore([SavedPeer { peer: saved, addrs: vec![at.clone()], missed: 0 }], now);
    for _ in 0..limits::BOOK_TRIES {
        for p in [told, reached, saved] {
            book.failed(p, [&at], now, 0.0);
        }
    }
    let later = now + 3600 * SECOND;
    assert_eq!([told, reached, saved].map(|p| book.due(p, later).is_some()), [false, true, true]);
    assert_eq!(book.addresses(told).count(), 0);
    // Its delay is remembered, or telling it again would start over.
    book.learn(told, [at], Source::Dht, now);
    assert!(book.next_due(told) > Some(now + 60 * SECOND));
}

#[test]
fn somebody_else_at_an_address_ends_it() {
    let (mut book, now) = book();
    let at = addr("/ip4/203.0.113.1/tcp/1");
    reach(&mut book, peer(1), "/ip4/203.0.113.1/tcp/1", now);
    book.somebody_else_at(peer(1), &at);
    assert!(book.is_empty());
    book.learn(peer(1), [at.clone()], Source::Operator, now);
    book.somebody_else_at(peer(1), &at);
    assert!(book.due(peer(1), now).is_some());
}

#[test]
fn a_peers_word_replaces_what_it_said_before() {
    let (mut book, now) = book();
    let p = peer(1);
    reach(&mut book, p, "/ip4/203.0.113.1/tcp/1", now);
    book.learn(p, addrs(&["/ip4/203.0.113.1/tcp/1", "/ip4/203.0.113.2/tcp/1"]), Source::Identify, now);
    book.learn(p, addrs(&["/ip4/203.0.113.3/tcp/1"]), Source::Identify, now);
    let later = now + 60 * SECOND;
    assert_eq!(due(&book, p, later), ["/ip4/203.0.113.1/tcp/1", "/ip4/203.0.113.3/tcp/1"]);
    book.forget_source(p, None, Source::Identify);
    assert_eq!(due(&book, p, later), ["/ip4/203.0.113.1/tcp/1"]);
}

#[test]
fn a_peer_that_moves_often_keeps_place_for_its_newest_address() {
    let (mut book, now) = book();
    let p = peer(1);
    for n in 1..=20 {
        let at = format!("/ip4/203.0.113.{n}/tcp/1");
        reach(&mut book, p, &at, now + n * 100 * SECOND);
        book.learn(p, [addr(&at)], Source::Identify, now + n * 100 * SECOND);
    }
    let later = now + 3000 * SECOND;
    book.learn(p, [addr("/ip4/198.51.100.1/tcp/1")], Source::Identify, later);
    let list = due(&book, p, later);
    assert_eq!(list.len(), limits::BOOK_REACHED_ADDRESSES + 1, "{list:?}");
    assert_eq!(list[0], "/ip4/203.0.113.20/tcp/1");
    assert!(list.contains(&"/ip4/198.51.100.1/tcp/1".to_owned()), "{list:?}");
}

#[test]
fn goodbye_in_the_lan_takes_back_what_was_only_said_there() {
    let (mut book, now) = book();
    book.set_networks(Networks::new([("192.168.1.2".parse().expect("an address"), 24)], &[]));
    let (one, two) = (addr("/ip4/192.168.1.7/tcp/1"), addr("/ip4/192.168.1.7/tcp/2"));
    book.learn(peer(1), [one.clone(), two.clone()], Source::Mdns, now);
    book.learn(peer(1), [one.clone()], Source::Identify, now);
    book.forget_source(peer(1), Some(&one), Source::Mdns);
    book.forget_source(peer(1), Some(&two), Source::Mdns);
    assert_eq!(due(&book, peer(1), now), ["/ip4/192.168.1.7/tcp/1"]);
}

#[test]
fn news_in_the_lan_cut_a_delay_short_but_not_to_nothing() {
    let (mut book, now) = book();
    book.set_networks(Networks::new([("192.168.1.2".parse().expect("an address"), 24)], &[]));
    let p = peer(1);
    reach(&mut book, p, "/ip4/192.168.1.7/tcp/1", now);
    for _ in 0..9 {
        book.failed(p, [], now, 0.0);
    }
    assert_eq!(book.next_due(p), Some(now + limits::BOOK_REDIAL_MOST));
    book.learn(p, [addr("/ip4/192.168.1.7/tcp/2")], Source::Dht, now + SECOND);
    assert_eq!(book.next_due(p), Some(now + limits::BOOK_REDIAL_MOST), "not by hearsay");
    book.learn(p, [addr("/ip4/192.168.1.7/tcp/3")], Source::Mdns, now + SECOND);
    assert_eq!(book.next_due(p), Some(now + limits::BOOK_NEWS));
}

#[test]
fn hearsay_about_one_network_is_believed_of_a_few_peers() {
    let (mut book, now) = book();
    for n in 0..100 {
        let at = format!("/ip4/203.0.113.{n}/tcp/1");
        book.learn(bogus(n + 1), [addr(&at)], Source::Dht, now + n as u32 * SECOND);
    }
    let known: Vec<_> = book.iter().map(|(peer, _)| peer).collect();
    assert_eq!(known, [1, 2, 3, 4].map(bogus), "the first stay");
    book.failed(bogus(2), [&addr("/ip4/203.0.113.1/tcp/1")], now, 0.0);
    book.learn(bogus(99), [addr("/ip4/203.0.113.9/tcp/1")], Source::Dht, now + 200 * SECOND);
    let known: Vec<_> = book.iter().map(|(peer, _)| peer).collect();
    assert_eq!(known, [1, 3, 4, 99].map(bogus), "but for those that failed");
    // Our own networks are not one of somebody else.
    book.set_networks(Networks::new([("203.0.113.1".parse().expect("an address"), 24)], &[]));
    for n in 0..50 {
        book.learn(bogus(200 + n), [addr("/ip4/127.0.0.1/tcp/1")], Source::Dht, now);
    }
    assert_eq!(book.len(), 4, "loopback is none of them");
    for n in 0..50 {
        book.learn(bogus(300 + n), [addr("/ip4/203.0.113.77/tcp/1")], Source::Dht, now);
    }
    assert_eq!(book.len(), 54);
    book.set_networks(Networks::new([("127.0.0.1".parse().expect("an address"), 8)], &[]));
    for n in 0..50 {
        book.learn(bogus(200 + n), [addr("/ip4/127.0.0.1/tcp/1")], Source::Dht, now);
    }
    assert_eq!(book.len(), 104);
}

#[test]
fn what_is_saved_is_what_we_reached_and_members_with_a_word_of_their_own() {
    let (mut book, now) = book();
    let at = |n: u64| addr(&format!("/ip4/203.0.113.{n}/tcp/1"));
    book.learn(peer(1), [at(1)], Source::Dht, now);
    book.learn(peer(2), [at(2)], Source::Identify, now);
    book.learn(peer(3), [at(3)], Source::Mdns, now);
    assert_eq!((book.saved(), book.generation()), (vec![], 0));
    book.learn(peer(4), [at(4)], Source::Member, now);
    reach(&mut book, peer(5), "/ip4/203.0.113.5/tcp/1", now);
    book.learn(peer(5), [at(6)], Source::Dht, now);
    book.note_room_member(peer(2));
    let generation = book.generation();
    assert_eq!(generation, 3, "three peers became worth it");
    let saved = book.saved();
    assert_eq!(saved[0].peer, peer(5), "what we reached is first");
    assert_eq!(saved[0].addrs, [at(5).with(Protocol::P2p(peer(5)))], "without hearsay");
    let mut rest = [saved[1].peer, saved[2].peer];
    rest.sort();
    let mut wanted = [peer(2), peer(4)];
    wanted.sort();
    assert_eq!((saved.len(), rest), (3, wanted));
    // The usual comings and goings change nothing.
    book.connected(peer(5), Some(&at(5)), now + SECOND);
    book.learn(peer(4), [at(4)], Source::Member, now + SECOND);
    book.disconnected(peer(5), now + SECOND, 0.0);
    book.failed(peer(5), [&at(5)], now, 0.0);
    assert_eq!(book.generation(), generation);
}

#[test]
fn a_book_that_was_saved_is_restored_in_its_order() {
    let (mut book, now) = book();
    for n in 1..=9 {
        reach(&mut book, peer(n), &format!("/ip4/203.0.{n}.1/tcp/1"), now + n as u32 * SECOND);
    }
    let saved = book.saved();
    let mut again = Book::new(peer(0));
    again.restore(saved.clone(), now);
    assert_eq!(again.generation(), 0, "there is nothing to save yet");
    let of =
        |book: &Book| book.saved().into_iter().map(|saved| (saved.peer, saved.missed)).collect::<Vec<_>>();
    let wanted: Vec<_> = saved.iter().map(|saved| (saved.peer, 1)).collect();
    assert_eq!(of(&again), wanted);
    assert!(again.due(peer(1), now).is_some());
    again.connected(peer(1), Some(&addr("/ip4/203.0.1.1/tcp/1")), now);
    assert_eq!((of(&again)[0], again.generation()), ((peer(1), 0), 0), "as in the file");
    let mut long_ago = Book::new(peer(0));
    long_ago.restore([SavedPeer { missed: 7, ..saved[0].clone() }], now);
    long_ago.connected(saved[0].peer, None, now);
    assert_eq!(long_ago.generation(), 1, "the file says that it is missed");
}

#[test]
fn one_network_does_not_fill_the_file_while_there_are_others() {
    let (mut book, now) = book();
    reach(&mut book, peer(1), "/ip4/198.51.100.1/tcp/1", now);
    for n in 2..100 {
        reach(&mut book, bogus(n), &format!("/ip4/203.0.113.{n}/tcp/1"), now + n as u32 * SECOND);
    }
    let saved = book.saved();
    assert_eq!(saved.len(), limits::SAVED_PEERS);
    let place = saved.iter().position(|saved| saved.peer == peer(1));
    assert_eq!(place, Some(limits::SAVED_PREFIX_PEERS));
}

/// What an adversary may say, and of whom: of 40,000 peers of his, or of the honest one.
fn lie() -> impl Strategy<Value = (u64, [u8; 4], bool, Source)> {
    let source = prop_oneof![
        3 => Just(Source::Dht),
        1 => Just(Source::Mdns),
        2 => Just(Source::Member),
        1 => Just(Source::Identify)
    ];
    let ip = prop_oneof![
        any::<[u8; 4]>(),
        any::<u8>().prop_map(|n| [192, 168, 1, n]),
        any::<u8>().prop_map(|n| [127, 0, 0, n])
    ];
    (0u64..40_000, ip, any::<bool>(), source)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_adversary_displaces_nobody_we_know_and_makes_us_dial_nothing_private(
        lies in prop::collection::vec(lie(), 800..2000),
    ) {
        let (mut book, now) = book();
        let honest = "/ip4/203.0.113.1/tcp/1";
        let friends: Vec<PeerId> = (1..=60).map(bogus).collect();
        for friend in &friends {
            reach(&mut book, *friend, honest, now);
        }
        book.connected(bogus(61), None, now);
        let later = now + 60 * SECOND;
        for (n, (whom, [a, b, c, d], is_quic, source)) in lies.into_iter().enumerate() {
            let transport = if is_quic { "udp/4001/quic-v1" } else { "tcp/4001" };
            let lie = addr(&format!("/ip4/{a}.{b}.{c}.{d}/{transport}"));
            let now = now + n as u32 * Duration::from_millis(10);
            match whom {
                // He has not the keys of others.
                0..2000 if source <= Source::Mdns => book.learn(friends[whom as usize % 60], [lie], source, now),
                _ => book.learn(bogus(whom + 100), [lie], source, now),
            }
            prop_assert!(book.len() <= limits::BOOK_PEERS);
        }
        for friend in &friends {
            let list = due(&book, *friend, later);
            prop_assert_eq!(list.first().map(String::as_str), Some(honest));
        }
        prop_assert_eq!(book.addresses(bogus(61)).count(), 0);
        prop_assert!(book.peers.contains_key(&bogus(61)), "connected");
        for (peer, _) in book.iter() {
            prop_assert!(book.addresses(peer).count() <= limits::BOOK_ADDRESSES);
            for addr in book.due(peer, later).unwrap_or_default() {
                let ip = ip_of(&addr).expect("an address without a relay");
                let is_public = match ip {
                    std::net::IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
                    std::net::IpAddr::V6(_) => false,
                };
                prop_assert!(is_public, "{addr}");
            }
        }
        let of = |source| book.iter().filter(|(_, known)| *known == source).count();
        prop_assert!(of(Source::Dht) <= limits::BOOK_DHT_PEERS && of(Source::Mdns) <= limits::BOOK_MDNS_PEERS);
        prop_assert!(of(Source::Member) <= limits::BOOK_MEMBER_PEERS);
        prop_assert!(of(Source::Identify) <= limits::BOOK_IDENTIFY_PEERS);
    }

    /// The book against a memory of who is connected, and against what it saves.
    #[test]
    fn whatever_happens_the_book_is_in_order(
        events in prop::collection::vec((0u8..9, 1u64..12, 0u8..12, 0u8..7), 1..300),
    ) {
        let (mut book, mut now) = book();
        book.set_networks(Networks::new([("192.168.1.2".parse().expect("an address"), 24)], &[]));
        let mut connected = std::collections::BTreeSet::new();
        for (event, whom, at, source) in events {
            now += Duration::from_millis(700);
            let (p, at) = (bogus(whom), addr(&format!("/ip4/192.168.1.{at}/tcp/1")));
            let source = [
                Source::Dht, Source::Mdns, Source::Member, Source::Identify, Source::Saved, Source::Operator, Source::Dht,
            ][source as usize];
            let content = |book: &Book| {
                let mut saved = book.saved();
                saved.iter_mut().for_each(|saved| saved.addrs.sort());
                saved.sort_by_key(|saved| saved.peer);
                saved
            };
            let (generation, before) = (book.generation(), content(&book));
            match event {
                0..3 => book.learn(p, [at], source, now),
                3 => book.forget_source(p, None, source),
                4 => {
                    book.connected(p, Some(&at).filter(|_| source > Source::Member), now);
                    connected.insert(p);
                }
                5 => {
                    book.disconnected(p, now, 0.5);
                    connected.remove(&p);
                }
                6 => {
                    book.failed(p, [&at], now, 0.5);
                }
                7 => book.somebody_else_at(p, &at),
                _ => book.note_room_member(p),
            }
            // Which four of more addresses are saved may change without the file being the worse for it.
            let is_cut = |saved: &SavedPeer| saved.addrs.len() == limits::SAVED_ADDRESSES;
            let after = content(&book);
            if book.generation() == generation && !before.iter().chain(&after).any(is_cut) {
                prop_assert_eq!(before, after);
            }
            for whom in 1..12 {
                let p = bogus(whom);
                prop_assert!(book.addresses(p).count() <= limits::BOOK_ADDRESSES);
                let due = book.due(p, now + limits::BOOK_REDIAL_MOST);
                prop_assert!(due.as_ref().is_none_or(|due| !due.is_empty() && due.len() <= limits::DIAL_ADDRESSES));
                prop_assert!(due.is_none() || !connected.contains(&p));
                prop_assert_eq!(due.is_some(), book.next_due(p).is_some(), "nobody waits for longer than the cap");
                prop_assert!(book.peers.contains_key(&p) || !connected.contains(&p));
            }
        }
    }

    #[test]
    fn delays_grow_and_stay_within_their_bounds(jitters in prop::collection::vec(-1.0f64..2.0, 1..40)) {
        let (mut book, now) = book();
        reach(&mut book, peer(1), "/ip4/203.0.113.1/tcp/1", now);
        let mut most = Duration::ZERO;
        for jitter in jitters {
            let delay = book.failed(peer(1), [], now, jitter).expect("in the book");
            prop_assert!(delay >= limits::REDIAL_FIRST / 2 && delay <= limits::BOOK_REDIAL_MOST);
            prop_assert!(delay >= most / 2, "less than the random half");
            most = most.max(delay);
        }
    }
}

#[test]
fn a_full_book_of_reached_peers_takes_a_newly_reached_one() {
    let (mut book, now) = book();
    for n in 0..limits::BOOK_PEERS as u64 + 50 {
        let at = format!("/ip4/{}.{}.1.1/tcp/1", 11 + n / 200, n % 200);
        reach(&mut book, bogus(n), &at, now + n as u32 * SECOND);
    }
    assert_eq!(book.len(), limits::BOOK_PEERS);
    let known: Vec<_> = book.iter().map(|(peer, _)| peer).collect();
    assert_eq!(known, (50..50 + limits::BOOK_PEERS as u64).map(bogus).collect::<Vec<_>>(), "the oldest went");
    book.learn(bogus(9999), [addr("/ip4/203.0.113.1/tcp/1")], Source::Member, now);
    assert!(
        book.due(bogus(9999), now).is_none() && book.len() == limits::BOOK_PEERS,
        "words displace nobody"
    );
}
