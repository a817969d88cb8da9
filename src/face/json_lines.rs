//! JSON lines on standard input and output: commands in, answers and events out.

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

/// Speaks JSON lines until the node ends. `events` must have listened since before the node ran.
pub async fn run(handle: Handle, events: Listener, input: Option<Lines>, output: Output) -> io::Result<()> {
    let (replies, replies_out) = async_channel::bounded(limits::COMMANDS);
    let read = async {
        match input {
            Some(input) => read(handle, input, replies).await,
            // Dropping the handle would end the node.
            None => future::pending().await,
        }
    };
    let write = write(events, replies_out, output);
    // Reading has no end of its own: after the last line the node is asked to end, and that ends `write`.
    future::or(write, read).await
}

async fn read(handle: Handle, mut input: Lines, replies: Sender<Reply>) -> io::Result<()> {
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
    // End of input. The answer would be to nobody's question.
    let _ = handle.submit(Command::Quit).await;
    future::pending().await
}

async fn write(events: Listener, replies: Receiver<Reply>, output: Output) -> io::Result<()> {
    let mut replies = Replies { incoming: replies, first: None };
    let mut lines = String::new();
    loop {
        let event = async { events.next().await.map(Next::Event) };
        let reply = async { Some(Next::Reply(replies.next().await)) };
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
        output.write_all(lines.as_bytes()).await?;
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
    /// The next line. May be dropped while it waits, and called again.
    async fn next(&mut self) -> String {
        if self.first.is_none() {
            match self.incoming.recv().await {
                Ok(reply) => self.first = Some(reply),
                // Nobody reads commands any more, so there will be no more replies.
                Err(_) => future::pending().await,
            }
        }
        let line = match &self.first {
            Some(Reply::Awaited { name, id, answer }) => {
                let result = answer.recv().await.unwrap_or(Err(Refusal::Ended));
                json::answer(name, id.as_deref(), &result)
            }
            Some(Reply::Ready(line)) => line.clone(),
            None => String::new(),
        };
        self.first = None;
        line
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
