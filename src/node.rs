//! The node: one loop that owns everything. It waits, handles exactly one thing, and waits again.

pub mod api;
#[cfg(feature = "autonat")]
mod autonat;
mod behaviour;
mod company;
mod conversations;
pub mod crowd;
mod dials;
mod feed;
pub mod gate;
mod gossip;
mod holes;
mod links;
mod meshed;
#[cfg(feature = "stun")]
mod outside;
mod partings;
pub mod peers;
#[cfg(feature = "portmap")]
mod ports;
#[cfg(feature = "stun")]
mod punches;
mod reach;
mod recall;
mod reload;
mod serving;
#[cfg(feature = "metrics")]
pub mod snapshot;
mod tally;
mod times;
mod trouble;
mod wishes;
#[cfg(feature = "relay-server")]
mod witness;

pub use feed::Item;

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt;
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    identity::Keypair,
    swarm::{self, SwarmEvent},
};
use smol::{Executor, future};

use self::{
    api::{Answer, Command, Event, Feed, Handle, Inbox, Refusal, Request, Stats, WhoAmI},
    behaviour::{Again, Behaviour, BehaviourEvent},
    company::Company,
    gossip::Outgoing,
    holes::Holes,
    links::Links,
    peers::Bootstraps,
    recall::Recalls,
    reload::Reloads,
    tally::Tally,
    trouble::{detail, is_missing_family},
};
#[cfg(feature = "stun")]
use self::{outside::Outside, punches::Punches};
#[cfg(feature = "stun")]
use crate::nat::stun;
use crate::{
    config::Config,
    limits,
    nat::relays::Relays,
    rooms::{
        Nick, Room,
        clock::Clock,
        members::{Announcer, Members},
        replay::{Replay, Seen},
    },
    transport::{self, Built},
};

/// A node. Made by [`Node::new`], consumed by [`Node::run`].
pub struct Node {
    swarm: Swarm<Behaviour>,
    key: Keypair,
    nick: Nick,
    /// Rooms joined, in that order. The first is where a message without a room goes.
    order: Vec<Room>,
    rooms: BTreeMap<Room, RoomState>,
    /// Envelopes are off: bare StrictSign text.
    plain: bool,
    clock: Clock,
    times: times::Times,
    replay: Replay,
    bootstraps: Bootstraps,
    links: Links,
    company: Company,
    relays: Relays,
    holes: Holes,
    recalls: Recalls,
    reloads: Reloads,
    #[cfg(feature = "autonat")]
    autonat: autonat::AutoNat,
    #[cfg(feature = "stun")]
    outside: Outside,
    #[cfg(feature = "stun")]
    punches: Punches,
    #[cfg(feature = "relay-server")]
    witness: witness::Witness,
    #[cfg(feature = "portmap")]
    ports: ports::Ports,
    executor: Arc<Executor<'static>>,
    /// The node is there for others, at an address that they know.
    is_relay: bool,
    /// The operator says where others reach it.
    is_external: bool,
    inbox: Inbox,
    /// A message that no peer's queue had place for, and those that must come after it. While there is one,
    /// no further commands are taken: that is the publisher's back-pressure.
    outgoing: Option<Outgoing>,
    /// Set while a plain message is tried again.
    again: Again,
    /// Plain messages heard.
    plain_seen: Seen,
    /// Texts for the first room, until somebody is there.
    publish: Vec<String>,
    feed: Feed,
    stats: Stats,
    tally: Tally,
    started: Instant,
    /// Fires when [`Self::next_due`] says so.
    timer: Delay,
    /// What `timer` is set to.
    timer_due: Option<Instant>,
    /// When the members of all rooms are looked through for the silent.
    expire_due: Instant,
}

/// What a node keeps for a room it is in.
struct RoomState {
    members: Members,
    announcer: Announcer,
    joined: Instant,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {addr}: {why}")]
    Listen { addr: Multiaddr, why: String },
    #[error("cannot set up the transport: {0}")]
    Transport(String),
    #[error("cannot set up gossip: {0}")]
    Gossip(String),
    #[error("cannot join room '{room}': {why}")]
    Room { room: Room, why: Refusal },
}

