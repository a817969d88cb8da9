//! The company that the node keeps: whom it dials of its own accord, and whom it lets go.
//!
//! What others say goes into the address book, whom the node wants is for [`Wishes`], and what happened on a
//! connection comes back from `links`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_channel::Receiver;
use libp2p::{
    Multiaddr, PeerId, identify,
    swarm::{ConnectionId, DialError},
};

use super::{
    Node, RoomState, jitter,
    links::Links,
    peers::{Book, SaveSchedule, Source, file},
    wishes::{Wishes, World},
};
#[cfg(feature = "mdns")]
use crate::discovery::mdns;
#[cfg(feature = "kad")]
use crate::discovery::{
    kad,
    rendezvous::{Query, Rendezvous, RoomKey},
};
use crate::{
    aside::aside,
    config::Config,
    discovery::scope::{self, Networks, Prefix},
    limits,
    rooms::Room,
    transport,
};

/// What the node knows of others beyond those it is connected with.
pub(super) struct Company {
    pub(super) book: Book,
    pub(super) wishes: Wishes,
    #[cfg(feature = "kad")]
    rendezvous: Rendezvous,
    /// Networks that the operator says are ours.
    lan: Vec<Prefix>,
    /// The node dials nobody who was not named to it.
    is_static: bool,
    /// Dials of the wishes.
    pub(super) dialing: HashMap<ConnectionId, Dial>,
    /// When there may be somebody to dial.
    pub(super) due: Option<Instant>,
    /// When to look for connections that are good for nothing.
    pub(super) tidy_due: Instant,
    saves: SaveSchedule,
    /// Where the book is kept, if it is.
    file: Option<PathBuf>,
    /// The book on its way to the file.
    saving: Option<Receiver<io::Result<()>>>,
}

impl Company {
    /// With what an earlier run wrote down.
    pub(super) fn new(config: &Config, me: PeerId, now: Instant) -> Self {
        let mut book = Book::new(me);
        let saved = config.kept.as_ref().filter(|_| !config.no_discovery).map(|kept| kept.peers.as_path());
        let contents = saved.map(file::load).transpose().unwrap_or_else(|e| {
            log::warn!("the address book cannot be read, so this node starts without: {e}");
            None
        });
        let contents = contents.unwrap_or_default();
        if contents.skipped > 0 {
            log::warn!("{} lines of the address book say nothing to this node", contents.skipped);
        }
        let peers = contents.peers.iter().map(|saved| saved.peer).collect();
        book.restore(contents.peers, now);
        let mut saves = SaveSchedule::default();
        saves.note(book.generation(), now);
        Company {
            book,
            wishes: Wishes::new(peers),
            #[cfg(feature = "kad")]
            rendezvous: Rendezvous::new(jitter()),
            lan: config.lan.clone(),
            is_static: config.no_discovery,
            dialing: HashMap::new(),
            due: (!config.no_discovery).then_some(now),
            tidy_due: now + limits::STRANGER,
            saves,
            file: saved.map(Into::into),
            saving: None,
        }
    }

    /// Counts from the next look around.
    pub(super) fn set_lan(&mut self, lan: Vec<Prefix>) {
        self.lan = lan;
    }

    /// When [`Node::keep_company`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let saves = self.saves.due().filter(|_| self.file.is_some() && self.saving.is_none());
        let due = [Some(self.tidy_due), saves].into_iter().flatten().min();
        if self.is_static {
            return due;
        }
        let due = due.into_iter().chain(self.due).min();
        #[cfg(feature = "kad")]
        let due = due.into_iter().chain(self.rendezvous.next_due()).min();
        due
    }

    /// Waits until the book is written.
    pub(super) async fn saved(&mut self) -> io::Result<()> {
        match &mut self.saving {
            // Without a word the thread has panicked, and nothing is written.
            Some(saving) => saving.recv().await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())),
            None => std::future::pending().await,
        }
    }

    /// Something happened that may be a reason to dial somebody.
    fn look_again(&mut self, now: Instant) {
        // Who dials nobody would never be done with it.
        self.due = (!self.is_static).then_some(now);
    }
}

/// How a connection came to be.
pub(super) enum Way<'a> {
    /// The peer dialled us.
    In,
    /// It did, and could not have without help.
    Helped,
    /// We dialled this address.
    Out(&'a Multiaddr),
}

/// A dial of the wishes.
pub(super) struct Dial {
    pub(super) peer: PeerId,
    pub(super) since: Instant,
    pub(super) addrs: Vec<Multiaddr>,
}

