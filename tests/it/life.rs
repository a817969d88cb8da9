//! How a node starts and ends.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::net::{
    Dir, Json, LOOPBACK, Node, PATIENCE, Program, finish, finish_command, free_port, object, pair, warren,
};

/// What a person or a service manager can count on.
const SOON: Duration = Duration::from_secs(2);

/// Ends one of two nodes that talk, and checks all that should come of it.
fn ends_cleanly(end: impl FnOnce(&mut Node)) {
    let (mut ada, mut bob) = pair();
    bob.say("first words");
    ada.hear("first words");
    bob.say("last words");
    end(&mut bob);
    let begin = Instant::now();
    assert_eq!(bob.program.ends_within(SOON), Some(0), "within {:?}", begin.elapsed());
    let mut last = Json::parse("{}");
    while let Some(event) = bob.next_event() {
        last = event;
    }
    assert_eq!(last.text("event"), "stopped");
    ada.hear("last words");
    ada.event_of("member_left", &bob.peer);
    ada.event_of("peer_disconnected", &bob.peer);
    assert_eq!(bob.program.log().lines().filter(|line| line.contains("panicked")).count(), 0);
}

#[test]
fn end_of_input_ends_it() {
    ends_cleanly(|node| node.program.close_input());
}

#[test]
fn an_interrupt_ends_it() {
    ends_cleanly(|node| node.program.signal(Signal::INT));
}

#[test]
fn a_termination_ends_it() {
    ends_cleanly(|node| node.program.signal(Signal::TERM));
}

#[test]
fn quit_ends_it() {
    ends_cleanly(|node| node.program.write(object(&[("cmd", "quit")])));
}

#[test]
fn what_was_said_before_the_end_of_input_arrives() {
    const COUNT: usize = 300;
    let (mut ada, mut bob) = pair();
    bob.say("first words");
    ada.hear("first words");
    let lines: String = (0..COUNT).map(|n| format!("send line {n}\n")).collect();
    bob.program.write(lines);
    bob.program.close_input();
    for n in 0..COUNT {
        ada.hear(&format!("line {n}"));
    }
    let answered =
        std::iter::from_fn(|| bob.next_event()).filter(|event| event.text("cmd") == "send").count();
    assert_eq!(answered, COUNT);
    assert_eq!(bob.program.ends_within(PATIENCE), Some(0));
}