/// One thing to handle.
enum Turn {
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Request(Request),
    Saved(io::Result<()>),
    Hole(conversations::Turn<holes::Agreed>),
    Recall(conversations::Turn<recall::Done>),
    Reread(reload::Reread),
    #[cfg(feature = "autonat")]
    AutoNat(Box<autonat::Turn>),
    #[cfg(feature = "stun")]
    Stun(stun::driver::Event),
    #[cfg(feature = "stun")]
    Punch(conversations::Turn<punches::Done>),
    #[cfg(feature = "relay-server")]
    Witness(PeerId, libp2p::Stream),
    #[cfg(feature = "portmap")]
    Port(crate::nat::portmap::Event),
    #[cfg(feature = "metrics")]
    Look(snapshot::Look),
    Timer,
}

impl Node {
    /// A node that listens, and is in its rooms. Connections run as tasks on `executor`.
    pub fn new(
        config: &Config,
        key: Keypair,
        executor: Arc<Executor<'static>>,
    ) -> Result<(Self, Handle), StartError> {
        let peer = key.public().to_peer_id();
        let built =
            transport::build(&key, config.carriers).map_err(|e| StartError::Transport(e.to_string()))?;
        #[cfg(feature = "stun")]
        let (stun, knock) = built.side.map(|side| (side.stun, side.punch)).unzip();
        #[cfg(feature = "stun")]
        let outside = Outside::new(config, stun, &executor);
        let Built { transport, driver, circuits, .. } = built;
        executor.spawn(driver).detach();
        let streams = libp2p_stream::Behaviour::new();
        let no_streams = || StartError::Gossip("no streams".into());
        let holes = Holes::new(streams.new_control()).ok_or_else(no_streams)?;
        let recalls = Recalls::new(streams.new_control()).ok_or_else(no_streams)?;
        #[cfg(feature = "autonat")]
        let autonat = autonat::AutoNat::new(config, streams.new_control()).ok_or_else(no_streams)?;
        #[cfg(feature = "stun")]
        let punches = Punches::new(streams.new_control(), knock).ok_or_else(no_streams)?;
        #[cfg(feature = "relay-server")]
        let witness = witness::Witness::new(streams.new_control(), config.is_relay);
        #[cfg(feature = "portmap")]
        let ports = ports::Ports::new(config, &executor);
        let (again, tally) = (Again::default(), Tally::default());
        let behaviour = Behaviour::new(&key, config, circuits, streams, &again, tally.ears())
            .map_err(StartError::Gossip)?;
        let now = Instant::now();
        let mut clock = Clock::new(SystemTime::now());
        let times = times::Times::new(config, &mut clock);
        let feed = Feed::default();
        let (handle, inbox) = Handle::new(feed.clone());
        let mut node = Self {
            swarm: Swarm::new(transport, behaviour, peer, swarm_config(executor.clone())),
            key,
            nick: config.nick.clone().unwrap_or_else(|| nick_of(&peer)),
            order: Vec::new(),
            rooms: BTreeMap::new(),
            plain: config.plain,
            clock,
            times,
            replay: Replay::default(),
            bootstraps: Bootstraps::new(others(&config.bootstrap, peer), now),
            links: Links::default(),
            company: Company::new(config, peer, now),
            relays: Relays::new(config.relays.iter().cloned(), now),
            holes,
            recalls,
            reloads: Reloads::new(config),
            #[cfg(feature = "autonat")]
            autonat,
            #[cfg(feature = "stun")]
            outside,
            #[cfg(feature = "stun")]
            punches,
            #[cfg(feature = "relay-server")]
            witness,
            #[cfg(feature = "portmap")]
            ports,
            executor,
            is_relay: config.is_relay,
            is_external: !config.external.is_empty(),
            inbox,
            outgoing: None,
            again,
            plain_seen: Seen::default(),
            publish: config.publish.clone(),
            feed,
            stats: Stats::default(),
            tally,
            started: now,
            timer: Delay::never(),
            timer_due: None,
            expire_due: now + limits::PRESENCE_REPEAT,
        };
        node.begin(config)?;
        Ok((node, handle))
    }

