//! Words that the command line does not take, and failures of every day: one line that names the word and
//! what to do, and an exit code that tells the two apart.

use std::{ffi::OsStr, net::TcpListener, os::unix::ffi::OsStrExt};

use warren::limits;

use crate::net::{Dir, Ended, LOOPBACK, finish, finish_command, warren};

/// What is wrong with the form of an error; empty if nothing is.
fn faults(ended: &Ended, code: i32, parts: &[&str]) -> String {
    let mut faults = Vec::new();
    if ended.code != Some(code) {
        faults.push(format!("the exit code is not {code}"));
    }
    if !ended.stdout.is_empty() {
        faults.push("something is on standard output".into());
    }
    let line = ended.stderr.strip_prefix("warren: ").and_then(|line| line.strip_suffix('\n'));
    match line {
        None => faults.push("it is no line of warren's".into()),
        Some(line) if line.contains(char::is_control) => {
            faults.push("there are control characters in it".into())
        }
        Some(_) => {}
    }
    if ended.stderr.contains("panicked") {
        faults.push("it panicked".into());
    }
    faults.extend(
        parts.iter().filter(|part| !ended.stderr.contains(**part)).map(|part| format!("no '{part}'")),
    );
    faults.join(", ")
}

/// Checks the form that every error has.
#[track_caller]
fn is_one_line(ended: &Ended, code: i32, words: &[&str], parts: &[&str]) {
    let faults = faults(ended, code, parts);
    assert!(faults.is_empty(), "{words:?}: {faults}: {ended:?}");
}

#[test]
fn an_excluded_carrier_is_not_listened_on() {
    let dir = Dir::new();
    let (tcp, quic) = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1");
    let cases: &[(&[&str], &[&str])] = match cfg!(feature = "quic") {
        true => &[
            (&["run", "--quic-only", "--listen", tcp], &["--quic-only excludes it", tcp]),
            (&["run", "--tcp-only", "--listen", quic], &["--tcp-only excludes it", quic]),
            (&["run", "--bootstrap", quic], &["port 0", quic]),
        ],
        false => &[
            (&["run", "--quic-only"], &["--quic-only", "leave it out"]),
            (&["run", "--listen", quic], &["TCP port, nothing more", quic]),
            (&["run", "--bootstrap", quic], &["a TCP port must follow", quic]),
        ],
    };
    for (words, parts) in cases {
        is_one_line(&finish(&dir, words), 2, words, parts);
    }
}

#[test]
fn an_address_through_a_relay_is_for_dialling_and_names_both() {
    let dir = Dir::new();
    let peer = "/p2p/16Uiu2HAmEmQg5mFq5bwweV6u2uA8aPhD4cb1fUSRvPfH6beYjFoo";
    let through = |relay: &str, rest: &str| format!("/ip4/127.0.0.1/tcp/1{relay}/p2p-circuit{rest}");
    let remedy = "/p2p/RELAY/p2p-circuit/p2p/PEER";
    for addr in [through("", peer), through(peer, ""), through(peer, &format!("{peer}/tcp/1"))] {
        let words = ["run", "--bootstrap", &addr];
        is_one_line(&finish(&dir, &words), 2, &words, &[&addr, remedy]);
    }
    let whole = through(peer, peer);
    for option in ["--external", "--relay"] {
        let words = ["run", option, &whole];
        is_one_line(&finish(&dir, &words), 2, &words, &[option, &whole, "only /p2p/PEER can follow"]);
    }
}

