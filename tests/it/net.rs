//! Nodes as processes: started, spoken to in JSON lines, waited for, and ended by their process id.
//!
//! Nothing here sleeps for luck. What a test waits for either comes or is missed after [`PATIENCE`], and then
//! the test fails and prints what every node said and logged.

use std::{
    collections::VecDeque,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tinyjson::JsonValue;

/// A time that no step of a test needs on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks at something that cannot be waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Where nodes of tests listen: nobody else can reach them.
pub(crate) const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// Lines that the report of a failure shows of each node.
const SAID: usize = 40;

/// A directory that is gone when the test is over.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).expect("a temporary directory");
        Self(dir)
    }

    /// The path of something in the directory, as a word for a command line.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("our own path is text").into()
    }

    /// Writes a file with an exact mode and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A node that was just killed may still have written into it; the target directory can bear that.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program, with an environment that says nothing and a state directory of its own.
pub(crate) fn warren(dir: &Dir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
    let foreign =
        ["RUST_LOG", "NO_COLOR", "RUST_BACKTRACE", "JOURNAL_STREAM", "RUNTIME_DIRECTORY", "WARREN_CONTROL"];
    for name in foreign {
        command.env_remove(name);
    }
    command.env("HOME", &dir.0).env("XDG_STATE_HOME", dir.0.join("state")).stdin(Stdio::null());
    command
}

/// What a program that ended by itself left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The words of a command line, so that it leaves the machine's network in peace: tests speak on loopback only.
pub(crate) fn quiet<'a>(args: &[&'a str]) -> Vec<&'a str> {
    match args.split_first() {
        Some((&command @ ("run" | "relay"), options)) => {
            [&[command, "--no-mdns", "--no-portmap"], options].concat()
        }
        _ => args.to_vec(),
    }
}

/// Runs the program to its end, which must come by itself.
pub(crate) fn finish(dir: &Dir, args: &[&str]) -> Ended {
    let mut command = warren(dir);
    command.args(quiet(args));
    finish_command(dir, command)
}

/// The same for a command that was prepared with [`warren`].
pub(crate) fn finish_command(dir: &Dir, command: Command) -> Ended {
    let mut program = Program::spawn("it", command, dir);
    let code = program.ends_within(PATIENCE);
    let mut stdout = String::new();
    while let Some(line) = program.next_line() {
        stdout += &line;
        stdout.push('\n');
    }
    Ended { code, stdout, stderr: program.log() }
}

/// A port that nothing listens on, from below the range that systems hand out by themselves.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let n = std::process::id() as usize * 17 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (n % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// While true, nobody reads the program's output.
    paused: Arc<(Mutex<bool>, Condvar)>,
    log: PathBuf,
    /// The last things it said, for the report of a failure.
    said: VecDeque<String>,
}

impl Program {
    /// Starts a command with pipes for its input and output.
    pub(crate) fn start(name: &str, dir: &Dir, args: &[&str]) -> Self {
        Self::start_with(name, dir, args, &[])
    }

    /// The same with something more in its environment.
    fn start_with(name: &str, dir: &Dir, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = warren(dir);
        command.args(quiet(args)).envs(env.iter().copied()).stdin(Stdio::piped());
        Self::spawn(name, command, dir)
    }

    fn spawn(name: &str, mut command: Command, dir: &Dir) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let log = dir.0.join(format!("{name}-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let stderr = File::create(&log).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let paused = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = paused.clone();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = Vec::new();
            loop {
                drop(gate.1.wait_while(gate.0.lock().expect("no panics"), |paused| *paused));
                line.clear();
                // An error is the end, too: the program was killed.
                if !matches!(stdout.read_until(b'\n', &mut line), Ok(1..)) {
                    return;
                }
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self { name: name.into(), child, stdin, lines, paused, log, said: VecDeque::new() }
    }

    /// The next line of its output; `None` when that has ended.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        self.line_before(Instant::now() + PATIENCE)
    }

    fn line_before(&mut self, deadline: Instant) -> Option<String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if self.said.len() == SAID {
                    self.said.pop_front();
                }
                self.said.push_back(line.chars().take(300).collect());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} says nothing more", self.name),
        }
    }

    /// The next line of its output, if it comes soon.
    #[cfg(feature = "control")]
    pub(crate) fn line_soon(&mut self) -> Option<String> {
        self.lines.recv_timeout(LOOK).ok()
    }

    /// Reads on to a line that fits. Those before it are skipped.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.line_before(deadline) {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("{} ended without a word of '{part}'", self.name),
            }
        }
    }

    /// Writes to its input.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()).expect("it reads its input");
    }

    /// Takes its input away, for a thread that writes on its own; dropping that ends the input.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.stdin.take().expect("its input is open")
    }

    /// Ends its input.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Stops or goes on reading its output.
    pub(crate) fn pause(&self, paused: bool) {
        *self.paused.0.lock().expect("no panics") = paused;
        self.paused.1.notify_all();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is there");
    }

    /// Waits for its end and returns its exit code, `None` if a signal killed it.
    pub(crate) fn ends_within(&mut self, time: Duration) -> Option<i32> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "{} does not end within {time:?}", self.name);
            thread::sleep(LOOK);
        }
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        let mut log = Vec::new();
        File::open(&self.log).and_then(|mut file| file.read_to_end(&mut log)).expect("its log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until it has logged something.
    pub(crate) fn until_logged(&self, part: &str) {
        until(&format!("{} logs '{part}'", self.name), || self.log().contains(part).then_some(()));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            // What it said since, as far as it has come.
            let rest: Vec<String> = self.lines.try_iter().take(SAID).collect();
            println!("---- {} said at last:", self.name);
            for line in self.said.iter().chain(&rest) {
                println!("{line}");
            }
            println!("---- {} logged:\n{}", self.name, self.log());
        }
        self.pause(false);
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(LOOK);
    }
}

