//! JSON lines: commands in, answers and events out, whatever carries them.

use std::io;

use async_channel::{Receiver, Sender};
use smol::future;

use super::{
    json,
    stdio::{Line, Lines, Output},
};
use crate::{
    limits,
    node::{
        Item,
        api::{Answer, Command, Handle, Listener, Refusal},
    },
};

/// An answer on its way out, in the order of the commands.
enum Reply {
    /// The node will answer.
    Awaited { name: &'static str, id: Option<String>, answer: Receiver<Result<Answer, Refusal>> },
    /// The line was no command.
    Ready(String),
}

/// Where commands come from.
pub trait Source {
    /// The next line; `None` at the end.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Line>>> + Send;
}

/// Where answers and events go.
pub trait Sink {
    /// Writes lines, each of which has an end, and waits for the reader where need be.
    fn write_lines(&self, lines: &str) -> impl Future<Output = io::Result<()>> + Send;
}

impl Source for Lines {
    async fn next(&mut self) -> io::Result<Option<Line>> {
        Lines::next(self).await
    }
}

impl Sink for Output {
    async fn write_lines(&self, lines: &str) -> io::Result<()> {
        self.write_all(lines.as_bytes()).await
    }
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Standard input and output: the end of the input is the end of the node.
    Stdio,
    /// One of several: when its input ends, what was asked is answered, and that is all.
    Socket,
}

impl Carrier {
    /// Answers that may wait for their reader.
    fn answers(self) -> usize {
        match self {
            Carrier::Stdio => limits::COMMANDS,
            Carrier::Socket => limits::CONTROL_ANSWERS,
        }
    }
}

/// Speaks JSON lines until the node ends, or the input of a socket. `events` must have listened since before the node
/// ran, or since somebody connected.
pub async fn run(
    handle: Handle,
    events: Listener,
    input: Option<impl Source>,
    output: impl Sink,
    carrier: Carrier,
) -> io::Result<()> {
    let (replies, replies_out) = async_channel::bounded(carrier.answers());
    let read = async {
        match input {
            Some(input) => read(handle, input, replies, carrier).await,
            // Dropping the handle would end the node.
            None => future::pending().await,
        }
    };
    let write = write(events, replies_out, output, carrier);
    // Reading succeeds never: after the last line the node is asked to end, or there are no more replies, and that
    // ends `write`.
    future::or(write, read).await
}

async fn read(
    handle: Handle,
    mut input: impl Source,
    replies: Sender<Reply>,
    carrier: Carrier,
) -> io::Result<()> {
    while let Some(line) = input.next().await? {
        let parsed = match line {
            Line::Text(line) if line.trim().is_empty() => continue,
            Line::Text(line) => json::parse(&line),
            Line::TooLong => {
                Err(unreadable("bad_json", format!("a line has more than {} bytes", limits::LINE_BYTES)))
            }
            Line::NotText => Err(unreadable("bad_json", "a line is no UTF-8".into())),
        };
        let reply = match parsed {
            Ok(json::Ask { command, name, id }) => match handle.submit(command).await {
                Ok(answer) => Reply::Awaited { name, id, answer },
                Err(refusal) => Reply::Ready(json::answer(name, id.as_deref(), &Err(refusal))),
            },
            Err(bad) => Reply::Ready(json::error(bad.name, bad.id.as_deref(), bad.code, &bad.message)),
        };
        // A full channel means that nobody reads the answers; so no more commands are read either.
        if replies.send(reply).await.is_err() {
            break;
        }
    }
    match carrier {
        // End of input. The answer would be to nobody's question.
        Carrier::Stdio => drop(handle.submit(Command::Quit).await),
        Carrier::Socket => drop(replies),
    }
    future::pending().await
}

async fn write(
    events: Listener,
    replies: Receiver<Reply>,
    output: impl Sink,
    carrier: Carrier,
) -> io::Result<()> {
    let mut replies = Replies { incoming: replies, first: None };
    let mut lines = String::new();
    loop {
        let event = async { events.next().await.map(Next::Event) };
        let reply = async {
            match (replies.next().await, carrier) {
                (Some(line), _) => Some(Next::Reply(line)),
                (None, Carrier::Socket) => None,
                // The node is about to end.
                (None, Carrier::Stdio) => future::pending().await,
            }
        };
        match future::or(reply, event).await {
            Some(Next::Event(item)) => push(&mut lines, &item),
            Some(Next::Reply(line)) => push_line(&mut lines, &line),
            None => return Ok(()),
        }
        // What is there already goes out in the same write.
        while lines.len() < WRITE_TOGETHER {
            if let Some(item) = events.try_next() {
                push(&mut lines, &item);
            } else if let Some(line) = replies.try_next() {
                push_line(&mut lines, &line);
            } else {
                break;
            }
        }
        output.write_lines(&lines).await?;
        lines.clear();
    }
}

/// Bytes written at once, as long as there are more.
const WRITE_TOGETHER: usize = 32 * 1024;

/// What to write next.
enum Next {
    Event(Item),
    Reply(String),
}

/// The answers that are due, in the order of the commands.
struct Replies {
    incoming: Receiver<Reply>,
    /// The one that must come next, if it has been taken from `incoming`.
    first: Option<Reply>,
}

impl Replies {
    /// The next line; `None` when nobody reads commands any more. May be dropped while it waits, and called again.
    async fn next(&mut self) -> Option<String> {
        if self.first.is_none() {
            self.first = Some(self.incoming.recv().await.ok()?);
        }
        let line = match &self.first {
            Some(Reply::Awaited { name, id, answer }) => {
                let result = answer.recv().await.unwrap_or(Err(Refusal::Ended));
                json::answer(name, id.as_deref(), &result)
            }
            Some(Reply::Ready(line)) => line.clone(),
            None => return None,
        };
        self.first = None;
        Some(line)
    }

    /// The next line, if it is there.
    fn try_next(&mut self) -> Option<String> {
        if self.first.is_none() {
            self.first = self.incoming.try_recv().ok();
        }
        let line = match self.first.as_ref()? {
            Reply::Awaited { name, id, answer } => {
                json::answer(name, id.as_deref(), &answer.try_recv().ok()?)
            }
            Reply::Ready(line) => line.clone(),
        };
        self.first = None;
        Some(line)
    }
}

fn push_line(lines: &mut String, line: &str) {
    *lines += line;
    lines.push('\n');
}

fn push(lines: &mut String, item: &Item) {
    let line = match item {
        Item::Event(event) => json::event(event),
        Item::Missed(missed) => json::lagged(*missed),
    };
    push_line(lines, &line);
}

fn unreadable(code: &'static str, message: String) -> json::BadLine {
    json::BadLine::new(code, message)
}
