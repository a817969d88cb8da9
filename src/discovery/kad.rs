//! The DHT in which the members of a room find each other: libp2p's Kademlia, with a mind of its own about
//! what others say.
//!
//! - A **private** DHT (`/warren/kad/1.0.0`) by default: its nodes are warrens. The **public** one of IPFS
//!   (`/ipfs/kad/1.0.0`) is joined as a client only.
//! - The only thing kept for others is who provides which key.
//! - Told addresses are dialled only where [`Networks`] lets them, whoever told them.
//! - The routing table takes peers that we are connected with and that speak the protocol, at addresses that may be
//!   dialled, a few for each IP prefix, and drops who cannot be reached.
//! - Lookups take disjoint paths (S/Kademlia): one liar among the nodes asked leads one path astray.
//! - Dials for lookups have a budget, and those for the upkeep of the table a smaller one: libp2p's Kademlia looks for
//!   its own key and in each bucket after each newcomer, until it knows 20.

mod records;
mod resting;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroUsize,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{self, GetProvidersOk, Mode, QueryId, QueryResult, RecordKey},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, behaviour::DialFailure, behaviour::ExternalAddrConfirmed,
        behaviour::ExternalAddrExpired,
    },
};

use self::{records::Records, resting::Resting};
use super::{
    rendezvous::{Query, RoomKey},
    scope::{self, Networks, Prefix},
};
use crate::limits;

/// Which DHT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dht {
    /// That of warrens.
    #[default]
    Private,
    /// That of IPFS, as a client.
    Public,
}

const PRIVATE: StreamProtocol = StreamProtocol::new("/warren/kad/1.0.0");
const PUBLIC: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");

/// What the DHT has to tell.
#[derive(Debug)]
pub enum Event {
    /// Somebody says that these peers are in the room. Their addresses may be dialled.
    Found { key: RoomKey, peers: Vec<(PeerId, Vec<Multiaddr>)> },
    /// A query has ended. It succeeded if anybody answered.
    Done { query: Query, succeeded: bool },
    /// The number of peers in the routing table has changed.
    Routes(usize),
}

/// Kademlia.
pub struct Behaviour {
    inner: kad::Behaviour<Records>,
    dht: Dht,
    protocol: StreamProtocol,
    networks: Networks,
    /// Queries of ours that are under way; the rest is Kademlia's upkeep.
    queries: HashMap<QueryId, Query>,
    /// Peers in the routing table, with the dials that have failed since the last connection.
    table: HashMap<PeerId, u8>,
    /// Peers in the table when that was last told.
    told: usize,
    events: VecDeque<Event>,
    dials: Budget,
    upkeep: Budget,
    resting: Resting,
    /// Who is said to provide what is looked up. Kademlia would ask them as if they were nodes of the DHT, and
    /// wait; whether they are worth a dial is for others to judge.
    providers: HashSet<PeerId>,
    /// The circuits that are told, one for each relay and IP family: a relay's other addresses lead to the same
    /// place, and would leave no room for addresses that lead elsewhere.
    circuits: HashMap<(PeerId, bool), Multiaddr>,
}

impl Behaviour {
    pub fn new(me: PeerId, dht: Dht) -> Self {
        let protocol = match dht {
            Dht::Private => PRIVATE,
            Dht::Public => PUBLIC,
        };
        let mut inner = kad::Behaviour::with_config(me, Records::new(me), config(protocol.clone(), dht));
        inner.set_mode(Some(Mode::Client));
        Behaviour {
            inner,
            dht,
            protocol,
            networks: Networks::default(),
            queries: HashMap::new(),
            table: HashMap::new(),
            told: 0,
            events: VecDeque::new(),
            dials: Budget::new(limits::DHT_DIALS, Instant::now()),
            upkeep: Budget::new(limits::DHT_UPKEEP_DIALS, Instant::now()),
            resting: Resting::default(),
            providers: HashSet::new(),
            circuits: HashMap::new(),
        }
    }

    /// Starts a query.
    pub fn start(&mut self, query: Query) {
        let id = match query {
            Query::Lookup(key) => Some(self.inner.get_providers(record_key(&key))),
            // Own keys cannot be refused: there are as many as rooms.
            Query::Provide(key) => self.inner.start_providing(record_key(&key)).ok(),
        };
        match id {
            Some(id) => drop(self.queries.insert(id, query)),
            None => self.events.push_back(Event::Done { query, succeeded: false }),
        }
    }

