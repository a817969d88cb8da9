//! One program under measurement: started, spoken to in JSON lines, watched in `/proc`, and ended.
//!
//! A [`Node`] owns its process. Three threads serve it, so that neither side can block the other: one reads its
//! standard output, one its standard error (the tail is kept for error messages), and one writes what
//! [`Node::feed`] hands over. Whatever becomes of the driver, the process ends: on drop it is killed by its own
//! handle, and if the driver itself dies, it reads the end of its input.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::process::{self, Usage};

/// How long a node may take for anything it does at once: start, listen, answer.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(10);

/// How long a node may take to end after the end of its input.
const FAREWELL: Duration = Duration::from_secs(3);

/// Lines of standard error kept for an error message.
const STDERR_TAIL: usize = 12;

/// Sees every line of output before it is parsed and says whether it has dealt with it. This is how 100,000
/// messages are counted without queueing them as events. It runs on the reading thread.
pub(crate) type Tap = Box<dyn FnMut(&[u8]) -> Handled + Send>;

/// What a [`Tap`] did with a line.
pub(crate) enum Handled {
    /// The line is dealt with.
    Yes,
    /// The line goes on to be an [`Event`].
    No,
}

/// One line of output, and when it was read.
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) body: Value,
}

impl Event {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.str("event") == name
    }

    /// A field that is a string; empty if there is none.
    pub(crate) fn str(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

pub(crate) struct Node {
    /// What error messages call it.
    name: String,
    child: Child,
    /// When the process was about to be executed.
    started_at: Instant,
    /// Closed by [`Node::stop`], lent out by [`Node::feed`].
    stdin: Option<ChildStdin>,
    events: Receiver<Event>,
    /// Events that were read past while waiting for another; [`Node::wait`] looks here first.
    passed_over: VecDeque<Event>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    next_id: u64,
}

impl Node {
    /// Starts `command`. It has until the first wait for `listening` to fail.
    pub(crate) fn start(name: &str, command: Command, tap: Option<Tap>) -> Result<Self> {
        Self::start_logged(name, command, tap, None)
    }

    /// As [`Node::start`]; all of its standard error goes to `log`, too, each line with its time in seconds.
    pub(crate) fn start_logged(
        name: &str,
        mut command: Command,
        tap: Option<Tap>,
        log: Option<File>,
    ) -> Result<Self> {
        let started_at = Instant::now();
        let mut child =
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {}", Path::new(command.get_program()).display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let stdin = child.stdin.take();
        let (sender, events) = channel();
        std::thread::spawn(move || read_events(BufReader::with_capacity(64 * 1024, stdout), &sender, tap));
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        std::thread::spawn(move || keep_tail(BufReader::new(stderr), &kept, started_at, log));
        Ok(Node {
            name: name.to_owned(),
            child,
            started_at,
            stdin,
            events,
            passed_over: VecDeque::new(),
            stderr: tail,
            next_id: 1,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// CPU time and context switches so far, memory and threads now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        process::usage(self.pid()).with_context(|| self.complaint("cannot be measured"))
    }

    /// The next event that `wanted` accepts, among those passed over before and those still to come.
    ///
    /// Fails when `limit` has gone by, or the node has ended; `what` names the event for the message.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event> {
        if let Some(at) = self.passed_over.iter().position(&mut wanted) {
            return self.passed_over.remove(at).context("an event vanished");
        }
        let deadline = Instant::now() + limit;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) if wanted(&event) => return Ok(event),
                Ok(event) => self.passed_over.push_back(event),
                Err(RecvTimeoutError::Timeout) => {
                    bail!(self.complaint(&format!("did not say {what} within {limit:?}")))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(self.complaint(&format!("ended before it said {what}")))
                }
            }
        }
    }

    /// Waits for an event of this name.
    pub(crate) fn wait_for(&mut self, name: &str) -> Result<Event> {
        self.wait(name, PROMPTLY, |event| event.is(name))
    }

    /// The first address it listens on, with its `/p2p/` part.
    pub(crate) fn listening(&mut self) -> Result<String> {
        Ok(self.wait_for("listening")?.str("addr").to_owned())
    }

    /// Waits until this many others have been seen to join the room.
    pub(crate) fn members(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.wait_for("member_joined")?;
        }
        Ok(())
    }

    /// All messages of this text that have been read up to now. Takes them out.
    pub(crate) fn messages(&mut self, text: &str) -> Vec<Event> {
        self.passed_over.extend(self.events.try_iter());
        let (taken, kept) =
            self.passed_over.drain(..).partition(|event| event.is("message") && event.str("text") == text);
        self.passed_over = kept;
        taken.into()
    }

    /// The first event that `wanted` accepts among those read up to now that nobody has waited for. Takes it out.
    pub(crate) fn said(&mut self, wanted: impl FnMut(&Event) -> bool) -> Option<Event> {
        self.passed_over.extend(self.events.try_iter());
        let at = self.passed_over.iter().position(wanted)?;
        self.passed_over.remove(at)
    }

    /// Sends a JSON command and waits for its reply; an `error` reply is an error.
    pub(crate) fn command(&mut self, mut command: Value) -> Result<Event> {
        let id = self.next_id;
        self.next_id += 1;
        command["id"] = json!(id);
        self.line(&command.to_string())?;
        let reply = self.wait(&format!("a reply to {command}"), PROMPTLY, |event| {
            (event.is("ok") || event.is("error")) && event.body["id"] == json!(id)
        })?;
        if reply.is("error") {
            bail!(self.complaint(&format!("answered {reply}")));
        }
        Ok(reply)
    }

    pub(crate) fn send(&mut self, text: &str) -> Result<Event> {
        self.command(json!({"cmd": "send", "text": text}))
    }

    /// Writes one line of input.
    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed or being fed")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} takes no input", self.name))
    }

    /// Writes lines as fast as the node takes them, from a thread of its own. `pace`, if any, is the time
    /// between two lines; the n-th is due at n times that, so that a late one does not delay the rest.
    pub(crate) fn feed(
        &mut self,
        lines: impl Iterator<Item = String> + Send + 'static,
        pace: Option<Duration>,
    ) -> Result<Feed> {
        let stdin = self.stdin.take().context("its input is closed or being fed")?;
        Ok(Feed(std::thread::spawn(move || write_lines(stdin, lines, pace))))
    }

    /// Takes the input back once everything is written. Fails if the node stopped reading.
    pub(crate) fn fed(&mut self, feed: Feed) -> Result<()> {
        let written = feed.0.join().map_err(|_| anyhow!("the feeding thread panicked"))?;
        self.stdin = Some(written.with_context(|| self.complaint("stopped taking input"))?);
        Ok(())
    }

    /// Ends it by the end of its input, as a person would.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.stdin = None;
        let deadline = Instant::now() + FAREWELL;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(self.complaint(&format!("ended with {status}"))),
                None if Instant::now() > deadline => {
                    bail!(self.complaint(&format!("still ran {FAREWELL:?} after the end of its input")))
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// An error message with what the node itself had to say.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let mut text = format!("{} (process {}) {what}", self.name, self.pid());
        if let Ok(tail) = self.stderr.lock() {
            for line in tail.iter() {
                text.push_str("\n    ");
                text.push_str(line);
            }
        }
        for event in self.passed_over.iter().filter(|event| event.is("error")).take(STDERR_TAIL) {
            text.push_str(&format!("\n    {event}"));
        }
        text
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when it has ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines being written; see [`Node::fed`].
pub(crate) struct Feed(JoinHandle<std::io::Result<ChildStdin>>);

fn read_events(mut stdout: impl BufRead, events: &Sender<Event>, mut tap: Option<Tap>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match stdout.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(tap) = &mut tap
            && matches!(tap(&line), Handled::Yes)
        {
            continue;
        }
        let at = Instant::now();
        // What is no JSON stays visible, as an event of no name.
        let body = serde_json::from_slice(&line)
            .unwrap_or_else(|_| json!({"event": "", "line": String::from_utf8_lossy(&line)}));
        if events.send(Event { at, body }).is_err() {
            return;
        }
    }
}

fn keep_tail(stderr: impl BufRead, tail: &Mutex<VecDeque<String>>, start: Instant, mut log: Option<File>) {
    for line in stderr.lines().map_while(Result::ok) {
        if let Some(log) = &mut log {
            // Without a log the experiment is as good as with one.
            let _ = writeln!(log, "{:8.3} {line}", start.elapsed().as_secs_f64());
        }
        let Ok(mut tail) = tail.lock() else { return };
        if tail.len() == STDERR_TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

fn write_lines(
    stdin: ChildStdin,
    lines: impl Iterator<Item = String>,
    pace: Option<Duration>,
) -> std::io::Result<ChildStdin> {
    let start = Instant::now();
    let mut due = start;
    let mut out = BufWriter::with_capacity(16 * 1024, stdin);
    for line in lines {
        if let Some(pace) = pace {
            out.flush()?;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pace;
        }
        writeln!(out, "{line}")?;
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)
}
