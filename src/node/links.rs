//! Connections: dialling, what comes of it, and what is known of the peers at the other end.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub, identify, ping,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{
    Node,
    api::{Event, PeerInfo, Refusal},
    behaviour::{AGENT, BehaviourEvent},
    company::Way,
    crowd::{Link, Worth},
    jitter, peers, recall,
    tally::Dial,
    trouble::{dial_outcome, dial_trouble, timed_out},
};
use crate::{config, discovery::scope, limits};

/// All connections, by peer. Its size is bounded by [`crate::limits::CONNECTIONS`].
#[derive(Default)]
pub(super) struct Links {
    peers: HashMap<PeerId, Peer>,
    /// Dials that a face asked for: it wants to hear of a failure.
    asked: HashMap<ConnectionId, Multiaddr>,
    surplus: Option<Surplus>,
}

/// Some peer has more connections than it needs, and it is ours to close them.
struct Surplus {
    /// When to look whether they can be closed.
    due: Instant,
    /// The messages sent and shown when we last looked.
    messages: Option<(u32, u32)>,
}

/// A connected peer.
struct Peer {
    connections: HashMap<ConnectionId, Multiaddr>,
    inbound: bool,
    since: Instant,
    /// When the latest of its connections did.
    latest: Instant,
    /// It can be asked for what was lost on a connection.
    recalls: bool,
    /// Where we reached it, the last time that we dialled.
    dialled: Option<Multiaddr>,
    /// A face asked for it.
    is_wanted: bool,
    rtt: Option<Duration>,
    agent: Option<String>,
}

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Connected peers.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Whether a peer is connected, and only through relays.
    pub(super) fn is_relayed(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::is_relayed)
    }

    /// One of its addresses there, if so.
    pub(super) fn relayed_at(&self, peer: &PeerId) -> Option<&Multiaddr> {
        self.peers.get(peer).filter(|link| link.is_relayed())?.connections.values().next()
    }

    /// Where those peers that are meant are connected.
    #[cfg(any(feature = "autonat", feature = "relay-server", feature = "stun"))]
    pub(super) fn addresses(
        &self,
        meant: impl Fn(&PeerId) -> bool,
    ) -> impl Iterator<Item = (PeerId, &Multiaddr)> {
        let meant = self.peers.iter().filter(move |(peer, _)| meant(peer));
        meant.flat_map(|(peer, link)| link.connections.values().map(|addr| (*peer, addr)))
    }

    /// From which IP addresses those peers that are meant are connected directly.
    #[cfg(any(feature = "autonat", feature = "relay-server"))]
    pub(super) fn ips(
        &self,
        meant: impl Fn(&PeerId) -> bool,
    ) -> impl Iterator<Item = (PeerId, std::net::IpAddr)> {
        self.addresses(meant).filter_map(|(peer, addr)| Some((peer, scope::ip_of(addr)?)))
    }

    /// All connections, by peer: where they lead and who dialled the first of them.
    #[cfg(feature = "metrics")]
    pub(super) fn connections(&self) -> impl Iterator<Item = (bool, impl Iterator<Item = &Multiaddr>)> {
        self.peers.values().map(|link| (link.inbound, link.connections.values()))
    }

    /// Whether a peer says when it is started again: then nothing has to be guessed.
    fn tells_lives(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::tells_lives)
    }

    /// When the first of its present connections came about.
    pub(super) fn since(&self, peer: &PeerId) -> Option<Instant> {
        Some(self.peers.get(peer)?.since)
    }

    /// Where we reached a connected peer, if we did.
    pub(super) fn dialled(&self, peer: &PeerId) -> Option<&Multiaddr> {
        self.peers.get(peer)?.dialled.as_ref()
    }

    /// All of them, one each; `worth` is told whether a face asked for the peer.
    pub(super) fn crowd(&self, worth: impl Fn(&PeerId, bool) -> Worth) -> Vec<Link> {
        let link = |(peer, link): (&PeerId, &Peer)| Link {
            peer: *peer,
            ip: link.connections.values().find_map(scope::ip_of),
            is_inbound: link.inbound,
            since: link.since,
            worth: worth(peer, link.is_wanted),
        };
        self.peers.iter().map(link).collect()
    }

    /// When [`Node::close_surplus`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.surplus.as_ref().map(|surplus| surplus.due)
    }
}

impl Peer {
    /// Its agent is another one after each start, as that of a warren.
    fn tells_lives(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.starts_with(AGENT))
    }

    fn is_relayed(&self) -> bool {
        self.connections.values().all(scope::is_circuit)
    }

    /// All connections but the best: direct ones go before those through relays, QUIC before TCP (one lost packet holds up one stream, and the
    /// connection survives a change of address), and an older one before a younger.
    fn surplus(&self) -> Vec<ConnectionId> {
        let rank = |addr: &Multiaddr| (scope::is_circuit(addr), !scope::is_quic(addr));
        let mut ids: Vec<_> = self.connections.iter().map(|(id, addr)| (rank(addr), *id)).collect();
        ids.sort();
        ids.into_iter().skip(1).map(|(_, id)| id).collect()
    }
}

