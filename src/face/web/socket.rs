//! A WebSocket (RFC 6455) as a carrier of JSON lines: each text message is a line.
//!
//! tungstenite knows the frames; its handshake, which is most of its tree, is left out, since [`super`] has one. It
//! reads and writes a socket that does not block, and everything it would wait for is waited for here.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_channel::Sender;
use async_io::Async;
use futures_timer::Delay;
use tungstenite::{
    Error, Message, WebSocket,
    protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use crate::{
    face::{
        json_lines::{self, Carrier, Sink, Source},
        stdio::Line,
    },
    limits,
    node::api::Handle,
    within::within,
};

/// One client, to its end. `seat` is free again then.
pub(super) async fn serve(
    stream: Async<TcpStream>,
    early: Vec<u8>,
    handle: Handle,
    seat: Sender<Infallible>,
) {
    let events = handle.listen_within(limits::WEB_EVENT_BYTES);
    // Otherwise answers wait for one another; a system that cannot do without has slower ones.
    let _ = stream.get_ref().set_nodelay(true);
    let socket = match stream.get_ref().try_clone() {
        Ok(copy) => Socket { stream, frames: Mutex::new(Frames::new(copy, early)) },
        Err(e) => return log::debug!("a WebSocket is lost: {e}"),
    };
    let input = Input { socket: &socket, is_pinged: false };
    let run = json_lines::run(handle, events, Some(input), Output { socket: &socket }, Carrier::Socket).await;
    if let Err(e) = &run {
        log::debug!("a WebSocket ends: {e}");
    }
    // The client may be gone, or not take it.
    within(limits::WEB_CLOSE, socket.close(farewell(&run))).await;
    drop(seat);
}

/// Why we close, for the other side. `None`: it knows, or there is nobody to tell.
fn farewell(run: &io::Result<()>) -> Option<CloseFrame> {
    let (code, reason) = match run {
        Ok(()) => (CloseCode::Away, "the node ends"),
        Err(e) => match e.get_ref()?.downcast_ref::<Error>()? {
            Error::Capacity(_) => (CloseCode::Size, "a message is too long"),
            Error::Utf8(_) => (CloseCode::Invalid, "a text is no UTF-8"),
            Error::Protocol(_) => (CloseCode::Protocol, "this is no WebSocket"),
            _ => return None,
        },
    };
    Some(CloseFrame { code, reason: reason.into() })
}

/// A connection, for its reader and its writer. Both are parts of one task, so the lock is never waited for.
struct Socket {
    stream: Async<TcpStream>,
    frames: Mutex<Frames<TcpStream>>,
}

impl Socket {
    fn frames(&self) -> MutexGuard<'_, Frames<TcpStream>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is written.
    async fn flush(&self) -> io::Result<()> {
        loop {
            let is_written = self.frames().flush()?;
            if is_written {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }

    /// Says goodbye, and reads on until the other side has: closing with unread bytes would reset the connection, and
    /// the last words might be lost with it.
    async fn close(&self, last: Option<CloseFrame>) -> io::Result<()> {
        self.frames().close(last)?;
        // It says that it is closed when it has written that.
        let _ = self.flush().await;
        self.stream.get_ref().shutdown(Shutdown::Write)?;
        let mut bytes = [0; 1024];
        loop {
            match self.stream.get_ref().read(&mut bytes) {
                Ok(0) => return Ok(()),
                // Whoever sends without end has his turn when others had theirs.
                Ok(_) => Delay::new(limits::TURN_REST).await,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.readable().await?,
                Err(e) => return Err(e),
            }
        }
    }
}

/// What comes from the client.
struct Input<'a> {
    socket: &'a Socket,
    /// Nothing came since we asked.
    is_pinged: bool,
}

impl Source for Input<'_> {
    async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let next = self.socket.frames().next()?;
            let wait = match next {
                Next::Line(line) => {
                    self.is_pinged = false;
                    return Ok(Some(line));
                }
                Next::End => return Ok(None),
                Next::Alive => {
                    self.is_pinged = false;
                    continue;
                }
                Next::Rest => {
                    Delay::new(limits::TURN_REST).await;
                    self.socket.frames().next_turn();
                    continue;
                }
                Next::Wait => wait(&self.socket.stream, true),
                // Who does not take what is written is not read either, so that no answers to pings pile up.
                Next::Stuck => wait(&self.socket.stream, false),
            };
            let patience = if self.is_pinged { limits::WEB_PONG } else { limits::WEB_PING };
            match in_time(patience, wait).await {
                Err(e) if e.kind() == io::ErrorKind::TimedOut && !self.is_pinged => {
                    self.is_pinged = true;
                    self.socket.frames().ping()?;
                }
                other => other?,
            }
        }
    }
}

