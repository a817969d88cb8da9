//! libp2p's [mDNS discovery](https://github.com/libp2p/specs/blob/master/discovery/mdns.md) on [`async_io`]: nodes
//! on one link find each other by multicast DNS (RFC 6762), without having been told anything.
//!
//! - Spoken on every interface with a network of more than one machine, in IPv4 and IPv6, as interfaces come and
//!   go. Not on loopback: two nodes of one machine meet on any other interface that it has.
//! - A node says on an interface only what it listens at on that interface, and believes only addresses in the
//!   networks of the interface that it heard them on. IPv6 link-local addresses are neither said nor believed:
//!   they want a zone, which differs from machine to machine. So a link with nothing but these needs IPv4.
//! - Peers go by random names that last as long as the process.
//! - Nothing fails for good: a socket that cannot be had is tried again ([`limits::MDNS_RETRY`]).
//! - What a flood can cost is bounded by the section on mDNS in [`limits`].
//!
//! From the inside out: the `message` is bytes and their meaning, the `core` all else as values, without clock or
//! socket; the `socket` talks to the kernel, and [`Behaviour`] is the loop between them.

mod core;
mod message;
mod socket;

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, ExpiredListenAddr, FromSwarm, NetworkBehaviour, NewListenAddr,
        ToSwarm, dummy,
    },
};

use self::{
    core::{Core, Pace, Segment, Subnet},
    socket::Socket,
};
use crate::{
    limits,
    transport::netlink::{self, Watch},
};

/// What was found out about a peer on the local network. It is what somebody there says; a connection proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer is there, or is at addresses that were not known. `addrs` are all that are known now, without the
    /// peer ID: at most [`limits::MDNS_PEER_ADDRESSES`].
    Found { peer: PeerId, addrs: Vec<Multiaddr> },
    /// A peer said goodbye, or was not heard of for longer than it promised. Connections to it may live on.
    Gone { peer: PeerId },
}

/// mDNS discovery as a part of a swarm. See the [module](self) for what it does.
pub struct Behaviour {
    core: Core,
    interfaces: Interfaces,
    sockets: Vec<(Segment, Socket)>,
    /// Segments whose sockets could not be had or broke, of which the log knows.
    refused: Vec<Segment>,
    /// When to try them again.
    retry: Option<Delay>,
    /// Fires when the core wants it.
    timer: Delay,
    /// What `timer` is set to.
    timer_due: Option<Instant>,
    buffer: Box<[u8]>,
    /// How many datagrams are received at all.
    reading: Pace,
    /// Too many came: nothing is received until this is done.
    rest: Option<Delay>,
}

/// What is known of this machine's interfaces.
enum Interfaces {
    Watched(Watch),
    /// The watcher broke. It is opened again after a while.
    Lost(Delay),
}

impl Behaviour {
    /// For a node with this peer ID. Its addresses are what the swarm says it listens at.
    ///
    /// # Errors
    /// When the kernel does not tell of its interfaces.
    pub fn new(peer: PeerId) -> io::Result<Self> {
        Ok(Behaviour {
            core: Core::new(peer, fastrand::Rng::new(), Instant::now()),
            interfaces: Interfaces::Watched(Watch::with_links()?),
            sockets: Vec::new(),
            refused: Vec::new(),
            retry: None,
            timer: Delay::new(limits::MDNS_RETRY),
            timer_due: None,
            buffer: vec![0; limits::MDNS_RECEIVE_BYTES].into(),
            reading: Pace::new(limits::MDNS_READ_BURST, limits::MDNS_READ_PACE),
            rest: None,
        })
    }

    /// Ready when something may have changed.
    fn poll_interfaces(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        match &mut self.interfaces {
            Interfaces::Watched(watch) => match ready!(watch.poll(cx)) {
                Ok(event) => self.on_interface(event, now),
                Err(error) => {
                    log::info!("mDNS lost sight of the interfaces: {error}");
                    self.core.subnets_lost();
                    self.interfaces = Interfaces::Lost(Delay::new(limits::INTERFACE_RETRY));
                }
            },
            Interfaces::Lost(delay) => {
                ready!(Pin::new(&mut *delay).poll(cx));
                self.interfaces = match Watch::with_links() {
                    Ok(watch) => Interfaces::Watched(watch),
                    Err(_) => Interfaces::Lost(Delay::new(limits::INTERFACE_RETRY)),
                };
            }
        }
        Poll::Ready(())
    }