#[test]
fn a_wrong_word_is_named_with_the_remedy() {
    let long_room = "r".repeat(limits::ROOM_NAME_BYTES + 1);
    let long_text = "t".repeat(limits::TEXT_BYTES + 1);
    let form = "write it like /ip4/";
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["subcommand", "--help"]),
        (&["dance"], &["dance", "--help"]),
        (&["--frobnicate"], &["--frobnicate", "--help"]),
        (&["run", "--frobnicate"], &["--frobnicate", "run --help"]),
        (&["run", "extra"], &["extra", "run --help"]),
        (&["run", "-x"], &["-x", "run --help"]),
        (&["run", "--room"], &["--room", "run --help"]),
        (&["run", "--json=yes"], &["yes", "run --help"]),
        (&["run", "--nick", "a", "--nick", "b"], &["--nick", "run --help"]),
        (&["run", "--listen", "nonsense"], &["--listen", "nonsense", form]),
        (&["run", "--listen", "/ip4/127.0.0.1"], &["--listen", "/ip4/127.0.0.1", form]),
        (&["run", "--listen", "/ip4/300.0.0.1/tcp/1"], &["/ip4/300.0.0.1/tcp/1", form]),
        (&["run", "--listen", "/ip4/127.0.0.1/tcp/65536"], &["/ip4/127.0.0.1/tcp/65536", form]),
        (&["run", "--listen", "/ip4/127.0.0.1/udp/1"], &["/ip4/127.0.0.1/udp/1", form]),
        (&["run", "--listen", "/ip4/127.0.0.1/udp/1/quic"], &["/ip4/127.0.0.1/udp/1/quic", form]),
        (&["run", "--bootstrap", "/ip4/127.0.0.1/udp/1"], &["/ip4/127.0.0.1/udp/1", form]),
        (&["run", "--listen", "/dns4/localhost/tcp/1"], &["/dns4/localhost/tcp/1", form]),
        (&["run", "--listen", "127.0.0.1:4001"], &["127.0.0.1:4001", form]),
        (&["run", "--listen", ""], &["--listen", form]),
        (&["run", "--bootstrap", "127.0.0.1:4001"], &["--bootstrap", "127.0.0.1:4001", form]),
        (&["run", "--bootstrap", "/ip4/0.0.0.0/tcp/1"], &["/ip4/0.0.0.0/tcp/1", form]),
        (&["run", "--bootstrap", "/ip4/127.0.0.1/tcp/0"], &["/ip4/127.0.0.1/tcp/0", "port 0"]),
        (&["run", "--bootstrap", "/ip4/127.0.0.1/tcp/1/ws"], &["/ip4/127.0.0.1/tcp/1/ws", form]),
        (&["run", "--bootstrap", "/ip4/127.0.0.1/tcp/1/p2p/me"], &["/ip4/127.0.0.1/tcp/1/p2p/me", form]),
        (&["run", "--external", "here"], &["--external", "here", form]),
        (&["run", "--room", "two words"], &["two words", "leave it out"]),
        (&["run", "--room", ""], &["room name", "empty"]),
        (&["run", "--room", &long_room], &[&long_room, "at most 64"]),
        (&["run", "--nick", "a\u{1b}[2J"], &["nickname", "leave it out"]),
        (&["run", "--nick", " "], &["nickname", "empty"]),
        (&["run", "--secret-key-seed", "many"], &["--secret-key-seed", "many", "number from 0"]),
        (&["run", "--secret-key-seed", "-1"], &["--secret-key-seed", "-1", "number from 0"]),
        (
            &["run", "--secret-key-seed", "1", "--identity", "k"],
            &["--identity", "--secret-key-seed", "one of them"],
        ),
        (&["run", "--identity", ""], &["--identity", "''", "value"]),
        (&["run", "--state-dir="], &["--state-dir", "''", "value"]),
        (&["run", "--tcp-only", "--quic-only"], &["--tcp-only", "--quic-only", "one of them"]),
        (&["run", "--publish", ""], &["--publish", "''", "value"]),
        (&["run", "--publish", &long_text], &["--publish", "16385", "at most 16384"]),
        (&["run", "--config", "no-such-file"], &["no-such-file"]),
        (&["run", "--config", "."], &["'.'"]),
    ];
    are_named(cases);
}

