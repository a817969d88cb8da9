//! Nodes on one link find each other. As in `transport.rs`, each test runs itself again as a child, in a network
//! of its own, which is that of a switch with two machines:
//!
//! ```text
//!   ada, 10.77.0.1/24 and fd77::1/64 ── eth0 ══ port1 ── bridge ── port2 ══ eth0 ── bob, 10.77.0.2/24 and fd77::2/64
//! ```
#![cfg(feature = "mdns")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// How soon two nodes must be connected, counted from when the later one listens.
const SOON: Duration = Duration::from_secs(2);

/// A time that no step of a test needs on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn two_nodes_that_know_nothing_meet() {
    run("child_two_nodes");
}

#[test]
fn nodes_meet_when_an_interface_comes_up() {
    run("child_late_interface");
}

#[test]
fn nodes_of_one_machine_meet_and_say_goodbye() {
    run("child_one_machine");
}

#[test]
fn nodes_meet_without_ipv4() {
    run("child_ipv6");
}

#[test]
fn nodes_meet_when_a_cable_is_plugged_in() {
    run("child_late_cable");
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    run("child_taken_port");
}

#[test]
#[ignore = "run by two_nodes_that_know_nothing_meet"]
fn child_two_nodes() {
    let [one, two] = switch();
    one.connect(1);
    two.connect(2);
    let mut ada = Node::start(Some(&one), "ada");
    ada.until("listening", "/ip4/10.77.0.1/tcp/");
    let mut bob = Node::start(Some(&two), "bob");
    let listening = bob.until("listening", "/ip4/10.77.0.2/tcp/");
    meet("both there", listening, &mut ada, &mut bob);
}

#[test]
#[ignore = "run by nodes_meet_when_an_interface_comes_up"]
fn child_late_interface() {
    let [one, two] = switch();
    one.connect(1);
    let mut ada = Node::start(Some(&one), "ada");
    let mut bob = Node::start(Some(&two), "bob");
    bob.until("listening", "/ip4/127.0.0.1/tcp/");
    two.connect(2);
    let listening = bob.until("listening", "/ip4/10.77.0.2/tcp/");
    meet("an interface comes up", listening, &mut ada, &mut bob);
}

#[test]
#[ignore = "run by nodes_of_one_machine_meet_and_say_goodbye"]
fn child_one_machine() {
    let [one, _] = switch();
    one.connect(1);
    let mut ada = Node::start(Some(&one), "ada");
    ada.until("listening", "/ip4/10.77.0.1/tcp/");
    let mut bob = Node::start(Some(&one), "bob");
    let listening = bob.until("listening", "/ip4/10.77.0.1/tcp/");
    meet("on one machine", listening, &mut ada, &mut bob);
    bob.end();
    ada.until_logged(&format!("{} is not on the local network any more", bob.peer));
}

#[test]
#[ignore = "run by nodes_meet_without_ipv4"]
fn child_ipv6() {
    let machines = switch();
    for (machine, n) in machines.iter().zip(1..) {
        machine.plug_in(n);
        machine.ip(&format!("addr add fd77::{n}/64 dev eth0 nodad"));
    }
    let [one, two] = &machines;
    let mut ada = Node::start(Some(one), "ada");
    ada.until("listening", "/ip6/fd77::1/tcp/");
    let mut bob = Node::start(Some(two), "bob");
    let listening = bob.until("listening", "/ip6/fd77::2/tcp/");
    meet("without IPv4", listening, &mut ada, &mut bob);
}

/// The address is there all the time, so no address tells of it.
#[test]
#[ignore = "run by nodes_meet_when_a_cable_is_plugged_in"]
fn child_late_cable() {
    let [one, two] = switch();
    one.connect(1);
    two.connect(2);
    ip("link set port2 down");
    let mut ada = Node::start(Some(&one), "ada");
    let mut bob = Node::start(Some(&two), "bob");
    ada.until("listening", "/ip4/10.77.0.1/tcp/");
    bob.until("listening", "/ip4/10.77.0.2/tcp/");
    let plugged_in = Instant::now();
    ip("link set port2 up");
    bob.until_logged("is connected");
    meet("a cable is plugged in", plugged_in, &mut ada, &mut bob);
}

/// The third machine is the switch itself, where this program sits on the port.
#[test]
#[ignore = "run by a_port_that_is_taken_is_waited_for"]
fn child_taken_port() {
    let [one, _two] = switch();
    one.connect(1);
    let mut ada = Node::start(Some(&one), "ada");
    let socket = UdpSocket::bind(("0.0.0.0", 5353)).expect("a free port");
    ip("addr add 10.77.0.8/24 dev bridge");
    let mut eve = Node::start(None, "eve");
    eve.until_logged("no mDNS on interface");
    drop(socket);
    // Whatever happens to an interface is a reason to try again.
    ip("addr add 10.77.0.9/24 dev bridge");
    let listening = eve.until("listening", "/ip4/10.77.0.9/tcp/");
    meet("a port becomes free", listening, &mut ada, &mut eve);
}

