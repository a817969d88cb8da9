//! gossipsub as warren sets it up: what is said goes to the mesh, heartbeats mend meshes and offer what others missed.
//!
//! From libp2p's gossipsub 0.50: what a node does about its own messages, GRAFT, PRUNE, IHAVE and IWANT. Left out is what
//! scores do, since nobody lies here, and opportunistic grafting, which is about scores.

use std::rc::Rc;

use warren::limits;

use super::micros;
use super::queue::Micros;
use super::wire::PACKET;
use super::world::{Event, Message, MessageId, NodeId, World};

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
        self.messages.push(Message { author, is_text, is_counted, said: self.now, seen, reached: 1 });
        match is_text {
            true => self.tally.texts += 1,
            false => self.tally.announcements += 1,
        }
        if is_counted {
            self.tally.text_audience += self.alive as u64 - 1;
        }
        self.remember(author, message);
        // Where the mesh is small, some more are told.
        let links = &self.nodes[author as usize].links;
        let (mesh, all) = (links.mesh(), links.len());
        let mut others: Vec<usize> = (mesh..all).collect();
        self.rng.shuffle(&mut others);
        others.truncate(self.gossip.mesh_n().saturating_sub(mesh));
        for link in (0..mesh).chain(others) {
            self.send(author, link, message, 1);
        }
    }

    /// One more copy goes over a connection.
    fn send(&mut self, from: NodeId, link: usize, message: MessageId, hop: u8) {
        let way = self.one_way();
        let links = &mut self.nodes[from as usize].links;
        let (to, arrival) = (links.peer(link), links.in_order(link, self.now + way));
        let of_kind = &mut self.tally.bytes;
        let (bytes, of_kind) = match self.messages[message as usize].is_text {
            true => (PACKET + self.sizes.text, &mut of_kind.text),
            false => (PACKET + self.sizes.here, &mut of_kind.presence),
        };
        *of_kind += bytes;
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
        if self.has_seen(to, message) {
            return self.repeated(message);
        }
        self.tally.copies.under_way -= 1;
        let (now, work) = (self.now, self.plan.work);
        let said = &mut self.messages[message as usize];
        let state = &mut self.nodes[to as usize];
        if state.parted >= said.said && !state.links.has(from) {
            self.tally.copies.cut += 1;
            return;
        }
        self.tally.copies.delivered += 1;
        said.seen[to as usize / 64] |= 1 << (to % 64);
        said.reached += 1;
        // What follows is later than what may happen meanwhile, which has nothing to do with this.
        self.now = state.busy_until.max(now) + work;
        state.busy_until = self.now;
        self.forward(to, from, message, hop);
    }

    /// The node has checked a message: it shows it and hands it on.
    fn forward(&mut self, node: NodeId, from: NodeId, message: MessageId, hop: u8) {
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
        for link in 0..self.nodes[node as usize].links.mesh() {
            let to = self.nodes[node as usize].links.peer(link);
            if to != from && to != author {
                self.send(node, link, message, hop.saturating_add(1));
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, node: NodeId) {
        self.after(micros(limits::GOSSIP_HEARTBEAT), Event::Heartbeat(node));
        self.mend(node);
        self.close_spare(node);
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
        let mesh = self.nodes[node as usize].links.mesh();
        if mesh < low {
            let mut free = self.free(node);
            self.rng.shuffle(&mut free);
            free.into_iter().take(wanted - mesh).for_each(|peer| self.graft(node, peer));
        } else if mesh >= high {
            self.prune_down(node);
        }
        // Enough of them, and too few that it dialled itself.
        let links = &self.nodes[node as usize].links;
        let outbound = (0..links.mesh()).filter(|at| links.link(*at).outbound).count();
        let least = self.gossip.mesh_outbound_min();
        if links.mesh() >= low && outbound < least {
            let mut free = self.free(node);
            let links = &self.nodes[node as usize].links;
            free.retain(|peer| links.position(*peer).is_some_and(|at| links.link(at).outbound));
            self.rng.shuffle(&mut free);
            free.into_iter().take(least - outbound).for_each(|peer| self.graft(node, peer));
        }
    }

    /// Who may be asked into the mesh.
    fn free(&self, node: NodeId) -> Vec<NodeId> {
        let links = &self.nodes[node as usize].links;
        let is_free = |at: &usize| links.link(*at).backoff <= self.now;
        (links.mesh()..links.len()).filter(is_free).map(|at| links.peer(at)).collect()
    }

    /// Those who stay are drawn by lot, but enough of them are such that the node dialled itself.
    fn prune_down(&mut self, node: NodeId) {
        let links = &self.nodes[node as usize].links;
        let mut excess = links.mesh() - self.gossip.mesh_n();
        let mut outbound = (0..links.mesh()).filter(|at| links.link(*at).outbound).count();
        let mut order: Vec<NodeId> = links.peers()[..links.mesh()].to_vec();
        self.rng.shuffle(&mut order);
        for peer in order {
            let links = &self.nodes[node as usize].links;
            let Some(at) = links.position(peer).filter(|_| excess > 0) else { return };
            if links.link(at).outbound {
                if outbound <= self.gossip.mesh_outbound_min() {
                    continue;
                }
                outbound -= 1;
            }
            excess -= 1;
            self.prune(node, at);
        }
    }

    pub(crate) fn graft(&mut self, node: NodeId, to: NodeId) {
        let links = &mut self.node(node).links;
        let Some(at) = links.position(to) else { return };
        links.graft(at);
        self.control(node, to, self.sizes.control, |from| Event::Graft { to, from });
    }

    fn prune(&mut self, node: NodeId, at: usize) {
        let backoff = self.now + micros(self.gossip.prune_backoff());
        let links = &mut self.node(node).links;
        let at = links.prune(at);
        links.link_mut(at).backoff = backoff;
        let to = links.peer(at);
        self.control(node, to, self.sizes.control, |from| Event::Prune { to, from });
    }

    pub(crate) fn on_graft(&mut self, to: NodeId, from: NodeId) {
        let (now, high) = (self.now, self.gossip.mesh_n_high());
        let links = &mut self.node(to).links;
        let Some(at) = links.position(from) else { return };
        if links.is_mesh(at) {
            return;
        }
        let link = links.link(at);
        if link.backoff > now || (links.mesh() >= high && !link.outbound) {
            return self.prune(to, at);
        }
        links.graft(at);
    }

    pub(crate) fn on_prune(&mut self, to: NodeId, from: NodeId) {
        let backoff = self.now + micros(self.gossip.prune_backoff());
        let links = &mut self.node(to).links;
        if let Some(at) = links.position(from) {
            let at = links.prune(at);
            links.link_mut(at).backoff = backoff;
        }
    }

    /// Tells some who are not in the mesh what there is.
    fn offer(&mut self, node: NodeId) {
        let state = &self.nodes[node as usize];
        let all: usize = state.recent.iter().map(Vec::len).sum();
        if all == 0 {
            return;
        }
        // What all have is named like everything, but nobody will ask for it.
        let is_news = |id: &MessageId| self.said(*id).reached < self.alive;
        let news: Vec<MessageId> = state.recent.iter().flatten().copied().filter(is_news).collect();
        let mut to: Vec<NodeId> = state.links.peers()[state.links.mesh()..].to_vec();
        self.rng.shuffle(&mut to);
        let share = (self.gossip.gossip_factor() * to.len() as f64) as usize;
        to.truncate(share.max(self.gossip.gossip_lazy()));
        let bytes = self.sizes.ids(all);
        for to in to {
            let news: Vec<MessageId> = news.iter().copied().filter(|id| !self.has_seen(to, *id)).collect();
            match news.is_empty() {
                true => drop(self.spend(node, to, bytes)),
                false => {
                    let ids = Rc::new(news);
                    self.control(node, to, bytes, |from| Event::IHave { to, from, ids });
                }
            }
        }
    }

    pub(crate) fn on_ihave(&mut self, to: NodeId, from: NodeId, ids: &[MessageId]) {
        if !self.nodes[to as usize].links.has(from) {
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
        let Some(link) = self.nodes[to as usize].links.position(from) else { return };
        for id in ids {
            if self.nodes[to as usize].recent.iter().flatten().any(|recent| recent == id) {
                self.send(to, link, *id, ASKED_FOR);
            }
        }
    }

    fn control(&mut self, from: NodeId, to: NodeId, bytes: u64, event: impl FnOnce(NodeId) -> Event) {
        if let Some(arrival) = self.spend(from, to, bytes) {
            self.queue.add(arrival, event(from));
        }
    }

    /// Something of so many bytes goes over a connection. When it arrives.
    fn spend(&mut self, from: NodeId, to: NodeId, bytes: u64) -> Option<Micros> {
        let bytes = bytes + PACKET;
        self.tally.bytes.control += bytes;
        self.count(from, to, bytes);
        let arrival = self.now + self.one_way();
        let links = &mut self.node(from).links;
        let link = links.position(to)?;
        Some(links.in_order(link, arrival))
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
