//! The core under virtual time: nodes on a link that loses what it is told to lose.

mod flood;

use proptest::prelude::*;

use super::*;

const SEGMENT: Segment = Segment { index: 2, v6: false };
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A node at 10.0.0.`n`, with what it sent and said.
struct Node {
    core: Core,
    ip: IpAddr,
    peer: PeerId,
    sent: Vec<(Instant, Transmit)>,
    events: Vec<(Instant, Event)>,
}

impl Node {
    /// On no interface yet.
    fn new(n: u8, now: Instant) -> Self {
        let (peer, ip) = (PeerId::random(), IpAddr::from([10, 0, 0, n]));
        let mut core = Core::new(peer, fastrand::Rng::with_seed(n.into()), now);
        core.listen(addr(n), now);
        core.listen(multiaddr("/ip4/127.0.0.1/tcp/4001"), now);
        Node { core, ip, peer, sent: Vec::new(), events: Vec::new() }
    }

    fn on_link(n: u8, now: Instant) -> Self {
        let mut node = Node::new(n, now);
        node.core.subnet_up(SEGMENT.index, node.subnet(), now);
        node
    }

    fn subnet(&self) -> Subnet {
        Subnet { ip: self.ip, prefix: 24 }
    }

    fn found(&self, other: &Node) -> Option<Instant> {
        let is = |event: &Event| matches!(event, Event::Found { peer, .. } if *peer == other.peer);
        self.events.iter().find(|(_, event)| is(event)).map(|(at, _)| *at)
    }

    fn lost(&self, other: &Node) -> Option<Instant> {
        let gone = Event::Gone { peer: other.peer };
        self.events.iter().find(|(_, event)| *event == gone).map(|(at, _)| *at)
    }

    /// When it sent to all: questions, and answers.
    fn times(&self) -> (Vec<Instant>, Vec<Instant>) {
        let all = self.sent.iter().filter(|(_, transmit)| transmit.to.is_none());
        let (asked, answered): (Vec<_>, Vec<_>) =
            all.partition(|(_, transmit)| transmit.bytes == message::ask());
        (asked.iter().map(|(at, _)| *at).collect(), answered.iter().map(|(at, _)| *at).collect())
    }
}

fn addr(n: u8) -> Multiaddr {
    multiaddr(&format!("/ip4/10.0.0.{n}/tcp/4001"))
}

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn source(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), PORT)
}

/// Lets time pass from `now` to `end`. Everything sent reaches all nodes at once, its sender too, unless `loses`
/// says otherwise.
fn run(
    nodes: &mut [&mut Node],
    now: Instant,
    end: Instant,
    mut loses: impl FnMut(&Transmit) -> bool,
) -> Instant {
    let mut now = now;
    loop {
        exchange(nodes, now, &mut loses);
        let next = nodes.iter().filter_map(|node| node.core.poll_timeout()).min();
        match next.filter(|next| *next <= end) {
            Some(next) => now = now.max(next),
            None => return end,
        }
        nodes.iter_mut().for_each(|node| node.core.handle_timeout(now));
    }
}

fn exchange(nodes: &mut [&mut Node], now: Instant, loses: &mut impl FnMut(&Transmit) -> bool) {
    for from in 0..nodes.len() {
        while let Some(transmit) = nodes[from].core.poll_transmit() {
            let ip = nodes[from].ip;
            if transmit.to.is_none() && !loses(&transmit) {
                for node in nodes.iter_mut() {
                    node.core.handle_datagram(transmit.segment, source(ip), &transmit.bytes, now);
                }
            }
            nodes[from].sent.push((now, transmit));
        }
    }
    for node in nodes {
        while let Some(event) = node.core.poll_event() {
            node.events.push((now, event));
        }
    }
}

fn never(_: &Transmit) -> bool {
    false
}

/// An announcement of one peer by whoever it is.
fn announced(peer: PeerId, addrs: &[Multiaddr], ttl: u32) -> Vec<u8> {
    Announcement { name: "somebody", peer, addrs, ttl }.multicast(false)
}