    /// This node is no longer in the room. What others keep of it expires.
    pub fn left(&mut self, key: &RoomKey) {
        self.inner.stop_providing(&record_key(key));
    }

    /// The networks in which told addresses may be dialled.
    pub fn set_networks(&mut self, networks: Networks) {
        self.networks = networks;
    }

    /// Whether others may be sent here with their questions. In the public DHT they never are: a small machine
    /// was seen at 650 % CPU and 1 GB as its member.
    pub fn set_server(&mut self, server: bool) {
        let mode = if server && self.dht == Dht::Private { Mode::Server } else { Mode::Client };
        if self.inner.mode() != mode {
            log::info!("this node is a {mode} of the DHT now");
            self.inner.set_mode(Some(mode));
        }
    }

    /// A connected peer said what it speaks and where it listens; `dialled` is where we reached it.
    pub fn identified(
        &mut self,
        peer: PeerId,
        protocols: &[StreamProtocol],
        listen_addrs: &[Multiaddr],
        dialled: Option<&Multiaddr>,
    ) {
        if !protocols.contains(&self.protocol) {
            return self.remove(&peer);
        }
        let told = listen_addrs.iter().filter(|addr| self.networks.may_dial(addr));
        // Where we reached it, it can be reached, whatever the address looks like; others are told, too.
        let addrs = dialled.into_iter().chain(told).filter(|addr| !scope::is_circuit(addr)).map(without_peer);
        let mut addrs: Vec<Multiaddr> = addrs.collect();
        addrs.dedup();
        addrs.truncate(limits::DHT_ADDRESSES);
        let Some(first) = addrs.first() else { return };
        if !self.table.contains_key(&peer) && !self.has_room_for(first) {
            return log::debug!(
                "{peer} at {first} is not taken into the routing table, which has enough of these"
            );
        }
        for addr in addrs {
            let update = self.inner.add_address(&peer, addr);
            if matches!(update, kad::RoutingUpdate::Success) {
                self.table.insert(peer, 0);
            }
        }
        self.tell_routes();
    }

    /// Peers in the routing table.
    pub fn routes(&self) -> usize {
        self.table.len()
    }

    /// A table full of one prefix's nodes would see the world through their eyes. Nodes of networks that are not
    /// public are not counted: a house or a cluster has one prefix, and whoever is in it is trusted to dial.
    fn has_room_for(&mut self, addr: &Multiaddr) -> bool {
        if self.table.len() >= limits::DHT_TABLE {
            return false;
        }
        let Some(owner) = self.owner_of(addr) else { return true };
        let firsts: Vec<Multiaddr> = self
            .inner
            .kbuckets()
            .flat_map(|bucket| {
                bucket.iter().map(|entry| entry.node.value.first().clone()).collect::<Vec<_>>()
            })
            .collect();
        firsts.iter().filter(|addr| self.owner_of(addr) == Some(owner)).count() < limits::DHT_PER_PREFIX
    }

    fn owner_of(&self, addr: &Multiaddr) -> Option<Prefix> {
        scope::ip_of(addr).filter(|ip| !self.networks.is_neighbour(*ip)).map(Prefix::of_owner)
    }

    fn remove(&mut self, peer: &PeerId) {
        if self.table.remove(peer).is_some() {
            self.inner.remove_peer(peer);
            self.tell_routes();
        }
    }

    fn tell_routes(&mut self) {
        if std::mem::replace(&mut self.told, self.table.len()) != self.table.len() {
            self.events.push_back(Event::Routes(self.table.len()));
        }
    }

