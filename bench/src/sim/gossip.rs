//! gossipsub as warren sets it up: what is said goes to the mesh, heartbeats mend meshes and offer what others missed.
//!
//! From libp2p's gossipsub 0.50: what a node does about its own messages, GRAFT, PRUNE, IHAVE and IWANT. Left out is what
//! scores do, since nobody lies here, and opportunistic grafting, which is about scores.

use std::rc::Rc;
use std::time::Duration;

use warren::limits;

use super::queue::Micros;
use super::wire::PACKET;
use super::world::{Event, Message, MessageId, NodeId, World};

fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}

/// Hops of a copy that was asked for, and of those that come of it.
const ASKED_FOR: u8 = u8::MAX;

impl World {
    /// A node says something: a text, or that it is there. False if nobody is there to hear it.
    pub(crate) fn publish(&mut self, author: NodeId, is_text: bool) {
        if !self.nodes[author as usize].alive || self.nodes[author as usize].links.is_empty() {
            return;
        }
        self.forget();
        let message = self.messages.len() as MessageId;
        let is_counted = is_text && self.tally.is_open;
        let mut seen = vec![0; self.nodes.len().div_ceil(64)];
        seen[author as usize / 64] |= 1 << (author % 64);
        self.messages.push(Message { author, is_text, is_counted, said: self.now, seen });
        match is_text {
            true => self.tally.texts += 1,
            false => self.tally.announcements += 1,
        }
        if is_counted {
            self.tally.text_audience += self.alive as u64 - 1;
        }
        self.remember(author, message);
        // Where the mesh is small, some more are told.
        let wanted = self.gossip.mesh_n();
        let links = &self.nodes[author as usize].links;
        let mut to: Vec<usize> = (0..links.len()).filter(|i| links[*i].mesh).collect();
        let mut others: Vec<usize> = (0..links.len()).filter(|i| !links[*i].mesh).collect();
        self.rng.shuffle(&mut others);
        to.extend(others.into_iter().take(wanted.saturating_sub(to.len())));
        for link in to {
            self.send(author, link, message, 1);
        }
    }

    /// One more copy goes over a connection.
    fn send(&mut self, from: NodeId, link: usize, message: MessageId, hop: u8) {
        let bytes = PACKET + if self.said(message).is_text { self.sizes.text } else { self.sizes.here };
        let arrival = self.now + self.one_way();
        let link = &mut self.nodes[from as usize].links[link];
        let (to, arrival) = (link.peer, arrival.max(link.last));
        link.last = arrival;
        match self.said(message).is_text {
            true => self.tally.bytes.text += bytes,
            false => self.tally.bytes.presence += bytes,
        }
        self.count(from, to, bytes);
        self.tally.copies.sent += 1;
        self.tally.copies.under_way += 1;
        match self.has_seen(to, message) {
            // Nothing follows from it, so it need not be waited for.
            true => self.repeated(message),
            false => self.queue.add(arrival, Event::Copy { to, from, message, hop }),
        }
    }

    fn repeated(&mut self, message: MessageId) {
        self.tally.copies.under_way -= 1;
        self.tally.copies.duplicate += 1;
        self.tally.text_duplicates += u64::from(self.said(message).is_counted);
    }

    pub(crate) fn on_copy(&mut self, to: NodeId, from: NodeId, message: MessageId, hop: u8) {
        if self.node(to).link(from).is_none() {
            self.tally.copies.under_way -= 1;
            self.tally.copies.cut += 1;
            return;
        }
        if self.has_seen(to, message) {
            return self.repeated(message);
        }
        self.tally.copies.under_way -= 1;
        self.tally.copies.delivered += 1;
        self.messages[message as usize].seen[to as usize / 64] |= 1 << (to % 64);
        let (now, work) = (self.now, self.plan.work);
        let node = self.node(to);
        let done = node.busy_until.max(now) + work;
        node.busy_until = done;
        self.queue.add(done, Event::Forward { node: to, from, message, hop });
    }

