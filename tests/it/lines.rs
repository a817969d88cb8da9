//! JSON lines: every line gets one answer, and none of them stops the node.

use warren::limits;

use crate::net::{Json, Node, object, pair};

/// A bad line, the word for programs in its answer, a part of the sentence for people, and its command.
type Bad<'a> = (&'a [u8], &'a str, &'a str, &'a str);

#[test]
fn what_is_no_command_is_answered_and_the_node_goes_on() {
    let mut node = Node::start("node", &[]);
    let long = [vec![b'x'; 3 * limits::LINE_BYTES], b"\n".to_vec()].concat();
    let deep = format!("{{\"a\":{}\n", "[".repeat(60_000));
    let bad: [Bad; 21] = [
        (b"nonsense\n", "bad_json", "nonsense", ""),
        (b"{\"cmd\":\"send\"\n", "bad_json", "{\"cmd\":\"send\"", ""),
        (b"{\"cmd\":\"peers\"} more\n", "bad_json", "more", ""),
        (b"[1,2]\n", "bad_json", "[1,2]", ""),
        (b"\"peers\"\n", "bad_json", "peers", ""),
        (b"{\"text\":\"\xff\"}\n", "bad_json", "UTF-8", ""),
        (&long, "bad_json", "bytes", ""),
        (deep.as_bytes(), "bad_json", "nested", ""),
        (b"{}\n", "bad_command", "cmd", ""),
        (b"{\"cmd\":5}\n", "bad_value", "'5'", ""),
        (b"{\"cmd\":\"dance\"}\n", "bad_command", "dance", ""),
        (b"{\"cmd\":\"send\"}\n", "bad_command", "text", "send"),
        (b"{\"cmd\":\"send\",\"text\":7}\n", "bad_value", "'7'", "send"),
        (b"{\"cmd\":\"send\",\"text\":\"x\",\"kind\":\"song\"}\n", "bad_value", "song", "send"),
        (b"{\"cmd\":\"send\",\"text\":\"x\",\"room\":\"a b\"}\n", "bad_value", "a b", "send"),
        (b"{\"cmd\":\"join\",\"room\":\"\"}\n", "bad_value", "empty", "join"),
        (b"{\"cmd\":\"nick\",\"nick\":\"a\\u001b[2J\"}\n", "bad_value", "leave it out", "nick"),
        (b"{\"cmd\":\"connect\",\"addr\":\"nowhere\"}\n", "bad_value", "nowhere", "connect"),
        (b"{\"cmd\":\"disconnect\",\"peerId\":\"me\"}\n", "bad_value", "'me'", "disconnect"),
        (b"connect nowhere\n", "bad_value", "nowhere", "connect"),
        (b"connect\n", "dial", "''", "connect"),
    ];
    for (line, ..) in &bad {
        node.program.write(line);
    }
    for (line, code, part, cmd) in bad {
        let line = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        let answer = node.wait(&line, |event| event.text("event") == "error");
        assert_eq!(answer.text("error"), code, "{line}: {answer:?}");
        assert!(answer.text("message").contains(part), "{line}: {answer:?}");
        assert_eq!(answer.text("cmd"), cmd, "{line}: {answer:?}");
        assert!(!answer.has("id"), "{line}: {answer:?}");
    }
    node.done("whoami", &[]);
}

#[test]
fn what_cannot_be_done_is_refused_and_the_node_goes_on() {
    let mut node = Node::start("node", &[]);
    let long = "x".repeat(limits::TEXT_BYTES + 1);
    for (cmd, fields, code, part) in [
        ("send", &[("text", "hi")][..], "no_peers", "lobby"),
        ("send", &[("text", "")], "empty", "empty"),
        ("send", &[("text", &long)], "too_long", "16385"),
        ("send", &[("text", "hi"), ("room", "den")], "not_in_room", "den"),
        ("leave", &[("room", "den")], "not_in_room", "den"),
        (
            "disconnect",
            &[("peerId", "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")],
            "not_connected",
            "12D3",
        ),
        ("connect", &[("addr", "/ip4/127.0.0.1/udp/9")], "dial", "/ip4/127.0.0.1/udp/9"),
        ("connect", &[("addr", "/ip4/127.0.0.1/tcp/0")], "dial", "port 0"),
    ] {
        let answer = node.ask(cmd, fields);
        let is = (answer.text("event"), answer.text("cmd"), answer.text("error"));
        assert_eq!(is, ("error", cmd, code), "{answer:?}");
        assert!(answer.text("message").contains(part), "{answer:?}");
    }
    node.done("leave", &[("room", "lobby")]);
    assert_eq!(node.ask("send", &[("text", "hi")]).text("error"), "not_in_room");
    for n in 0..limits::ROOMS {
        node.done("join", &[("room", &format!("room-{n}"))]);
    }
    assert_eq!(node.ask("join", &[("room", "one-more")]).text("error"), "too_many_rooms");
    node.done("join", &[("room", "room-0")]);
    assert_eq!(node.done("whoami", &[]).texts("rooms").len(), limits::ROOMS);
}