    /// Where the configuration says that the node begins.
    fn begin(&mut self, config: &Config) -> Result<(), StartError> {
        self.look_around_first(config);
        self.listen(config)?;
        self.begin_time();
        for room in &config.rooms {
            self.join(room.clone()).map_err(|why| StartError::Room { room: room.clone(), why })?;
        }
        Ok(())
    }

    /// Runs until [`Command::Quit`], [`Handle::stop`], or until no handle is left.
    pub async fn run(mut self) {
        self.feed.publish(Event::Started(self.who_am_i()));
        let mut handled = 0;
        loop {
            self.start_what_is_due();
            match self.turn().await {
                Some(Turn::Swarm(event)) => self.on_swarm(*event),
                Some(Turn::Request(request)) => {
                    if matches!(request.command, Command::Quit) {
                        self.end(Some(request)).await;
                        return;
                    }
                    self.on_request(request);
                }
                Some(Turn::Saved(result)) => self.on_saved(result),
                Some(Turn::Hole(turn)) => self.on_hole(turn),
                Some(Turn::Recall(turn)) => self.on_recall(turn),
                Some(Turn::Reread(read)) => self.on_reread(read),
                #[cfg(feature = "autonat")]
                Some(Turn::AutoNat(turn)) => self.on_autonat(*turn),
                #[cfg(feature = "stun")]
                Some(Turn::Stun(event)) => self.on_stun(event),
                #[cfg(feature = "stun")]
                Some(Turn::Punch(turn)) => self.on_punch(turn),
                #[cfg(feature = "relay-server")]
                Some(Turn::Witness(asker, stream)) => self.on_witness(asker, stream),
                #[cfg(feature = "portmap")]
                Some(Turn::Port(event)) => self.on_port(event),
                #[cfg(feature = "metrics")]
                Some(Turn::Look(look)) => self.on_look(look),
                Some(Turn::Timer) => {}
                None => return self.end(None).await,
            }
            // The connections are tasks beside this one, and get their turn even while we are never idle.
            handled += 1;
            if handled % limits::TURNS_BEFORE_YIELD == 0 {
                future::yield_now().await;
            }
        }
    }

    /// Waits for the next thing to do. `None`: to end, because that was asked for or no handle is left.
    async fn turn(&mut self) -> Option<Turn> {
        let due = self.next_due();
        if due != self.timer_due {
            self.timer_due = due;
            self.timer.set(due);
        }
        let Self { swarm, inbox, timer, timer_due, outgoing, company, holes, recalls, reloads, .. } = self;
        let swarm = async { Some(Turn::Swarm(Box::new(swarm.select_next_some().await))) };
        let request = async {
            match outgoing.is_some() {
                true => future::pending().await,
                false => inbox.requests.recv().await.ok().map(Turn::Request),
            }
        };
        let timer = async {
            timer.await;
            *timer_due = None;
            Some(Turn::Timer)
        };
        let saved = async { Some(Turn::Saved(company.saved().await)) };
        let saved = future::or(saved, async { Some(Turn::Reread(reloads.read().await)) });
        let hole = async { Some(Turn::Hole(holes.turn().await)) };
        let hole = future::or(hole, async { Some(Turn::Recall(recalls.turn().await)) });
        #[cfg(feature = "autonat")]
        let autonat = &mut self.autonat;
        #[cfg(feature = "autonat")]
        let hole = future::or(hole, async { Some(Turn::AutoNat(Box::new(autonat.turn().await))) });
        #[cfg(feature = "stun")]
        let (outside, punches) = (&mut self.outside, &mut self.punches);
        #[cfg(feature = "stun")]
        let hole = future::or(hole, async { Some(Turn::Stun(outside.seen().await)) });
        #[cfg(feature = "stun")]
        let hole = future::or(hole, async { Some(Turn::Punch(punches.turn().await)) });
        #[cfg(feature = "relay-server")]
        let witness = &mut self.witness;
        #[cfg(feature = "relay-server")]
        let hole = future::or(hole, async {
            let (asker, stream) = witness.asked().await;
            Some(Turn::Witness(asker, stream))
        });
        #[cfg(feature = "portmap")]
        let ports = &mut self.ports;
        #[cfg(feature = "portmap")]
        let hole = future::or(hole, async { Some(Turn::Port(ports.next().await)) });
        #[cfg(feature = "metrics")]
        let hole = future::or(hole, async { Some(Turn::Look(inbox.look().await)) });
        let stop = async { inbox.stop.recv().await.ok().and(None) };
        // The race is decided at random when several are ready: neither faces nor network starve.
        future::or(
            stop,
            future::race(swarm, future::race(request, future::or(timer, future::or(saved, hole)))),
        )
        .await
    }