#[test]
fn nodes_find_each_other_at_once() {
    let start = Instant::now();
    let (mut ada, mut bob) = (Node::on_link(1, start), Node::on_link(2, start));
    run(&mut [&mut ada, &mut bob], start, start + SECOND, never);
    for (node, other) in [(&ada, &bob), (&bob, &ada)] {
        let found = node.found(other).expect("found");
        assert!(found <= start + 2 * limits::MDNS_DELAY[1]);
        assert_eq!(node.events.len(), 1, "once");
    }
    let addrs = vec![addr(2)];
    assert_eq!(ada.events[0].1, Event::Found { peer: bob.peer, addrs }, "without what is none of the link's");
}

#[test]
fn a_latecomer_is_found_within_two_seconds_even_if_the_first_datagrams_are_lost() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let now = run(&mut [&mut ada], start, start + 7 * MINUTE, never);
    let mut bob = Node::on_link(2, now);
    let mut lost = 0;
    run(&mut [&mut ada, &mut bob], now, now + 5 * SECOND, |_| {
        lost += 1;
        lost <= 2
    });
    for found in [ada.found(&bob), bob.found(&ada)] {
        assert!(found.expect("found") - now < 2 * SECOND);
    }
}

#[test]
fn questions_become_rare_and_answers_go_with_them() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    run(&mut [&mut ada], start, start + 60 * MINUTE, never);
    let (asked, answered) = ada.times();
    let seconds: Vec<u64> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(seconds[..3], [1, 3, 9], "{seconds:?}");
    assert!(seconds[6..].iter().all(|gap| (300..=330).contains(gap)), "{seconds:?}");
    assert!(asked.len() < 20 && answered.len() <= asked.len() + 1, "{} {}", asked.len(), answered.len());
}

#[test]
fn one_node_asks_for_all() {
    let start = Instant::now();
    let mut nodes: Vec<Node> = (1..=30).map(|n| Node::on_link(n, start)).collect();
    let mut all: Vec<&mut Node> = nodes.iter_mut().collect();
    let now = run(&mut all, start, start + 15 * MINUTE, never);
    let before: usize = all.iter().map(|node| node.sent.len()).sum();
    run(&mut all, now, now + 30 * MINUTE, never);
    let after: usize = all.iter().map(|node| node.sent.len()).sum();
    for node in &all {
        assert_eq!(node.events.len(), 29, "each found once, and none lost");
    }
    // Six rounds of one question and thirty answers, and some where two asked at the same time.
    assert!((186..=8 * 31).contains(&(after - before)), "{}", after - before);
}

#[test]
fn an_answer_is_given_once_a_second_however_often_it_is_asked_for() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let mut now = start;
    for n in 0..2000 {
        now = run(&mut [&mut ada], now, start + n * Duration::from_millis(5), never);
        // From many sources, or the account of one would stop it.
        ada.core.handle_datagram(SEGMENT, source([10, 0, 0, (n % 200) as u8 + 2]), &message::ask(), now);
    }
    let (_, answered) = ada.times();
    assert!((9..=11).contains(&answered.len()), "{}", answered.len());
    assert!(answered.windows(2).all(|pair| pair[1] - pair[0] >= limits::MDNS_ANSWER_PACE));
}

#[test]
fn who_knows_us_is_not_answered() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let now = run(&mut [&mut ada], start, start + 30 * SECOND, never);
    let own = ada.core.name.clone();
    for (ttl, answers) in [(350, 0), (100, 1)] {
        let known = vec![(own.clone(), ttl)];
        ada.sent.clear();
        ada.core.on_query(
            SEGMENT,
            source([10, 0, 0, 9]),
            &Query { peers: true, known, ..Query::default() },
            now,
        );
        run(&mut [&mut ada], now, now + SECOND, never);
        assert_eq!(ada.times().1.len(), answers, "{ttl} s left");
    }
}