#[test]
fn answers_carry_the_id_and_come_in_the_order_of_the_commands() {
    let mut node = Node::start("node", &[]);
    let lines = [
        (r#"{"cmd":"peers","id":1}"#, r#""id":1"#, "ok"),
        (r#"{"cmd":"dance","id":2}"#, r#""id":2"#, "error"),
        (r#"{"id":"three \" \u00fc \n","cmd":"rooms"}"#, r#""id":"three \" ü \n""#, "ok"),
        (r#"{"cmd":"send","text":"x","id":-4.5}"#, r#""id":-4.5"#, "error"),
        (r#"{"cmd":"join","id":1790000000000}"#, r#""id":1790000000000"#, "error"),
        ("  {\"cmd\" : \"stats\" , \"id\" : \"\"}  \r", r#""id":"""#, "ok"),
        (r#"{"cmd":"whoami","id":null}"#, "whoami", "ok"),
        (r#"{"cmd":"whoami","id":[1]}"#, "whoami", "ok"),
        (
            "{\"cmd\":\"nick\",\"nick\":\"last\",\"id\":9,\"later\":{\"versions\":[true,null]}}",
            r#""id":9"#,
            "ok",
        ),
    ];
    let all: Vec<&str> = lines.iter().map(|(line, ..)| *line).collect();
    node.program.write(all.join("\n\n  \n") + "\n");
    for (line, id, event) in lines {
        let answer = loop {
            let answer = node.program.next_line().expect("it lives");
            if ["ok", "error"].contains(&Json::parse(&answer).text("event")) {
                break answer;
            }
        };
        assert!(answer.contains(id), "{line}: {answer}");
        assert_eq!(Json::parse(&answer).text("event"), event, "{line}: {answer}");
    }
}

#[test]
fn bare_words_are_commands_too() {
    let mut ada = Node::start("ada", &[]);
    let mut bob = Node::start("bob", &[]);
    bob.program.write(format!("connect {}\n", ada.addr));
    let ok = bob.wait("ok", |event| event.text("event") == "ok");
    assert_eq!(ok.text("cmd"), "connect");
    bob.meets(&ada);
    ada.meets(&bob);
    bob.program.write("send hello there,  world\n");
    let ok = bob.wait("ok", |event| event.text("event") == "ok");
    assert_eq!((ok.text("cmd"), ok.text("room")), ("send", "lobby"));
    assert_eq!(ada.hear("hello there,  world").text("messageId"), ok.text("messageId"));
}

#[test]
fn a_node_tells_who_it_is_and_whom_it_knows() {
    let (mut ada, mut bob) = pair();
    let me = ada.done("whoami", &[]);
    assert_eq!((me.text("peerId"), me.text("nick")), (ada.peer.as_str(), "ada"));
    assert_eq!(me.texts("rooms"), ["lobby"]);
    let own = ada.addr.strip_suffix(&format!("/p2p/{}", ada.peer)).expect("its own").to_owned();
    assert_eq!(me.texts("listening"), std::slice::from_ref(&own));

    let dialled = bob.event("peer_connected");
    assert_eq!((dialled.text("peerId"), dialled.text("direction")), (ada.peer.as_str(), "outbound"));
    assert!(dialled.text("addr").starts_with(&own), "{dialled:?}");
    let accepted = ada.event("peer_connected");
    assert_eq!((accepted.text("peerId"), accepted.text("direction")), (bob.peer.as_str(), "inbound"));

    // What identify and ping bring comes a little later.
    let known = crate::net::until("what bob knows of ada", || {
        let peers = bob.done("peers", &[]).list("peers");
        assert_eq!(peers.len(), 1);
        let peer = peers.into_iter().next()?;
        (peer.has("rttMs") && peer.has("agent") && peer.has("nick")).then_some(peer)
    });
    assert_eq!((known.text("peerId"), known.text("nick")), (ada.peer.as_str(), "ada"));
    assert!(known.text("agent").starts_with(concat!("warren/", env!("CARGO_PKG_VERSION"), " ")), "{known:?}");
    assert_eq!(known.text("direction"), "outbound");
    assert!(known.texts("addrs")[0].starts_with(&own), "{known:?}");
    assert!(known.number("rttMs") > 0.0 && known.number("rttMs") < 10_000.0, "{known:?}");

    assert_eq!((bob.stat("dials"), bob.stat("connections")), (1.0, 1.0));
    assert_eq!((ada.stat("dials"), ada.stat("connections")), (0.0, 1.0));
    assert!(ada.stat("uptimeMs") > 0.0);
}

#[test]
fn the_first_event_says_who_and_the_last_one_that_it_is_over() {
    let dir = crate::net::Dir::new();
    let words =
        ["run", "--json", "--listen", crate::net::LOOPBACK, "--room", "a", "--room", "b", "--nick", "ada"];
    let mut program = crate::net::Program::start("node", &dir, &words);
    let started = Json::parse(&program.next_line().expect("a line"));
    assert_eq!(started.text("event"), "started");
    assert_eq!((started.text("nick"), started.text("version")), ("ada", env!("CARGO_PKG_VERSION")));
    assert_eq!(started.texts("rooms"), ["a", "b"]);
    assert!(started.text("peerId").starts_with("16U"), "secp256k1 unless asked otherwise: {started:?}");
    program.write(object(&[("cmd", "quit"), ("id", "q")]));
    let mut lines = Vec::new();
    while let Some(line) = program.next_line() {
        lines.push(Json::parse(&line));
    }
    let [.., before, last] = &lines[..] else { panic!("{lines:?}") };
    assert!([before, last].iter().any(|event| event.text("event") == "stopped"), "{lines:?}");
    assert!([before, last].iter().any(|event| event.text("id") == "q"), "{lines:?}");
    assert_eq!(last.text("event"), "stopped", "nothing comes after it");
    assert_eq!(program.ends_within(crate::net::PATIENCE), Some(0));
}
