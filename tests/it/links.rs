//! Connections: made, lost, noticed, made again.

use std::{net::TcpListener, sync::Arc, time::Duration};

use rustix::process::Signal;
use warren::limits;

use crate::net::{Dir, Json, LOOPBACK, Node, finish, free_port, pair, until};

#[test]
fn a_bootstrap_peer_that_is_down_is_reached_when_it_comes_and_when_it_comes_back() {
    let dir = Arc::new(Dir::new());
    let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let seed = ["--secret-key-seed", "77"];
    let id = finish(&dir, &[&["id", "--json"], &seed[..]].concat());
    let peer = Json::parse(&id.stdout).text("peerId").to_owned();

    let mut ada = Node::start("ada", &["--bootstrap", &format!("{listen}/p2p/{peer}")]);
    ada.program.until_logged("next try");
    for meeting in ["first", "second", "third"] {
        let mut bob =
            Node::start_in(dir.clone(), "bob", &[&["run", "--listen", &listen], &seed[..]].concat());
        assert_eq!(bob.peer, peer);
        ada.event_of("peer_connected", &peer);
        ada.meets(&bob);
        bob.meets(&ada);
        ada.say(meeting);
        bob.hear(meeting);
        bob.say(meeting);
        ada.hear(meeting);
        drop(bob);
        ada.event_of("peer_disconnected", &peer);
    }
}

#[cfg(feature = "relay-server")]
#[test]
fn whoever_is_behind_a_relay_is_reached_at_the_address_that_is_named() {
    let words = ["relay", "--listen", LOOPBACK, "--no-discovery"];
    let relay = Node::start_in(Arc::new(Dir::new()), "relay", &words);
    let mut ada = Node::start("ada", &["--relay", &relay.addr]);
    let is_there =
        |event: &Json| event.text("event") == "listening" && event.text("addr").contains("/p2p-circuit/");
    let through = ada.wait("an address at the relay", is_there).text("addr").to_owned();
    let mut bob = Node::start("bob", &["--bootstrap", &through]);
    let mut eve = Node::start("eve", &[]);
    eve.done("connect", &[("addr", &through)]);
    for node in [&mut bob, &mut eve] {
        assert_eq!(node.event_of("peer_connected", &ada.peer).text("path"), "relayed");
        assert_eq!(node.event_of("peer_path", &ada.peer).text("path"), "direct");
        node.meets(&ada);
        ada.meets(node);
        let text = format!("it is {}", node.peer);
        node.say(&text);
        ada.hear(&text);
    }
}

#[test]
fn a_bootstrap_peer_is_reached_without_its_peer_id() {
    let mut ada = Node::start("ada", &[]);
    let addr = ada.addr.strip_suffix(&format!("/p2p/{}", ada.peer)).expect("its own").to_owned();
    let mut bob = Node::start("bob", &["--bootstrap", &addr]);
    bob.meets(&ada);
    ada.meets(&bob);
    // It is the same peer, so being connected to it is enough.
    assert_eq!(bob.stat("dials"), 1.0);
}

#[test]
fn two_nodes_that_are_each_others_bootstrap_are_connected() {
    let ports = [free_port(), free_port()];
    let addr = |i: usize| format!("/ip4/127.0.0.1/tcp/{}", ports[i]);
    let start = |me: usize| {
        let words = ["run", "--listen", &addr(me), "--bootstrap", &addr(1 - me)];
        Node::start_in(Arc::new(Dir::new()), ["ada", "bob"][me], &words)
    };
    let (mut ada, mut bob) = (start(0), start(1));
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("hi");
    bob.hear("hi");
    bob.say("hi, too");
    ada.hear("hi, too");
    assert_eq!(ada.peers(), [bob.peer.clone()]);
}

#[test]
fn a_connection_is_closed_on_command() {
    let (mut ada, mut bob) = (Node::start("ada", &[]), Node::start("bob", &[]));
    bob.done("connect", &[("addr", &ada.addr)]);
    bob.event_of("peer_connected", &ada.peer);
    ada.event_of("peer_connected", &bob.peer);
    bob.done("connect", &[("addr", &ada.addr)]);
    bob.done("disconnect", &[("peerId", &ada.peer)]);
    bob.event_of("peer_disconnected", &ada.peer);
    let gone = ada.event_of("peer_disconnected", &bob.peer);
    assert!(!gone.text("cause").is_empty(), "{gone:?}");
    assert!(ada.peers().is_empty() && bob.peers().is_empty());
    assert_eq!(bob.ask("disconnect", &[("peerId", &ada.peer)]).text("error"), "not_connected");
    bob.done("connect", &[("addr", &ada.addr)]);
    ada.event_of("peer_connected", &bob.peer);
}

