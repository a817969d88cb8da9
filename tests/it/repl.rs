//! The conversation at a terminal, driven through pipes.

use std::{sync::Arc, time::Duration};

use crate::net::{Dir, LOOPBACK, Node, PATIENCE, Program, until};

/// A node for people, with the address at which it listens.
fn person(dir: &Dir, nick: &str, options: &[&str]) -> (Program, String) {
    let words = [&["run", "--listen", LOOPBACK, "--nick", nick], options].concat();
    let mut program = Program::start(nick, dir, &words);
    let line = program.line_with("listening on ");
    let addr = line.rsplit(' ').next().expect("an address").to_owned();
    (program, addr)
}

#[test]
fn people_talk() {
    let (dir, other) = (Dir::new(), Dir::new());
    let (mut ada, addr) = person(&dir, "ada", &[]);
    let (mut bob, _) = person(&other, "bob", &["--bootstrap", &addr]);
    ada.line_with("bob");
    bob.line_with("ada");

    ada.write("hello, bob\n");
    let line = bob.line_with("hello, bob");
    assert!(line.starts_with("[lobby] ada (…") && line.ends_with("): hello, bob"), "{line}");
    bob.write("/me waves\n");
    let line = ada.line_with("waves");
    assert!(line.starts_with("[lobby] * bob (…") && line.ends_with(") waves"), "{line}");
    ada.write("//not a command\n");
    assert!(bob.line_with("not a command").ends_with("): /not a command"));
}

#[test]
fn commands_do_what_they_say() {
    let (dir, other) = (Dir::new(), Dir::new());
    let (mut ada, addr) = person(&dir, "ada", &[]);
    let (mut bob, _) = person(&other, "bob", &[]);
    ada.write("/peers\n");
    ada.line_with("nobody is connected");
    bob.write(format!("/connect {addr}\n"));
    bob.line_with("dialling");
    bob.line_with("connected to");
    ada.line_with("bob");
    bob.line_with("ada");
    ada.write("/peers\n");
    ada.line_with("1 connected");
    assert!(ada.line_with("warren/").contains("bob"));
    ada.write("/rooms\n");
    assert!(ada.line_with("lobby:").contains("bob"));

    ada.write("/join den\n");
    ada.line_with("you are in den now");
    bob.write("/join den\n");
    ada.line_with("is in den");
    // Whether bob hears of ada before or after he is told that he is in hangs on how quick her news was.
    let heard = [bob.line_with("in den"), bob.line_with("in den")];
    assert!(heard.iter().any(|line| line.contains("you are in den now")), "{heard:?}");
    assert!(heard.iter().any(|line| line.contains("is in den")), "{heard:?}");
    bob.write("in here\n");
    ada.line_with("[den] bob");
    bob.write("/leave\nout there\n");
    bob.line_with("you left den");
    ada.line_with("[lobby] bob");

    ada.write("/nick Ada L.\n/whoami\n");
    ada.line_with("you are Ada L. now");
    ada.line_with("you are Ada L. (16U");
    ada.line_with(&addr);
    ada.write("/quit\nnever said\n");
    assert_eq!(ada.ends_within(Duration::from_secs(2)), Some(0));
    bob.line_with("disconnected");
    bob.close_input();
    assert_eq!(bob.ends_within(Duration::from_secs(2)), Some(0));
}

#[test]
fn help_names_every_command() {
    let dir = Dir::new();
    let (mut ada, _) = person(&dir, "ada", &[]);
    ada.write("/help\n/whoami\n");
    let mut help = String::new();
    while !help.contains("you are ada (") {
        help += &ada.next_line().expect("it lives");
    }
    for command in
        ["/join", "/leave", "/peers", "/rooms", "/connect", "/whoami", "/nick", "/me", "/quit", "//"]
    {
        assert!(help.contains(command), "{command} is missing in {help}");
    }
}