#[test]
fn who_asks_from_another_port_is_answered_there_and_rarely() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let now = run(&mut [&mut ada], start, start + 30 * SECOND, never);
    ada.sent.clear();
    let from = SocketAddr::from(([10, 0, 0, 9], 40_000));
    (0..30).for_each(|_| ada.core.handle_datagram(SEGMENT, from, &message::ask(), now));
    run(&mut [&mut ada], now, now + SECOND, never);
    let unicast = ada.sent.iter().filter(|(_, transmit)| transmit.to == Some(from)).count();
    assert_eq!(unicast, limits::MDNS_LEGACY_BURST as usize);
    assert_eq!(ada.times().1.len(), 1, "upstream libp2p listens on 5353 only");
}

#[test]
fn a_goodbye_is_believed_after_a_second_and_silence_after_its_time() {
    let start = Instant::now();
    let (mut ada, mut bob, mut eve) =
        (Node::on_link(1, start), Node::on_link(2, start), Node::on_link(3, start));
    let now = run(&mut [&mut ada, &mut bob, &mut eve], start, start + MINUTE, never);
    bob.core.goodbye();
    exchange(&mut [&mut bob, &mut ada], now, &mut never);
    run(&mut [&mut ada], now, now + 20 * MINUTE, never);
    assert_eq!(ada.lost(&bob), Some(now + limits::MDNS_ANSWER_PACE));
    let silent = ada.lost(&eve).expect("expired") - now;
    assert!((5 * MINUTE..=6 * MINUTE).contains(&silent), "{silent:?}");
    let (asked, _) = ada.times();
    let last_moment = asked.iter().any(|at| (now + 5 * MINUTE..now + 6 * MINUTE).contains(at));
    assert!(last_moment, "it was asked about before it was given up");
}

#[test]
fn an_interface_that_comes_is_asked_and_told_at_once() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let now = run(&mut [&mut ada], start, start + 20 * MINUTE, never);
    let mut bob = Node::new(2, start);
    assert_eq!(bob.core.poll_timeout(), None, "nowhere to speak");
    bob.core.subnet_up(SEGMENT.index, bob.subnet(), now);
    run(&mut [&mut ada, &mut bob], now, now + SECOND, never);
    assert!(ada.found(&bob).is_some() && bob.found(&ada).is_some());

    bob.core.subnet_down(SEGMENT.index, bob.subnet());
    exchange(&mut [&mut bob], now, &mut never);
    assert!(bob.lost(&ada).is_some(), "who was there is out of reach");
    assert_eq!((bob.core.poll_timeout(), bob.core.segments().count()), (None, 0));
}

#[test]
fn a_cable_that_is_plugged_in_again_starts_it_all_anew() {
    let start = Instant::now();
    let (mut ada, mut bob) = (Node::on_link(1, start), Node::on_link(2, start));
    let now = run(&mut [&mut ada], start, start + 20 * MINUTE, never);
    let now = run(&mut [&mut bob], start, now, never);
    bob.core.link_up(SEGMENT.index, now);
    run(&mut [&mut ada, &mut bob], now, now + SECOND, never);
    assert!(ada.found(&bob).is_some() && bob.found(&ada).is_some());
}

#[test]
fn a_new_address_is_told_at_once() {
    let start = Instant::now();
    let (mut ada, mut bob) = (Node::on_link(1, start), Node::on_link(2, start));
    let now = run(&mut [&mut ada, &mut bob], start, start + 20 * MINUTE, never);
    let other = multiaddr("/ip4/10.0.0.2/tcp/4002");
    bob.core.listen(other.clone(), now);
    run(&mut [&mut ada, &mut bob], now, now + SECOND, never);
    let addrs = vec![addr(2), other];
    assert_eq!(ada.events.last(), Some(&(ada.events[1].0, Event::Found { peer: bob.peer, addrs })));
    assert_eq!(ada.events.len(), 2, "once more, as something new came");
}