    /// The node has checked a message: it shows it and hands it on.
    pub(crate) fn forward(&mut self, node: NodeId, from: NodeId, message: MessageId, hop: u8) {
        let Message { author, is_text, is_counted, said, .. } = *self.said(message);
        if is_counted && self.nodes[node as usize].started <= said {
            self.tally.text_deliveries += 1;
            self.tally.latency.add((self.now - said) / 1000);
            match hop {
                ASKED_FOR => self.tally.asked_for += 1,
                hop => self.tally.hops.add(u64::from(hop)),
            }
        }
        self.heard(node, author, is_text);
        self.remember(node, message);
        for link in 0..self.nodes[node as usize].links.len() {
            let to = &self.nodes[node as usize].links[link];
            if to.mesh && to.peer != from && to.peer != author {
                self.send(node, link, message, hop.saturating_add(1));
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, node: NodeId) {
        self.after(micros(limits::GOSSIP_HEARTBEAT), Event::Heartbeat(node));
        self.mend(node);
        self.offer(node);
        let state = self.node(node);
        state.wanted.clear();
        state.recent.push_front(Vec::new());
        state.recent.truncate(limits::GOSSIP_HISTORY);
        self.look(node);
    }

    /// Too few in the mesh, or too many.
    fn mend(&mut self, node: NodeId) {
        let (low, wanted, high) = (self.gossip.mesh_n_low(), self.gossip.mesh_n(), self.gossip.mesh_n_high());
        let least = self.gossip.mesh_outbound_min();
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        let mut mesh = state.mesh();
        if mesh < low {
            let free = |i: &usize| !state.links[*i].mesh && state.links[*i].backoff <= now;
            let mut free: Vec<usize> = (0..state.links.len()).filter(free).collect();
            self.rng.shuffle(&mut free);
            for link in free.into_iter().take(wanted - mesh) {
                self.graft(node, link);
            }
        } else if mesh >= high {
            let mut order: Vec<usize> = (0..state.links.len()).filter(|i| state.links[*i].mesh).collect();
            self.rng.shuffle(&mut order);
            let mut outbound = order.iter().filter(|i| state.links[**i].outbound).count();
            for link in order {
                if mesh == wanted {
                    break;
                }
                if self.nodes[node as usize].links[link].outbound {
                    if outbound <= least {
                        continue;
                    }
                    outbound -= 1;
                }
                mesh -= 1;
                self.prune(node, link);
            }
        }
        // Enough of them, and too few that it dialled itself.
        let state = &self.nodes[node as usize];
        let outbound = state.links.iter().filter(|link| link.mesh && link.outbound).count();
        if state.mesh() >= low && outbound < least {
            let free = |i: &usize| {
                !state.links[*i].mesh && state.links[*i].outbound && state.links[*i].backoff <= now
            };
            let free: Vec<usize> = (0..state.links.len()).filter(free).collect();
            for link in free.into_iter().take(least - outbound) {
                self.graft(node, link);
            }
        }
    }

    pub(crate) fn graft(&mut self, node: NodeId, link: usize) {
        let link = &mut self.nodes[node as usize].links[link];
        link.mesh = true;
        let to = link.peer;
        self.control(node, to, self.sizes.control, |from| Event::Graft { to, from });
    }

    fn prune(&mut self, node: NodeId, link: usize) {
        let backoff = self.now + micros(self.gossip.prune_backoff());
        let link = &mut self.nodes[node as usize].links[link];
        (link.mesh, link.backoff) = (false, backoff);
        let to = link.peer;
        self.control(node, to, self.sizes.control, |from| Event::Prune { to, from });
    }

    pub(crate) fn on_graft(&mut self, to: NodeId, from: NodeId) {
        let (now, high) = (self.now, self.gossip.mesh_n_high());
        let state = &mut self.nodes[to as usize];
        let mesh = state.mesh();
        let Some(at) = state.links.iter().position(|link| link.peer == from) else { return };
        let link = &mut state.links[at];
        if link.mesh {
            return;
        }
        if link.backoff > now || (mesh >= high && !link.outbound) {
            return self.prune(to, at);
        }
        link.mesh = true;
    }

    pub(crate) fn on_prune(&mut self, to: NodeId, from: NodeId) {
        let backoff = self.now + micros(self.gossip.prune_backoff());
        if let Some(link) = self.node(to).link(from) {
            (link.mesh, link.backoff) = (false, backoff);
        }
    }

    /// Tells some who are not in the mesh what there is.
    fn offer(&mut self, node: NodeId) {
        let state = &self.nodes[node as usize];
        let ids: Vec<MessageId> =
            state.recent.iter().take(limits::GOSSIP_HISTORY).flatten().copied().collect();
        if ids.is_empty() {
            return;
        }
        let mut to: Vec<NodeId> =
            state.links.iter().filter(|link| !link.mesh).map(|link| link.peer).collect();
        self.rng.shuffle(&mut to);
        let share = (self.gossip.gossip_factor() * to.len() as f64) as usize;
        to.truncate(share.max(self.gossip.gossip_lazy()));
        let (bytes, ids) = (self.sizes.ids(ids.len()), Rc::new(ids));
        for to in to {
            self.control(node, to, bytes, |from| Event::IHave { to, from, ids: Rc::clone(&ids) });
        }
    }

    pub(crate) fn on_ihave(&mut self, to: NodeId, from: NodeId, ids: &[MessageId]) {
        if self.node(to).link(from).is_none() {
            return;
        }
        let is_new = |id: &MessageId| !self.has_seen(to, *id) && !self.nodes[to as usize].wanted.contains(id);
        let ids: Vec<MessageId> = ids.iter().copied().filter(is_new).collect();
        if ids.is_empty() {
            return;
        }
        self.node(to).wanted.extend(&ids);
        let (bytes, ids) = (self.sizes.ids(ids.len()), Rc::new(ids));
        self.control(to, from, bytes, |asking| Event::IWant { to: from, from: asking, ids });
    }

    pub(crate) fn on_iwant(&mut self, to: NodeId, from: NodeId, ids: &[MessageId]) {
        let Some(link) = self.nodes[to as usize].links.iter().position(|link| link.peer == from) else {
            return;
        };
        for id in ids {
            if self.nodes[to as usize].recent.iter().flatten().any(|recent| recent == id) {
                self.send(to, link, *id, ASKED_FOR);
            }
        }
    }

    fn control(&mut self, from: NodeId, to: NodeId, bytes: u64, event: impl FnOnce(NodeId) -> Event) {
        let bytes = bytes + PACKET;
        self.tally.bytes.control += bytes;
        self.count(from, to, bytes);
        let delay = self.one_way();
        let now = self.now;
        let Some(link) = self.node(from).link(to) else { return };
        let arrival = (now + delay).max(link.last);
        link.last = arrival;
        self.queue.add(arrival, event(from));
    }

    fn remember(&mut self, node: NodeId, message: MessageId) {
        if let Some(recent) = self.node(node).recent.front_mut() {
            recent.push(message);
        }
    }

    fn said(&self, message: MessageId) -> &Message {
        &self.messages[message as usize]
    }

    /// Who is asked about a message that all have forgotten has seen it.
    fn has_seen(&self, node: NodeId, message: MessageId) -> bool {
        let seen = &self.said(message).seen;
        seen.get(node as usize / 64).is_none_or(|bits| bits & (1 << (node % 64)) != 0)
    }

    /// Whatever is older than gossipsub's memory takes no more place here.
    fn forget(&mut self) {
        let old = self.now.saturating_sub(2 * micros(limits::GOSSIP_SEEN_TTL));
        while self.messages.get(self.forgotten).is_some_and(|message| message.said < old) {
            self.messages[self.forgotten].seen = Vec::new();
            self.forgotten += 1;
        }
    }
}
