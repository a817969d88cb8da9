//! The control socket and `warren ctl`: a running node is asked and steered, by several at once, some of them hostile.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    ops::{Deref, DerefMut},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustix::process::Signal;
use warren::limits;

use crate::net::{
    Dir, Ended, Json, LOOPBACK, Node, PATIENCE, Program, finish, finish_command, until, warren,
};

/// A node with a control socket, whose path is returned.
fn steered(name: &str, options: &[&str]) -> (Node, String) {
    let dir = Arc::new(Dir::new());
    let path = dir.path("control");
    let words = ["run", "--listen", LOOPBACK, "--no-discovery", "--control", &path];
    (Node::start_in(dir, name, &[&words[..], options].concat()), path)
}

/// `warren ctl` with these words, to its end.
fn ctl(path: &str, words: &[&str]) -> Ended {
    finish(&Dir::new(), &[&["ctl", "--control", path], words].concat())
}

/// The same, and it must succeed. Returns what it printed.
#[track_caller]
fn done(path: &str, words: &[&str]) -> String {
    let ended = ctl(path, words);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{words:?}: {ended:?}");
    ended.stdout
}

/// Somebody at the socket.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(path: &str) -> Self {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    /// One who is certainly taken by the node.
    fn greeted(path: &str) -> Self {
        let mut client = Self::new(path);
        client.write("{\"cmd\":\"whoami\",\"id\":0}\n");
        assert_eq!(client.answer("0").text("cmd"), "whoami");
        client
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        self.0.get_ref().write_all(text.as_ref()).expect("it takes this");
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<Json> {
        let mut line = String::new();
        (self.0.read_line(&mut line).expect("it speaks") > 0).then(|| Json::parse(&line))
    }

    fn until(&mut self, fits: impl Fn(&Json) -> bool) -> Json {
        loop {
            let line = self.line().expect("it goes on");
            if fits(&line) {
                return line;
            }
        }
    }

    /// The answer with this id, which is a number.
    fn answer(&mut self, id: &str) -> Json {
        let id: f64 = id.parse().expect("a number");
        self.until(|line| line.number("id") == id)
    }
}

#[test]
fn several_clients_speak_json_lines_at_once() {
    let (mut ada, path) = steered("ada", &["--nick", "ada"]);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777, 0o600);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::greeted(&path)).collect();
    for (n, client) in clients.iter().enumerate() {
        client.write(format!(
            "{{\"cmd\":\"join\",\"room\":\"room-{n}\",\"id\":1}}\n{{\"cmd\":\"status\",\"id\":2}}\n"
        ));
    }
    for client in &mut clients {
        let first = client.until(|line| line.has("id"));
        assert_eq!((first.text("cmd"), first.number("id")), ("join", 1.0), "in the order of the commands");
        assert_eq!(client.answer("2").text("nick"), "ada");
    }
    let mut bob = Node::beside(&ada, "bob", &["--nick", "bob"]);
    bob.meets(&ada);
    bob.say("to all");
    for client in &mut clients {
        assert_eq!(client.until(|line| line.text("event") == "message").text("text"), "to all");
    }
    ada.hear("to all");
    assert_eq!(ada.done("whoami", &[]).texts("rooms").len(), 4);
}

#[test]
fn the_end_of_a_client_is_not_the_end_of_the_node() {
    let (mut node, path) = steered("node", &[]);
    let mut client = Client::new(&path);
    client.write("{\"cmd\":\"peers\",\"id\":1}\n{\"cmd\":\"rooms\",\"id\":2}\nsend x");
    client.0.get_ref().shutdown(std::net::Shutdown::Write).expect("half a close");
    assert_eq!(client.answer("1").text("cmd"), "peers");
    assert_eq!(client.answer("2").text("cmd"), "rooms");
    assert_eq!(client.until(|line| line.has("error")).text("error"), "no_peers");
    while client.line().is_some() {}
    drop(Client::greeted(&path));
    node.done("whoami", &[]);

    let mut witness = Client::greeted(&path);
    node.program.close_input();
    witness.until(|line| line.text("event") == "stopped");
    assert!(witness.line().is_none(), "nothing comes after it");
    assert_eq!(node.program.ends_within(PATIENCE), Some(0));
    assert!(!Path::new(&path).exists(), "the socket goes with its node");
}

