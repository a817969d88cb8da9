//! What a node tells those who watch it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::{
    hostile::Hostile,
    net::{Dir, LOOPBACK, Node, PATIENCE, finish, until},
};

/// Where a node that was started with `--metrics 127.0.0.1:0` says that its metrics are.
fn endpoint(node: &Node) -> String {
    until("the address of the metrics", || {
        let log = node.program.log();
        let (_, rest) = log.split_once("metrics are at http://")?;
        Some(rest.split_once("/metrics")?.0.to_owned())
    })
}

/// Asks with these bytes, and returns all that is said until the end.
fn ask(endpoint: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(endpoint).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("its end");
    said
}

/// The answer to a GET: status and the rest.
fn get(endpoint: &str, path: &str) -> (u16, String) {
    let said =
        ask(endpoint, &format!("GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n"));
    let status = said.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, said)
}

/// The value of one series now.
fn value(endpoint: &str, series: &str) -> f64 {
    let (_, page) = get(endpoint, "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in {page}"))
}

fn until_value(endpoint: &str, series: &str, value: f64) {
    until(&format!("{series} is {value}"), || (self::value(endpoint, series) == value).then_some(()));
}

#[test]
fn what_happens_is_counted() {
    let mut ada = Node::start("ada", &["--metrics", "127.0.0.1:0"]);
    let at = endpoint(&ada);
    assert_eq!(value(&at, "warren_room_members{room=\"lobby\"}"), 0.0);
    let mut bob = Node::beside(&ada, "bob", &["--metrics", "127.0.0.1:0"]);
    let of_bob = endpoint(&bob);
    ada.meets(&bob);
    bob.meets(&ada);
    bob.until_mesh(1);
    for n in 0..5 {
        bob.say(&format!("line {n}"));
        ada.hear(&format!("line {n}"));
    }
    until_value(&at, "warren_delivered_messages_total", 5.0);
    until_value(&of_bob, "warren_sent_messages_total", 5.0);
    let accepted = value(&at, "warren_gossip_messages_total{room=\"lobby\",fate=\"accepted\"}");
    let received = value(&at, "warren_gossip_received_messages_total{room=\"lobby\"}");
    assert!(accepted >= 5.0 && received >= accepted, "{accepted} {received}");
    assert!(value(&at, "warren_gossip_received_bytes_total{room=\"lobby\"}") > 5.0 * 100.0);
    assert!(value(&of_bob, "warren_gossip_published_messages_total{room=\"lobby\"}") >= 5.0);
    let peers =
        |direction| format!("warren_peers{{transport=\"tcp\",path=\"direct\",direction=\"{direction}\"}}");
    assert_eq!((value(&at, &peers("inbound")), value(&of_bob, &peers("outbound"))), (1.0, 1.0));
    assert_eq!(value(&of_bob, "warren_dials_total{outcome=\"connected\"}"), 1.0);
    until("a ping", || (value(&at, "warren_ping_rtt_seconds_count") >= 1.0).then_some(()));
    ada.done("connect", &[("addr", "/ip4/127.0.0.1/tcp/1")]);
    until_value(&at, "warren_dials_total{outcome=\"refused\"}", 1.0);
    ada.done("leave", &[("room", "lobby")]);
    assert!(!get(&at, "/metrics").1.contains("room=\"lobby\""));
}

#[cfg(feature = "relay-server")]
#[test]
fn a_relay_and_the_way_around_it_are_counted() {
    let watched = ["--metrics", "127.0.0.1:0"];
    let words = [&["relay", "--listen", LOOPBACK, "--no-discovery"][..], &watched].concat();
    let relay = Node::start_in(Arc::new(Dir::new()), "relay", &words);
    let mut ada = Node::start("ada", &[&["--relay", &relay.addr][..], &watched].concat());
    let through = ada
        .wait("an address at the relay", |event| {
            event.text("event") == "listening" && event.text("addr").contains("/p2p-circuit/")
        })
        .text("addr")
        .to_owned();
    let (of_relay, of_ada) = (endpoint(&relay), endpoint(&ada));
    until_value(&of_relay, "warren_relay_reservations_given", 1.0);
    until_value(&of_ada, "warren_relay_reservations_held", 1.0);
    let mut bob = Node::start("bob", &[&["--bootstrap", &through][..], &watched].concat());
    assert_eq!(bob.event_of("peer_connected", &ada.peer).text("path"), "relayed");
    assert_eq!(bob.event_of("peer_path", &ada.peer).text("path"), "direct");
    let of_bob = endpoint(&bob);
    let opened = "warren_hole_punches_total{kind=\"dcutr\",outcome=\"opened\"}";
    until_value(&of_bob, opened, 1.0);
    until_value(&of_ada, opened, 1.0);
    let relayed = "warren_peers{transport=\"tcp\",path=\"relayed\",direction=\"outbound\"}";
    assert_eq!(value(&of_bob, relayed), 0.0);
}

#[test]
fn bad_messages_and_copies_are_told_apart() {
    let target = Node::start("target", &["--metrics", "127.0.0.1:0"]);
    let at = endpoint(&target);
    let hostile = Hostile::meet(&target.addr);
    hostile.say(&[7; 40]);
    let invalid = "warren_gossip_messages_total{room=\"lobby\",fate=\"invalid\"}";
    until_value(&at, invalid, 1.0);
    // Another peer brings the same: gossipsub knows it, and only the copy is counted.
    let again = Hostile::meet(&target.addr);
    again.say(&[7; 40]);
    let received = "warren_gossip_received_messages_total{room=\"lobby\"}";
    until_value(&at, received, 2.0);
    again.say(&[8; 40]);
    until_value(&at, invalid, 2.0);
    assert_eq!(value(&at, received), 3.0);
    assert_eq!(value(&at, "warren_gossip_received_bytes_total{room=\"lobby\"}"), 120.0);
}

