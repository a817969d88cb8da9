//! Two cores, a link between them and the time, all of them values.
//!
//! ```text
//!   client core ──▶ wire: delay, loss, reordering, duplicates, bit errors ──▶ server core
//!               ◀──            one seed, one order of events              ◀──
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use libp2p::{PeerId, identity::Keypair};
use quinn_proto::{ConnectionError, StreamId};

use super::super::{
    config::{Keys, Setup},
    core::{Core, Id, Meta},
    tls,
};

pub(super) const DELAY: Duration = Duration::from_millis(45);

/// What the link does to a datagram; probabilities in 0..1.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) delay: Duration,
    pub(super) loss: f64,
    /// Comes late, behind up to a few others.
    pub(super) reordering: f64,
    pub(super) duplication: f64,
    /// One bit is wrong.
    pub(super) corruption: f64,
}

pub(super) const CLEAN: Wire =
    Wire { delay: DELAY, loss: 0.0, reordering: 0.0, duplication: 0.0, corruption: 0.0 };

pub(super) struct Side {
    pub(super) core: Core,
    pub(super) setup: Setup,
    pub(super) addr: SocketAddr,
    pub(super) peer: PeerId,
}

impl Side {
    fn new(seed: u8, addr: &str) -> Self {
        let key = Keypair::ed25519_from_bytes([seed; 32]).expect("a key");
        let setup = Setup::with_keys(&key, Keys::from_seed(seed)).expect("TLS");
        Side {
            core: Core::new(&setup.keys, Some(setup.server()), true),
            addr: addr.parse().expect("an address"),
            peer: key.public().to_peer_id(),
            setup,
        }
    }

    /// The same machine after a restart.
    pub(super) fn restart(&mut self) {
        self.core = Core::new(&self.setup.keys, Some(self.setup.server()), true);
    }

    pub(super) fn peer_of(&mut self, id: Id) -> PeerId {
        let chain = self.core.with(id, |link| link.peer_chain()).flatten().expect("a finished handshake");
        tls::peer_id(&chain).expect("a certificate")
    }

    pub(super) fn is_connected(&mut self, id: Id) -> bool {
        matches!(self.poll_connected(id), Poll::Ready(Ok(())))
    }

    pub(super) fn lost(&mut self, id: Id) -> Option<ConnectionError> {
        match self.poll_connected(id) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    }

    fn poll_connected(&mut self, id: Id) -> Poll<Result<(), ConnectionError>> {
        self.core.with(id, |link| link.poll_connected(&mut idle())).expect("it is held")
    }

    pub(super) fn open(&mut self, id: Id) -> StreamId {
        match self.core.with(id, |link| link.poll_outbound(&mut idle())) {
            Some(Poll::Ready(Ok(stream))) => stream,
            other => panic!("no stream: {other:?}"),
        }
    }

    pub(super) fn accept(&mut self, id: Id) -> Option<StreamId> {
        match self.core.with(id, |link| link.poll_inbound(&mut idle())) {
            Some(Poll::Ready(Ok(stream))) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn write(&mut self, id: Id, stream: StreamId, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.core.with(id, |link| link.poll_write(stream, &mut idle(), bytes)).expect("it is held")
    }

    pub(super) fn finish(&mut self, id: Id, stream: StreamId) {
        self.core.with(id, |link| link.finish(stream)).expect("it is held").expect("it is open");
    }

    pub(super) fn read(&mut self, id: Id, stream: StreamId, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        self.core.with(id, |link| link.poll_read(stream, &mut idle(), buf)).expect("it is held")
    }

    pub(super) fn close(&mut self, id: Id) {
        let _ = self.core.with(id, |link| link.poll_close(&mut idle())).expect("it is held");
    }
}

/// A task that does not care to be woken.
pub(super) fn idle() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Counts how often a task was woken.
#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wakes {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) wire: Wire,
    /// Decides about datagrams before the wire does.
    pub(super) filter: fn(&Datagram) -> bool,
    /// All datagrams that were sent, if they are wanted.
    pub(super) recorded: Option<Vec<Vec<u8>>>,
    random: fastrand::Rng,
    /// On their way, by the time of their arrival.
    flying: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
}

impl Pair {
    pub(super) fn new(wire: Wire, seed: u64) -> Self {
        let now = Instant::now();
        Pair {
            now,
            start: now,
            client: Side::new(1, "192.0.2.1:1001"),
            server: Side::new(101, "192.0.2.2:4001"),
            wire,
            filter: |_| true,
            recorded: None,
            random: fastrand::Rng::with_seed(seed),
            flying: BTreeMap::new(),
            sent: 0,
        }
    }

    /// A pair with a connection: the client's name for it, and the server's.
    pub(super) fn connected(wire: Wire, seed: u64) -> (Self, Id, Id) {
        let mut pair = Pair::new(wire, seed);
        let client = pair.connect();
        let server = pair.arrival();
        pair.until("the handshake", |pair| {
            pair.client.is_connected(client) && pair.server.is_connected(server)
        });
        (pair, client, server)
    }