#[test]
fn a_path_is_for_one_node_at_a_time_and_a_dead_one_leaves_it() {
    let (mut first, path) = steered("first", &[]);
    let second = finish(&Dir::new(), &["run", "--listen", LOOPBACK, "--control", &path]);
    assert_eq!((second.code, second.stdout.as_str()), (Some(1), ""), "{second:?}");
    assert!(second.stderr.contains(&path) && second.stderr.contains("--control"), "{second:?}");
    assert!(done(&path, &["status"]).contains(&first.peer));

    first.program.signal(Signal::KILL);
    first.program.ends_within(PATIENCE);
    assert!(Path::new(&path).exists(), "nobody tidied up");
    let ended = ctl(&path, &["status"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let words = ["run", "--listen", LOOPBACK, "--control", &path];
    let third = Node::start_in(Arc::new(Dir::new()), "third", &words);
    assert!(done(&path, &["status"]).contains(&third.peer));
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = Dir::new();
    let file = dir.file("precious", "data", 0o644);
    let ended = finish(&dir, &["run", "--listen", LOOPBACK, "--control", &file]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&file), "{ended:?}");
    assert_eq!(fs::read(&file).expect("reads"), b"data");
    let long = dir.path(&"x".repeat(200));
    let ended = finish(&dir, &["run", "--listen", LOOPBACK, "--control", &long]);
    assert!(ended.code == Some(1) && ended.stderr.contains(&long), "{ended:?}");
}

#[test]
fn a_service_of_systemd_has_its_socket_where_ctl_looks() {
    let dir = Dir::new();
    let runtime = dir.path("runtime");
    let mut command = warren(&dir);
    command.args(["run", "--no-mdns", "--no-portmap", "--listen", LOOPBACK, "--no-stdin"]);
    command.env("RUNTIME_DIRECTORY", format!("{runtime}:/elsewhere")).stdout(Stdio::null());
    let mut node = Reaped(command.stderr(Stdio::null()).spawn().expect("it starts"));
    until("the socket", || Path::new(&runtime).join("control").exists().then_some(()));
    for (name, value) in
        [("RUNTIME_DIRECTORY", runtime.clone()), ("WARREN_CONTROL", format!("{runtime}/control"))]
    {
        let mut command = warren(&dir);
        command.env_remove("RUNTIME_DIRECTORY").env(name, value).args(["ctl", "rooms"]);
        let ended = finish_command(&dir, command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "lobby: nobody else yet\n"), "{ended:?}");
    }
    let mut command = warren(&dir);
    command.env("RUNTIME_DIRECTORY", &runtime).args(["ctl", "quit"]);
    assert_eq!(finish_command(&dir, command).code, Some(0));
    assert!(node.0.wait().expect("ours").success());
}