#[test]
fn it_says_what_there_is_and_no_more() {
    let node = Node::start("node", &["--metrics", "127.0.0.1:0"]);
    let at = endpoint(&node);
    let (status, page) = get(&at, "/metrics");
    assert_eq!(status, 200);
    assert!(page.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
    assert!(page.contains("# TYPE warren_dials_total counter\n") && !page.contains("# EOF"), "{page}");
    let open = ask(
        &at,
        &format!(
            "GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\
             Accept: application/openmetrics-text;version=1.0.0;q=0.5\r\n\r\n"
        ),
    );
    assert!(open.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.contains("# TYPE warren_dials counter\n") && open.ends_with("\n# EOF\n"), "{open}");
    let head = ask(&at, &format!("HEAD /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let (status, health) = get(&at, "/healthz");
    assert!(status == 200 && health.ends_with("\r\n\r\nok\n"), "{health}");
    assert_eq!(get(&at, "/metrics/../etc/passwd").0, 404);
    for (request, status) in [
        ("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"),
        ("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n", "421"),
        ("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", "421"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "413"),
    ] {
        let said = ask(&at, request);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
        assert!(!said.contains("warren_"), "{request}: {said}");
    }
}

#[test]
fn who_asks_without_end_holds_nobody_up() {
    let mut ada = Node::start("ada", &["--metrics", "127.0.0.1:0"]);
    let at = endpoint(&ada);
    let mut bob = Node::beside(&ada, "bob", &[]);
    ada.meets(&bob);
    bob.meets(&ada);
    bob.until_mesh(1);
    let (told, stop) = (Arc::new(()), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (at, stop, told) = (at.clone(), stop.clone(), told.clone());
            thread::spawn(move || {
                let (mut pages, _told) = (0, told);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // Some never read their answer.
                    let mut socket = TcpStream::connect(&at).expect("connects");
                    let request = format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
                    // One that was closed for a later one is not what is tested here.
                    let _ = socket.write_all(request.as_bytes());
                    let mut said = String::new();
                    if pages % 3 != 0 {
                        let _ = socket.read_to_string(&mut said);
                    }
                    pages += 1;
                }
                pages
            })
        })
        .collect();
    for n in 0..200 {
        bob.say(&format!("line {n}"));
    }
    for n in 0..200 {
        ada.hear(&format!("line {n}"));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let pages: usize = askers.into_iter().map(|asker| asker.join().expect("no panic")).sum();
    assert!(pages > 8, "{pages}");
    assert_eq!(value(&at, "warren_delivered_messages_total"), 200.0);
    assert_eq!(value(&at, "warren_dropped_total{queue=\"events\"}"), 0.0);
}

#[test]
fn a_node_whose_publisher_waits_tells_its_numbers_all_the_same() {
    let ada = Node::start("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &["--metrics", "127.0.0.1:0"]);
    let at = endpoint(&bob);
    bob.meets(&ada);
    bob.until_mesh(1);
    // It reads nothing more, so the queue to it fills, and then commands wait.
    ada.program.signal(rustix::process::Signal::STOP);
    let text = "x".repeat(warren::limits::TEXT_BYTES - 100);
    let mut input = bob.program.take_input();
    let writer = thread::spawn(move || {
        for _ in 0..3 * warren::limits::GOSSIP_QUEUE {
            // The node is killed at the end of the test.
            if writeln!(input, "send {text}").is_err() {
                break;
            }
        }
    });
    // Two looks that tell the same: it does not get on.
    let sent = "warren_sent_messages_total";
    until("its standstill", || {
        let before = value(&at, sent);
        thread::sleep(10 * crate::net::LOOK);
        (before >= 400.0 && value(&at, sent) == before).then_some(())
    });
    assert_eq!(get(&at, "/healthz").0, 200);
    ada.program.signal(rustix::process::Signal::CONT);
    drop(bob);
    drop(ada);
    writer.join().expect("no panic");
}

#[test]
fn an_address_that_cannot_be_used_is_quoted() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = taken.local_addr().expect("bound").to_string();
    let ended = finish(&dir, &["run", "--listen", LOOPBACK, "--metrics", &addr]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&addr) && ended.stderr.contains("give --metrics another"), "{ended:?}");
    for command in ["run", "relay"] {
        for word in ["9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:65536", ""] {
            let ended = finish(&dir, &[command, "--metrics", word]);
            assert_eq!(ended.code, Some(2), "{word}: {ended:?}");
            let quoted = format!("--metrics '{word}'");
            assert!(ended.stderr.contains(&quoted) && ended.stderr.contains("127.0.0.1:9464"), "{ended:?}");
        }
    }
}

#[test]
fn a_file_can_say_it_and_the_network_is_warned_of() {
    let dir = Arc::new(Dir::new());
    let file =
        dir.file("warren.conf", "metrics 127.0.0.1:0\nlisten /ip4/127.0.0.1/tcp/0\nno-discovery\n", 0o600);
    let relay = Node::start_in(dir.clone(), "relay", &["relay", "--config", &file]);
    let at = endpoint(&relay);
    assert_eq!(value(&at, "warren_relay_reservations_given"), 0.0);
    assert!(!relay.program.log().contains("whoever reaches this address"));
    let words = ["run", "--config", &file, "--metrics", "0.0.0.0:0", "--state-dir", &dir.path("other")];
    let open = Node::start_in(dir.clone(), "open", &words);
    open.program.until_logged("whoever reaches this address");
}