#[test]
fn without_input_it_runs_until_a_signal() {
    let mut ada = Node::start("ada", &[]);
    let mut service = Node::beside(&ada, "service", &["--no-stdin"]);
    service.program.close_input();
    ada.meets(&service);
    ada.say("still there?");
    service.hear("still there?");
    service.program.signal(Signal::TERM);
    assert_eq!(service.program.ends_within(SOON), Some(0));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    for mode in [&["--json"][..], &[]] {
        let dir = Dir::new();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = warren(&dir);
        command.args(["run", "--no-mdns", "--no-portmap", "--listen", LOOPBACK, "--no-stdin"]).args(mode);
        let mut child =
            command.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::piped()).spawn().expect("it starts");
        let code = crate::net::until("its end", || child.try_wait().expect("ours")).code();
        assert_eq!(code, Some(0));
        let output = child.wait_with_output().expect("its end");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn a_file_of_options_is_as_good_as_a_command_line() {
    let dir = Arc::new(Dir::new());
    let lines = "# what a node needs\n\n  nick   Gate House  \nroom den\n--room attic\n\tlisten /ip4/127.0.0.1/tcp/0\n\
                 secret-key-seed 5\nexternal /ip4/192.0.2.7/tcp/4001\r\n";
    let file = dir.file("warren.conf", lines, 0o644);
    let mut node = Node::start_in(dir.clone(), "node", &["run", "--config", &file, "--room", "cellar"]);
    let me = node.done("whoami", &[]);
    assert_eq!(me.text("nick"), "Gate House");
    assert_eq!(me.texts("rooms"), ["den", "attic", "cellar"]);
    assert_eq!(me.texts("external"), ["/ip4/192.0.2.7/tcp/4001"]);
    let same = finish(&dir, &["id", "--secret-key-seed", "5", "--json"]);
    assert_eq!(Json::parse(&same.stdout).text("peerId"), me.text("peerId"));

    let mut other =
        Node::start_in(dir, "other", &["run", "--config", &file, "--nick", "Bob", "--secret-key-seed", "6"]);
    let me = other.done("whoami", &[]);
    assert_eq!(me.text("nick"), "Bob", "the command line goes first");
    assert_ne!(other.peer, node.peer, "the command line goes first");
}

#[test]
fn a_relay_is_a_node_without_rooms_at_a_fixed_port() {
    let dir = Arc::new(Dir::new());
    let port = free_port();
    let words = ["relay", "--port", &port.to_string(), "--no-ipv6", "--nick", "gate"];
    let mut relay = Node::start_in(dir, "relay", &words);
    let me = relay.done("whoami", &[]);
    assert_eq!((me.text("nick"), me.texts("rooms").len()), ("gate", 0));
    let addr = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", relay.peer);
    let mut ada = Node::start("ada", &["--bootstrap", &addr]);
    ada.event_of("peer_connected", &relay.peer);
    relay.event_of("peer_connected", &ada.peer);
    assert_eq!(relay.ask("send", &[("text", "hi")]).text("error"), "not_in_room");
}

#[test]
fn a_relay_in_a_room_joins_those_who_meet_there() {
    let relay =
        Node::start_in(Arc::new(Dir::new()), "relay", &["relay", "--listen", LOOPBACK, "--room", "lobby"]);
    let mut ada = Node::beside(&relay, "ada", &[]);
    let mut bob = Node::beside(&relay, "bob", &[]);
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("through the relay");
    bob.hear("through the relay");
}

#[test]
fn the_second_node_of_one_state_directory_gets_a_temporary_identity() {
    let dir = Arc::new(Dir::new());
    let words = ["run", "--listen", LOOPBACK];
    let first = Node::start_in(dir.clone(), "first", &words);
    let mut second =
        Node::start_in(dir.clone(), "second", &[&words[..], &["--bootstrap", &first.addr]].concat());
    assert_ne!(first.peer, second.peer);
    assert!(second.program.log().contains("temporary identity"), "{}", second.program.log());
    second.event_of("peer_connected", &first.peer);
    let peer = first.peer.clone();
    drop(first);
    let third = Node::start_in(dir, "third", &words);
    assert_eq!(third.peer, peer, "it is free again");
}

#[test]
fn a_named_identity_is_for_one_node_at_a_time() {
    let dir = Arc::new(Dir::new());
    let key = dir.path("key");
    let _first = Node::start_in(dir.clone(), "first", &["run", "--listen", LOOPBACK, "--identity", &key]);
    let second = finish(&dir, &["run", "--listen", LOOPBACK, "--identity", &key]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&key), "{second:?}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_no_reason_to_be_silent() {
    let dir = Arc::new(Dir::new());
    // Not a directory: even root cannot make a file in it.
    let file = dir.file("occupied", "", 0o600);
    let node = Node::start_in(dir, "node", &["run", "--listen", LOOPBACK, "--state-dir", &file]);
    assert!(node.program.log().contains(&file), "{}", node.program.log());
}

#[test]
fn without_a_home_it_runs_all_the_same() {
    let dir = Dir::new();
    let mut command = warren(&dir);
    command
        .args(["run", "--no-mdns", "--no-portmap", "--json", "--listen", LOOPBACK])
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME");
    let ended = finish_command(&dir, command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("temporary identity"), "{ended:?}");
}

#[test]
fn the_key_can_be_copied_out() {
    let dir = Arc::new(Dir::new());
    let copy = dir.path("copy");
    let words = ["run", "--listen", LOOPBACK, "--secret-key-seed", "3", "--identity-out", &copy];
    let node = Node::start_in(dir.clone(), "node", &words);
    assert!(node.program.log().contains("--secret-key-seed"), "everybody can have this key, so it warns");
    let shown = finish(&dir, &["id", "--json", "--identity", &copy]);
    assert_eq!(Json::parse(&shown.stdout).text("peerId"), node.peer);
}

#[test]
fn more_is_logged_when_asked() {
    let quiet = finish(&Dir::new(), &["run", "--listen", LOOPBACK]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    let told = finish(&Dir::new(), &["run", "--listen", LOOPBACK, "--verbose"]);
    assert!(told.stderr.contains("INFO") && !told.stderr.contains("DEBUG"), "{told:?}");
    let all = finish(&Dir::new(), &["run", "--listen", LOOPBACK, "-vv"]);
    assert!(all.stderr.contains("DEBUG"), "{all:?}");
    let dir = Dir::new();
    let mut command = warren(&dir);
    command.args(["run", "--no-mdns", "--no-portmap", "--listen", LOOPBACK]).env("RUST_LOG", "info");
    let told = finish_command(&dir, command);
    assert!(told.stderr.contains("INFO"), "{told:?}");
}

#[test]
fn lines_of_a_regular_file_are_read_to_its_end() {
    let dir = Dir::new();
    let input = dir.file("commands", "{\"cmd\":\"whoami\"}\n{\"cmd\":\"rooms\"}", 0o600);
    let mut command = warren(&dir);
    command
        .args(["run", "--no-mdns", "--no-portmap", "--json", "--listen", LOOPBACK])
        .stdin(std::fs::File::open(input).expect("opens"));
    let ended = finish_command(&dir, command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answers: Vec<Json> =
        ended.stdout.lines().map(Json::parse).filter(|e| e.text("event") == "ok").collect();
    assert_eq!(answers.iter().map(|e| e.text("cmd")).collect::<Vec<_>>(), ["whoami", "rooms"]);
}

#[test]
fn a_node_that_was_never_named_is_called_by_its_peer_id() {
    let dir = Dir::new();
    let mut program = Program::start("node", &dir, &["run", "--json", "--listen", LOOPBACK]);
    let started = Json::parse(&program.next_line().expect("a line"));
    let (peer, nick) = (started.text("peerId"), started.text("nick"));
    assert!(!nick.is_empty() && peer.ends_with(nick), "{started:?}");
}