async fn wait(stream: &Async<TcpStream>, is_reader: bool) -> io::Result<()> {
    if is_reader { stream.readable().await } else { stream.writable().await }
}

/// What goes to the client.
struct Output<'a> {
    socket: &'a Socket,
}

impl Sink for Output<'_> {
    async fn write_lines(&self, lines: &str) -> io::Result<()> {
        for line in lines.split_terminator('\n') {
            self.socket.frames().push(line)?;
        }
        in_time(limits::WEB_WRITE, self.socket.flush()).await
    }
}

async fn in_time(time: Duration, part: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moves any more"));
    within(time, part).await.unwrap_or_else(late)
}

/// Frames on a stream that never blocks. Knows no time.
pub(super) struct Frames<S> {
    ws: WebSocket<Turn<S>>,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Line(Line),
    /// Something that is no line.
    Alive,
    /// Nothing more at the moment.
    Wait,
    /// Nothing, until the stream takes what is written.
    Stuck,
    /// Others have their turn.
    Rest,
    /// The client says goodbye.
    End,
}

impl<S: Read + Write> Frames<S> {
    /// `early` was read already.
    pub(super) fn new(stream: S, early: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(limits::WEB_READ_BYTES)
            // What is written waits for a flush, and is bounded by those who write.
            .write_buffer_size(usize::MAX - 1)
            .max_message_size(Some(limits::LINE_BYTES))
            .max_frame_size(Some(limits::LINE_BYTES));
        let stream = Turn { stream, left: limits::WEB_TURN_BYTES, is_stuck: false };
        Self { ws: WebSocket::from_partially_read(stream, early, Role::Server, Some(config)) }
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        match self.ws.read() {
            Ok(Message::Text(text)) => Ok(Next::Line(Line::Text(text.as_str().into()))),
            Ok(Message::Binary(_)) => Ok(Next::Line(Line::NotText)),
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => Ok(Next::End),
            Ok(_) => Ok(Next::Alive),
            Err(e) if is_later(&e) => {
                let turn = self.ws.get_ref();
                Ok(match (turn.is_stuck, turn.left) {
                    (true, _) if !self.flush()? => Next::Stuck,
                    (_, 0) => Next::Rest,
                    _ => Next::Wait,
                })
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Others had their turn.
    pub(super) fn next_turn(&mut self) {
        self.ws.get_mut().left = limits::WEB_TURN_BYTES;
    }

    /// Writes a line, or as much of it as the stream takes with the next [`Self::flush`].
    pub(super) fn push(&mut self, line: &str) -> io::Result<()> {
        unless_later(self.ws.write(Message::text(line)))
    }

    fn ping(&mut self) -> io::Result<()> {
        unless_later(self.ws.send(Message::Ping(Default::default())))
    }

    /// Whether all is written.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self.ws.flush() {
            Ok(()) => Ok(true),
            Err(e) if is_later(&e) => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    fn close(&mut self, last: Option<CloseFrame>) -> io::Result<()> {
        match last {
            Some(_) => unless_later(self.ws.close(last)),
            None => Ok(()),
        }
    }
}

fn is_later(e: &Error) -> bool {
    matches!(e, Error::Io(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// What could not be written yet is kept.
fn unless_later(result: Result<(), Error>) -> io::Result<()> {
    match result {
        Err(e) if !is_later(&e) => Err(failed(e)),
        _ => Ok(()),
    }
}

fn failed(e: Error) -> io::Error {
    match e {
        Error::Io(e) => e,
        other => io::Error::other(other),
    }
}

/// A stream of one of several: it is read from so much in a turn, and not while it does not take what is written.
struct Turn<S> {
    stream: S,
    /// Bytes until the end of this turn.
    left: usize,
    /// The last write did not succeed.
    is_stuck: bool,
}

impl<S: Read> Read for Turn<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || self.is_stuck {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(self.left);
        let length = self.stream.read(&mut buffer[..most])?;
        self.left -= length;
        Ok(length)
    }
}

impl<S: Write> Write for Turn<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes);
        self.is_stuck = matches!(&written, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