#[test]
fn a_dial_that_fails_is_reported_with_its_address() {
    let mut ada = Node::start("ada", &[]);
    let bob = Node::start("bob", &[]);
    let trouble = |node: &mut Node| node.wait("trouble", |event| event.text("error") == "trouble");

    let closed = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    ada.done("connect", &[("addr", &closed)]);
    let refused = trouble(&mut ada);
    assert!(refused.text("message").contains(&closed), "{refused:?}");
    assert!(refused.text("message").contains("refused"), "{refused:?}");

    let stranger = bob.addr.replace(&bob.peer, "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
    ada.done("connect", &[("addr", &stranger)]);
    let other = trouble(&mut ada);
    assert!(other.text("message").contains(&bob.peer), "it says who is there: {other:?}");

    let itself = ada.addr.clone();
    ada.done("connect", &[("addr", &itself)]);
    let own = trouble(&mut ada);
    assert!(own.text("message").contains("itself"), "{own:?}");

    assert_eq!(ada.stat("dialFailures"), 3.0);
    assert!(ada.peers().is_empty());
}

/// Somebody accepts and says nothing: the dial ends by itself, and the node is free meanwhile.
#[test]
fn a_dial_to_somebody_silent_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().expect("bound").port());
    let (mut ada, mut bob) = pair();
    ada.done("connect", &[("addr", &addr)]);
    ada.say("meanwhile");
    bob.hear("meanwhile");
    let trouble = ada.wait("trouble", |event| event.text("error") == "trouble");
    assert!(trouble.text("message").contains(&addr), "{trouble:?}");
}

/// The other machine is there for TCP, and yet nobody is there.
#[test]
#[ignore = "takes more than four minutes"]
fn a_tcp_peer_that_stands_still_is_noticed_and_met_again() {
    let (mut ada, mut bob) = pair();
    is_noticed_and_met_again(&mut ada, &mut bob, limits::HUNG_PEER);
}

/// Stops `bob`, who knows `ada`, until she has noticed, which must be `within` some time.
pub(crate) fn is_noticed_and_met_again(ada: &mut Node, bob: &mut Node, within: Duration) {
    // The first ping is over, so the next one is a whole interval away.
    until("a round-trip time", || ada.done("peers", &[]).list("peers")[0].has("rttMs").then_some(()));
    bob.program.signal(Signal::STOP);
    // A second for the machine that runs all the other tests at the same time.
    ada.event_within(within + Duration::from_secs(1), "peer_disconnected", &bob.peer);

    bob.program.signal(Signal::CONT);
    bob.event_of("peer_disconnected", &ada.peer);
    ada.meets(bob);
    bob.meets(ada);
    ada.say("welcome back");
    bob.hear("welcome back");
}

#[test]
fn ipv6_carries_it_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let words = ["run", "--listen", "/ip6/::1/tcp/0", "--listen", LOOPBACK];
    let mut ada = Node::start_in(Arc::new(Dir::new()), "ada", &words);
    let six = if ada.addr.starts_with("/ip6/::1/") {
        ada.addr.clone()
    } else {
        ada.wait("IPv6", |event| event.text("addr").starts_with("/ip6/::1/")).text("addr").to_owned()
    };
    let mut bob = Node::start_in(
        Arc::new(Dir::new()),
        "bob",
        &["run", "--listen", "/ip6/::1/tcp/0", "--bootstrap", &six],
    );
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("over IPv6");
    bob.hear("over IPv6");
    assert!(bob.event("peer_connected").text("addr").starts_with("/ip6/::1/"));
}

#[test]
fn a_node_is_not_its_own_bootstrap_peer() {
    let dir = Arc::new(Dir::new());
    let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let id = finish(&dir, &["id", "--json", "--secret-key-seed", "9"]);
    let own = format!("{listen}/p2p/{}", Json::parse(&id.stdout).text("peerId"));
    let words =
        ["run", "--listen", &listen, "--secret-key-seed", "9", "--bootstrap", &own, "--bootstrap", &listen];
    let mut node = Node::start_in(dir, "node", &words);
    node.program.until_logged("this node itself");
    node.until_stat("dialFailures", 1);
    assert!(node.peers().is_empty());
}
