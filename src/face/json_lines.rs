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
    let mut lines = String::new();
    let mut awaited: Option<Reply> = None;
    loop {
        let event = async { events.next().await.map(Some) };
        let reply = async {
            if awaited.is_none() {
                // Without a reader of commands there are no replies, and never will be.
                match replies.recv().await {
                    Ok(reply) => awaited = Some(reply),
                    Err(_) => future::pending().await,
                }
            }
            lines += &finish(&awaited).await;
            lines.push('\n');
            awaited = None;
            Some(None)
        };
        // Answers first: they are bounded by the commands that were read.
        let Some(item) = future::or(reply, event).await else {
            return output.write_all(lines.as_bytes()).await;
        };
        if let Some(item) = item {
            push(&mut lines, &item);
        }
        // What is there already goes out in one write.
        while lines.len() < WRITE_TOGETHER
            && let Some(item) = events.try_next()
        {
            push(&mut lines, &item);
        }
        output.write_all(lines.as_bytes()).await?;
        lines.clear();
    }
}

/// Bytes of events written at once, as long as there are more.
const WRITE_TOGETHER: usize = 32 * 1024;

/// The line of a reply. May be dropped while it waits, and called again.
async fn finish(reply: &Option<Reply>) -> String {
    match reply {
        Some(Reply::Ready(line)) => line.clone(),
        Some(Reply::Awaited { name, id, answer }) => {
            let result = answer.recv().await.unwrap_or(Err(Refusal::Ended));
            json::answer(name, id.as_deref(), &result)
        }
        None => String::new(),
    }
}

fn push(lines: &mut String, item: &Item) {
    *lines += &match item {
        Item::Event(event) => json::event(event),
        Item::Missed(missed) => json::lagged(*missed),
    };
    lines.push('\n');
}

fn unreadable(code: &'static str, message: String) -> json::BadLine {
    json::BadLine::new(code, message)
}
