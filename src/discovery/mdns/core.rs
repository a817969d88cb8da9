//! mDNS discovery as values: datagrams, addresses and times go in, datagrams and events come out. No socket, no
//! clock, no task.
//!
//! On each segment a node asks at once, then ever more rarely, and answers whoever asks, itself included. What
//! it may cost is bounded twice: by the [accounts](pace) of those who send, and by what is [remembered](known).

mod known;
mod pace;
mod subnet;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use self::{
    known::{Heard, Known},
    pace::Accounts,
};
pub(super) use self::{pace::Pace, subnet::Subnet};
use super::{
    Event,
    message::{self, Announcement, Answer, Message, Query},
};
use crate::{limits, transport::address::needs_zone};

/// The port of mDNS, of whoever speaks all of it.
pub(super) const PORT: u16 = 5353;

/// What one multicast datagram reaches: the link of an interface, as seen by one IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The interface's number.
    pub(super) index: u32,
    pub(super) v6: bool,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {} (IPv{})", self.index, if self.v6 { 6 } else { 4 })
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transmit {
    pub(super) segment: Segment,
    /// `None`: to everybody there.
    pub(super) to: Option<SocketAddr>,
    pub(super) bytes: Vec<u8>,
}

/// One node's part in mDNS.
#[derive(Debug)]
pub(super) struct Core {
    peer: PeerId,
    /// Means nothing, and is another one after each start.
    name: String,
    random: fastrand::Rng,
    /// Where this node listens.
    listen: Vec<Multiaddr>,
    /// Each with the number of its interface.
    subnets: Vec<(u32, Subnet)>,
    segments: Vec<State>,
    known: Known,
    accounts: Accounts,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// What goes on on a segment.
#[derive(Debug)]
struct State {
    segment: Segment,
    /// When to ask next, how long to wait after that, and when we asked last.
    ask_due: Instant,
    interval: Duration,
    asked: Option<Instant>,
    /// When to answer, if somebody asked, and when we answered last.
    answer_due: Option<Instant>,
    answered: Option<Instant>,
    /// Somebody wants to know of services.
    services: bool,
    legacy: Pace,
}

impl Core {
    pub(super) fn new(peer: PeerId, mut random: fastrand::Rng, now: Instant) -> Self {
        Core {
            peer,
            name: message::peer_name(&mut random),
            random,
            listen: Vec::new(),
            subnets: Vec::new(),
            segments: Vec::new(),
            known: Known::default(),
            accounts: Accounts::new(now),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// This node listens at one more address.
    pub(super) fn listen(&mut self, addr: Multiaddr, now: Instant) {
        let ip = subnet::listening_ip(&addr);
        if !self.listen.contains(&addr) {
            self.listen.push(addr);
            self.changed(ip, now);
        }
    }

    /// This node no longer listens at an address.
    pub(super) fn listen_no_more(&mut self, addr: &Multiaddr, now: Instant) {
        if let Some(at) = self.listen.iter().position(|listen| listen == addr) {
            self.listen.swap_remove(at);
            self.changed(subnet::listening_ip(addr), now);
        }
    }

    /// An interface has one more address.
    pub(super) fn subnet_up(&mut self, index: u32, subnet: Subnet, now: Instant) {
        self.subnets.push((index, subnet));
        let segment = Segment { index, v6: subnet.ip.is_ipv6() };
        let has_place = self.segments.len() < limits::MDNS_SEGMENTS;
        if subnet.has_others() && has_place && !self.has(segment) {
            self.segments.push(State::new(segment, now));
            self.restart(segment, now);
        }
    }

    /// An interface has lost an address.
    pub(super) fn subnet_down(&mut self, index: u32, subnet: Subnet) {
        let segment = Segment { index, v6: subnet.ip.is_ipv6() };
        self.subnets.retain(|known| *known != (index, subnet));
        let is_used = self.on(index).any(|left| left.has_others() && left.ip.is_ipv6() == segment.v6);
        if !is_used && self.has(segment) {
            self.segments.retain(|state| state.segment != segment);
            self.known.leave(segment, &mut self.events);
        }
    }

    /// Nothing is known of the interfaces any more.
    pub(super) fn subnets_lost(&mut self) {
        self.subnets.clone().into_iter().for_each(|(index, subnet)| self.subnet_down(index, subnet));
    }

    /// The link of an interface works again: there may be others on it now.
    pub(super) fn link_up(&mut self, index: u32, now: Instant) {
        [false, true].into_iter().for_each(|v6| self.restart(Segment { index, v6 }, now));
    }

    /// Where mDNS is to be spoken.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> {
        self.segments.iter().map(|state| state.segment)
    }

    pub(super) fn has(&self, segment: Segment) -> bool {
        self.segments.iter().any(|state| state.segment == segment)
    }

    /// Tells a segment of this node, and asks who is there, as if it were new.
    pub(super) fn restart(&mut self, segment: Segment, now: Instant) {
        let delay = self.delay();
        if let Some(state) = self.state(segment) {
            state.interval = limits::MDNS_QUERY_FIRST;
            let least = state.asked.map_or(now, |asked| asked + limits::MDNS_QUERY_FIRST);
            state.ask_due = least.max(now + delay);
            state.answer(now, delay);
        }
    }

    /// Takes what a segment brought.
    pub(super) fn handle_datagram(&mut self, segment: Segment, from: SocketAddr, bytes: &[u8], now: Instant) {
        let source = from.ip().to_canonical();
        // What comes from elsewhere is none of our business (RFC 6762, section 11).
        let is_near = needs_zone(source) || self.is_on_link(segment.index, source);
        if !self.has(segment) || !is_near {
            return;
        }
        if !self.accounts.of(source, now).datagrams.take(now) {
            return;
        }
        match message::read(bytes) {
            Some(Message::Query(query)) => self.on_query(segment, from, &query, now),
            // Upstream libp2p answers from any port, although the RFC wants 5353 (section 6).
            Some(Message::Answer(answer)) if answer.peer != self.peer => {
                self.on_answer(segment, source, answer, now);
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let ask = self.known.expire(now, &mut self.events);
        for segment in self.segments().collect::<Vec<_>>() {
            let (delay, jitter) = (self.delay(), self.random.f64());
            let Some(state) = self.state(segment) else { continue };
            if ask.contains(&segment) && state.asked.is_none_or(|at| at + limits::MDNS_QUERY_SHARED <= now) {
                state.ask_due = state.ask_due.min(now + delay);
            }
            if state.ask_due <= now {
                state.asked = Some(now);
                state.wait(now, jitter);
                self.transmit(segment, None, message::ask());
            }
            self.answer_if_due(segment, now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let of = |state: &State| state.answer_due.map_or(state.ask_due, |due| due.min(state.ask_due));
        self.segments.iter().map(of).chain(self.known.due()).min()
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that the node should know.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells all who may have heard of this node that it ends.
    pub(super) fn goodbye(&mut self) {
        let told = self.segments.iter().filter(|state| state.answered.is_some());
        for segment in told.map(|state| state.segment).collect::<Vec<_>>() {
            let bytes = self.announcement(segment, |own| Announcement { ttl: 0, ..own }.multicast(false));
            self.transmit(segment, None, bytes);
        }
    }

    /// One of our addresses came or went.
    fn changed(&mut self, ip: Option<IpAddr>, now: Instant) {
        let touched = self.subnets.iter().filter(|(_, subnet)| Some(subnet.ip) == ip);
        for index in touched.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.restart(Segment { index, v6: ip.is_some_and(|ip| ip.is_ipv6()) }, now);
        }
    }

    fn on_query(&mut self, segment: Segment, from: SocketAddr, query: &Query, now: Instant) {
        let (delay, jitter) = (self.delay(), self.random.f64());
        let still = |ttl: u32| u64::from(ttl) * 2 >= limits::MDNS_TTL.as_secs();
        let is_known = query.known.iter().any(|(name, ttl)| *name == self.name && still(*ttl));
        let Some(state) = self.state(segment) else { return };
        // Everybody will answer, and we hear it as well as who asked (section 7.3). Our own question is none to
        // leave the next one out for.
        let is_other = state.asked.is_none_or(|asked| asked + limits::MDNS_QUERY_FIRST <= now);
        if is_other && query.peers && query.known.is_empty() && state.interval >= limits::MDNS_QUERY_SHARED {
            state.wait(now, jitter);
        }
        if is_known && !query.services {
            return;
        }
        state.services |= query.services;
        state.answer(now, delay);
        // Who asks from another port does not listen on 5353 (section 6.7), unless it is upstream libp2p, which
        // does, and does not listen where it asked from. So the multicast answer goes out in any case.
        if from.port() != PORT && state.legacy.take(now) {
            let bytes = self.announcement(segment, |own| own.legacy(query));
            self.transmit(segment, Some(from), bytes);
        }
    }

    fn on_answer(&mut self, segment: Segment, source: IpAddr, answer: Answer, now: Instant) {
        let Answer { peer, mut addrs, ttl } = answer;
        addrs.retain(|addr| {
            let ip = subnet::dialable_ip(addr);
            ip.is_some_and(|ip| self.is_on_link(segment.index, ip)) && !self.listen.contains(addr)
        });
        let news = &mut self.accounts.of(source, now).news;
        self.known.hear(Heard { peer, addrs, ttl, segment, source }, news, now, &mut self.events);
    }

    fn answer_if_due(&mut self, segment: Segment, now: Instant) {
        let Some(state) = self.state(segment) else { return };
        if state.answer_due.is_none_or(|due| due > now) {
            return;
        }
        state.answer_due = None;
        let services = std::mem::take(&mut state.services);
        let bytes = self.announcement(segment, |own| own.multicast(services));
        if !bytes.is_empty()
            && let Some(state) = self.state(segment)
        {
            state.answered = Some(now);
        }
        self.transmit(segment, None, bytes);
    }

    /// What there is to say of this node on a segment: our addresses of that interface and family, no others.
    ///
    /// Those of the other family have a segment of their own. Upstream libp2p would take the port of such an
    /// address and put the address in front that it sees us come from.
    fn announcement(&self, segment: Segment, write: impl FnOnce(Announcement<'_>) -> Vec<u8>) -> Vec<u8> {
        let is_here = |ip: IpAddr| {
            ip.is_ipv6() == segment.v6
                && self.on(segment.index).any(|subnet| subnet.ip == ip && subnet.has_others())
        };
        let fits = |addr: &&Multiaddr| subnet::listening_ip(addr).is_some_and(is_here);
        let addrs: Vec<Multiaddr> = self.listen.iter().filter(fits).cloned().collect();
        let ttl = limits::MDNS_TTL.as_secs() as u32;
        write(Announcement { name: &self.name, peer: self.peer, addrs: &addrs, ttl })
    }

    fn is_on_link(&self, index: u32, ip: IpAddr) -> bool {
        self.on(index).any(|subnet| subnet.contains(ip))
    }

    /// The networks of an interface.
    fn on(&self, index: u32) -> impl Iterator<Item = Subnet> {
        self.subnets.iter().filter(move |(on, _)| *on == index).map(|(_, subnet)| *subnet)
    }

    fn state(&mut self, segment: Segment) -> Option<&mut State> {
        self.segments.iter_mut().find(|state| state.segment == segment)
    }

    fn transmit(&mut self, segment: Segment, to: Option<SocketAddr>, bytes: Vec<u8>) {
        if !bytes.is_empty() && self.transmits.len() < limits::MDNS_TRANSMITS {
            self.transmits.push_back(Transmit { segment, to, bytes });
        }
    }

    fn delay(&mut self) -> Duration {
        let [least, most] = limits::MDNS_DELAY;
        least + (most - least).mul_f64(self.random.f64())
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize, usize, usize) {
        let (peers, addrs) = self.known.sizes();
        (peers, addrs, self.accounts.len(), self.transmits.len())
    }
}

impl State {
    fn new(segment: Segment, now: Instant) -> Self {
        State {
            segment,
            ask_due: now,
            interval: limits::MDNS_QUERY_FIRST,
            asked: None,
            answer_due: None,
            answered: None,
            services: false,
            legacy: Pace::new(limits::MDNS_LEGACY_BURST, limits::MDNS_LEGACY_PACE),
        }
    }

    /// Has the question go out an interval from now, and the one after that later still. The random part keeps
    /// nodes that started together from asking together.
    fn wait(&mut self, now: Instant, jitter: f64) {
        self.ask_due = now + self.interval.mul_f64(1.0 + 0.1 * jitter);
        self.interval = (self.interval * limits::MDNS_QUERY_GROWTH).min(limits::MDNS_QUERY_MOST);
    }

    /// Has the answer go out soon, unless it does so anyway.
    fn answer(&mut self, now: Instant, delay: Duration) {
        let least = self.answered.map_or(now, |answered| answered + limits::MDNS_ANSWER_PACE);
        self.answer_due.get_or_insert(least.max(now + delay));
    }
}
