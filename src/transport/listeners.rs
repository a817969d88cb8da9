//! What the transports have in common about listening: the addresses that the swarm is told of, and whose turn
//! it is.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportEvent},
};

use crate::transport::interfaces::{Change, Interfaces};

/// A listening socket of some transport. It listens until it is dropped.
pub(crate) trait Listen {
    /// What becomes a connection.
    type Upgrade;
    type Error;

    /// What the socket is bound to; may be a wildcard.
    fn bound(&self) -> SocketAddr;

    /// A connection that came in, or why none can be had for now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming<Self::Upgrade>, Self::Error>>;

    /// How the transport writes an address.
    fn multiaddr(addr: SocketAddr) -> Multiaddr;

    /// How the transport says that interfaces can no longer be watched.
    fn watch_error(source: io::Error) -> Self::Error;
}

/// A connection that came in.
pub(crate) struct Incoming<U> {
    pub(crate) upgrade: U,
    /// The address of ours that was dialled.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What a listener has to tell the swarm.
pub(crate) type Event<L> = TransportEvent<<L as Listen>::Upgrade, <L as Listen>::Error>;

/// All listeners of a transport.
pub(crate) struct Listeners<L: Listen> {
    listening: Vec<Listening<L>>,
    /// Watched while there is a listener on a wildcard address.
    interfaces: Interfaces,
    /// Events to hand out before anything is polled. As long as the list of the machine's addresses.
    pub(super) events: VecDeque<Event<L>>,
    /// The listener whose turn it is, so that a busy one does not starve the others.
    turn: usize,
    /// The task that found nothing to do, to be woken when a listener is added or removed.
    waker: Option<Waker>,
}

impl<L: Listen> Default for Listeners<L> {
    fn default() -> Self {
        Listeners {
            listening: Vec::new(),
            interfaces: Interfaces::default(),
            events: VecDeque::new(),
            turn: 0,
            waker: None,
        }
    }
}

impl<L: Listen> Listeners<L> {
    /// Takes a listener in. One on a wildcard address is announced under those that the machine has and gets.
    pub(crate) fn add(&mut self, id: ListenerId, listener: L) -> io::Result<()> {
        let mut new = Listening { id, listener, announced: BTreeSet::new() };
        if new.is_wildcard() {
            self.interfaces.watch()?;
            self.events.extend(self.interfaces.up().filter_map(|ip| new.announce(ip)));
        } else {
            self.events.extend(new.announce(new.listener.bound().ip()));
        }
        self.listening.push(new);
        self.wake();
        Ok(())
    }

    /// Hands a listener back. Its addresses expire, and [`TransportEvent::ListenerClosed`] comes last.
    pub(crate) fn remove(&mut self, id: ListenerId) -> Option<L> {
        let index = self.listening.iter().position(|ours| ours.id == id)?;
        let mut old = self.listening.remove(index);
        self.events.extend(old.expire_all());
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        if !self.listening.iter().any(Listening::is_wildcard) {
            self.interfaces.unwatch();
        }
        self.wake();
        Some(old.listener)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &L> {
        self.listening.iter().map(|ours| &ours.listener)
    }

    /// The listener whose port a connection to `remote` can come from.
    pub(crate) fn suiting(&self, remote: IpAddr) -> Option<&L> {
        self.iter().find(|listener| suits(listener.bound().ip(), remote))
    }

    /// The next event. While there is a wildcard listener, `changed` is told what addresses the machine gets
    /// and loses.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut changed: impl FnMut(&Self, IpAddr),
    ) -> Poll<Event<L>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let Poll::Ready(change) = self.interfaces.poll(cx) else { break };
            if let Some(ip) = self.on_change(change) {
                changed(self, ip);
            }
        }
        let polled = self.poll_listening(cx);
        if polled.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }

    /// Tells the swarm what a change means for it. Returns the address that changed, if one did.
    pub(super) fn on_change(&mut self, change: Change) -> Option<IpAddr> {
        let wildcards = self.listening.iter_mut().filter(|ours| ours.is_wildcard());
        match change {
            Change::Up(ip) => {
                self.events.extend(wildcards.filter_map(|ours| ours.announce(ip)));
                Some(ip)
            }
            Change::Down(ip) => {
                self.events.extend(wildcards.filter_map(|ours| ours.expire(ip)));
                Some(ip)
            }
            Change::Lost(error) => {
                for ours in wildcards {
                    // Nothing would tell us when one of these goes away.
                    self.events.extend(ours.expire_all());
                    self.events.push_back(TransportEvent::ListenerError {
                        listener_id: ours.id,
                        error: L::watch_error(io::Error::new(error.kind(), error.to_string())),
                    });
                }
                None
            }
        }
    }

    fn poll_listening(&mut self, cx: &mut Context<'_>) -> Poll<Event<L>> {
        let count = self.listening.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if let Poll::Ready(event) = self.listening[index].poll(cx) {
                self.turn = index + 1;
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Whether a connection to `remote` can come from a socket bound to `local`.
pub(crate) fn suits(local: IpAddr, remote: IpAddr) -> bool {
    local.is_ipv4() == remote.is_ipv4()
        && (local.is_unspecified() || local.is_loopback() == remote.is_loopback())
}

/// A listener and what the swarm knows of it.
struct Listening<L> {
    id: ListenerId,
    listener: L,
    /// Addresses announced and not expired: those of the machine for a wildcard, else the bound one.
    announced: BTreeSet<IpAddr>,
}

impl<L: Listen> Listening<L> {
    fn is_wildcard(&self) -> bool {
        self.listener.bound().ip().is_unspecified()
    }

    /// Announces an address, if it is one of this listener's and new.
    fn announce(&mut self, ip: IpAddr) -> Option<Event<L>> {
        let bound = self.listener.bound().ip();
        let ours = ip.is_ipv4() == bound.is_ipv4() && (bound.is_unspecified() || ip == bound);
        (ours && self.announced.insert(ip))
            .then(|| TransportEvent::NewAddress { listener_id: self.id, listen_addr: self.at(ip) })
    }

    /// Takes an announcement back.
    fn expire(&mut self, ip: IpAddr) -> Option<Event<L>> {
        self.announced
            .remove(&ip)
            .then(|| TransportEvent::AddressExpired { listener_id: self.id, listen_addr: self.at(ip) })
    }

    /// Takes all announcements back.
    fn expire_all(&mut self) -> Vec<Event<L>> {
        let ips: Vec<_> = self.announced.iter().copied().collect();
        ips.into_iter().filter_map(|ip| self.expire(ip)).collect()
    }

    /// The bound address with another IP, so that port and zone stay.
    fn at(&self, ip: IpAddr) -> Multiaddr {
        let mut addr = self.listener.bound();
        addr.set_ip(ip);
        L::multiaddr(addr)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event<L>> {
        self.listener.poll(cx).map(|polled| match polled {
            Ok(Incoming { upgrade, local, remote }) => TransportEvent::Incoming {
                listener_id: self.id,
                upgrade,
                local_addr: L::multiaddr(local),
                send_back_addr: L::multiaddr(remote),
            },
            Err(error) => TransportEvent::ListenerError { listener_id: self.id, error },
        })
    }
}
