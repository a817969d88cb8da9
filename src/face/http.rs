//! A small HTTP/1.1 server: requests without a body in, answers out, and connections that become something else.
//!
//! It serves a person's browser and a scraper or two, and its first care is that nobody else gets anything out of it:
//! what a connection costs is bounded in bytes, headers and time, and who opens many closes his own
//! ([`limits::HTTP_CONNECTIONS`]). Nothing here waits for a client but the task that serves it.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod message;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use async_io::Async;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_timer::Delay;
use smol::{Executor, Task, future};

pub use self::message::{Request, Response};
use crate::{limits, within::within};

/// A listening server.
pub struct Server {
    listener: Async<TcpListener>,
}

/// What comes of a request.
pub enum Outcome {
    /// An answer.
    Answer(Response),
    /// The answer (status 101), behind which the connection is somebody else's.
    Upgrade(Response, Upgrade),
}

/// Takes over a connection, with the bytes that came behind the request. It has to spawn what it does with it, and to
/// bound it: the connection does not count as one of the server's any more.
pub type Upgrade = Box<dyn FnOnce(Async<TcpStream>, Vec<u8>) + Send>;

impl Server {
    /// Listens at this address.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: Async::<TcpListener>::bind(addr)? })
    }

    /// Where it listens, with the port that it was given.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// Serves until it is dropped. `handler` answers requests; its answers may take their time, which is bounded.
    pub async fn run<H, F>(self, executor: Arc<Executor<'static>>, handler: H)
    where
        H: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut connections: VecDeque<Task<()>> = VecDeque::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    connections.retain(|connection| !connection.is_finished());
                    if connections.len() >= limits::HTTP_CONNECTIONS {
                        // Dropping the task closes the connection.
                        connections.pop_front();
                    }
                    let handler = handler.clone();
                    connections.push_back(executor.spawn(async move {
                        if let Err(e) = serve(stream, handler).await {
                            log::debug!("HTTP with {from}: {e}");
                        }
                    }));
                    // Accepting is ready at once while there is somebody: others have their turn, too.
                    future::yield_now().await;
                }
                Err(e) => {
                    log::debug!("no HTTP connection is accepted for now: {e}");
                    Delay::new(limits::HTTP_ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection, to its end or until it becomes something else.
async fn serve<H, F>(mut stream: Async<TcpStream>, handler: H) -> io::Result<()>
where
    H: Fn(Request) -> F,
    F: Future<Output = Outcome>,
{
    let mut buffer = Vec::new();
    loop {
        let request = match next_request(&mut stream, &mut buffer).await? {
            Some(Ok(request)) => request,
            Some(Err(refusal)) => {
                let last = write(&mut stream, refusal.bytes(false, false));
                in_time(limits::HTTP_ANSWER_TIME, last, "the answer is not taken").await?;
                return part(stream).await;
            }
            None => return Ok(()),
        };
        let (is_head, keeps) = (request.is_head(), request.keeps_alive());
        let answer = async {
            let (response, upgrade) = match handler(request).await {
                Outcome::Answer(response) => (response, None),
                Outcome::Upgrade(response, upgrade) => (response, Some(upgrade)),
            };
            write(&mut stream, response.bytes(is_head, keeps || upgrade.is_some())).await?;
            Ok(upgrade)
        };
        match in_time(limits::HTTP_ANSWER_TIME, answer, "the answer is not taken").await? {
            Some(upgrade) => {
                upgrade(stream, buffer);
                return Ok(());
            }
            None if keeps => {}
            None => return part(stream).await,
        }
    }
}

/// The next request, or what is to be said instead of an answer; `None` at the end. What follows it stays in `buffer`.
async fn next_request(
    stream: &mut Async<TcpStream>,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Result<Request, Response>>> {
    if buffer.is_empty() {
        let first = read(stream, buffer);
        if in_time(limits::HTTP_IDLE, first, "nothing is asked").await? == 0 {
            return Ok(None);
        }
    }
    let head = async {
        loop {
            match message::take_request(buffer) {
                Ok(Some(request)) => return Ok(Some(Ok(request))),
                Ok(None) => {}
                Err(refusal) => return Ok(Some(Err(refusal))),
            }
            if read(stream, buffer).await? == 0 {
                return Ok(None);
            }
        }
    };
    match in_time(limits::HTTP_HEAD_TIME, head, "").await {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            Ok(Some(Err(Response::text(408, "the request takes too long\n"))))
        }
        other => other,
    }
}

/// Reads some more, never beyond [`limits::HTTP_HEAD_BYTES`] in all; 0 at the end.
async fn read(stream: &mut Async<TcpStream>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 1024];
    let place = limits::HTTP_HEAD_BYTES.saturating_sub(buffer.len()).clamp(1, bytes.len());
    let length = stream.read(&mut bytes[..place]).await?;
    buffer.extend_from_slice(&bytes[..length]);
    Ok(length)
}

async fn write(stream: &mut Async<TcpStream>, bytes: Vec<u8>) -> io::Result<()> {
    stream.write_all(&bytes).await
}

/// Says that nothing more comes, and lets the other side finish: closing with unread bytes would reset the connection,
/// and the answer might be lost with it.
async fn part(mut stream: Async<TcpStream>) -> io::Result<()> {
    stream.get_ref().shutdown(Shutdown::Write)?;
    let rest = async {
        let (mut bytes, mut length) = ([0; 1024], 0);
        // Whoever has more to say than that loses the answer.
        while length < limits::HTTP_HEAD_BYTES {
            match stream.read(&mut bytes).await? {
                0 => break,
                n => length += n,
            }
        }
        Ok(())
    };
    in_time(limits::HTTP_HEAD_TIME, rest, "the end does not come").await
}

/// What comes of `part`, if it takes no longer than this; otherwise `late` says what it was too late for.
async fn in_time<T>(
    time: Duration,
    part: impl Future<Output = io::Result<T>>,
    late: &'static str,
) -> io::Result<T> {
    within(time, part).await.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, late)))
}