/// A JSON value, easy to look into.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json(JsonValue);

impl Json {
    pub(crate) fn parse(line: &str) -> Self {
        Self(line.parse().unwrap_or_else(|e| panic!("no JSON: {e}: {line}")))
    }

    fn field(&self, name: &str) -> Option<&JsonValue> {
        self.0.get::<std::collections::HashMap<String, JsonValue>>()?.get(name)
    }

    /// Whether there is such a field.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// A string; empty if there is none of that name.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.field(name).and_then(|value| value.get::<String>()).map_or("", String::as_str)
    }

    /// A number; NaN, which equals nothing, if there is none of that name.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.field(name).and_then(|value| value.get::<f64>()).copied().unwrap_or(f64::NAN)
    }

    /// A list; a missing one is a failure.
    pub(crate) fn list(&self, name: &str) -> Vec<Json> {
        let list = self.field(name).and_then(|value| value.get::<Vec<JsonValue>>());
        list.unwrap_or_else(|| panic!("no list '{name}' in {self:?}")).iter().cloned().map(Json).collect()
    }

    /// A list of strings.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let text = |json: &Json| json.0.get::<String>().expect("a string").clone();
        self.list(name).iter().map(text).collect()
    }
}

/// One line with one object of strings.
pub(crate) fn object(fields: &[(&str, &str)]) -> String {
    let string = |text: &str| JsonValue::String(text.into()).stringify().expect("strings can be written");
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}:{}", string(name), string(value))).collect();
    format!("{{{}}}\n", fields.join(","))
}

/// A node that speaks JSON lines.
pub(crate) struct Node {
    pub(crate) program: Program,
    /// Its peer ID.
    pub(crate) peer: String,
    /// Where it listens, its peer ID included.
    pub(crate) addr: String,
    /// Events that came while something else was waited for.
    kept: VecDeque<Json>,
    asked: usize,
    /// Kept as long as the node runs.
    _dir: Arc<Dir>,
}

impl Node {
    /// A node on loopback with these further options, once it listens. It connects to those only who are named.
    pub(crate) fn start(name: &str, options: &[&str]) -> Self {
        let words = [&["run", "--listen", LOOPBACK, "--no-discovery"], options].concat();
        Self::start_in(Arc::new(Dir::new()), name, &words)
    }

    /// A node with exactly these words behind `--json`, in a directory that others may share.
    pub(crate) fn start_in(dir: Arc<Dir>, name: &str, words: &[&str]) -> Self {
        Self::start_with(dir, name, words, &[])
    }

    /// The same with something more in its environment.
    pub(crate) fn start_with(dir: Arc<Dir>, name: &str, words: &[&str], env: &[(&str, &str)]) -> Self {
        let (command, options) = words.split_first().expect("a subcommand");
        let words = [&[command, "--json", "-v"], options].concat();
        let program = Program::start_with(name, &dir, &words, env);
        let (peer, addr) = (String::new(), String::new());
        let mut node = Self { program, peer, addr, kept: VecDeque::new(), asked: 0, _dir: dir };
        node.peer = node.event("started").text("peerId").into();
        let is_ours =
            |event: &Json| event.text("event") == "listening" && !event.text("addr").contains("/ip6/fe80");
        node.addr = node.wait("listening", is_ours).text("addr").into();
        assert!(node.addr.ends_with(&format!("/p2p/{}", node.peer)), "{}", node.addr);
        node
    }

    /// A node whose bootstrap peer is another one.
    pub(crate) fn beside(other: &Node, name: &str, options: &[&str]) -> Self {
        Self::start(name, &[&["--bootstrap", &other.addr], options].concat())
    }