#[test]
fn so_is_one_of_the_other_commands_and_one_that_plays_tricks() {
    let form = "write it like /ip4/";
    let cases: &[(&[&str], &[&str])] = &[
        (&["relay", "--port", "0"], &["--port", "'0'", "from 1 to 65535"]),
        (&["relay", "--port", "65536"], &["--port", "65536", "from 1 to 65535"]),
        (&["relay", "--port", "http"], &["--port", "http", "from 1 to 65535"]),
        (&["relay", "--port", "1", "--listen", LOOPBACK], &["--port", "--listen", "one of them"]),
        (&["relay", "--max-reservations", "0"], &["--max-reservations", "'0'", "from 1 to 4096"]),
        (&["relay", "--max-circuits", "2049"], &["--max-circuits", "2049", "from 1 to 2048"]),
        (&["relay", "--max-circuits-per-peer", "all"], &["--max-circuits-per-peer", "all", "from 1 to 24"]),
        (&["relay", "--circuit-minutes", "0"], &["--circuit-minutes", "'0'", "from 1 to 10080"]),
        (&["relay", "--circuit-mib", "-1"], &["--circuit-mib", "-1", "from 1 to 1048576"]),
        (&["run", "--max-circuits", "5"], &["--max-circuits", "run --help"]),
        (&["relay", "--publish", "x"], &["--publish", "relay --help"]),
        (&["id", "--key-type", "rsa"], &["--key-type", "rsa", "secp256k1"]),
        (&["id", "--room", "x"], &["--room", "id --help"]),
        // Words that would make two lines or play with the terminal if they were shown as they are.
        (&["run", "--listen", "/ip4/\nwarren: /tcp/1"], &["--listen", form]),
        (&["run", "--listen", "\u{1b}[2J"], &["--listen", form]),
        (&["run", "--room", "a\nb"], &["leave it out"]),
        (&["run", "--secret-key-seed", "1\n2"], &["--secret-key-seed"]),
        (&["run", "--config", "no\nsuch\nfile"], &["such"]),
        (&["run", "--two\nlines"], &["lines", "--help"]),
        (&["run", "\u{1b}[2J"], &["--help"]),
        (&["id", "--key-type", "r\ns\na"], &["secp256k1"]),
    ];
    are_named(cases);
}

