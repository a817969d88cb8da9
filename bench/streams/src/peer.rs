//! A transport without a node: connections and raw streams, by commands on standard input.
//!
//! The same source drives warren's transports on smol and upstream's on tokio, so what differs between two
//! figures is what is below [`StreamMuxer`]. One line in, one JSON line out:
//!
//! | command | done when | answer |
//! |---|---|---|
//! | `connect ADDR COUNT` | so many more connections are there, made one after the other | `connected` |
//! | `upload BYTES`, `download BYTES` | all were received, on a new stream of the first connection | `moved`, `seconds` |
//! | `hello ADDR` | a byte on a stream of a new connection came back | `greeted`, `connected`, `seconds` |
//!
//! A stream begins with nine bytes that its opener writes: what it wants, and a number of bytes.

use std::{
    future::poll_fn,
    io::{self, BufRead},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt,
    channel::{mpsc, oneshot},
    future::BoxFuture,
    select,
};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxer, StreamMuxerBox, SubstreamBox},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
    },
};

/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;

const UPLOAD: u8 = b'u';
const DOWNLOAD: u8 = b'd';
const HELLO: u8 = b'h';

/// Runs a task beside the others.
pub(crate) type Spawn = fn(BoxFuture<'static, ()>);

type Muxed = (PeerId, StreamMuxerBox);

struct Peer {
    transport: Boxed<Muxed>,
    spawn: Spawn,
    /// A way to each connection.
    connections: Vec<mpsc::UnboundedSender<Request>>,
}

/// For a connection: open a stream.
type Request = oneshot::Sender<SubstreamBox>;

/// Listens on `addr`, says where, and obeys until the end of standard input.
pub(crate) async fn run(mut transport: Boxed<Muxed>, addr: &str, spawn: Spawn) -> Result<()> {
    transport.listen_on(ListenerId::next(), addr.parse()?)?;
    let mut peer = Peer { transport, spawn, connections: Vec::new() };
    let mut commands = commands();
    loop {
        let command = select! {
            command = commands.next() => command,
            connection = poll_fn(|cx| peer.poll(cx)).fuse() => {
                peer.begin(connection);
                continue;
            }
        };
        match command {
            Some(command) => peer.obey(&command).await.with_context(|| format!("cannot {command}"))?,
            None => return Ok(()),
        }
    }
}

/// The lines of standard input, read by a thread.
fn commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.unbounded_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Peer {
    /// Drives the transport up to the next connection that comes in and is ready.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BoxFuture<'static, io::Result<Muxed>>> {
        loop {
            match Pin::new(&mut self.transport).poll(cx) {
                Poll::Ready(TransportEvent::NewAddress { listen_addr, .. }) => {
                    println!("{{\"event\":\"listening\",\"addr\":\"{listen_addr}\"}}");
                }
                Poll::Ready(TransportEvent::Incoming { upgrade, .. }) => return Poll::Ready(upgrade.boxed()),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Lets a connection that came in finish its handshake, and serves it.
    fn begin(&self, upgrade: BoxFuture<'static, io::Result<Muxed>>) {
        let spawn = self.spawn;
        spawn(
            async move {
                match upgrade.await {
                    Ok((_, muxer)) => serve(muxer, mpsc::unbounded().1, spawn).await,
                    Err(error) => eprintln!("a connection came to nothing: {error}"),
                }
            }
            .boxed(),
        );
    }

    async fn obey(&mut self, command: &str) -> Result<()> {
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["connect", addr, count] => {
                for _ in 0..count.parse()? {
                    self.dial(addr.parse()?).await?;
                }
                println!("{{\"event\":\"connected\"}}");
            }
            ["upload" | "download", bytes] => {
                let start = Instant::now();
                let stream = self.open(0).await?;
                transfer(stream, words[0] == "upload", bytes.parse()?).await?;
                println!("{{\"event\":\"moved\",\"seconds\":{}}}", start.elapsed().as_secs_f64());
            }
            ["hello", addr] => {
                let start = Instant::now();
                self.dial(addr.parse()?).await?;
                let connected = start.elapsed().as_secs_f64();
                let mut stream = self.open(self.connections.len() - 1).await?;
                stream.write_all(&request(HELLO, 0)).await?;
                stream.flush().await?;
                stream.read_exact(&mut [0]).await?;
                let seconds = start.elapsed().as_secs_f64();
                println!("{{\"event\":\"greeted\",\"connected\":{connected},\"seconds\":{seconds}}}");
            }
            _ => bail!("that is no command"),
        }
        Ok(())
    }

    async fn dial(&mut self, addr: Multiaddr) -> Result<()> {
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let mut dial = self.transport.dial(addr, opts)?.fuse();
        let muxer = loop {
            select! {
                dialled = dial => break dialled?.1,
                connection = poll_fn(|cx| self.poll(cx)).fuse() => self.begin(connection),
            }
        };
        let (sender, receiver) = mpsc::unbounded();
        self.connections.push(sender);
        (self.spawn)(serve(muxer, receiver, self.spawn).boxed());
        Ok(())
    }

    async fn open(&self, connection: usize) -> Result<SubstreamBox> {
        let connection = self.connections.get(connection).context("there is no connection")?;
        let (sender, receiver) = oneshot::channel();
        connection.unbounded_send(sender)?;
        receiver.await.map_err(|_| anyhow!("the connection was lost"))
    }
}

/// Drives a connection until it ends: serves the streams that come in, opens those that are asked for.
async fn serve(mut muxer: StreamMuxerBox, mut requests: mpsc::UnboundedReceiver<Request>, spawn: Spawn) {
    let mut asked = None;
    let ended = poll_fn(|cx| {
        loop {
            let mut idle = true;
            let mut pinned = Pin::new(&mut muxer);
            if let Poll::Ready(event) = pinned.as_mut().poll(cx)? {
                let _new_address = event;
                idle = false;
            }
            if let Poll::Ready(stream) = pinned.as_mut().poll_inbound(cx)? {
                spawn(answer(stream).map(drop).boxed());
                idle = false;
            }
            if asked.is_none()
                && let Poll::Ready(Some(request)) = requests.poll_next_unpin(cx)
            {
                asked = Some(request);
            }
            if asked.is_some()
                && let Poll::Ready(stream) = pinned.poll_outbound(cx)?
                && let Some(request) = asked.take()
            {
                // Whoever asked may have gone.
                let _ = request.send(stream);
                idle = false;
            }
            if idle {
                return Poll::Pending::<io::Result<()>>;
            }
        }
    });
    if let Err(error) = ended.await {
        eprintln!("a connection ended: {error}");
    }
}

/// Gives the opener of a stream what it wants.
async fn answer(mut stream: SubstreamBox) -> io::Result<()> {
    let mut request = [0; 9];
    stream.read_exact(&mut request).await?;
    let [kind, bytes @ ..] = request;
    match kind {
        UPLOAD => {
            let received = drain(&mut stream).await?;
            stream.write_all(&received.to_be_bytes()).await?;
        }
        DOWNLOAD => fill(&mut stream, u64::from_be_bytes(bytes)).await?,
        _ => stream.write_all(&[kind]).await?,
    }
    stream.close().await
}

async fn transfer(mut stream: SubstreamBox, up: bool, bytes: u64) -> Result<()> {
    stream.write_all(&request(if up { UPLOAD } else { DOWNLOAD }, bytes)).await?;
    let received = if up {
        fill(&mut stream, bytes).await?;
        stream.close().await?;
        let mut received = [0; 8];
        stream.read_exact(&mut received).await?;
        u64::from_be_bytes(received)
    } else {
        stream.close().await?;
        drain(&mut stream).await?
    };
    if received == bytes { Ok(()) } else { bail!("{received} bytes of {bytes} were received") }
}

fn request(kind: u8, bytes: u64) -> [u8; 9] {
    let mut request = [kind; 9];
    request[1..].copy_from_slice(&bytes.to_be_bytes());
    request
}

async fn fill(stream: &mut SubstreamBox, bytes: u64) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK as u64) as usize;
        stream.write_all(&chunk[..now]).await?;
        left -= now as u64;
    }
    stream.flush().await
}

/// Reads up to the end, and counts.
async fn drain(stream: &mut SubstreamBox) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}