    fn next_due(&self) -> Option<Instant> {
        let announcements = self.rooms.values().filter(|_| !self.plain).map(|room| room.announcer.due());
        let retry = self.outgoing.as_ref().map(Outgoing::due);
        let all = announcements
            .chain(retry)
            .chain(self.bootstraps.next_due())
            .chain(self.links.next_due())
            .chain(self.company.next_due())
            .chain(self.relays.next_due())
            .chain(self.holes.next_due())
            .chain(self.recalls.next_due(Instant::now()))
            .chain([self.expire_due]);
        #[cfg(feature = "autonat")]
        let all = all.chain(self.autonat.next_due());
        all.min()
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        self.dial_bootstraps(now);
        self.close_surplus(now);
        self.keep_company(now);
        #[cfg(feature = "autonat")]
        self.keep_reachable(now);
        self.keep_reservations(now);
        self.make_holes(now);
        self.recall(now);
        self.retry_outgoing(now);
        self.announce(now);
        if now >= self.expire_due {
            self.expire_due = now + limits::PRESENCE_REPEAT / 5;
            self.expire_members(now);
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Circuits(event)) => self.on_circuit(event),
            #[cfg(feature = "kad")]
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event),
            #[cfg(feature = "mdns")]
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.on_mdns(event),
            #[cfg(feature = "relay-server")]
            SwarmEvent::Behaviour(BehaviourEvent::RelayServer(event)) => self.on_relay_server(event),
            event => self.on_connection(event),
        }
    }

    fn on_request(&mut self, Request { command, answer }: Request) {
        let result = match command {
            Command::Send { room, text, action } => return self.send(room, text, action, answer),
            Command::Join(room) => self.join(room).map(|()| Answer::Done),
            Command::Leave(room) => self.leave(&room).map(|()| Answer::Done),
            Command::Connect(addr) => self.connect(addr).map(|()| Answer::Done),
            Command::Disconnect(peer) => match self.swarm.disconnect_peer_id(peer) {
                Ok(()) => Ok(Answer::Done),
                Err(()) => Err(Refusal::NotConnected(peer)),
            },
            Command::Nick(nick) => {
                self.rename(nick);
                Ok(Answer::Done)
            }
            Command::Peers => Ok(Answer::Peers(self.peer_infos())),
            Command::Rooms => Ok(Answer::Rooms(self.room_infos())),
            Command::WhoAmI => Ok(Answer::WhoAmI(self.who_am_i())),
            Command::Stats => Ok(Answer::Stats(Box::new(self.stats_now()))),
            Command::Status => Ok(Answer::Status(self.who_am_i(), Box::new(self.stats_now()))),
            Command::Nat => Ok(Answer::Nat(self.nat_now())),
            Command::Reload => return self.reload(answer),
            Command::Quit => Ok(Answer::Done),
        };
        reply(&answer, result);
    }

    fn listen(&mut self, config: &Config) -> Result<(), StartError> {
        for addr in &config.listen {
            match self.swarm.listen_on(addr.clone()) {
                Ok(_) => {}
                // A machine without IPv6 is no reason to stop when nobody asked for it.
                Err(e) if config.listen.len() > 1 && is_missing_family(&e) => {
                    log::info!("not listening on {addr}: {}", detail(&e));
                }
                Err(e) => return Err(StartError::Listen { addr: addr.clone(), why: detail(&e) }),
            }
        }
        for addr in &config.external {
            self.swarm.add_external_address(addr.clone());
        }
        Ok(())
    }

    fn who_am_i(&self) -> WhoAmI {
        WhoAmI {
            peer: *self.swarm.local_peer_id(),
            nick: self.nick.clone(),
            listening: self.swarm.listeners().cloned().collect(),
            external: self.swarm.external_addresses().cloned().collect(),
            rooms: self.order.clone(),
        }
    }

    fn stats_now(&self) -> Stats {
        let [reservations, circuits] = self.places_given();
        Stats {
            reservations,
            circuits,
            connections: self.swarm.network_info().connection_counters().num_established(),
            known: self.company.book.len() as u32,
            routes: self.routes() as u32,
            uptime: self.started.elapsed(),
            ..self.stats.clone()
        }
    }

    /// Says goodbye, closes all connections, and tells the faces. Takes [`limits::GOODBYE`] at the most.
    async fn end(mut self, quit: Option<Request>) {
        self.save_at_end().await;
        self.end_time();
        #[cfg(feature = "portmap")]
        self.ports.close().await;
        let deadline = Instant::now() + limits::GOODBYE;
        self.say_goodbye();
        // What is still queued goes out first: nothing tells when it has, so the network gets half the time.
        self.drive(deadline - limits::GOODBYE / 2, |node| node.links.is_empty()).await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // It may have gone in the meantime.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.drive(deadline, |node| node.links.is_empty()).await;
        if let Some(request) = quit {
            reply(&request.answer, Ok(Answer::Done));
        }
        // Commands that were still under way are refused rather than forgotten.
        self.inbox.requests.close();
        while let Ok(request) = self.inbox.requests.try_recv() {
            reply(&request.answer, Err(Refusal::Ended));
        }
        self.feed.publish(Event::Stopped);
        self.feed.close();
    }

    /// Lets the swarm work until `done` or the deadline.
    async fn drive(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) {
        let mut timer = Delay::at(deadline);
        while !done(self) {
            let swarm = async { Some(self.swarm.select_next_some().await) };
            let late = async {
                (&mut timer).await;
                None
            };
            match future::or(swarm, late).await {
                Some(event) => self.on_swarm(event),
                None => return,
            }
        }
    }
}