    fn on_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                let Some(query) = self.queries.get(&id).copied() else { return };
                if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) =
                    result
                {
                    self.on_found(query, providers);
                }
                if step.last {
                    self.queries.remove(&id);
                    if self.queries.is_empty() {
                        self.providers.clear();
                    }
                    self.events.push_back(Event::Done { query, succeeded: stats.num_successes() > 0 });
                }
            }
            kad::Event::RoutingUpdated { peer, is_new_peer, old_peer, .. } => {
                if let Some(old) = old_peer {
                    self.table.remove(&old);
                }
                if is_new_peer {
                    self.table.insert(peer, 0);
                }
                self.tell_routes();
            }
            _ => {}
        }
    }

    fn on_found(&mut self, query: Query, providers: impl IntoIterator<Item = PeerId>) {
        let (Query::Lookup(key) | Query::Provide(key)) = query;
        let found = providers.into_iter().take(limits::DHT_PROVIDERS_PER_KEY);
        // While the query runs, Kademlia knows the addresses that came with the answers.
        let peers: Vec<_> = found.map(|peer| (peer, self.addresses_of(peer))).collect();
        let room = limits::DHT_FOUND.saturating_sub(self.providers.len());
        self.providers.extend(peers.iter().take(room).map(|(peer, _)| *peer));
        self.events.push_back(Event::Found { key, peers });
    }

    /// The addresses of a peer that Kademlia knows of, as far as they may be dialled.
    fn addresses_of(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let id = ConnectionId::new_unchecked(0);
        let known = self.inner.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer);
        let mut addrs: Vec<Multiaddr> = known.unwrap_or_default();
        addrs.retain(|addr| self.networks.may_dial(addr));
        // The way that works, if any does, comes first; then the short ways; a house has the same addresses as the
        // next one.
        let (circuits, direct): (Vec<_>, Vec<_>) = addrs.into_iter().partition(scope::is_circuit);
        let is_public = |addr: &Multiaddr| Networks::default().may_dial(addr);
        let (public, local): (Vec<_>, Vec<_>) = direct.into_iter().partition(is_public);
        let (first, rest) = circuits.split_at(circuits.len().min(2));
        let mut addrs = [first, &public, &local, rest].concat();
        addrs.truncate(limits::DHT_ADDRESSES);
        addrs
    }

    fn on_dial_failure(&mut self, failure: &DialFailure<'_>) {
        // Not dialled at all says nothing of the peer.
        if matches!(failure.error, DialError::DialPeerConditionFalse(_) | DialError::Denied { .. }) {
            return;
        }
        let Some(peer) = failure.peer_id else { return };
        self.resting.missed(peer, Instant::now());
        if let Some(failures) = self.table.get_mut(&peer) {
            *failures += 1;
            if *failures >= limits::DHT_FAILURES {
                self.remove(&peer);
            }
        }
    }

    /// Ends the queries with which Kademlia keeps up its table while it has other things to do, or has dialled enough.
    fn put_upkeep_off(&mut self) {
        let is_upkeep = |query: &kad::QueryMut<'_>| matches!(query.info(), kad::QueryInfo::Bootstrap { .. });
        let mut upkeep = self.inner.iter_queries_mut().filter(is_upkeep).peekable();
        // This is asked at each turn of the node, and nearly always there is none.
        if upkeep.peek().is_some() && !(self.queries.is_empty() && self.upkeep.has(Instant::now())) {
            upkeep.for_each(|mut query| query.finish());
        }
    }

    /// Whether a query may dial this peer.
    fn may_dial(&mut self, peer: Option<PeerId>) -> bool {
        let now = Instant::now();
        let is_futile = |peer: PeerId| {
            self.resting.has(&peer, now) || self.providers.contains(&peer) && !self.table.contains_key(&peer)
        };
        let budget = if self.queries.is_empty() { &mut self.upkeep } else { &mut self.dials };
        !peer.is_some_and(is_futile) && budget.take(now)
    }

    /// Kademlia's own announcements carry "external" addresses only. In the private DHT any that we listen at
    /// is told: who may dial it is for others to judge, and in a house or a cluster it is the one that works.
    fn tells(&mut self, addr: &Multiaddr) -> bool {
        if let Some(circuit) = circuit_of(addr) {
            let told = self.circuits.entry(circuit).or_insert_with(|| without_last_peer(addr));
            return *told == without_last_peer(addr);
        }
        let is_loopback = scope::ip_of(addr).is_none_or(|ip| ip.is_loopback());
        self.dht == Dht::Private && (!is_loopback || self.networks.may_dial(addr))
    }
}