#[test]
fn what_is_not_understood_is_quoted_and_the_conversation_goes_on() {
    let dir = Dir::new();
    let (mut ada, _) = person(&dir, "ada", &[]);
    for (line, part) in [
        (&b"/dance\n"[..], "/dance"),
        (b"/join two words\n", "two words"),
        (b"/join\n", "/join"),
        (b"/connect nowhere\n", "nowhere"),
        (b"/leave\n", "/leave ROOM"),
        (b"/nick \x07\n", "leave it out"),
        (b"/leave attic\n", "attic"),
        (b"\xff\xfe\n", "UTF-8"),
        (b"is anybody here?\n", "nobody else"),
        (&[vec![b'x'; 300_000], b"\n".to_vec()].concat(), "bytes"),
    ] {
        ada.write(line);
        assert!(ada.line_with(part).starts_with("! "), "{part}");
    }
    ada.write("\n   \n/rooms\n");
    ada.line_with("lobby");
}

#[test]
fn nothing_but_a_terminal_gets_escape_codes_and_others_cannot_send_any() {
    let dir = Dir::new();
    let (mut ada, addr) = person(&dir, "ada", &[]);
    let mut eve = Node::start("eve", &["--bootstrap", &addr, "--nick", "eve"]);
    eve.event("member_joined");
    eve.say("\u{1b}[2J\u{7}clear\r\u{202e}\u{9b}2J");
    eve.say("one\n[lobby] bob (…abcdef): two");
    eve.say("the end");
    let mut seen = Vec::new();
    loop {
        let line = ada.next_line().expect("it lives");
        seen.push(line);
        if seen.last().is_some_and(|line| line.contains("the end")) {
            break;
        }
    }
    for line in &seen {
        assert!(!line.chars().any(|c| (c.is_control() && c != '\t') || c == '\u{202e}'), "{line:?}");
    }
    let forged = seen.iter().filter(|line| line.contains("bob")).collect::<Vec<_>>();
    assert!(forged.iter().all(|line| line.starts_with(' ')), "nobody speaks for bob: {forged:?}");
}

#[test]
fn without_input_it_only_listens() {
    let dir = Dir::new();
    let (mut ada, addr) = person(&dir, "ada", &["--no-stdin"]);
    ada.close_input();
    let mut bob =
        Node::start_in(Arc::new(Dir::new()), "bob", &["run", "--listen", LOOPBACK, "--bootstrap", &addr]);
    bob.event("member_joined");
    bob.say("hear this");
    ada.line_with("hear this");
    ada.signal(rustix::process::Signal::INT);
    assert_eq!(ada.ends_within(Duration::from_secs(2)), Some(0));
}

/// With a terminal at the other end, which `script` (util-linux) makes, there are colours, unless they are
/// not wanted.
#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    let dir = Dir::new();
    let probe = std::process::Command::new("script").arg("--version").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no program 'script' here");
        return;
    }
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut eve = Node::start("eve", &["--nick", "eve"]);
        let run = format!(
            "{} run --no-mdns --listen {LOOPBACK} --bootstrap {}",
            env!("CARGO_BIN_EXE_warren"),
            eve.addr
        );
        let typescript = dir.path("typescript");
        let mut command = std::process::Command::new("script");
        command
            .args(["-q", "-e", "-f", "-c", &run, &typescript])
            .env("NO_COLOR", no_color)
            .env_remove("RUST_LOG");
        command.env("XDG_STATE_HOME", dir.path("state")).stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::null());
        let mut child = command.spawn().expect("script starts");
        eve.event("member_joined");
        eve.say("hi");
        let shown = until("the message on the terminal", || {
            let shown = String::from_utf8_lossy(&std::fs::read(&typescript).ok()?).into_owned();
            shown.contains(": hi").then_some(shown)
        });
        assert_eq!(shown.contains("\u{1b}[3"), coloured, "{shown:?}");
        // A terminal hangs up: that ends the conversation.
        child.stdin.take();
        let begin = std::time::Instant::now();
        while child.try_wait().expect("ours").is_none() {
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the node on a terminal does not end");
            }
            std::thread::sleep(crate::net::LOOK);
        }
    }
}
