//! The endpoint as values: datagrams and times go in, datagrams, a deadline and events come out.
//!
//! No clock, no socket, no task. What waits for a connection or a stream leaves its [`Waker`] with the
//! [`Link`], and that is all the core knows of the world around it. So everything it does can be tested with a
//! link and a clock that are values too.
//!
//! ```text
//!   handle_datagram(now, ..) ─▶ ┌──────────────────────────┐ ─▶ poll_transmit(now, ..)
//!   handle_timeout(now)      ─▶ │ quinn_proto::Endpoint    │ ─▶ poll_timeout()
//!   connect(now, ..)         ─▶ │ links by id, their timers│ ─▶ poll_incoming()
//!   with(id, |link| ..)     ◀─▶ └──────────────────────────┘ ─▶ wakers of those who wait
//! ```

mod filter;
mod link;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, ConnectError, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, Incoming,
    ServerConfig, Transmit,
};

use self::filter::Filter;
pub(super) use self::link::Link;
use super::config::{Keys, TokenClock};
use crate::limits;

/// Names a connection for as long as the program runs. The handles of quinn-proto are used again; a stream
/// that outlives its connection must not find another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u64);

/// What a datagram brings besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) from: SocketAddr,
    /// The address it was sent to, where the kernel tells.
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// A connection that somebody began with us, still in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) id: Id,
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
}

/// What was not worth an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    /// Datagrams that are nothing we could have asked for.
    pub(super) garbage: u32,
    /// Handshakes answered by a Retry.
    pub(super) retried: u32,
    /// Handshakes refused or ignored.
    pub(super) refused: u32,
    /// Answers that found the queue full.
    pub(super) replies: u32,
}

pub(super) struct Core {
    endpoint: Endpoint,
    links: HashMap<Id, Link>,
    /// Who is behind a handle of quinn-proto, until that connection is drained.
    handles: HashMap<ConnectionHandle, Id>,
    next_id: u64,
    /// The next deadline of each link that has one. The first is the endpoint's.
    timers: BTreeSet<(Instant, Id)>,
    /// Links that may have something to send; each at most once.
    ready: VecDeque<Id>,
    /// Answers that belong to no connection: Retry, refusal, version negotiation, stateless reset.
    replies: VecDeque<(Transmit, Vec<u8>)>,
    /// Connections nobody has picked up. Each is a half-open or live link, so [`Self::admit`] bounds it.
    arrivals: VecDeque<Arrival>,
    /// Inbound connections still in their handshake.
    half_open: usize,
    filter: Filter,
    token_clock: Arc<TokenClock>,
    drops: Drops,
}

impl Core {
    /// `mtu_discovery` says that the socket sends no fragments.
    pub(super) fn new(keys: &Keys, server: Option<Arc<ServerConfig>>, mtu_discovery: bool) -> Self {
        Core {
            endpoint: Endpoint::new(keys.endpoint_config(), server, mtu_discovery, None),
            links: HashMap::new(),
            handles: HashMap::new(),
            next_id: 0,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            replies: VecDeque::new(),
            arrivals: VecDeque::new(),
            half_open: 0,
            filter: Filter::new(keys),
            token_clock: Arc::clone(&keys.token_clock),
            drops: Drops::default(),
        }
    }

    /// Starts or stops to accept connections. Those that are there stay.
    pub(super) fn accept(&mut self, server: Option<Arc<ServerConfig>>) {
        self.endpoint.set_server_config(server);
    }

    /// Begins a connection. It is the caller's until [`Self::release`].
    pub(super) fn connect(
        &mut self,
        now: Instant,
        config: ClientConfig,
        remote: SocketAddr,
    ) -> Result<Id, ConnectError> {
        // libp2p sends no server name; the rustls API wants one, and the TLS configuration leaves it out.
        let (handle, quic) = self.endpoint.connect(now, config, remote, "libp2p")?;
        Ok(self.insert(Link::dialled(handle, quic, now)))
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, meta: Meta, bytes: &[u8]) {
        let is_known = || self.links.values().any(|link| link.remote() == meta.from);
        if !self.filter.is_plausible(bytes, is_known) {
            self.drops.garbage = self.drops.garbage.wrapping_add(1);
            return;
        }
        self.token_clock.set(now);
        let mut answer = Vec::new();
        let Meta { from, local_ip, ecn } = meta;
        match self.endpoint.handle(now, from, local_ip, ecn, BytesMut::from(bytes), &mut answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(&id) = self.handles.get(&handle) else { return };
                if let Some(link) = self.links.get_mut(&id) {
                    link.handle_event(event);
                }
                self.touch(id);
                self.settle(id);
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.admit(now, incoming, answer),
            Some(DatagramEvent::Response(transmit)) => self.reply(transmit, answer),
            None => {}
        }
    }