/// Addresses that do not name this node itself.
fn others(addrs: &[Multiaddr], me: PeerId) -> impl Iterator<Item = Multiaddr> {
    let is_other = move |addr: &&Multiaddr| {
        let is_me = peers::peer_of(addr) == Some(me);
        if is_me {
            log::warn!("--bootstrap {addr} is this node itself; left out");
        }
        !is_me
    };
    addrs.iter().filter(is_other).cloned()
}

/// Nobody may be waiting for an answer any more, and that is fine.
fn reply(answer: &async_channel::Sender<Result<Answer, Refusal>>, result: Result<Answer, Refusal>) {
    let _ = answer.try_send(result);
}

/// Connections run as tasks on `executor`.
fn swarm_config(executor: Arc<Executor<'static>>) -> swarm::Config {
    let spawn = move |task: Pin<Box<dyn Future<Output = ()> + Send>>| executor.spawn(task).detach();
    swarm::Config::with_executor(spawn)
        .with_idle_connection_timeout(limits::IDLE_CONNECTION)
        .with_max_negotiating_inbound_streams(limits::NEGOTIATING_STREAMS)
}

/// The nickname of somebody who chose none: the end of the peer ID.
fn nick_of(peer: &PeerId) -> Nick {
    let id = peer.to_base58();
    let end: String = id.chars().skip(id.len().saturating_sub(8)).collect();
    // Base58 is printable and short, so this cannot fail; if it did, the node would still have a name.
    end.parse().or_else(|_| "somebody".parse()).unwrap_or_else(|_| unreachable!("'somebody' is a nickname"))
}

/// Random in 0..1, for delays.
fn jitter() -> f64 {
    fastrand::f64()
}

/// Random up to `most`.
fn random_delay(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}
