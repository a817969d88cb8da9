//! Nodes that meet over QUIC, and nodes that can choose.

use std::{net::UdpSocket, sync::Arc};

use rustix::process::Signal;
use warren::limits;

use crate::{
    links::is_noticed_and_met_again,
    net::{Dir, LOOPBACK, Node, PATIENCE, finish, until},
};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn quic_only(name: &str, options: &[&str]) -> Node {
    let words = [&["run", "--quic-only", "--listen", QUIC], options].concat();
    Node::start_in(Arc::new(Dir::new()), name, &words)
}

/// A node that listens on both, with its addresses: QUIC's first.
fn both(name: &str, options: &[&str]) -> (Node, String, String) {
    let words = [&["run", "--listen", QUIC, "--listen", LOOPBACK], options].concat();
    let mut node = Node::start_in(Arc::new(Dir::new()), name, &words);
    let first = node.addr.clone();
    let second = node.event("listening").text("addr").to_owned();
    let (quic, tcp) = if first.contains("/quic-v1") { (first, second) } else { (second, first) };
    (node, quic, tcp)
}

/// The addresses that a node sees its one peer at.
fn addrs(node: &mut Node) -> Vec<String> {
    node.done("peers", &[]).list("peers").iter().flat_map(|peer| peer.texts("addrs")).collect()
}

#[test]
fn two_nodes_talk_with_quic_only() {
    let mut ada = quic_only("ada", &[]);
    let mut bob = quic_only("bob", &["--bootstrap", &ada.addr]);
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("over QUIC");
    bob.hear("over QUIC");
    let longest = "x".repeat(limits::TEXT_BYTES);
    bob.say(&longest);
    ada.hear(&longest);
    assert!(addrs(&mut ada)[0].contains("/quic-v1"));
    // A goodbye is heard at once, not after a time-out.
    bob.done("quit", &[]);
    let goodbye = ada.event_of("peer_disconnected", &bob.peer);
    assert!(goodbye.text("cause").contains("closed by peer"), "{goodbye:?}");
}

/// Here it is the program that answers, and not the kernel as with TCP.
#[test]
fn a_peer_that_stands_still_is_noticed_like_a_dead_link_and_met_again() {
    let mut ada = quic_only("ada", &[]);
    let mut bob = quic_only("bob", &["--bootstrap", &ada.addr]);
    ada.meets(&bob);
    bob.meets(&ada);
    is_noticed_and_met_again(&mut ada, &mut bob, limits::DEAD_LINK);
}

/// Nothing tells the others that a process is gone: to them it is still connected when it dials them again.
#[test]
fn who_was_killed_hears_the_others_in_the_next_life() {
    let dir = Arc::new(Dir::new());
    let mut ada = quic_only("ada", &["--no-discovery"]);
    let bootstrap = ada.addr.clone();
    let words = ["run", "--quic-only", "--listen", QUIC, "--no-discovery", "--bootstrap", &bootstrap];
    let mut bob = Node::start_in(dir.clone(), "bob", &words);
    bob.meets(&ada);
    bob.program.signal(Signal::KILL);
    bob.program.ends_within(PATIENCE);
    let mut again = Node::start_in(dir, "bob", &words);
    again.meets(&ada);
    again.say("where was I?");
    ada.hear("where was I?");
}

#[test]
fn a_peer_with_both_is_met_over_quic() {
    let (mut ada, quic, tcp) = both("ada", &[]);
    let (mut bob, ..) = both("bob", &["--bootstrap", &tcp, "--bootstrap", &quic]);
    ada.meets(&bob);
    bob.meets(&ada);
    assert_eq!(addrs(&mut bob), [quic]);
    ada.say("the better one");
    bob.hear("the better one");
}

#[test]
fn who_cannot_be_reached_over_quic_is_reached_over_tcp() {
    let (ada, _, tcp) = both("ada", &[]);
    // It takes everything and answers nothing, as a firewall would.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let quic = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", ada.peer);
    let (mut bob, ..) = both("bob", &["--bootstrap", &quic, "--bootstrap", &tcp]);
    bob.meets(&ada);
    assert_eq!(addrs(&mut bob), [tcp]);
}

#[cfg(feature = "dns")]
#[test]
fn a_name_leads_to_quic_too() {
    let ada = quic_only("ada", &[]);
    let addr = ada.addr.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let mut bob = quic_only("bob", &["--bootstrap", &addr]);
    bob.meets(&ada);
}

#[test]
fn ipv6_carries_quic_too() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let ada = Node::start_in(
        Arc::new(Dir::new()),
        "ada",
        &["run", "--quic-only", "--listen", "/ip6/::1/udp/0/quic-v1"],
    );
    let mut bob = quic_only("bob", &["--bootstrap", &ada.addr]);
    bob.meets(&ada);
    assert!(bob.event("peer_connected").text("addr").starts_with("/ip6/::1/udp/"));
}

/// Whoever has the greater peer ID closes the worse one of two connections.
#[test]
fn of_two_connections_the_better_one_is_kept() {
    let dir = Arc::new(Dir::new());
    let peer = |seed: &str| {
        let id = finish(&dir, &["id", "--json", "--secret-key-seed", seed]);
        crate::net::Json::parse(&id.stdout).text("peerId").to_owned()
    };
    let seeds = ["21", "22"];
    let free = || UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port();
    let addrs_of = [
        format!("/ip4/127.0.0.1/tcp/{}", crate::net::free_port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", free()),
    ];
    // Each dials the other by an address without a peer ID, so neither knows that it need not.
    let start = |me: usize| {
        let words = [
            "run",
            "--listen",
            &addrs_of[me],
            "--bootstrap",
            &addrs_of[1 - me],
            "--secret-key-seed",
            seeds[me],
        ];
        Node::start_in(Arc::new(Dir::new()), ["ada", "bob"][me], &words)
    };
    let (mut ada, mut bob) = (start(0), start(1));
    assert_eq!([&ada.peer, &bob.peer], [&peer("21"), &peer("22")]);
    ada.meets(&bob);
    bob.meets(&ada);
    let only_quic = |node: &mut Node| {
        let addrs = addrs(node);
        (addrs.len() == 1 && addrs[0].contains("/quic-v1")).then_some(())
    };
    until("one connection", || only_quic(&mut ada).and_then(|()| only_quic(&mut bob)));
    ada.say("still here");
    bob.hear("still here");
    bob.say("me too");
    ada.hear("me too");
}