/// Everything else, as the wishes see it.
pub(super) struct Surroundings<'a> {
    pub(super) book: &'a Book,
    pub(super) dialing: &'a HashMap<ConnectionId, Dial>,
    pub(super) links: &'a Links,
    pub(super) rooms: &'a BTreeMap<Room, RoomState>,
    pub(super) now: Instant,
}

impl World for Surroundings<'_> {
    fn is_linked(&self, peer: &PeerId) -> bool {
        self.links.has(peer)
    }

    fn links(&self) -> usize {
        self.links.len()
    }

    fn due(&self, peer: &PeerId) -> Option<Instant> {
        self.book.next_due(*peer)
    }

    fn is_due(&self, peer: &PeerId) -> bool {
        self.due(peer).is_some_and(|due| due <= self.now)
    }

    fn neighbours(&self, room: &Room) -> usize {
        self.rooms.get(room).map_or(0, |state| state.members.neighbours())
    }

    fn is_promising(&self, room: &Room, peer: &PeerId) -> bool {
        let mut dials = self.dialing.values().filter(|dial| dial.peer == *peer);
        let begun = self.links.since(peer).or_else(|| dials.next().map(|dial| dial.since));
        let is_neighbour = || self.rooms.get(room).is_some_and(|state| state.members.is_neighbour(peer));
        begun.is_some_and(|since| self.now < since + limits::PROMISING) && !is_neighbour()
    }

    fn is_member(&self, room: &Room, peer: &PeerId) -> bool {
        // Who is not in a full table may have been heard and forgotten: no reason to dial it.
        self.rooms
            .get(room)
            .is_some_and(|state| state.members.is_full() || state.members.member(peer).is_some())
    }
}

impl Node {
    /// Does what is due.
    pub(super) fn keep_company(&mut self, now: Instant) {
        let Self { company: Company { book, wishes, dialing, .. }, links, rooms, bootstraps, .. } = self;
        let calm = !wishes.is_seeking(&Surroundings { book, dialing, links, rooms, now });
        bootstraps.set_calm(calm, now);
        if !self.company.is_static {
            #[cfg(feature = "kad")]
            self.query_rooms(now);
            self.dial_wished(now);
        }
        if now >= self.company.tidy_due {
            self.company.tidy_due = now + limits::STRANGER;
            self.close_strangers(now);
            self.close_spare(now);
        }
        self.company.saves.note(self.company.book.generation(), now);
        if self.company.saves.due().is_some_and(|due| due <= now) {
            self.save_book();
        }
    }

    /// The addresses of this machine have changed: so have the networks in which told addresses mean something.
    pub(super) fn look_around(&mut self, now: Instant) {
        let listening: BTreeSet<IpAddr> = self.swarm.listeners().filter_map(scope::ip_of).collect();
        self.set_networks(|ip| listening.contains(&ip));
        #[cfg(feature = "autonat")]
        self.autonat.look_around(listening, now);
        #[cfg(feature = "stun")]
        self.look_outside();
        #[cfg(feature = "portmap")]
        self.wish_for_ports();
        self.company.look_again(now);
    }

    /// As [`Self::look_around`], while nothing listens yet.
    pub(super) fn look_around_first(&mut self, config: &Config) {
        let is_loopback = |addr: &Multiaddr| scope::ip_of(addr).is_some_and(|ip| ip.is_loopback());
        match !config.listen.is_empty() && config.listen.iter().all(is_loopback) {
            true => self.set_networks(|ip| ip.is_loopback()),
            false => self.set_networks(|ip| !ip.is_loopback()),
        }
    }

    fn set_networks(&mut self, is_ours: impl Fn(IpAddr) -> bool) {
        let on_link = transport::on_link().unwrap_or_else(|e| {
            log::warn!(
                "the networks of this machine cannot be listed, so peers in them are not dialled: {e}"
            );
            Vec::new()
        });
        let ours = on_link.into_iter().filter(|(ip, _)| is_ours(*ip));
        let networks = Networks::new(ours, &self.company.lan);
        self.company.book.set_networks(networks.clone());
        let behaviour = self.swarm.behaviour_mut();
        behaviour.gate.set_networks(networks.clone());
        #[cfg(feature = "relay-server")]
        if let Some(relay) = behaviour.relay_server.as_mut() {
            relay.set_networks(networks.clone());
        }
        #[cfg(feature = "kad")]
        if let Some(kad) = behaviour.kad.as_mut() {
            kad.set_networks(networks);
        }
    }

    /// Peers in the routing table of the DHT.
    pub(super) fn routes(&self) -> usize {
        #[cfg(feature = "kad")]
        return self.swarm.behaviour().kad.as_ref().map_or(0, kad::Behaviour::routes);
        #[cfg(not(feature = "kad"))]
        0
    }