impl Node {
    /// Dials the bootstrap addresses that are due.
    pub(super) fn dial_bootstraps(&mut self, now: Instant) {
        while let Some((i, addrs)) = self.bootstraps.due(now) {
            let (peer, list, opts) = (addrs.first().and_then(peers::peer_of), list(addrs), dial_opts(addrs));
            let id = opts.connection_id();
            self.bootstraps.dialing(i, id);
            match self.swarm.dial(opts) {
                Ok(()) => log::debug!("dialling {list}"),
                // A connection to this peer is there already.
                Err(DialError::DialPeerConditionFalse(_)) => match peer {
                    Some(peer) => self.bootstraps.connected(id, peer, now),
                    None => self.bootstraps.failed_at_once(i, now, jitter()),
                },
                Err(e) => {
                    log::warn!("cannot dial {list}: {}", dial_trouble(&e));
                    self.bootstraps.failed_at_once(i, now, jitter());
                }
            }
        }
    }

    /// Dials an address that a face named.
    pub(super) fn connect(&mut self, addr: Multiaddr) -> Result<(), Refusal> {
        let refusal = |why: String| Refusal::Dial { addr: addr.clone(), why };
        config::dialable(&addr).map_err(|why| refusal(why.into()))?;
        let opts = dial_opts(std::slice::from_ref(&addr));
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.links.asked.insert(id, addr);
                Ok(())
            }
            // Connected already is what was asked for.
            Err(DialError::DialPeerConditionFalse(_)) => Ok(()),
            Err(e) => Err(refusal(dial_trouble(&e))),
        }
    }

    /// What the swarm says of connections and listeners.
    pub(super) fn on_connection(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.tell_as_relay(&address);
                let addr = self.with_peer_id(address);
                log::info!("listening on {addr}");
                self.feed.publish(Event::Listening(addr));
                self.look_around(Instant::now());
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if self.is_relay {
                    self.swarm.remove_external_address(&address);
                }
                let addr = self.with_peer_id(address);
                log::info!("no longer listening on {addr}");
                self.feed.publish(Event::ListeningStopped(addr));
                self.look_around(Instant::now());
            }
            SwarmEvent::ListenerError { error, .. } => log::warn!("a listener has trouble: {error}"),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                for addr in addresses {
                    let addr = self.with_peer_id(addr);
                    self.feed.publish(Event::ListeningStopped(addr));
                }
                if !self.listener_closed(listener_id)
                    && let Err(e) = reason
                {
                    self.feed.publish(Event::Trouble(format!("a listener closed: {e}")));
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, num_established, .. } => {
                let died = cause.as_ref().is_some_and(|e| timed_out(e));
                let cause = cause.map_or_else(|| "closed".into(), |e| e.to_string());
                self.on_closed(peer_id, connection_id, num_established, cause, died);
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.observed(address),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                log::info!("others can reach this node at {address}");
                self.moved(Instant::now());
            }
            SwarmEvent::Dialing { peer_id: Some(peer), .. } => self.company.book.dialing(peer),
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error, .. } => {
                self.on_dial_failed(peer_id, connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.stats.inbound_failures = self.stats.inbound_failures.wrapping_add(1);
                log::debug!("connection from {send_back_addr} failed: {error}");
            }
            _ => {}
        }
    }

    /// Closes connections that a peer has beside a better one. What is under way on a connection that closes is lost,
    /// and gossip does not always bring it again. So the peer is asked for it ([`super::recall`]); where it cannot be,
    /// as it is no warren, this waits until no message has come or gone for a while, and a node that is never quiet
    /// keeps both.
    pub(super) fn close_surplus(&mut self, now: Instant) {
        let Some(surplus) = self.links.surplus.as_mut().filter(|surplus| surplus.due <= now) else { return };
        let messages = Some((self.stats.sent, self.stats.delivered));
        let is_quiet = surplus.messages == messages;
        *surplus = Surplus { due: now + limits::SURPLUS_QUIET, messages };
        let (mut is_left, local) = (false, *self.swarm.local_peer_id());
        for (peer, link) in self.links.peers.iter().filter(|(peer, _)| local > **peer) {
            let surplus = link.surplus();
            let is_settled = now >= link.latest + limits::SURPLUS_GRACE;
            if !is_settled || !(is_quiet || link.recalls) {
                is_left |= !surplus.is_empty();
                continue;
            }
            for id in surplus {
                log::debug!("closing the second connection to {peer}");
                self.swarm.close_connection(id);
            }
        }
        if !is_left {
            self.links.surplus = None;
        }
    }

    pub(super) fn on_ping(&mut self, ping::Event { peer, connection, result }: ping::Event) {
        match result {
            Ok(rtt) => {
                if let Some(peer) = self.links.peers.get_mut(&peer) {
                    peer.rtt = Some(rtt);
                }
                self.tally.pinged(rtt);
            }
            // Then nobody notices when it stands still, unless by QUIC. A dead link is the transport's
            // business.
            Err(ping::Failure::Unsupported) => log::debug!("{peer} does not answer pings"),
            Err(e) => {
                log::info!("{peer} does not answer, closing the connection: {e}");
                self.swarm.close_connection(connection);
                let guess = |link: &Peer| link.connections.len() > 1 && !link.tells_lives();
                if self.links.peers.get(&peer).is_some_and(guess) {
                    self.begin_anew(peer, "the connection that it has beside may be its second life");
                }
            }
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        if let Some(peer) = self.links.peers.get_mut(&peer_id) {
            // It is the peer's own word, so it is cut to a line's length here and escaped where it is shown.
            let agent: String = info.agent_version.chars().take(64).collect();
            let before = peer.agent.replace(agent.clone());
            peer.recalls = info.protocols.contains(&recall::PROTOCOL);
            if peer.tells_lives() && before.is_some_and(|before| before != agent) {
                return self.begin_anew(peer_id, "it was started again");
            }
            self.introduced(peer_id, &info, Instant::now());
        }
    }

    pub(super) fn peer_infos(&self) -> Vec<PeerInfo> {
        let info = |(peer, link): (&PeerId, &Peer)| PeerInfo {
            peer: *peer,
            nick: self.nick_in_any_room(peer),
            addrs: link.connections.values().cloned().collect(),
            inbound: link.inbound,
            is_relayed: link.is_relayed(),
            rtt: link.rtt,
            agent: link.agent.clone(),
        };
        let mut infos: Vec<_> = self.links.peers.iter().map(info).collect();
        infos.sort_by_key(|info| info.peer);
        infos
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let (addr, inbound) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), false),
            // Through a relay, the other end's address says nothing, and ours is the relay's.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
                (local_addr.clone().with_p2p(peer).unwrap_or_else(|addr| addr), true)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), true),
        };
        if !inbound {
            self.stats.dials = self.stats.dials.wrapping_add(1);
            self.tally.dialled(Dial::Connected);
        }
        let now = Instant::now();
        let is_wanted = self.links.asked.remove(&id).is_some();
        self.bootstraps.connected(id, peer, now);
        let known = self.links.peers.contains_key(&peer);
        let (is_relayed, was_relayed) = (scope::is_circuit(&addr), self.links.is_relayed(&peer));
        let link = self.links.peers.entry(peer).or_insert_with(|| Peer {
            connections: HashMap::new(),
            inbound,
            since: now,
            latest: now,
            recalls: false,
            dialled: None,
            is_wanted,
            rtt: None,
            agent: None,
        });
        // Who dials us because we asked for it has not lost anything.
        #[cfg(feature = "autonat")]
        let is_asked_for = inbound && self.autonat.came_in(peer, &addr);
        #[cfg(not(feature = "autonat"))]
        let is_asked_for = false;
        let is_second_life = inbound
            && !is_asked_for
            && !link.tells_lives()
            && now.duration_since(link.since) >= limits::SECOND_LIFE
            && !link.connections.values().chain([&addr]).any(scope::is_circuit);
        link.connections.insert(id, addr.clone());
        link.latest = now;
        link.is_wanted |= is_wanted;
        if !inbound {
            link.dialled = Some(addr.clone());
        }
        if is_second_life {
            return self.begin_anew(peer, "it dialled us, so it has lost the connection that we have");
        }
        // One of the two ends decides, or each might close the connection that the other one keeps.
        if link.connections.len() > 1 && self.swarm.local_peer_id() > &peer {
            let due = now + limits::SURPLUS_GRACE;
            self.links.surplus.get_or_insert(Surplus { due, messages: None });
        }
        let way = match inbound {
            false => Way::Out(&addr),
            // Who comes through a relay, or through a hole that we made, could not dial us.
            true if is_relayed || was_relayed || is_asked_for => Way::Helped,
            true => Way::In,
        };
        self.met(peer, id, way, now);
        self.path_opened(peer, is_relayed, inbound, now);
        #[cfg(feature = "stun")]
        if self.bootstraps.has(&peer) {
            self.ask_peers_for_stun();
        }
        if was_relayed && !is_relayed {
            log::info!("the connection to {peer} is direct now: {addr}");
            self.feed.publish(Event::PathChanged { peer, addr, is_relayed });
        } else if !known {
            log::info!("connected to {peer} at {addr}");
            self.feed.publish(Event::PeerConnected { peer, addr, inbound, is_relayed });
        }
    }

    /// Closes all connections to a peer that may have lost what it knew of us while we were connected, as when it
    /// was restarted without a goodbye: gossipsub says which rooms we are in on the first connection, and not again
    /// while there is one. The peer, or we, will dial again in a second.
    fn begin_anew(&mut self, peer: PeerId, why: &str) {
        log::info!("beginning anew with {peer}: {why}");
        // It may have gone in the meantime.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, left: u32, cause: String, died: bool) {
        if left > 0 {
            log::debug!("one connection to {peer} closed, {left} left: {cause}");
            let was_relayed = self.links.is_relayed(&peer);
            let closed = self.links.peers.get_mut(&peer).and_then(|link| link.connections.remove(&id));
            self.rouse(peer);
            self.recall_over(peer, died, Instant::now());
            // A warren says itself whether it is the same as before. And what ends with a relay says nothing of the peer.
            let died = died && closed.is_some_and(|addr| !scope::is_circuit(&addr));
            if died && !self.links.tells_lives(&peer) {
                return self.begin_anew(peer, "one connection died, and the other may be its second life");
            }
            if !was_relayed && let Some(addr) = self.links.relayed_at(&peer).cloned() {
                log::info!("the connection to {peer} goes through a relay now: {addr}");
                self.feed.publish(Event::PathChanged { peer, addr, is_relayed: true });
                self.path_closed(peer, Instant::now());
            }
            return;
        }
        log::info!("disconnected from {peer}: {cause}");
        self.links.peers.remove(&peer);
        let now = Instant::now();
        let was_in_mesh = self.swarm.behaviour_mut().gossip.was_in_mesh(&peer);
        self.may_have_missed(&peer, was_in_mesh, now);
        self.neighbour_gone(&peer);
        #[cfg(feature = "autonat")]
        self.autonat.gone(&peer);
        self.bootstraps.disconnected(peer, now, jitter());
        self.parted(peer, now);
        self.path_closed(peer, now);
        self.feed.publish(Event::PeerDisconnected { peer, cause });
    }

    /// Makes gossipsub speak on the connection that is left of two. All of a peer's connections take from one
    /// queue, and one that found it empty whenever it looked has opened no stream and asked for no wake-up
    /// (0.50.1): what we say would lie there until something else wakes that connection's task, at worst the
    /// next ping. So something is put into the queue (a subscription that is taken back at once, as nothing
    /// else goes to every peer), and the task is woken by a push of identify.
    fn rouse(&mut self, peer: PeerId) {
        let behaviour = self.swarm.behaviour_mut();
        let topic = gossipsub::IdentTopic::new("");
        // If it fails, the next ping has to do.
        if let Ok(true) = behaviour.gossip.subscribe(&topic) {
            behaviour.gossip.unsubscribe(&topic);
        }
        behaviour.identify.push([peer]);
    }

    fn on_dial_failed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &DialError) {
        self.stats.dial_failures = self.stats.dial_failures.wrapping_add(1);
        self.tally.dialled(dial_outcome(error));
        self.hole_missed(peer, id);
        let (why, now) = (dial_trouble(error), Instant::now());
        self.missed(peer, id, error, now);
        if let Some((addrs, delay)) = self.bootstraps.failed(id, now, jitter()) {
            log::warn!("no connection to {}, next try in {:.0} s: {why}", list(addrs), delay.as_secs_f64());
        } else if let Some(addr) = self.links.asked.remove(&id) {
            self.feed.publish(Event::Trouble(format!("no connection to {addr}: {why}")));
        } else {
            log::debug!("a dial failed: {why}");
        }
    }

    /// An address as others need it: with our peer ID at its end.
    fn with_peer_id(&self, addr: Multiaddr) -> Multiaddr {
        let peer = *self.swarm.local_peer_id();
        addr.with_p2p(peer).unwrap_or_else(|addr| addr)
    }
}

/// Dials a peer at its addresses, unless it is connected. It may be being dialled elsewhere, at what the address
/// book remembers: that may take long to fail, and what somebody named does not wait for it. An unknown peer has
/// one address.
fn dial_opts(addrs: &[Multiaddr]) -> DialOpts {
    match (addrs.first().and_then(peers::peer_of), addrs) {
        (None, [addr]) => DialOpts::unknown_peer_id().address(addr.clone()).build(),
        (Some(peer), _) => {
            DialOpts::peer_id(peer).addresses(addrs.to_vec()).condition(PeerCondition::Disconnected).build()
        }
        // There is no such target; dialling nothing is an error that says so.
        (None, _) => DialOpts::unknown_peer_id().address(Multiaddr::empty()).build(),
    }
}

fn list(addrs: &[Multiaddr]) -> String {
    addrs.iter().map(Multiaddr::to_string).collect::<Vec<_>>().join(" or ")
}