/// Both are connected soon.
fn meet(what: &str, from: Instant, ada: &mut Node, bob: &mut Node) {
    let (peer, other) = (ada.peer.clone(), bob.peer.clone());
    let times = [bob.until("peer_connected", &peer), ada.until("peer_connected", &other)];
    report(what, from, times);
}

/// Says how long it took, and that it was not too long.
fn report(what: &str, from: Instant, times: [Instant; 2]) {
    let took = times.map(|at| at.saturating_duration_since(from));
    println!("{what}: connected after {} and {} ms", took[0].as_millis(), took[1].as_millis());
    assert!(took.iter().all(|took| *took <= SOON), "{what}: too late");
}

/// Runs a child in a network of its own, and shows what it measured.
fn run(child: &str) {
    let isolated = Command::new("unshare").args(["-n", "ip", "link"]).stdout(Stdio::null()).status();
    if !isolated.is_ok_and(|status| status.success()) {
        println!("skipped: a network namespace needs root, unshare and ip");
        return;
    }
    let mut command = Command::new("unshare");
    command.arg("-n").arg(env::current_exe().expect("a test program"));
    let output =
        command.args(["--exact", child, "--ignored", "--nocapture"]).output().expect("a child process");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.join("\n"));
    said[0].lines().filter(|line| line.contains(" ms")).for_each(|line| println!("{line}"));
}

/// A switch, and two machines that are not connected to it yet.
fn switch() -> [Machine; 2] {
    ip("link add name bridge type bridge");
    ip("link set bridge up");
    [Machine::new(), Machine::new()]
}

/// A network namespace, held open by a process that does nothing.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let holder = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().expect("unshare");
        let machine = Machine(holder);
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let deadline = Instant::now() + PATIENCE;
        while namespace(&machine.0.id().to_string()) == namespace("self") {
            assert!(Instant::now() < deadline, "no namespace");
            thread::sleep(Duration::from_millis(5));
        }
        machine.ip("link set lo up");
        machine
    }

    /// Plugs the cable in, as number `n` of the network.
    fn connect(&self, n: u8) {
        self.plug_in(n);
        self.ip(&format!("addr add 10.77.0.{n}/24 dev eth0"));
        self.ip(&format!("addr add fd77::{n}/64 dev eth0 nodad"));
    }

    /// Likewise, without any address yet.
    fn plug_in(&self, n: u8) {
        ip(&format!("link add port{n} type veth peer name eth0 netns {}", self.0.id()));
        ip(&format!("link set port{n} master bridge up"));
        self.ip("link set eth0 up");
    }

    /// A command that runs on this machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command
    }

    fn ip(&self, arguments: &str) {
        let status = self.command("ip").args(arguments.split(' ')).status();
        assert!(status.expect("nsenter").success(), "ip {arguments}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("the ip program").success(), "ip {arguments}");
}

/// A node without arguments, but for a state directory.
struct Node {
    child: Child,
    peer: String,
    lines: Receiver<(Instant, String)>,
    /// What it said so far.
    said: Vec<(Instant, String)>,
    dir: PathBuf,
}

impl Node {
    /// On this machine, or where this test is.
    fn start(machine: Option<&Machine>, name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mdns-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let log = fs::File::create(dir.join("log")).expect("a log file");
        let program = env!("CARGO_BIN_EXE_warren");
        let mut command = machine.map_or_else(|| Command::new(program), |machine| machine.command(program));
        command
            .args(["run", "--room", "x", "--json", "--state-dir"])
            .arg(&dir)
            .env("RUST_LOG", "warren=debug");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("nsenter");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody waits for it any more.
                let _ = sender.send((Instant::now(), line));
            }
        });
        let mut node = Node { child, peer: String::new(), lines, said: Vec::new(), dir };
        node.until("started", "peerId");
        let started = &node.said[0].1;
        let peer = started.split("\"peerId\":\"").nth(1).and_then(|rest| rest.split('"').next());
        node.peer = peer.expect("a peer ID").to_owned();
        node
    }

    /// When it said this.
    fn until(&mut self, event: &str, part: &str) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        let event = format!("\"event\":\"{event}\"");
        loop {
            let mut said = self.said.iter();
            if let Some((at, _)) = said.find(|(_, line)| line.contains(&event) && line.contains(part)) {
                return *at;
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("never {event} {part}, but {:#?}\n{}", self.said, self.log()),
            }
        }
    }

    fn until_logged(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(part) {
            assert!(Instant::now() < deadline, "never logged: {part}\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).expect("a log file")
    }

    /// Ends it as a user would.
    fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("its end").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
