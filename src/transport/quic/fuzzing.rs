//! What `bench/fuzz` reaches of the inside. No part of the interface; nothing here is used by the program.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::OnceLock,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use libp2p::{PeerId, identity::Keypair};
use quinn_proto::StreamId;
use rustls::pki_types::UnixTime;

use super::{
    config::{Keys, Setup},
    core::{Core, Id, Meta},
    tls::{self, CertificateError},
};

/// Bytes that one step of a script may bring.
const STEP_BYTES: usize = 1500;

/// Steps of a script that are taken.
const STEPS: usize = 256;

/// Reads a peer's certificate and checks it at a time, in seconds since 1970.
///
/// # Errors
/// Says why it is none.
pub fn certificate(bytes: &[u8], seconds: u64) -> Result<PeerId, CertificateError> {
    tls::verify(bytes, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Lets two cores talk as a script says, which also damages what they say and says other things in their name.
///
/// A script is a row of steps: one byte for what happens and to whom, and what that takes. Even bytes are about
/// the client, odd ones about the server; half of them let datagrams through, so that any script has a chance to
/// get past the handshake. TLS has random numbers of its own, so what a script finds need not come again at the
/// first try.
///
/// # Panics
/// When a core does: that is what it is for. And when a core keeps what has ended.
pub fn cores(script: &[u8]) {
    let mut pair = Pair::new();
    let mut script = Script(script);
    for _ in 0..STEPS {
        let Some(step) = script.byte() else { break };
        pair.step(step, &mut script);
    }
    pair.end();
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> usize {
        let high = self.byte().unwrap_or_default();
        usize::from(high) << 8 | usize::from(self.byte().unwrap_or_default())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = (self.number() % STEP_BYTES).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
}

struct Side {
    core: Core,
    setup: &'static Setup,
    addr: SocketAddr,
    /// What was sent to it and has not arrived.
    inbox: VecDeque<Vec<u8>>,
    connections: Vec<Id>,
    streams: Vec<(Id, StreamId)>,
}

struct Pair {
    now: Instant,
    sides: [Side; 2],
}

/// Certificates cost more than anything else here.
static SETUPS: OnceLock<[Option<Setup>; 2]> = OnceLock::new();

impl Side {
    fn new(index: usize) -> Option<Self> {
        let setups = SETUPS.get_or_init(|| {
            [1, 101].map(|seed| {
                let key = Keypair::ed25519_from_bytes([seed; 32]).ok()?;
                Setup::with_keys(&key, Keys::from_seed(seed)).ok()
            })
        });
        let setup = setups[index].as_ref()?;
        Some(Side {
            core: Core::new(&setup.keys, Some(setup.server()), true),
            setup,
            addr: SocketAddr::from(([192, 0, 2, 1 + index as u8], 4001)),
            inbox: VecDeque::new(),
            connections: Vec::new(),
            streams: Vec::new(),
        })
    }

    /// A step that needs no more than one side.
    fn act(&mut self, step: u8, script: &mut Script<'_>, cx: &mut Context<'_>) {
        let connection = self.connections.get(script.number() % self.connections.len().max(1)).copied();
        let stream = self.streams.get(script.number() % self.streams.len().max(1)).copied();
        match (step, connection, stream) {
            (0, Some(id), _) => {
                if let Some(Poll::Ready(Ok(stream))) = self.core.with(id, |link| link.poll_outbound(cx)) {
                    self.streams.push((id, stream));
                }
            }
            (1, Some(id), _) => {
                if let Some(Poll::Ready(Ok(stream))) = self.core.with(id, |link| link.poll_inbound(cx)) {
                    self.streams.push((id, stream));
                }
            }
            (2, _, Some((id, stream))) => {
                let bytes = script.bytes();
                let _ = self.core.with(id, |link| link.poll_write(stream, cx, bytes));
            }
            (3, _, Some((id, stream))) => {
                let _ = self.core.with(id, |link| link.poll_read(stream, cx, &mut [0; STEP_BYTES]));
            }
            (4, _, Some((id, stream))) => {
                let _ = self.core.with(id, |link| link.finish(stream));
            }
            (5, _, Some((id, stream))) => {
                let _ = self.core.with(id, |link| link.let_go(stream, true, true));
            }
            (6, Some(id), _) => {
                let _ = self.core.with(id, |link| link.poll_close(cx));
            }
            _ => self.core.local_address_changed(),
        }
    }
}

impl Pair {
    fn new() -> Self {
        let sides = [0, 1].map(|index| Side::new(index).unwrap_or_else(|| panic!("there are no keys")));
        let mut pair = Pair { now: Instant::now(), sides };
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        let [client, server] = &mut self.sides;
        let Ok(config) = client.setup.client(None) else { return };
        if let Ok(id) = client.core.connect(self.now, config, server.addr) {
            client.connections.push(id);
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let index = usize::from(step & 1);
        match step >> 1 & 15 {
            // Something arrives as it was sent, or all of it.
            0..=4 => self.arrive(index, |bytes| bytes),
            5..=7 => (0..16).for_each(|_| self.arrive(index, |bytes| bytes)),
            // Or damaged, too short, twice, never.
            8 => {
                let (at, flip) = (script.number(), script.byte().unwrap_or(1));
                self.arrive(index, |mut bytes| {
                    let count = bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at % count) {
                        *byte ^= flip;
                    }
                    bytes
                });
            }
            9 => {
                let count = script.number();
                self.arrive(index, |mut bytes| {
                    bytes.truncate(count % (bytes.len() + 1));
                    bytes
                });
            }
            10 => {
                let again = self.sides[index].inbox.front().cloned();
                self.sides[index].inbox.extend(again);
            }
            11 => drop(self.sides[index].inbox.pop_front()),
            // Or something that nobody sent.
            12 => {
                let bytes = script.bytes();
                self.sides[index].inbox.push_front(bytes.to_vec());
                self.arrive(index, |bytes| bytes);
            }
            13 => self.pass(Duration::from_millis(script.number() as u64)),
            14 if self.sides[0].connections.len() < 4 => self.connect(),
            _ => {
                let act = script.byte().unwrap_or_default() % 8;
                self.sides[index].act(act, script, &mut Context::from_waker(Waker::noop()));
            }
        }
        self.transmit();
    }

    /// Hands on the next datagram for a side.
    fn arrive(&mut self, index: usize, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let from = self.sides[1 - index].addr;
        let side = &mut self.sides[index];
        if let Some(bytes) = side.inbox.pop_front() {
            side.core.handle_datagram(self.now, Meta { from, local_ip: None, ecn: None }, &change(bytes));
        }
        while let Some(arrival) = side.core.poll_incoming() {
            side.connections.push(arrival.id);
        }
        self.transmit();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.core.handle_timeout(self.now);
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        for index in [0, 1] {
            let mut bytes = Vec::new();
            while let Some(transmit) = self.sides[index].core.poll_transmit(self.now, 4, &mut bytes) {
                let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
                let other = &mut self.sides[1 - index];
                other.inbox.extend(bytes[..transmit.size].chunks(segment).map(<[u8]>::to_vec));
                bytes.clear();
            }
        }
    }

    /// Nobody asks for anything any more, and nothing arrives: in the end nothing is kept.
    fn end(mut self) {
        for side in &mut self.sides {
            for id in std::mem::take(&mut side.connections) {
                side.core.release(id);
            }
        }
        self.transmit();
        // A script can make a round trip look a minute long, and to forget a connection takes a few of them.
        for _ in 0..64 {
            self.pass(Duration::from_secs(60));
        }
        for side in &self.sides {
            assert!(side.core.is_empty(), "a connection is kept for ever");
        }
    }
}