    fn on_interface(&mut self, event: netlink::Event, now: Instant) {
        match event {
            netlink::Event::Assigned(at) => {
                self.core.subnet_up(at.index, Subnet { ip: at.ip, prefix: at.prefix }, now);
            }
            netlink::Event::Removed(at) => {
                self.core.subnet_down(at.index, Subnet { ip: at.ip, prefix: at.prefix });
            }
            netlink::Event::LinkUp(index) => {
                log::debug!("interface {index} is connected");
                self.core.link_up(index, now);
            }
            netlink::Event::Up(_) | netlink::Event::Down(_) => return,
        }
        self.fit_sockets(now);
    }

    /// Opens and closes sockets, so that each segment has one.
    fn fit_sockets(&mut self, now: Instant) {
        self.sockets.retain(|(segment, _)| self.core.has(*segment));
        self.refused.retain(|segment| self.core.has(*segment));
        let bare: Vec<Segment> =
            self.core.segments().filter(|segment| self.socket(*segment).is_none()).collect();
        for segment in bare {
            match Socket::open(segment) {
                Ok(socket) => {
                    log::debug!("mDNS on {segment}");
                    self.sockets.push((segment, socket));
                    if self.refused.contains(&segment) {
                        self.refused.retain(|refused| *refused != segment);
                        self.core.restart(segment, now);
                    }
                }
                Err(error) => self.refuse(segment, &error),
            }
        }
    }

    /// Is told once, for it may stay so for ever: no IPv6, or a program that shares its port with nobody.
    fn refuse(&mut self, segment: Segment, error: &io::Error) {
        let is_known = self.refused.contains(&segment);
        let level = if is_known { log::Level::Debug } else { log::Level::Info };
        self.refused.extend((!is_known).then_some(segment));
        log::log!(level, "no mDNS on {segment} for now: {error}");
        self.retry.get_or_insert_with(|| Delay::new(limits::MDNS_RETRY));
    }

    fn socket(&self, segment: Segment) -> Option<&Socket> {
        self.sockets.iter().find(|(on, _)| *on == segment).map(|(_, socket)| socket)
    }

    fn poll_retry(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(retry) = &mut self.retry else { return Poll::Pending };
        ready!(Pin::new(retry).poll(cx));
        self.retry = None;
        self.fit_sockets(Instant::now());
        Poll::Ready(())
    }

    /// Hands the core what has arrived. `false`: there may be more.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(rest) = &mut self.rest {
            if Pin::new(rest).poll(cx).is_pending() {
                return true;
            }
            self.rest = None;
        }
        let mut is_all = true;
        // A share for each, so that a flood on one segment does not keep the others waiting.
        let share = (limits::MDNS_DATAGRAMS_PER_TURN / self.sockets.len().max(1)).max(1);
        let mut broken = Vec::new();
        for (segment, socket) in &mut self.sockets {
            let mut left = share;
            while left > 0 {
                let now = Instant::now();
                match socket.poll(cx, &mut self.buffer) {
                    Poll::Ready(Ok((len, from))) => {
                        self.core.handle_datagram(*segment, from, &self.buffer[..len], now);
                        if !self.reading.take(now) {
                            self.rest = Some(Delay::new(limits::MDNS_READ_REST));
                        }
                        left -= 1;
                    }
                    Poll::Ready(Err(error)) => {
                        broken.push((*segment, error));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            is_all &= left > 0;
        }
        for (segment, error) in broken {
            self.sockets.retain(|(on, _)| *on != segment);
            self.refuse(segment, &error);
        }
        is_all
    }

    fn send_all(&mut self) {
        while let Some(transmit) = self.core.poll_transmit() {
            if let Some(socket) = self.socket(transmit.segment)
                && let Err(error) = socket.send(transmit.to, &transmit.bytes)
            {
                // The link is down, or an address not yet usable: it is said again later.
                log::debug!("mDNS could not send on {}: {error}", transmit.segment);
            }
        }
    }

    /// Ready when the core may have something.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.core.poll_timeout();
        let Some(at) = due else { return Poll::Pending };
        if self.timer_due != due {
            self.timer_due = due;
            self.timer.reset(at.saturating_duration_since(Instant::now()));
        }
        ready!(Pin::new(&mut self.timer).poll(cx));
        self.timer_due = None;
        self.core.handle_timeout(Instant::now());
        Poll::Ready(())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) => {
                self.core.listen(addr.clone(), Instant::now());
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) => {
                self.core.listen_no_more(addr, Instant::now());
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, Infallible>> {
        while self.poll_interfaces(cx).is_ready() {}
        while self.poll_retry(cx).is_ready() {}
        let is_all = self.receive(cx);
        while self.poll_timer(cx).is_ready() {}
        self.send_all();
        if let Some(event) = self.core.poll_event() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        if !is_all {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Says goodbye, as far as that can be done without waiting.
impl Drop for Behaviour {
    fn drop(&mut self) {
        self.core.goodbye();
        self.send_all();
    }
}
