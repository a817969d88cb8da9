//! How nodes come to be connected: bootstrap nodes, the DHT, announcements, and too many connections.

use std::collections::VecDeque;
use std::time::Duration;

use warren::limits;
use warren::nat::hop;
use warren::rooms::members;

use super::links::Link;
use super::micros;
use super::newcomers::Newcomer;
use super::queue::Micros;
use super::wire;
use super::world::{Event, NodeId, World};

/// A bootstrap node, `warren relay`: who is connected with it, and since when.
#[derive(Default)]
pub(crate) struct Hub {
    links: Vec<(NodeId, Micros)>,
}

/// The DHT's knowledge of the room. The nodes that keep it are members, and all keep the same.
#[derive(Default)]
pub(crate) struct Dht {
    keepers: Vec<NodeId>,
    /// The newest last.
    providers: VecDeque<NodeId>,
}

impl Dht {
    /// The oldest make place.
    fn provide(&mut self, node: NodeId) {
        self.providers.retain(|other| *other != node);
        self.providers.push_back(node);
        while self.providers.len() > limits::DHT_PROVIDERS_PER_KEY {
            self.providers.pop_front();
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.providers.len()
    }
}

impl World {
    /// A room that has been there for long: everybody has dialled at random, for its DHT, until some had as many
    /// connections as they keep.
    pub(crate) fn settle(&mut self) {
        let nodes = self.plan.nodes as NodeId;
        let mut order: Vec<NodeId> = (0..nodes).collect();
        for node in 0..nodes {
            self.come_alive(node);
        }
        self.rng.shuffle(&mut order);
        for node in order {
            let wanted = self.plan.links.low.min(nodes as usize - 1);
            for _ in 0..4 * wanted {
                if self.nodes[node as usize].links.len() >= wanted {
                    break;
                }
                let other = self.rng.u32(0..nodes);
                let is_full = self.nodes[other as usize].links.len() >= self.plan.links.high;
                if !is_full && other != node && !self.nodes[node as usize].links.has(other) {
                    self.connect(node, other, false);
                }
            }
        }
        let repeat = micros(limits::PRESENCE_REPEAT);
        for node in 0..nodes {
            // Who was heard within the last round of announcements, and who is known from it.
            let heard = limits::MEMBERS.min(nodes as usize - 1);
            while self.nodes[node as usize].members.len() < heard {
                let other = (node + 1 + self.rng.u32(0..nodes - 1)) % nodes;
                self.node(node).members.heard(other, 0);
                self.candidate(node, other);
            }
            let ago = self.rng.u64(0..repeat);
            let last = self.instant(0) - Duration::from_micros(ago);
            self.node(node).announcer.done(last);
            self.arm(node);
            let later = self.rng.u64(0..micros(limits::DHT_PROVIDE_MOST));
            self.node(node).way.provide_delay = micros(limits::DHT_PROVIDE_MOST);
            self.queue.add(later, Event::Provide(node));
            let later = self.rng.u64(0..micros(limits::DHT_LOOKUP_SATISFIED));
            self.queue.add(later, Event::Lookup(node));
            let later = self.rng.u64(0..micros(limits::DHT_REFRESH));
            self.queue.add(later, Event::Refresh(node));
            let state = &mut self.nodes[node as usize].way;
            (state.is_found, state.is_neighbour, state.is_settled, state.has_heard) =
                (true, true, true, true);
            self.dht.provide(node);
        }
        self.dht.keepers = (0..limits::DHT_REPLICATION).map(|_| self.rng.u32(0..nodes)).collect();
        self.fill_hubs();
    }

    fn come_alive(&mut self, node: NodeId) {
        let now = self.now;
        let first = self.rng.u64(0..micros(limits::GOSSIP_HEARTBEAT));
        let state = self.node(node);
        (state.alive, state.started) = (true, now);
        state.way.bootstrap_delay = micros(limits::REDIAL_FIRST);
        state.way.lookup_delay = micros(limits::DHT_LOOKUP_FIRST);
        state.way.provide_delay = micros(limits::DHT_PROVIDE_FIRST);
        self.alive += 1;
        // Nodes are started at any time.
        self.after(first, Event::Heartbeat(node));
    }