#[test]
fn a_segment_hears_of_its_own_addresses_only() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    ada.core.subnet_up(7, Subnet { ip: [192, 0, 2, 1].into(), prefix: 24 }, start);
    let six = "fd00::1".parse().expect("an address");
    ada.core.subnet_up(7, Subnet { ip: six, prefix: 64 }, start);
    ada.core.subnet_up(1, Subnet { ip: [127, 0, 0, 1].into(), prefix: 8 }, start);
    for listen in ["/ip4/192.0.2.1/tcp/4001", "/ip6/fd00::1/tcp/4001", "/ip4/198.51.100.1/tcp/4001"] {
        ada.core.listen(multiaddr(listen), start);
    }
    run(&mut [&mut ada], start, start + SECOND, never);
    let told = |index, v6| {
        let here = ada.sent.iter().filter(move |(_, transmit)| transmit.segment == Segment { index, v6 });
        here.filter_map(|(_, transmit)| match message::read(&transmit.bytes) {
            Some(Message::Answer(answer)) => Some(answer.addrs),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(told(SEGMENT.index, false), [[addr(1)]]);
    assert_eq!(told(7, false), [[multiaddr("/ip4/192.0.2.1/tcp/4001")]]);
    assert_eq!(told(7, true), [[multiaddr("/ip6/fd00::1/tcp/4001")]]);
    assert_eq!(told(1, false).len(), 0, "loopback");
}

#[test]
fn only_addresses_of_the_link_are_believed() {
    let start = Instant::now();
    let mut ada = Node::on_link(1, start);
    let peer = PeerId::random();
    let told = [
        "/ip4/10.0.0.7/tcp/1",
        "/ip4/10.0.1.7/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/10.0.0.255/tcp/1",
        "/ip6/fe80::7/tcp/1",
        "/ip4/192.0.2.1/tcp/1",
        "/dns4/localhost/tcp/1",
        "/ip4/10.0.0.1/tcp/4001",
    ]
    .map(multiaddr);
    let hear = |ada: &mut Node, from: [u8; 4], peer| {
        ada.core.handle_datagram(SEGMENT, source(from), &announced(peer, &told, 360), start);
        exchange(&mut [ada], start, &mut never);
    };
    hear(&mut ada, [192, 0, 2, 9], peer);
    assert!(ada.events.is_empty(), "from beyond the link");
    let own = ada.peer;
    hear(&mut ada, [10, 0, 0, 7], own);
    assert!(ada.events.is_empty(), "that is this node");
    hear(&mut ada, [10, 0, 0, 7], peer);
    let addrs = vec![multiaddr("/ip4/10.0.0.7/tcp/1")];
    assert_eq!(ada.events, [(start, Event::Found { peer, addrs })]);
}

#[test]
fn a_link_nobody_else_can_be_on_is_left_alone() {
    let start = Instant::now();
    let mut core = Core::new(PeerId::random(), fastrand::Rng::with_seed(1), start);
    for (ip, prefix) in [("127.0.0.1", 8), ("192.0.2.1", 32), ("fe80::1", 64), ("::1", 128)] {
        core.subnet_up(3, Subnet { ip: ip.parse().expect("an address"), prefix }, start);
    }
    assert_eq!((core.segments().count(), core.poll_timeout()), (0, None));
    for index in 0..100 {
        core.subnet_up(index, Subnet { ip: [10, 0, 0, 1].into(), prefix: 24 }, start);
    }
    assert_eq!(core.segments().count(), limits::MDNS_SEGMENTS);
    core.subnets_lost();
    assert_eq!(core.segments().count(), 0);
}

proptest! {
    #[test]
    fn any_datagram_is_survived(bytes: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>, ip: [u8; 4], port: u16) {
        let start = Instant::now();
        let mut ada = Node::on_link(1, start);
        let mut changed = announced(PeerId::random(), &[addr(9)], 360);
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        for bytes in [bytes, changed, message::ask()] {
            for from in [ip, [10, 0, 0, ip[3]]] {
                ada.core.handle_datagram(SEGMENT, SocketAddr::from((from, port)), &bytes, start);
            }
        }
        run(&mut [&mut ada], start, start + 10 * MINUTE, never);
    }
}