    pub(super) fn connect(&mut self) -> Id {
        let config = self.client.setup.client(Some(self.server.peer)).expect("TLS");
        self.client.core.connect(self.now, config, self.server.addr).expect("a connection")
    }

    /// Runs until the server has a connection.
    pub(super) fn arrival(&mut self) -> Id {
        let mut arrival = None;
        self.until("a connection", |pair| {
            arrival = pair.server.core.poll_incoming();
            arrival.is_some()
        });
        arrival.expect("just seen").id
    }

    /// Runs until something holds, but no longer than two minutes of the cores' time.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let give_up = self.now + Duration::from_secs(120);
        while !holds(self) {
            assert!(self.step(give_up), "{what} did not happen in two minutes");
        }
    }

    /// Lets the time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets the next thing happen. `false`: nothing does until `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.transmit();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timers = [self.client.core.poll_timeout(), self.server.core.poll_timeout()];
        let Some(next) = timers.into_iter().flatten().chain(arrival).min().filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let datagram = entry.remove();
            self.deliver(&datagram);
        }
        self.client.core.handle_timeout(self.now);
        self.server.core.handle_timeout(self.now);
        self.transmit();
        true
    }

    /// Puts on the wire whatever the cores have to send.
    pub(super) fn transmit(&mut self) {
        let mut sent = Vec::new();
        for side in [&mut self.client, &mut self.server] {
            let mut bytes = Vec::new();
            while let Some(transmit) = side.core.poll_transmit(self.now, 4, &mut bytes) {
                let from = side.addr;
                let segment = transmit.segment_size.unwrap_or(transmit.size);
                sent.extend(bytes[..transmit.size].chunks(segment).map(|bytes| Datagram {
                    from,
                    to: transmit.destination,
                    bytes: bytes.to_vec(),
                }));
                bytes.clear();
            }
        }
        for datagram in sent {
            self.fly(datagram);
        }
    }

    fn fly(&mut self, mut datagram: Datagram) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push(datagram.bytes.clone());
        }
        if !(self.filter)(&datagram) || self.random.f64() < self.wire.loss {
            return;
        }
        if self.random.f64() < self.wire.corruption {
            let at = self.random.usize(..datagram.bytes.len());
            datagram.bytes[at] ^= 1 << self.random.u8(..8);
        }
        let copies = if self.random.f64() < self.wire.duplication { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.random.f64() < self.wire.reordering;
            let delay = if late { self.wire.delay.mul_f64(1.0 + self.random.f64()) } else { self.wire.delay };
            let copy = Datagram { bytes: datagram.bytes.clone(), ..datagram };
            self.flying.insert((self.now + delay, self.sent), copy);
            self.sent += 1;
        }
    }

    /// Hands a datagram to whoever has its address.
    pub(super) fn deliver(&mut self, datagram: &Datagram) {
        for side in [&mut self.client, &mut self.server] {
            if side.addr == datagram.to {
                let meta = Meta { from: datagram.from, local_ip: None, ecn: None };
                side.core.handle_datagram(self.now, meta, &datagram.bytes);
            }
        }
    }
}

/// Which end of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Client,
    Server,
}

/// Sends bytes on a stream of `id` from one end, and reads them at the other until they end.
pub(super) fn transfer(pair: &mut Pair, from: End, ids: (Id, Id), bytes: &[u8]) -> Vec<u8> {
    let (mut written, mut received, mut incoming, mut ended) = (0, Vec::new(), None, false);
    let (sender, sender_id, receiver_id) = match from {
        End::Client => (&mut pair.client, ids.0, ids.1),
        End::Server => (&mut pair.server, ids.1, ids.0),
    };
    let stream = sender.open(sender_id);
    pair.until("a transfer", |pair| {
        let (sender, receiver) = match from {
            End::Client => (&mut pair.client, &mut pair.server),
            End::Server => (&mut pair.server, &mut pair.client),
        };
        while written < bytes.len() {
            match sender.write(sender_id, stream, &bytes[written..]) {
                Poll::Ready(count) => written += count.expect("an open stream"),
                Poll::Pending => break,
            }
            if written == bytes.len() {
                sender.finish(sender_id, stream);
            }
        }
        incoming = incoming.or_else(|| receiver.accept(receiver_id));
        let mut buf = [0; 4000];
        while let Some(stream) = incoming.filter(|_| !ended) {
            match receiver.read(receiver_id, stream, &mut buf) {
                Poll::Ready(Ok(0)) => ended = true,
                Poll::Ready(count) => received.extend(&buf[..count.expect("an open stream")]),
                Poll::Pending => break,
            }
        }
        ended
    });
    received
}