    /// Bootstrap nodes are full of members, as they are for ever; the others try now and then.
    fn fill_hubs(&mut self) {
        for node in 0..self.plan.nodes as NodeId {
            let hub = node as usize % self.hubs.len();
            self.node(node).way.bootstrap_delay = micros(limits::REDIAL_CALM);
            if self.hubs[hub].links.len() < limits::CONNECTIONS_LOW {
                self.hubs[hub].links.push((node, 0));
            } else {
                let later = self.rng.u64(0..micros(limits::REDIAL_CALM));
                self.queue.add(later, Event::Bootstrap(node));
            }
        }
    }

    pub(crate) fn join(&mut self, node: NodeId) {
        let audience = self.alive;
        self.come_alive(node);
        self.tally.newcomers.joins += 1;
        let now = self.instant(self.now);
        let state = self.node(node);
        state.announcer = members::Announcer::new(now);
        state.newcomer = (audience > 0).then(|| Box::new(Newcomer::new(node, audience)));
        if self.dht.keepers.len() < limits::DHT_REPLICATION {
            self.dht.keepers.push(node);
        }
        self.after(0, Event::Bootstrap(node));
    }

    /// Dials a bootstrap node, which has a place or not.
    pub(crate) fn bootstrap(&mut self, node: NodeId) {
        let hub = node as usize % self.hubs.len();
        let now = self.now;
        self.tally.bytes.finding += wire::DIAL;
        self.traffic[node as usize] += wire::DIAL;
        // It has closed those that had become old enough when they had.
        if self.hubs[hub].links.len() > limits::CONNECTIONS_HIGH {
            self.thin_out_hub(hub);
        }
        if self.hubs[hub].links.len() >= hop::Limits::default().connections() as usize {
            self.tally.turned_away += 1;
            return self.bootstrap_later(node);
        }
        self.hubs[hub].links.push((node, now));
        if !self.nodes[node as usize].way.is_found {
            self.node(node).way.is_found = true;
            // The connection, and identify.
            let there = 2 * self.round_trip();
            self.after(there, Event::Lookup(node));
            self.after(there, Event::Provide(node));
            self.after(there, Event::Refresh(node));
        }
        if self.hubs[hub].links.len() > limits::CONNECTIONS_HIGH {
            self.thin_out_hub(hub);
        }
    }

    fn bootstrap_later(&mut self, node: NodeId) {
        let is_calm = !self.nodes[node as usize].links.is_empty();
        let most = micros(if is_calm { limits::REDIAL_CALM } else { limits::REDIAL_MOST });
        let delay = self.nodes[node as usize].way.bootstrap_delay.min(most);
        let jittered = delay - self.rng.u64(0..=delay / 2);
        self.node(node).way.bootstrap_delay = (delay * 2).min(most);
        self.after(jittered, Event::Bootstrap(node));
    }

    /// The youngest go first among those that are old enough.
    fn thin_out_hub(&mut self, hub: usize) {
        let old = self.now.saturating_sub(micros(limits::CONNECTION_YOUNG));
        let mut at = self.hubs[hub].links.len();
        while at > 0 && self.hubs[hub].links.len() > limits::CONNECTIONS_LOW {
            at -= 1;
            if self.hubs[hub].links[at].1 <= old {
                let (node, _) = self.hubs[hub].links.remove(at);
                self.tally.thinned += 1;
                self.bootstrap_later(node);
            }
        }
    }

    /// Asks the DHT who is in the room, and again later.
    pub(crate) fn lookup(&mut self, node: NodeId) {
        self.ask_keepers(node, wire::ANSWER);
        let answer = 4 * self.round_trip();
        self.after(answer, Event::Found(node));
        let is_satisfied = self.nodes[node as usize].links.len() >= limits::ROOM_NEIGHBOURS;
        let most = micros(limits::DHT_LOOKUP_MOST);
        let way = &mut self.node(node).way;
        let delay = if is_satisfied { micros(limits::DHT_LOOKUP_SATISFIED) } else { way.lookup_delay };
        way.lookup_delay = (way.lookup_delay * 2).min(most);
        let jittered = delay - self.rng.u64(0..=delay / 5);
        self.after(jittered, Event::Lookup(node));
    }