    /// Runs the timers that are due. Each link's at most once: one that is due again at once comes next turn.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..self.timers.len() {
            let Some(&(due, id)) = self.timers.first().filter(|(due, _)| *due <= now) else { return };
            self.timers.remove(&(due, id));
            if let Some(link) = self.links.get_mut(&id) {
                link.handle_timeout(now);
            }
            self.touch(id);
            self.settle(id);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Writes the next datagram into `buf`, or up to `segments` of the same size for one connection.
    /// Connections take turns.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        segments: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Some((transmit, bytes)) = self.replies.pop_front() {
            buf.extend_from_slice(&bytes);
            return Some(transmit);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(link) = self.links.get_mut(&id) else { continue };
            if let Some(transmit) = link.poll_transmit(now, segments, buf) {
                self.ready.push_back(id);
                return Some(transmit);
            }
            link.is_ready = false;
            self.settle(id);
        }
        None
    }

    /// Whether [`Self::poll_transmit`] is worth a call.
    pub(super) fn wants_transmit(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty()
    }

    /// A connection that came in. It is the caller's until [`Self::release`].
    pub(super) fn poll_incoming(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    pub(super) fn has_incoming(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Does something with a connection. `None`: it is gone, with all that was to be said about it.
    pub(super) fn with<R>(&mut self, id: Id, act: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let link = self.links.get_mut(&id)?;
        let result = act(link);
        if link.take_dirty() {
            self.touch(id);
        }
        Some(result)
    }

    /// Nobody will ask for this connection again. It is closed if it is still there.
    pub(super) fn release(&mut self, id: Id) {
        if let Some(link) = self.links.get_mut(&id) {
            link.release();
            self.touch(id);
            self.settle(id);
        }
    }

    /// The machine has other addresses now: live connections that we began send something at once, so that
    /// the peer learns where we are (RFC 9000, section 9; only the client migrates).
    pub(super) fn local_address_changed(&mut self) {
        let ids: Vec<Id> = self.links.iter_mut().filter_map(|(id, l)| l.migrate().then_some(*id)).collect();
        for id in ids {
            self.touch(id);
        }
    }

    /// Nothing will be sent or received any more: everybody who waits for something is told.
    pub(super) fn end(&mut self) {
        for link in self.links.values_mut() {
            link.end();
        }
        self.timers.clear();
        self.ready.clear();
    }

    /// Whether no connection is left, be it only to answer late packets of a closed one.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    #[cfg(test)]
    pub(super) fn drops(&self) -> Drops {
        self.drops
    }

    /// Links, and their timers.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        assert!(self.handles.len() <= self.links.len() && self.half_open <= self.links.len());
        (self.links.len(), self.timers.len())
    }

    /// Decides about a handshake. It costs memory ([`limits::QUIC_HALF_OPEN`]) and a signature: the first few
    /// are free, then the other end has to show that it receives what we send to its address (RFC 9000,
    /// section 8.1), and at some point there is no place.
    fn admit(&mut self, now: Instant, incoming: Incoming, mut answer: Vec<u8>) {
        let validated = incoming.remote_address_validated();
        // Those that were finished faster than anybody picks them up count as well.
        let pending = self.half_open.max(self.arrivals.len());
        if pending >= limits::QUIC_HALF_OPEN {
            self.drops.refused = self.drops.refused.wrapping_add(1);
            if validated {
                // It tries TCP sooner when it is told.
                let transmit = self.endpoint.refuse(incoming, &mut answer);
                return self.reply(transmit, answer);
            }
            return self.endpoint.ignore(incoming);
        }
        if pending >= limits::QUIC_RETRY_ABOVE && !validated {
            self.drops.retried = self.drops.retried.wrapping_add(1);
            return match self.endpoint.retry(incoming, &mut answer) {
                Ok(transmit) => self.reply(transmit, answer),
                Err(error) => self.endpoint.ignore(error.into_incoming()),
            };
        }
        let (remote, local_ip) = (incoming.remote_address(), incoming.local_ip());
        match self.endpoint.accept(incoming, now, &mut answer, None) {
            Ok((handle, quic)) => {
                let id = self.insert(Link::accepted(handle, quic, now));
                self.half_open += 1;
                self.arrivals.push_back(Arrival { id, remote, local_ip });
                self.settle(id);
            }
            Err(error) => {
                log::trace!("a handshake from {remote} cannot be: {}", error.cause);
                if let Some(transmit) = error.response {
                    self.reply(transmit, answer);
                }
            }
        }
    }

    fn reply(&mut self, transmit: Transmit, mut bytes: Vec<u8>) {
        if self.replies.len() < limits::QUIC_REPLIES {
            bytes.truncate(transmit.size);
            self.replies.push_back((transmit, bytes));
        } else {
            self.drops.replies = self.drops.replies.wrapping_add(1);
        }
    }

    fn insert(&mut self, link: Link) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        self.handles.insert(link.handle, id);
        self.links.insert(id, link);
        self.touch(id);
        id
    }

    /// Puts a link in line for sending.
    fn touch(&mut self, id: Id) {
        if let Some(link) = self.links.get_mut(&id)
            && !std::mem::replace(&mut link.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Lets a link and the endpoint tell each other their news, wakes who waited for it, and notes when the
    /// link is due next. To be called whenever a link was told anything.
    fn settle(&mut self, id: Id) {
        let Some(link) = self.links.get_mut(&id) else { return };
        while let Some(event) = link.poll_endpoint_event() {
            if let Some(answer) = self.endpoint.handle_event(link.handle, event) {
                link.handle_event(answer);
            }
        }
        link.notice();
        if link.take_end_of_handshake() {
            self.half_open -= 1;
        }
        if link.is_drained {
            self.handles.remove(&link.handle);
        }
        let (before, after) = link.next_deadline();
        if before != after {
            if let Some(due) = before {
                self.timers.remove(&(due, id));
            }
            if let Some(due) = after {
                self.timers.insert((due, id));
            }
        }
        if link.is_drained && link.is_released {
            self.links.remove(&id);
        }
    }
}

/// Wakes whoever left a waker here.
fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
