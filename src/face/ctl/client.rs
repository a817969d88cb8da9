//! The client's end of a control socket.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{CtlError, Refusal};
use crate::{
    face::json::{self, Reading},
    limits,
    node::api::Command,
};

/// A connection with a node.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    /// Commands so far.
    asked: u32,
}

/// A line of the node.
pub(super) struct Heard {
    pub(super) line: String,
    pub(super) reading: Reading,
}

impl Client {
    pub(super) fn connect(path: PathBuf) -> Result<Self, CtlError> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Holds for connecting, too: a node that stands still does not take anybody from the queue.
            socket.set_write_timeout(Some(limits::CONTROL_PATIENCE))?;
            socket.connect(&SockAddr::unix(&path)?)?;
            Ok(UnixStream::from(OwnedFd::from(socket)))
        };
        match connect() {
            Ok(stream) => Ok(Client { stream: BufReader::new(stream), asked: 0 }),
            Err(why) => Err(CtlError::NoNode { path, why }),
        }
    }

    /// Gives a command and waits for its answer. What happens meanwhile is not heard.
    pub(super) fn ask(&mut self, command: &Command) -> Result<Heard, CtlError> {
        self.asked += 1;
        let line = json::command(command, self.asked) + "\n";
        self.stream.get_ref().set_read_timeout(Some(limits::CONTROL_PATIENCE)).map_err(CtlError::Broken)?;
        if let Err(e) = self.stream.get_mut().write_all(line.as_bytes()) {
            return Err(self.last_word().unwrap_or_else(|| broken(e)));
        }
        loop {
            let heard = self.read()?.ok_or(CtlError::Gone)?;
            let is_answer = heard.reading.count("id") == Some(self.asked.into());
            match heard.reading.text("event") {
                "ok" if is_answer => return Ok(heard),
                "error" if is_answer => {
                    let why = heard.reading.text("message").into();
                    return Err(CtlError::Refused(Refusal { why, line: Some(heard.line) }));
                }
                "error" if heard.reading.text("error") == "too_many_clients" => {
                    return Err(CtlError::Full(heard.reading.text("message").into()));
                }
                _ => {}
            }
        }
    }

    /// Why the node did not want to hear anything, if it said so.
    fn last_word(&mut self) -> Option<CtlError> {
        let heard = self.read().ok()??;
        let is_full = heard.reading.text("error") == "too_many_clients";
        is_full.then(|| CtlError::Full(heard.reading.text("message").into()))
    }

    /// The next line, however long that takes; `None` when nobody reads `output` any more.
    pub(super) fn hear(&mut self, output: BorrowedFd<'_>) -> Result<Option<Heard>, CtlError> {
        if self.stream.buffer().is_empty() {
            let stream = self.stream.get_ref().as_fd();
            // That nobody reads is told without asking.
            let mut fds = [
                PollFd::from_borrowed_fd(stream, PollFlags::IN),
                PollFd::from_borrowed_fd(output, PollFlags::empty()),
            ];
            loop {
                match rustix::event::poll(&mut fds, None) {
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(CtlError::Broken(e.into())),
                    Ok(_) if fds[1].revents().intersects(PollFlags::ERR) => return Ok(None),
                    Ok(_) => break,
                }
            }
        }
        self.read()?.map(Some).ok_or(CtlError::Gone)
    }

    /// A line; `None` at the end.
    fn read(&mut self) -> Result<Option<Heard>, CtlError> {
        loop {
            let mut line = String::new();
            let most = limits::CONTROL_LINE_BYTES as u64;
            (&mut self.stream).take(most).read_line(&mut line).map_err(broken)?;
            match line.strip_suffix('\n') {
                None if line.is_empty() => return Ok(None),
                None => {
                    let why = format!("a line has more than {most} bytes, or no end");
                    return Err(CtlError::Broken(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Some(text) => match Reading::of(text) {
                    Some(reading) => return Ok(Some(Heard { line: text.into(), reading })),
                    // Another version's words.
                    None => continue,
                },
            }
        }
    }
}

fn broken(e: io::Error) -> CtlError {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let why = format!("it has not answered for {} s", limits::CONTROL_PATIENCE.as_secs());
            CtlError::Broken(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CtlError::Gone,
        _ => CtlError::Broken(e),
    }
}
