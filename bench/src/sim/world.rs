//! The nodes of a room, and the one loop that everything happens in.
//!
//! What is as in warren, by its own constants and functions: gossipsub's mesh, heartbeats, IHAVE and IWANT
//! (`gossip.rs`); announcements (`Announcer`, `answer_chance`) and the table of members (`members.rs`); whom a node dials
//! (`wishes.rs`); how many connections it keeps, its bootstrap node and the DHT (`company.rs`).
//!
//! What is not: NATs and relays (everybody can be dialled), liars and scores, clocks, nodes that leave, bandwidth, and
//! asking a new neighbour for what was missed. Peers that are said to be in the room stay in the address book.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use libp2p::gossipsub;
use warren::limits;
use warren::rooms::members::Announcer;

use super::company::{Dht, Hub};
use super::line::Line;
use super::links::Links;
use super::members::Members;
use super::micros;
use super::newcomers::Newcomer;
use super::plan::Plan;
use super::queue::{Micros, Queue};
use super::tally::Tally;
use super::wire::Sizes;
use super::wishes::Candidates;

pub(crate) type NodeId = u32;
pub(crate) type MessageId = u32;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A copy of a message arrives, after so many hops.
    Copy {
        to: NodeId,
        from: NodeId,
        message: MessageId,
        hop: u8,
    },
    IHave {
        to: NodeId,
        from: NodeId,
        ids: std::rc::Rc<Vec<MessageId>>,
    },
    IWant {
        to: NodeId,
        from: NodeId,
        ids: std::rc::Rc<Vec<MessageId>>,
    },
    Graft {
        to: NodeId,
        from: NodeId,
    },
    Prune {
        to: NodeId,
        from: NodeId,
    },
    Heartbeat(NodeId),
    Announce(NodeId),
    Say(NodeId),
    Join(NodeId),
    /// Tries to connect with a bootstrap node.
    Bootstrap(NodeId),
    /// A dial ends. With whom it is for the DHT only, no wish waits for it.
    Dialled {
        from: NodeId,
        to: NodeId,
        is_wish: bool,
    },
    Lookup(NodeId),
    Found(NodeId),
    Provide(NodeId),
    Refresh(NodeId),
}

pub(crate) struct Node {
    pub(crate) alive: bool,
    pub(crate) started: Micros,
    pub(crate) links: Links,
    pub(crate) members: Members,
    pub(crate) announcer: Announcer,
    /// For when an `Event::Announce` is in the queue.
    pub(crate) announce_at: Micros,
    pub(crate) candidates: Candidates,
    /// Messages of this heartbeat, and of those before it, the newest first.
    pub(crate) recent: VecDeque<Vec<MessageId>>,
    /// Messages that were asked for since the last heartbeat.
    pub(crate) wanted: Vec<MessageId>,
    pub(crate) busy_until: Micros,
    /// When it last lost a connection.
    pub(crate) parted: Micros,
    pub(crate) way: Way,
    /// Until all that were there before it have heard it.
    pub(crate) newcomer: Option<Box<Newcomer>>,
}

/// How far a newcomer has come, and its clocks for finding others.
#[derive(Default)]
pub(crate) struct Way {
    pub(crate) bootstrap_delay: Micros,
    pub(crate) lookup_delay: Micros,
    pub(crate) provide_delay: Micros,
    pub(crate) is_found: bool,
    pub(crate) is_neighbour: bool,
    pub(crate) is_settled: bool,
    pub(crate) has_heard: bool,
}

pub(crate) struct Message {
    pub(crate) author: NodeId,
    pub(crate) is_text: bool,
    pub(crate) is_counted: bool,
    pub(crate) said: Micros,
    /// A bit for each node, and how many of them are set.
    pub(crate) seen: Vec<u64>,
    pub(crate) reached: usize,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Micros,
    pub(crate) queue: Queue<Event>,
    pub(crate) line: Line,
    pub(crate) nodes: Vec<Node>,
    /// Bytes that each has sent and received.
    pub(crate) traffic: Vec<u64>,
    pub(crate) messages: Vec<Message>,
    /// Messages before this are forgotten by all.
    pub(crate) forgotten: usize,
    pub(crate) hubs: Vec<Hub>,
    pub(crate) dht: Dht,
    pub(crate) sizes: Sizes,
    pub(crate) gossip: gossipsub::Config,
    pub(crate) tally: Tally,
    /// As it was when no more texts were counted; later ones are not part of any rate.
    pub(crate) measured: Tally,
    /// Bytes of the node that had most, by then.
    pub(crate) busiest: u64,
    pub(crate) alive: usize,
    /// What the clocks of `Announcer` count from.
    epoch: Instant,
}