    /// Waits for an event that fits. Others are kept for later.
    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&Json) -> bool) -> Json {
        self.wait_within(PATIENCE, what, fits)
    }

    fn wait_within(&mut self, time: Duration, what: &str, fits: impl Fn(&Json) -> bool) -> Json {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at).expect("just found");
        }
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            match self.program.line_before(deadline) {
                Some(line) => match Json::parse(&line) {
                    event if fits(&event) => return event,
                    event => self.kept.push_back(event),
                },
                None => panic!("{} ended before {what}", self.program.name),
            }
        }
        panic!("{} never says {what}", self.program.name);
    }

    /// Waits for an event of this name.
    pub(crate) fn event(&mut self, name: &str) -> Json {
        self.wait(name, |event| event.text("event") == name)
    }

    /// Waits for an event of this name about this peer.
    pub(crate) fn event_of(&mut self, name: &str, peer: &str) -> Json {
        self.event_within(PATIENCE, name, peer)
    }

    /// The same with another patience.
    pub(crate) fn event_within(&mut self, time: Duration, name: &str, peer: &str) -> Json {
        self.wait_within(time, &format!("{name} {peer}"), |event| {
            event.text("event") == name && event.text("peerId") == peer
        })
    }

    /// Waits for a message with this text.
    pub(crate) fn hear(&mut self, text: &str) -> Json {
        self.wait(&format!("'{text}'"), |event| {
            event.text("event") == "message" && event.text("text") == text
        })
    }

    /// All messages that came so far and were not waited for.
    pub(crate) fn other_messages(&mut self) -> Vec<Json> {
        let (messages, others): (Vec<_>, Vec<_>) =
            self.kept.drain(..).partition(|event| event.text("event") == "message");
        self.kept = others.into();
        messages
    }

    /// The next event, whatever it is; `None` at the end.
    pub(crate) fn next_event(&mut self) -> Option<Json> {
        self.kept.pop_front().or_else(|| self.program.next_line().map(|line| Json::parse(&line)))
    }

    /// Gives a command and waits for its reply, whatever that is.
    pub(crate) fn ask(&mut self, cmd: &str, fields: &[(&str, &str)]) -> Json {
        self.asked += 1;
        let id = format!("ask {}", self.asked);
        self.program.write(object(&[&[("cmd", cmd), ("id", &id)], fields].concat()));
        self.wait(&format!("the reply to {cmd}"), |event| event.text("id") == id)
    }

    /// Gives a command that must succeed.
    pub(crate) fn done(&mut self, cmd: &str, fields: &[(&str, &str)]) -> Json {
        let reply = self.ask(cmd, fields);
        assert_eq!((reply.text("event"), reply.text("cmd")), ("ok", cmd), "{reply:?}");
        reply
    }

    /// Says something in its first room and returns the message's id.
    pub(crate) fn say(&mut self, text: &str) -> String {
        self.done("send", &[("text", text)]).text("messageId").into()
    }

    /// One of its counters.
    pub(crate) fn stat(&mut self, name: &str) -> f64 {
        self.done("stats", &[]).number(name)
    }

    /// Waits until a counter has this value. More is a failure, too.
    pub(crate) fn until_stat(&mut self, name: &str, value: u32) {
        let what = format!("{} of {} is {value}", name, self.program.name);
        until(&what, || (self.stat(name) >= value.into()).then_some(()));
        assert_eq!(self.stat(name), value.into(), "{what}");
    }

    /// Waits until each of `peers` is in the mesh of its first room: then messages go there without a detour.
    pub(crate) fn until_mesh(&mut self, peers: usize) {
        let what = format!("a mesh of {peers} around {}", self.program.name);
        until(&what, || {
            (self.done("rooms", &[]).list("rooms")[0].number("mesh") >= peers as f64).then_some(())
        });
    }

    /// The peer IDs of those it is connected to.
    pub(crate) fn peers(&mut self) -> Vec<String> {
        self.done("peers", &[]).list("peers").iter().map(|peer| peer.text("peerId").to_owned()).collect()
    }

    /// Waits until another node is in a room with it.
    pub(crate) fn meets(&mut self, other: &Node) {
        self.event_of("member_joined", &other.peer);
    }
}

/// Two nodes in the lobby that know each other, the second one having dialled.
pub(crate) fn pair() -> (Node, Node) {
    let mut ada = Node::start("ada", &["--nick", "ada"]);
    let mut bob = Node::beside(&ada, "bob", &["--nick", "bob"]);
    ada.meets(&bob);
    bob.meets(&ada);
    (ada, bob)
}

/// Three nodes in the lobby: the outer ones know only the one in the middle.
pub(crate) fn line() -> (Node, Node, Node) {
    let mut middle = Node::start("middle", &[]);
    let mut left = Node::beside(&middle, "left", &[]);
    let mut right = Node::beside(&middle, "right", &[]);
    left.meets(&middle);
    right.meets(&middle);
    middle.until_mesh(2);
    (left, middle, right)
}