    /// This node can be reached elsewhere now: the rooms are to know.
    pub(super) fn moved(&mut self, now: Instant) {
        #[cfg(feature = "kad")]
        self.company.rendezvous.moved(now);
        for room in self.rooms.values_mut() {
            room.announcer.answer(now, Duration::ZERO);
        }
    }

    /// A room of ours is one to find members of.
    pub(super) fn seek_room(&mut self, room: &Room, now: Instant) {
        #[cfg(feature = "kad")]
        self.company.rendezvous.joined(room, now);
        self.company.wishes.joined(room);
        self.company.look_again(now);
    }

    pub(super) fn leave_room(&mut self, room: &Room) {
        self.company.wishes.left(room);
        #[cfg(feature = "kad")]
        {
            self.company.rendezvous.left(room);
            if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                kad.left(&RoomKey::new(room));
            }
        }
    }

    /// A member of a room says where it can be reached.
    pub(super) fn member_at(&mut self, room: &Room, peer: PeerId, addrs: Vec<Multiaddr>, now: Instant) {
        self.company.book.learn(peer, addrs, Source::Member, now);
        self.candidate(room, peer, now);
    }

    /// Somebody is said to be in a room, or is.
    pub(super) fn candidate(&mut self, room: &Room, peer: PeerId, now: Instant) {
        let Self { company: Company { book, wishes, dialing, .. }, links, rooms, .. } = self;
        wishes.candidate(room, peer, &Surroundings { book, dialing, links, rooms, now }, now);
        self.dial_news(peer, now);
        self.company.look_again(now);
    }

    /// A neighbour subscribed to a room of ours.
    pub(super) fn neighbour_in(&mut self, room: &Room, peer: PeerId, now: Instant) {
        self.company.book.note_room_member(peer);
        self.candidate(room, peer, now);
        if self.has_spare() {
            self.tidy_by(Some(now + limits::CONNECTION_YOUNG));
        }
    }

    /// There is a connection.
    pub(super) fn met(&mut self, peer: PeerId, id: ConnectionId, way: Way<'_>, now: Instant) {
        let dialled = match way {
            Way::In | Way::Helped => None,
            Way::Out(addr) => Some(addr),
        };
        self.company.dialing.remove(&id);
        self.company.book.connected(peer, dialled, now);
        #[cfg(feature = "kad")]
        if let Way::In = way
            && self.may_serve()
            && let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
        {
            // Somebody could reach us. Who else can is for them to judge, by our addresses.
            kad.set_server(true);
        }
        self.company.look_again(now);
        if self.links.len() - self.served() > limits::CONNECTIONS_HIGH {
            self.thin_out(now);
        }
    }

    /// Whether one who reached this node is reason enough to think that others can.
    #[cfg(feature = "kad")]
    fn may_serve(&self) -> bool {
        #[cfg(feature = "autonat")]
        return self.is_relay || self.is_external || !self.autonat.is_found_private();
        #[cfg(not(feature = "autonat"))]
        true
    }

    /// The last connection to a peer is gone.
    pub(super) fn parted(&mut self, peer: PeerId, now: Instant) {
        self.company.book.disconnected(peer, now, jitter());
        self.company.look_again(now);
    }

    /// A dial of anybody's failed.
    pub(super) fn missed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &DialError, now: Instant) {
        self.company.dialing.remove(&id);
        let Some(peer) = peer else { return };
        let book = &mut self.company.book;
        match error {
            DialError::DialPeerConditionFalse(_) => return,
            DialError::WrongPeerId { address, .. } => {
                book.somebody_else_at(peer, address);
                book.failed(peer, [], now, jitter());
            }
            DialError::Transport(tried) => {
                book.failed(peer, tried.iter().map(|(addr, _)| addr), now, jitter());
            }
            _ => {
                book.failed(peer, [], now, jitter());
            }
        }
        let Self { company: Company { book, wishes, dialing, .. }, links, rooms, .. } = self;
        if dialing.values().any(|dial| dial.peer == peer) {
            book.dialing(peer);
        }
        wishes.missed(&peer, &Surroundings { book, dialing, links, rooms, now });
        self.company.look_again(now);
    }

    /// What a connected peer says of itself.
    pub(super) fn introduced(&mut self, peer: PeerId, info: &identify::Info, now: Instant) {
        self.company.book.learn(peer, info.listen_addrs.iter().cloned(), Source::Identify, now);
        self.offered_relay(peer, info, now);
        #[cfg(feature = "autonat")]
        self.offered_dial_backs(peer, info, now);
        #[cfg(feature = "kad")]
        {
            let dialled = self.links.dialled(&peer).cloned();
            if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                kad.identified(peer, &info.protocols, &info.listen_addrs, dialled.as_ref());
            }
        }
    }

    /// Where others may try to reach this node, the best first. Not where somebody has tried in vain.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        let mut addrs = self.all_addresses();
        #[cfg(feature = "autonat")]
        addrs.retain(|addr| !self.autonat.leads_nowhere(addr));
        addrs.truncate(limits::PRESENCE_ADDRESSES);
        addrs
    }

    /// The same with those that others reach only if we send them something at the same time.
    pub(super) fn all_addresses(&self) -> Vec<Multiaddr> {
        let is_public = |addr: &&Multiaddr| Networks::default().may_dial(addr);
        let networks = self.company.book.networks();
        // Of a relay's addresses one is among the external ones, and leads to the same place.
        let direct = self.swarm.listeners().filter(|addr| !scope::is_circuit(addr));
        let (public, local): (Vec<_>, Vec<_>) =
            direct.filter(|addr| networks.may_dial(addr)).partition(is_public);
        let mut addrs: Vec<Multiaddr> = Vec::new();
        for addr in self.swarm.external_addresses().chain(public).chain(local) {
            if !addrs.contains(addr) {
                addrs.push(addr.clone());
            }
        }
        addrs
    }

    /// Writes the book at the end, and waits for it.
    pub(super) async fn save_at_end(&mut self) {
        if self.company.saving.is_some() {
            let result = self.company.saved().await;
            self.on_saved(result);
        }
        self.company.saves.note(self.company.book.generation(), Instant::now());
        if self.company.saves.is_changed() {
            self.save_book();
            if self.company.saving.is_some() {
                let result = self.company.saved().await;
                self.on_saved(result);
            }
        }
    }

    pub(super) fn on_saved(&mut self, result: io::Result<()>) {
        self.company.saving = None;
        if let Err(e) = result
            && self.company.saves.failed(Instant::now())
        {
            log::warn!("the address book cannot be written, the node goes on: {e}");
        }
    }

    fn save_book(&mut self) {
        let Company { file: Some(path), saving: saving @ None, book, saves, .. } = &mut self.company else {
            return;
        };
        let (path, peers) = (path.clone(), book.saved());
        saves.saved(Instant::now());
        // Flash may take a second for it.
        match aside(move || file::save(&path, &peers)) {
            Ok(receiver) => *saving = Some(receiver),
            Err(e) => self.on_saved(Err(e)),
        }
    }
}