    /// The answer is there, if any of those that keep it had a place for who asked.
    pub(crate) fn found(&mut self, node: NodeId) {
        self.tally.lookups += 1;
        let links = &self.nodes[node as usize].links;
        if !self.dht.keepers.iter().any(|keeper| *keeper == node || links.has(*keeper)) {
            self.tally.unanswered += 1;
            return;
        }
        let providers: Vec<NodeId> = self.dht.providers.iter().rev().copied().collect();
        for peer in providers {
            self.candidate(node, peer);
        }
        self.look(node);
    }

    /// Tells the DHT that this node is in the room.
    pub(crate) fn provide(&mut self, node: NodeId) {
        self.ask_keepers(node, wire::ANSWER);
        self.dht.provide(node);
        let most = micros(limits::DHT_PROVIDE_MOST);
        let way = &mut self.node(node).way;
        let delay = way.provide_delay;
        way.provide_delay = (delay * 2).min(most);
        let jittered = delay - self.rng.u64(0..=delay / 5);
        self.after(jittered, Event::Provide(node));
    }

    /// Those that keep the room's records are dialled, and as members of the room they are neighbours from then on.
    fn ask_keepers(&mut self, node: NodeId, bytes: u64) {
        for keeper in self.dht.keepers.clone() {
            if keeper == node {
                continue;
            }
            if self.nodes[node as usize].links.has(keeper) {
                self.tally.bytes.finding += bytes;
                self.count(node, keeper, bytes);
            } else {
                self.dial(node, keeper, false);
            }
        }
    }

    /// Kademlia gets to know its network: it looks for itself and for somebody at each distance that is not empty, and
    /// dials as many as the budget lets it. All are members of the room here.
    pub(crate) fn refresh(&mut self, node: NodeId) {
        self.after(micros(limits::DHT_REFRESH), Event::Refresh(node));
        let distances = self.alive.max(2).ilog2() as usize + 1;
        let count = (limits::DHT_REPLICATION * distances).min(limits::DHT_UPKEEP_DIALS as usize);
        let nodes = self.nodes.len() as NodeId;
        for _ in 0..count {
            let other = self.rng.u32(0..nodes);
            let is_there = other != node && self.nodes[other as usize].alive;
            if is_there && !self.nodes[node as usize].links.has(other) {
                self.dial(node, other, false);
            }
        }
    }

    pub(crate) fn dial(&mut self, from: NodeId, to: NodeId, is_wish: bool) {
        self.tally.bytes.finding += wire::DIAL;
        self.count(from, to, wire::DIAL);
        // The connection, gossipsub's stream, and half a round trip for the subscription.
        let there = self.round_trip() * 5 / 2;
        self.after(there, Event::Dialled { from, to, is_wish });
    }

    pub(crate) fn dialled(&mut self, from: NodeId, to: NodeId, is_wish: bool) {
        let is_full = |world: &World, node: NodeId| {
            world.nodes[node as usize].links.len() >= limits::CONNECTIONS as usize
        };
        let is_there = self.nodes[to as usize].alive && !is_full(self, to) && !is_full(self, from);
        if is_wish {
            self.wished(from, to, is_there);
        }
        if !self.nodes[from as usize].links.has(to) {
            match is_there {
                true => {
                    self.tally.dials += 1;
                    self.connect(from, to, true);
                }
                false => self.tally.denied += 1,
            }
        }
        self.look(from);
    }