impl World {
    pub(crate) fn new(plan: Plan) -> anyhow::Result<Self> {
        let sizes = Sizes::new(plan.size)?;
        let spare = if plan.form { 0.0 } else { plan.joins * plan.duration as f64 / 1e6 };
        let count = plan.nodes + spare as usize;
        // Announcements lie back in time at the start.
        let epoch = Instant::now() + 2 * limits::PRESENCE_REPEAT;
        let mut world = World {
            rng: Rng::with_seed(plan.seed),
            now: 0,
            queue: Queue::new(),
            line: Line::new(&plan),
            nodes: (0..count).map(|_| Node::new(epoch)).collect(),
            traffic: vec![0; count],
            messages: Vec::new(),
            forgotten: 0,
            hubs: (0..plan.hubs).map(|_| Hub::default()).collect(),
            dht: Dht::default(),
            sizes,
            gossip: plan.gossip()?,
            tally: Tally::default(),
            measured: Tally::default(),
            busiest: 0,
            alive: 0,
            epoch,
            plan,
        };
        match world.plan.form {
            true => world.schedule_joins(0, 0..count),
            false => {
                world.settle();
                world.schedule_joins(world.plan.warmup, world.plan.nodes..count);
            }
        }
        Ok(world)
    }

    /// Runs until everything that was said had time to arrive. After each simulated second it tells where it is, and
    /// where the end is.
    pub(crate) fn run(&mut self, mut tell: impl FnMut(Micros, Micros)) {
        let formed = match self.plan.form {
            true => (self.plan.nodes as f64 / self.plan.joins.max(0.001) * 1e6) as Micros,
            false => 0,
        };
        let from = formed + self.plan.warmup;
        let to = from + self.plan.duration;
        let end = to + micros(super::DRAIN);
        self.schedule_talk(from, to);
        let (mut is_open, mut is_over, mut second) = (false, false, 0);
        while let Some((at, event)) = self.queue.next() {
            if !is_open && at >= from {
                is_open = true;
                self.open();
            }
            if !is_over && at >= to {
                is_over = true;
                self.tally.is_open = false;
                self.measured = self.tally.clone();
                self.busiest = self.traffic.iter().copied().max().unwrap_or(0);
            }
            if at >= end {
                break;
            }
            if at / 1_000_000 > second {
                second = at / 1_000_000;
                tell(at, end);
            }
            self.now = at;
            self.handle(event);
        }
    }

    /// From now on it counts. What newcomers have met with by then is kept.
    fn open(&mut self) {
        let before = std::mem::take(&mut self.tally);
        self.tally = Tally { is_open: true, newcomers: before.newcomers, ..Tally::default() };
        let under_way = before.copies.under_way;
        (self.tally.copies.sent, self.tally.copies.under_way) = (under_way, under_way);
        self.traffic.fill(0);
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Copy { to, from, message, hop } => self.on_copy(to, from, message, hop),
            Event::IHave { to, from, ids } => self.on_ihave(to, from, &ids),
            Event::IWant { to, from, ids } => self.on_iwant(to, from, &ids),
            Event::Graft { to, from } => self.on_graft(to, from),
            Event::Prune { to, from } => self.on_prune(to, from),
            Event::Heartbeat(node) => self.heartbeat(node),
            Event::Announce(node) => self.announce(node),
            Event::Say(node) => self.publish(node, true),
            Event::Join(node) => self.join(node),
            Event::Bootstrap(node) => self.bootstrap(node),
            Event::Dialled { from, to, is_wish } => self.dialled(from, to, is_wish),
            Event::Lookup(node) => self.lookup(node),
            Event::Found(node) => self.found(node),
            Event::Provide(node) => self.provide(node),
            Event::Refresh(node) => self.refresh(node),
        }
    }

    pub(crate) fn node(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.queue.add(self.now + delay, event);
    }

    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.epoch + Duration::from_micros(at)
    }

    /// A round trip, as a rule.
    pub(crate) fn round_trip(&self) -> Micros {
        self.line.round_trip()
    }

    /// Bytes that one node sends and another one receives.
    pub(crate) fn count(&mut self, a: NodeId, b: NodeId, bytes: u64) {
        self.traffic[a as usize] += bytes;
        self.traffic[b as usize] += bytes;
    }

    /// How long something is under way.
    pub(crate) fn one_way(&mut self) -> Micros {
        let (delay, repeated) = self.line.one_way(&mut self.rng);
        self.tally.repeated += repeated;
        delay
    }

    fn schedule_joins(&mut self, start: Micros, nodes: std::ops::Range<usize>) {
        if self.plan.joins <= 0.0 {
            return;
        }
        let gap = 1e6 / self.plan.joins;
        for (nth, node) in nodes.enumerate() {
            self.queue.add(start + (nth as f64 * gap) as Micros, Event::Join(node as NodeId));
        }
    }

    /// Every talker begins at a moment of its own.
    fn schedule_talk(&mut self, from: Micros, to: Micros) {
        if self.plan.rate <= 0.0 {
            return;
        }
        let gap = (1e6 / self.plan.rate) as Micros;
        let nodes = self.plan.nodes;
        for nth in 0..self.plan.talkers.min(nodes) {
            let node = (nth * nodes / self.plan.talkers.min(nodes)) as NodeId;
            let mut at = from + self.rng.u64(0..gap);
            while at < to {
                self.queue.add(at, Event::Say(node));
                at += gap;
            }
        }
    }
}

impl Node {
    fn new(epoch: Instant) -> Self {
        Node {
            alive: false,
            started: 0,
            links: Links::default(),
            members: Members::default(),
            announcer: Announcer::new(epoch),
            announce_at: Micros::MAX,
            candidates: Candidates::default(),
            recent: VecDeque::from([Vec::new()]),
            wanted: Vec::new(),
            busy_until: 0,
            parted: 0,
            way: Way::default(),
            newcomer: None,
        }
    }
}