fn config(protocol: StreamProtocol, dht: Dht) -> kad::Config {
    let number = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    let mut config = kad::Config::new(protocol);
    config
        .set_query_timeout(limits::DHT_QUERY_TIMEOUT)
        .set_parallelism(number(limits::DHT_PATHS))
        .disjoint_query_paths(true)
        .set_record_ttl(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        // Announcements are repeated by the rendezvous, which knows when it is worth it.
        .set_provider_publication_interval(None)
        .set_provider_record_ttl(Some(limits::DHT_RECORD_TTL))
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_caching(kad::Caching::Disabled)
        .set_periodic_bootstrap_interval(Some(limits::DHT_REFRESH));
    if dht == Dht::Private {
        config.set_replication_factor(number(limits::DHT_REPLICATION));
        config.set_kbucket_size(number(limits::DHT_BUCKET));
    }
    config
}

fn record_key(key: &RoomKey) -> RecordKey {
    RecordKey::from(key.multihash())
}

/// The relay and IP family of an address that leads through one.
fn circuit_of(addr: &Multiaddr) -> Option<(PeerId, bool)> {
    let is_v4 = matches!(addr.iter().next(), Some(Protocol::Ip4(_)));
    Some((scope::relay_of(addr)?, is_v4))
}

/// A circuit's address without the peer at its end, which some who tell of it leave out.
fn without_last_peer(addr: &Multiaddr) -> Multiaddr {
    let mut parts: Vec<_> = addr.iter().collect();
    if let Some(Protocol::P2p(_)) = parts.last() {
        parts.pop();
    }
    parts.into_iter().collect()
}

fn without_peer(addr: &Multiaddr) -> Multiaddr {
    addr.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// Dials that queries may still make: `most` at once, and as many again each minute.
struct Budget {
    most: u8,
    left: f64,
    at: Instant,
}

impl Budget {
    fn new(most: u8, now: Instant) -> Self {
        Budget { most, left: f64::from(most), at: now }
    }

    /// Whether there is one left.
    fn has(&mut self, now: Instant) -> bool {
        let most = f64::from(self.most);
        let grown = most * now.duration_since(self.at).as_secs_f64() / Duration::from_secs(60).as_secs_f64();
        self.left = (self.left + grown).min(most);
        self.at = now;
        self.left >= 1.0
    }

    fn take(&mut self, now: Instant) -> bool {
        let has = self.has(now);
        self.left -= f64::from(u8::from(has));
        has
    }
}

impl NetworkBehaviour for Behaviour {
    // The handler is the same for every store; naming ours here would make it public.
    type ConnectionHandler = <kad::Behaviour<kad::store::MemoryStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, addr, role, port_use)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.addresses_of(peer)).unwrap_or_default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) if self.tells(new.addr) => {
                let confirmed = ExternalAddrConfirmed { addr: new.addr };
                self.inner.on_swarm_event(FromSwarm::ExternalAddrConfirmed(confirmed));
            }
            FromSwarm::ExternalAddrConfirmed(confirmed) => {
                if let Some(circuit) = circuit_of(confirmed.addr) {
                    self.circuits.insert(circuit, without_last_peer(confirmed.addr));
                }
            }
            FromSwarm::ExternalAddrExpired(ref expired) => {
                self.circuits.retain(|_, told| *told != without_last_peer(expired.addr));
            }
            FromSwarm::ExpiredListenAddr(expired) => {
                self.circuits.retain(|_, told| *told != without_last_peer(expired.addr));
                let expired = ExternalAddrExpired { addr: expired.addr };
                self.inner.on_swarm_event(FromSwarm::ExternalAddrExpired(expired));
            }
            FromSwarm::ConnectionEstablished(established) => {
                self.resting.met(&established.peer_id);
                if let Some(failures) = self.table.get_mut(&established.peer_id) {
                    *failures = 0;
                }
            }
            FromSwarm::DialFailure(ref failure) => self.on_dial_failure(failure),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            self.put_upkeep_off();
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_event(event),
                Poll::Ready(ToSwarm::Dial { opts }) if !self.may_dial(opts.get_peer_id()) => {
                    let failure = DialFailure {
                        peer_id: opts.get_peer_id(),
                        error: &DialError::Aborted,
                        connection_id: opts.connection_id(),
                    };
                    self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
                }
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("taken out above")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