    /// Both are neighbours now.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId, is_news: bool) {
        let now = self.now;
        for (node, peer, outbound) in [(from, to, true), (to, from, false)] {
            let low = self.gossip.mesh_n_low();
            let state = self.node(node);
            state.links.add(peer, outbound, now);
            let is_full = state.members.is_full();
            let is_new = state.members.subscribed(peer, now);
            let chance = members::answer_chance(state.members.len());
            if state.links.mesh() < low {
                self.graft(node, peer);
            }
            if is_news {
                if is_new && !is_full || self.rng.f64() < chance {
                    let at = self.instant(now);
                    self.node(node).announcer.answer(at, Duration::ZERO);
                    self.arm(node);
                }
                self.candidate(node, peer);
                self.note_neighbour(node);
            }
        }
        for node in [from, to] {
            if self.nodes[node as usize].links.len() > self.plan.links.high {
                self.thin_out(node);
            }
        }
    }

    /// What this node began and its mesh does not need, beyond what it keeps: the youngest first. Really it looks once
    /// such a connection has become old enough, and not at each heartbeat.
    pub(super) fn close_spare(&mut self, node: NodeId) {
        self.close(node, self.plan.links.low, |link| link.outbound);
    }

    /// As `crowd.rs` has it: those in the mesh and the young stay, then what this node dialled, then the old.
    fn thin_out(&mut self, node: NodeId) {
        let most = self.plan.links.high * limits::CONNECTIONS_LOW / limits::CONNECTIONS_HIGH;
        self.close(node, most, |_| true);
    }

    /// Closes connections until there are `most`, if so many may go, the worst first.
    fn close(&mut self, node: NodeId, most: usize, may_go: impl Fn(&Link) -> bool) {
        let links = &self.nodes[node as usize].links;
        let excess = links.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let old = self.now.saturating_sub(micros(limits::CONNECTION_YOUNG));
        let mut go: Vec<(bool, Micros, NodeId)> = (links.mesh()..links.len())
            .filter(|at| links.link(*at).since <= old && may_go(links.link(*at)))
            .map(|at| (!links.link(at).outbound, links.link(at).since, links.peer(at)))
            .collect();
        go.sort_unstable();
        for (.., peer) in go.into_iter().rev().take(excess) {
            self.tally.thinned += 1;
            self.part(node, peer);
        }
    }

    fn part(&mut self, a: NodeId, b: NodeId) {
        for (node, peer) in [(a, b), (b, a)] {
            let now = self.now;
            let state = self.node(node);
            state.parted = now;
            state.links.remove(peer);
            state.members.disconnected(peer);
            self.rest(node, peer);
        }
    }

    /// A node has heard another one.
    pub(crate) fn heard(&mut self, node: NodeId, author: NodeId, is_text: bool) {
        self.note_heard(node, author);
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        let was_full = state.members.is_full();
        if state.members.heard(author, now) {
            self.tally.forgotten += u64::from(was_full);
            let chance = members::answer_chance(state.members.len());
            if self.rng.f64() < chance {
                let delay = self.rng.u64(0..micros(limits::PRESENCE_DELAY));
                let at = self.instant(now);
                self.node(node).announcer.answer(at, Duration::from_micros(delay));
                self.arm(node);
            }
        }
        if !is_text {
            self.candidate(node, author);
        }
    }

    pub(crate) fn announce(&mut self, node: NodeId) {
        let now = self.instant(self.now);
        self.node(node).announce_at = Micros::MAX;
        if !self.nodes[node as usize].announcer.is_due(now) {
            return self.arm(node);
        }
        let is_alone = self.nodes[node as usize].links.is_empty();
        self.publish(node, false);
        match is_alone {
            true => self.node(node).announcer.postpone(now),
            false => self.node(node).announcer.done(now),
        }
        self.arm(node);
    }

    /// Sees to it that the node announces itself when that is due.
    fn arm(&mut self, node: NodeId) {
        let start = self.instant(0);
        let now = self.now;
        let state = self.node(node);
        let due = state.announcer.due().saturating_duration_since(start);
        // Rounded up, so that it is due then.
        let due = (due.as_nanos().div_ceil(1000) as Micros).max(now);
        if due < state.announce_at {
            state.announce_at = due;
            self.queue.add(due, Event::Announce(node));
        }
    }
}