#[test]
fn ctl_says_by_its_exit_code_what_went_wrong() {
    let (mut ada, path) = steered("ada", &["--room", "den"]);
    let nowhere = Dir::new().path("none");
    let cases: [(&[&str], i32, &str); 14] = [
        (&["send", "hello"], 1, "nobody else is in room 'den'"),
        (&["leave", "attic"], 1, "not in room 'attic'"),
        (&["listen", "--room", "attic"], 1, "not in room 'attic'"),
        (&["disconnect", &ada.peer], 1, "not connected"),
        (&["reload"], 1, "--config"),
        (&["connect", "/ip4/127.0.0.1/tcp/0"], 1, "port 0"),
        (&["connect", "nowhere"], 2, "'nowhere'"),
        (&["disconnect", "nobody"], 2, "'nobody'"),
        (&["join", "two words"], 2, "two words"),
        (&["nick", ""], 2, "empty"),
        (&["send", "--room", "", "x"], 2, "empty"),
        (&["dance"], 2, "dance"),
        (&[], 2, "warren ctl --help"),
        (&["join"], 2, "room"),
    ];
    for (words, code, part) in cases {
        let ended = ctl(&path, words);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{words:?}: {ended:?}");
        assert!(ended.stderr.starts_with("warren: ") && ended.stderr.contains(part), "{words:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{words:?}: {ended:?}");
    }
    for words in [&["status"][..], &["send", "x"], &["listen"]] {
        let ended = ctl(&nowhere, words);
        assert!(ended.code == Some(3) && ended.stderr.contains(&nowhere), "{words:?}: {ended:?}");
    }
    let refused = ctl(&path, &["--json", "leave", "attic"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(Json::parse(refused.stdout.trim_end()).text("error"), "not_in_room");
    ada.done("whoami", &[]);
}

#[test]
fn ctl_steers_a_node() {
    let (ada, path) = steered("ada", &["--nick", "ada"]);
    let mut bob = Node::start("bob", &["--nick", "bob", "--room", "den"]);
    assert_eq!(done(&path, &["join", "den"]), "in den now\n");
    assert!(done(&path, &["connect", &bob.addr]).contains(&bob.addr));
    bob.meets(&ada);
    until("bob in the list", || done(&path, &["rooms"]).contains("den: bob (").then_some(()));
    assert!(done(&path, &["peers"]).contains(&bob.peer));
    assert_eq!(done(&path, &["send", "--room", "den", "hello", "there"]), "");
    bob.hear("hello there");
    let sent = Json::parse(done(&path, &["--json", "send", "--room", "den", "again"]).trim_end());
    assert_eq!(bob.hear("again").text("messageId"), sent.text("messageId"));
    assert_eq!(done(&path, &["nick", "Ada L."]), "called Ada L. now\n");
    bob.wait("the new name", |event| event.text("nick") == "Ada L.");
    assert_eq!(done(&path, &["leave", "den"]), "left den\n");
    bob.event_of("member_left", &ada.peer);
    let status = Json::parse(done(&path, &["--json", "status"]).trim_end());
    assert_eq!((status.text("nick"), status.number("sent")), ("Ada L.", 2.0));
    let nat = Json::parse(done(&path, &["--json", "nat"]).trim_end());
    assert_eq!((nat.text("cmd"), nat.texts("relays").len()), ("nat", 0));
    done(&path, &["nat"]);
    done(&path, &["disconnect", &bob.peer]);
    bob.event_of("peer_disconnected", &ada.peer);
    assert_eq!(done(&path, &["quit"]), "the node ends\n");
}

/// A program that is killed when the test is over.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `warren ctl` with pipes, and the directory of its log.
struct Ctl(Program, #[expect(dead_code)] Dir);

impl Deref for Ctl {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl DerefMut for Ctl {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.0
    }
}

fn start_ctl(name: &str, path: &str, words: &[&str]) -> Ctl {
    let dir = Dir::new();
    Ctl(Program::start(name, &dir, &[&["ctl", "--control", path], words].concat()), dir)
}

#[test]
fn lines_go_from_pipe_to_pipe_in_order() {
    const COUNT: usize = 3000;
    let (ada, from) = steered("ada", &[]);
    let (bob, to) = steered("bob", &["--bootstrap", &ada.addr]);
    let mut listener = start_ctl("listen", &to, &["listen", "--room", "lobby"]);
    // It may take a moment until somebody is there to hear, and to listen.
    let heard = until("a first line", || {
        ctl(&from, &["send", "probe"]);
        done(&to, &["status"]).contains("heard").then(|| listener.line_soon()).flatten()
    });
    assert_eq!(heard, "probe", "the text alone, since this is no terminal");
    let mut sender = start_ctl("send", &from, &["send"]);
    let mut input = sender.take_input();
    let writer = std::thread::spawn(move || {
        for n in 0..COUNT {
            writeln!(input, "line {n} \"ü\"\r\n").expect("it reads");
        }
    });
    assert_eq!(sender.ends_within(PATIENCE), Some(0), "{}", sender.log());
    writer.join().expect("no panic");
    for n in 0..COUNT {
        let line = loop {
            match listener.next_line() {
                Some(line) if line == "probe" => {}
                line => break line,
            }
        };
        assert_eq!(line, Some(format!("line {n} \"ü\"")));
    }
    assert_eq!(done(&to, &["quit"]), "the node ends\n");
    assert_eq!(listener.ends_within(PATIENCE), Some(0), "{}", listener.log());
    drop((ada, bob));
}

#[test]
fn a_listener_ends_with_its_reader_and_with_its_node() {
    let (node, path) = steered("node", &[]);
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut command = warren(&Dir::new());
    command.args(["ctl", "--control", &path, "listen"]).stdout(writer).stderr(Stdio::piped());
    let mut child = Reaped(command.spawn().expect("it starts"));
    // The command has a copy of the pipe.
    drop(command);
    drop(reader);
    let status = until("its end, though nobody says anything", || child.0.try_wait().expect("ours"));
    let mut said = String::new();
    child.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    let mut bob = Node::beside(&node, "bob", &[]);
    bob.meets(&node);
    let mut listener = start_ctl("listen", &path, &["listen"]);
    until("a first line", || {
        bob.say("probe");
        listener.line_soon()
    });
    node.program.signal(Signal::KILL);
    assert_eq!(listener.ends_within(PATIENCE), Some(3), "{}", listener.log());
    assert!(listener.log().contains("ended"), "{}", listener.log());
}

#[test]
fn what_ctl_cannot_send_stops_it_there() {
    let (ada, path) = steered("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    bob.meets(&ada);
    until("somebody to talk to", || (ctl(&path, &["send", "first"]).code == Some(0)).then_some(()));
    let long = "x".repeat(limits::TEXT_BYTES + 1);
    for (bad, part) in [(long.as_bytes(), "line 3"), (b"a\xffb", "UTF-8")] {
        let mut sender = start_ctl("send", &path, &["send"]);
        sender.write([b"one\n\n", bad, b"\nnever\n"].concat());
        assert_eq!(sender.ends_within(PATIENCE), Some(1));
        assert!(sender.log().contains(part), "{}", sender.log());
    }
    bob.hear("one");
    bob.hear("one");
    assert!(bob.other_messages().iter().all(|message| message.text("text") != "never"));
}

#[test]
fn a_hostile_client_gets_clear_words_and_nothing_else() {
    let (mut node, path) = steered("node", &[]);
    let mut client = Client::greeted(&path);
    client.write(b"\x00\xff\xfe\n{\"cmd\":\n[[[[[[[[[[[[[[[[[[[[[[[[[[\n");
    for _ in 0..3 {
        assert_eq!(client.until(|line| line.has("error")).text("error"), "bad_json");
    }
    let huge = vec![b'{'; 5 * limits::LINE_BYTES];
    client.write(&huge);
    client.write("\n{\"cmd\":\"peers\",\"id\":7}\n");
    assert_eq!(client.until(|line| line.has("error")).text("error"), "bad_json");
    assert_eq!(client.answer("7").text("event"), "ok");
    // Lines without end and without a word are nothing to answer, and must not keep others waiting.
    let endless = Client::greeted(&path).0.into_inner();
    endless.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let mut writer = endless.try_clone().expect("a copy");
    let flood = std::thread::spawn(move || while writer.write_all(&[b'\n'; 65536]).is_ok() {});
    for _ in 0..20 {
        node.done("whoami", &[]);
    }
    endless.shutdown(std::net::Shutdown::Both).expect("a close");
    flood.join().expect("no panic");
    node.done("whoami", &[]);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed() {
    let (mut ada, path) = steered("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    bob.meets(&ada);
    ada.meets(&bob);
    let mut lazy = Client::greeted(&path);
    // One that asks without end and reads nothing: its answers are bounded, too.
    let asker = Client::greeted(&path).0.into_inner();
    asker.set_nonblocking(true).expect("a flag");
    while (&asker).write(&b"{\"cmd\":\"rooms\"}\n".repeat(100)).is_ok() {}
    // More than its queue and the socket's buffers hold together.
    let text = "x".repeat(limits::TEXT_BYTES);
    let count = 3 * limits::CONTROL_EVENT_BYTES / limits::TEXT_BYTES;
    for _ in 0..count {
        bob.say(&text);
        ada.hear(&text);
    }
    let (mut heard, mut missed) = (0, 0.0);
    while heard as f64 + missed < count as f64 {
        let line = lazy.line().expect("it goes on");
        match line.text("event") {
            "message" => heard += 1,
            "lagged" => missed += line.number("missed"),
            _ => {}
        }
    }
    assert!(missed > 0.0 && heard > 0, "{heard} heard, {missed} missed");
    bob.say("again");
    assert_eq!(lazy.until(|line| line.text("event") == "message").text("text"), "again");
}

#[test]
fn there_is_room_for_so_many_and_the_others_are_told() {
    let (mut node, path) = steered("node", &[]);
    let mut crowd: Vec<Client> = (0..limits::CONTROL_CLIENTS).map(|_| Client::greeted(&path)).collect();
    let mut late = Client::new(&path);
    assert_eq!(late.line().expect("a word").text("error"), "too_many_clients");
    assert!(late.line().is_none());
    let ended = ctl(&path, &["status"]);
    assert!(ended.code == Some(3) && ended.stderr.contains("clients already"), "{ended:?}");
    for _ in 0..2000 {
        drop(UnixStream::connect(&path).expect("it takes connections"));
    }
    node.done("whoami", &[]);
    crowd[0].write("{\"cmd\":\"whoami\",\"id\":3}\n");
    assert_eq!(crowd[0].answer("3").text("event"), "ok");
    drop(crowd.pop());
    until("a free place", || (ctl(&path, &["status"]).code == Some(0)).then_some(()));
}

/// A node with a configuration file, and the paths of its socket and of the file. `command` is run or relay.
fn configured(command: &str, content: &str) -> (Node, String, String) {
    let dir = Arc::new(Dir::new());
    let (path, file) = (dir.path("control"), dir.file("warren.conf", content, 0o644));
    let words = [command, "--listen", LOOPBACK, "--control", &path, "--config", &file];
    (Node::start_in(dir, "node", &words), path, file)
}

#[test]
fn a_reload_changes_what_it_can_and_names_the_rest() {
    let other = Node::start("other", &["--room", "attic"]);
    let (mut node, path, file) = configured("run", "room den\nroom cellar\nnick ada\n");
    node.done("join", &[("room", "mine")]);
    let config = format!(
        "room attic\nroom den\nnick bob\nlan 10.9.0.0/16\nbootstrap {}\nlog-format plain\nexternal /ip4/192.0.2.1/tcp/1\n",
        other.addr
    );
    fs::write(&file, config).expect("writes");
    let answer = Json::parse(done(&path, &["--json", "reload"]).trim_end());
    assert_eq!(answer.texts("changed"), ["room", "nick", "bootstrap", "lan", "log-format"]);
    assert_eq!(answer.texts("restart"), ["external"]);
    let me = node.done("whoami", &[]);
    assert_eq!(
        me.texts("rooms"),
        ["attic", "den", "mine"],
        "the file's first, then what was joined otherwise"
    );
    assert_eq!(me.text("nick"), "bob");
    node.event_of("peer_connected", &other.peer);
    node.meets(&other);
    assert!(
        node.program.log().contains("warn: changed in the file, but only a restart"),
        "{}",
        node.program.log()
    );
    assert_eq!(done(&path, &["reload"]), "nothing has changed\nonly a restart changes: external\n");
}

#[cfg(feature = "relay-server")]
#[test]
fn a_relay_takes_its_limits_over_while_it_runs() {
    let (relay, path, file) = configured("relay", "max-reservations 1\nno-discovery\n");
    let start = |name| Node::start(name, &["-v", "--relay", &relay.addr]);
    let at_relay = |node: &mut Node| {
        node.wait("an address at the relay", |event| {
            event.text("event") == "listening" && event.text("addr").contains("/p2p-circuit/")
        })
    };
    let mut ada = start("ada");
    at_relay(&mut ada);
    let mut bob = start("bob");
    until("a refusal", || bob.program.log().contains("no place at the relay").then_some(()));
    fs::write(&file, "max-reservations 2\nno-discovery\n").expect("writes");
    assert_eq!(done(&path, &["reload"]), "changed: max-reservations\n");
    at_relay(&mut bob);
    assert!(done(&path, &["status"]).contains("2 reservations"), "nobody lost a place");
}

#[test]
fn a_hangup_reloads_and_a_broken_file_changes_nothing() {
    let (mut node, path, file) = configured("run", "room den\n");
    fs::write(&file, "room attic\nroom two words\n").expect("writes");
    let ended = ctl(&path, &["reload"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("two words"), "{ended:?}");
    node.program.signal(Signal::HUP);
    node.program.until_logged("two words");
    assert_eq!(node.done("whoami", &[]).texts("rooms"), ["den"]);
    fs::remove_file(&file).expect("removes");
    assert_eq!(ctl(&path, &["reload"]).code, Some(1));

    fs::write(&file, "room attic\nverbose\n").expect("writes");
    node.program.signal(Signal::HUP);
    until("the new room", || (node.done("whoami", &[]).texts("rooms") == ["attic"]).then_some(()));
    let crowd: String = (0..limits::ROOMS).map(|n| format!("room room-{n}\n")).collect();
    node.done("join", &[("room", "mine")]);
    fs::write(&file, crowd).expect("writes");
    assert!(ctl(&path, &["reload"]).stderr.contains("rooms; leave one first"));
    assert_eq!(node.done("whoami", &[]).texts("rooms"), ["attic", "mine"], "all of it or nothing");
    // A pipe may never end, so it is not opened again.
    fs::remove_file(&file).expect("removes");
    let made = Command::new("mkfifo").arg(&file).status().expect("coreutils");
    assert!(made.success());
    assert!(ctl(&path, &["reload"]).stderr.contains("no regular file"));
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let dir = Arc::new(Dir::new());
    let (path, file) = (dir.path("control"), dir.file("warren.conf", "", 0o644));
    let words = ["run", "--no-stdin", "--listen", LOOPBACK, "--control", &path, "--config", &file];
    let node = Program::start("quiet", &dir, &words);
    until("the socket", || Path::new(&path).exists().then_some(()));
    done(&path, &["join", "den"]);
    assert_eq!(node.log(), "");
    fs::write(&file, "verbose\nlog-format timed\n").expect("writes");
    assert_eq!(done(&path, &["reload"]), "changed: log-format, verbose\n");
    node.until_logged("Z [INFO  warren::node::reload] reloaded; changed: log-format, verbose\n");
    fs::write(&file, "").expect("writes");
    done(&path, &["reload"]);
    let log = node.log();
    assert_eq!(done(&path, &["reload"]), "nothing has changed\n");
    assert_eq!(node.log(), log, "quiet again");
}

#[test]
fn log_lines_look_as_their_reader_wants_them() {
    let logged = |options: &[&str], for_journal: bool| {
        let dir = Dir::new();
        let path = dir.path("log");
        let file = File::create(&path).expect("a file");
        let mut command = warren(&dir);
        command.args(["run", "--no-mdns", "--no-portmap", "--listen", LOOPBACK, "--secret-key-seed", "7"]);
        if for_journal {
            let it = file.metadata().expect("its numbers");
            command.env("JOURNAL_STREAM", format!("{}:{}", it.dev(), it.ino()));
        } else {
            command.env("JOURNAL_STREAM", "1:2");
        }
        assert!(command.args(options).stdout(Stdio::null()).stderr(file).status().expect("runs").success());
        fs::read_to_string(path).expect("text")
    };
    let start = "the identity comes from";
    assert!(logged(&[], false).starts_with(&format!("[WARN  warren::program] {start}")));
    assert!(logged(&[], true).starts_with(&format!("<4>{start}")));
    assert!(logged(&["--log-format", "full"], true).starts_with("[WARN"));
    assert!(logged(&["--log-format", "plain"], false).starts_with(&format!("warn: {start}")));
    assert!(logged(&["--log-format", "journal"], false).starts_with("<4>"));
    assert!(logged(&["--log-format", "timed"], false).starts_with("2"));
    let bad = finish(&Dir::new(), &["run", "--log-format", "pretty"]);
    assert!(bad.code == Some(2) && bad.stderr.contains("'pretty'"), "{bad:?}");
}