#[cfg(feature = "mdns")]
impl Node {
    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let now = Instant::now();
        match event {
            mdns::Event::Found { peer, addrs } => {
                log::debug!("{peer} is on the local network at {addrs:?}");
                self.company.book.learn(peer, addrs, Source::Mdns, now);
                self.company.wishes.lan(peer);
                self.company.look_again(now);
            }
            mdns::Event::Gone { peer } => {
                log::debug!("{peer} is not on the local network any more");
                self.company.book.forget_source(peer, None, Source::Mdns);
                self.company.wishes.lan_gone(&peer);
            }
        }
    }
}

#[cfg(feature = "kad")]
impl Node {
    pub(super) fn on_kad(&mut self, event: kad::Event) {
        let now = Instant::now();
        let company = &mut self.company;
        match event {
            kad::Event::Found { key, peers } => {
                let Some(room) = self.company.rendezvous.room(&key).cloned() else { return };
                log::debug!("{} peers say that they are in room '{room}'", peers.len());
                for (peer, addrs) in peers {
                    if peer != *self.swarm.local_peer_id() {
                        self.company.book.learn(peer, addrs, Source::Dht, now);
                        self.candidate(&room, peer, now);
                    }
                }
            }
            kad::Event::Done { query, succeeded } => {
                log::debug!("{query} has {}", if succeeded { "ended" } else { "failed" });
                self.tally.queried(matches!(query, Query::Lookup(_)), succeeded);
                company.rendezvous.done(query, succeeded, now, jitter());
            }
            kad::Event::Routes(routes) => {
                log::debug!("{routes} nodes of the DHT are known");
                if routes == 1 && self.relays.is_awaited() {
                    company.rendezvous.hold(now + limits::DHT_PROVIDE_HELD);
                }
                company.rendezvous.routes(routes, now);
            }
        }
    }

    fn query_rooms(&mut self, now: Instant) {
        for (room, state) in &self.rooms {
            let enough = state.members.neighbours() >= limits::ROOM_NEIGHBOURS;
            self.company.rendezvous.satisfied(room, enough, now);
        }
        while let Some(query) = self.company.rendezvous.next(now) {
            match self.swarm.behaviour_mut().kad.as_mut() {
                Some(kad) => kad.start(query),
                None => self.company.rendezvous.done(query, false, now, 0.0),
            }
        }
    }
}