/// Each of these command lines is refused, with an error that has all of its parts.
fn are_named(cases: &[(&[&str], &[&str])]) {
    let dir = Dir::new();
    let mut wrong = Vec::new();
    for (words, parts) in cases {
        let ended = finish(&dir, words);
        let faults = faults(&ended, 2, parts);
        if !faults.is_empty() {
            wrong.push(format!("{words:?}: {faults}: {ended:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn too_many_of_something_is_refused() {
    let dir = Dir::new();
    let rooms: Vec<String> = (0..=limits::ROOMS).flat_map(|n| ["--room".into(), format!("r{n}")]).collect();
    let peers = ["--bootstrap", "/ip4/127.0.0.1/tcp/1"].repeat(limits::ADDRESSES + 1);
    let texts = ["--publish", "x"].repeat(limits::PUBLISH_AT_START + 1);
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for (words, part) in [(rooms, "--room"), (peers, "--bootstrap"), (texts, "--publish")] {
        let words = [&["run"], &words[..]].concat();
        is_one_line(&finish(&dir, &words), 2, &words[..3], &[part, "more than", "leave some out"]);
    }
}

#[test]
fn a_wrong_line_of_a_file_is_named_by_its_number() {
    let dir = Dir::new();
    for (lines, parts) in [
        ("# fine\nroom a\nfrobnicate 5\n", &["line 3", "frobnicate"][..]),
        ("room a\n\nroom\n", &["line 3", "room"]),
        ("config other\n", &["line 1", "config"]),
        ("check\n", &["line 1", "check"]),
        ("--config other\n", &["line 1", "config"]),
        ("nick a\nhelp\n", &["line 2", "help"]),
        ("json yes\n", &["line 1", "yes"]),
        ("tcp-only\nport 5\n", &["line 2", "port"]),
        ("room two words\n", &["two words"]),
        ("listen nowhere\n", &["--listen", "nowhere"]),
        ("secret-key-seed x\n", &["--secret-key-seed", "'x'"]),
    ] {
        let file = dir.file("bad.conf", lines, 0o600);
        let words = ["run", "--config", &file];
        is_one_line(&finish(&dir, &words), 2, &[lines], parts);
    }
    // What is wrong with a value is wrong in a line of a file, too, and the person looks for that line.
    let file = dir.file("bad.conf", "room a\nlisten nowhere\n", 0o600);
    is_one_line(&finish(&dir, &["run", "--config", &file]), 2, &["listen nowhere"], &[&file, "line 2"]);
    let file = dir.file("bytes.conf", b"room \xff\n", 0o600);
    is_one_line(&finish(&dir, &["run", "--config", &file]), 2, &["bytes"], &[&file, "UTF-8"]);
    let file = dir.file("long.conf", vec![b'#'; limits::CONFIG_FILE_BYTES as usize + 1], 0o600);
    is_one_line(&finish(&dir, &["run", "--config", &file]), 2, &["long"], &[&file, "bytes"]);
}

#[test]
fn a_configuration_can_be_looked_at_without_a_node() {
    let dir = Dir::new();
    let good = dir.file("good.conf", "room a\nlisten /ip4/127.0.0.1/tcp/0\n", 0o600);
    let bad = dir.file("bad.conf", "room a\nlisten nowhere\n", 0o600);
    for command in ["run", "relay"] {
        let ended = finish(&dir, &[command, "--config", &good, "--check"]);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
        is_one_line(&finish(&dir, &[command, "--config", &bad, "--check"]), 2, &[command], &[&bad, "line 2"]);
    }
    assert!(!std::path::Path::new(&dir.path("state")).exists(), "nothing is made");
}

#[test]
fn a_failure_at_run_time_has_another_code() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().expect("bound").port());
    is_one_line(&finish(&dir, &["run", "--listen", &addr]), 1, &["port taken"], &[&addr, "in use"]);
    is_one_line(
        &finish(&dir, &["run", "--listen", &addr, "--listen", LOOPBACK]),
        1,
        &["port taken"],
        &[&addr],
    );
    // TEST-NET-1 (RFC 5737): no machine has it.
    let foreign = "/ip4/192.0.2.1/tcp/0";
    is_one_line(&finish(&dir, &["run", "--listen", foreign]), 1, &["foreign address"], &[foreign]);
    let nowhere = dir.file("occupied", "", 0o600) + "/copy";
    let words = ["run", "--listen", LOOPBACK, "--identity-out", &nowhere];
    is_one_line(&finish(&dir, &words), 1, &words, &[&nowhere]);
}

/// A word that is no UTF-8 must not silently become another one.
#[test]
fn a_path_that_is_no_text_is_used_as_it_is_or_refused() {
    let dir = Dir::new();
    let mut command = warren(&dir);
    let path = OsStr::from_bytes(&[dir.path("key-").as_bytes(), b"\xff"].concat()).to_owned();
    command.args(["id", "--identity"]).arg(&path);
    let ended = finish_command(&dir, command);
    match ended.code {
        Some(0) => assert!(std::path::Path::new(&path).exists(), "made under another name: {ended:?}"),
        _ => is_one_line(&ended, 2, &["--identity key-\\xff"], &["UTF-8"]),
    }
}

#[test]
fn help_mentions_every_option() {
    let dir = Dir::new();
    for (subcommand, options) in crate::tidy::options() {
        // What follows 'ctl send' is said.
        let helps = if subcommand.contains(' ') { 2 } else { 3 };
        for help in &["--help", "-h", "help"][..helps] {
            let ended = finish(&dir, &[&subcommand.split(' ').collect::<Vec<_>>()[..], &[help]].concat());
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{subcommand} {help}");
            for option in &options {
                assert!(ended.stdout.contains(&format!("--{option}")), "{subcommand} {help}: {option}");
            }
        }
    }
    for words in [&["--help"][..], &["help"], &["-h"]] {
        let ended = finish(&dir, words);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        for subcommand in ["run", "relay", "id", "nat", "ctl"] {
            let is_row = |line: &str| line.trim_start().starts_with(subcommand);
            assert!(ended.stdout.lines().any(is_row), "{words:?}: {subcommand}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ended = finish(&Dir::new(), &["--version"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, concat!("warren ", env!("CARGO_PKG_VERSION"), "\n"));
}
