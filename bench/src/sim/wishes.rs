//! Whom a node wants to be connected with: warren's `src/node/wishes.rs`, for one room without a local network.

use warren::limits;

use super::links::Links;
use super::micros;
use super::queue::Micros;
use super::world::{NodeId, World};

/// It is being dialled.
const DIALLING: Micros = Micros::MAX;

/// Peers that are said to be in the room. Apart from what is known of each, since most are known already.
#[derive(Default)]
pub(crate) struct Candidates {
    peers: Vec<NodeId>,
    known: Vec<Candidate>,
    /// None of them rests for longer than this.
    rest_until: Micros,
}

struct Candidate {
    since: Micros,
    /// Not to be dialled before; `DIALLING` while it is.
    due: Micros,
    /// Dials that failed in a row.
    failures: u32,
}

impl Candidates {
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn has(&self, peer: NodeId) -> bool {
        self.peers.contains(&peer)
    }

    fn add(&mut self, peer: NodeId, since: Micros) {
        self.peers.push(peer);
        self.known.push(Candidate { since, due: 0, failures: 0 });
    }

    fn remove(&mut self, at: usize) {
        self.peers.swap_remove(at);
        self.known.swap_remove(at);
    }

    /// It is not to be dialled before `due`.
    fn rest(&mut self, at: usize, due: Micros) {
        self.known[at].due = due;
        self.rest_until = self.rest_until.max(due);
    }

    /// Somebody who cannot be dialled now and is not connected.
    fn useless(&mut self, links: &Links, now: Micros) -> Option<usize> {
        self.rest_until = self.known.iter().map(|known| known.due).max().unwrap_or(0);
        (0..self.len()).find(|at| self.known[*at].due > now && !links.has(self.peers[*at]))
    }

    fn position(&self, peer: NodeId) -> Option<usize> {
        self.peers.iter().position(|other| *other == peer)
    }

    fn dialling(&self) -> usize {
        self.known.iter().filter(|known| known.due == DIALLING).count()
    }
}

impl World {
    /// Somebody is said to be in the room. Who cannot be dialled now makes place.
    pub(crate) fn candidate(&mut self, node: NodeId, peer: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        let candidates = &mut state.candidates;
        let is_full = candidates.len() >= limits::CANDIDATES;
        // As a rule a table that is full has nobody to give up.
        if peer == node || is_full && candidates.rest_until <= now || candidates.has(peer) {
            return;
        }
        if is_full {
            let Some(useless) = candidates.useless(&state.links, now) else { return };
            candidates.remove(useless);
        }
        candidates.add(peer, now);
    }

    /// Dials whom the node wants.
    pub(crate) fn look(&mut self, node: NodeId) {
        let (now, unheard) = (self.now, micros(limits::UNHEARD));
        let mut dialling = self.nodes[node as usize].candidates.dialling();
        while dialling < limits::WISH_DIALS {
            let state = &self.nodes[node as usize];
            let is_short = state.links.len() + dialling < limits::ROOM_NEIGHBOURS;
            let is_known = |peer| state.members.is_full() || state.members.has(peer);
            let is_wanted = |at: &usize| {
                let (peer, known) = (state.candidates.peers[*at], &state.candidates.known[*at]);
                known.due <= now
                    && (is_short || now >= known.since + unheard && !is_known(peer))
                    && !state.links.has(peer)
            };
            let wanted: Vec<usize> = (0..state.candidates.len()).filter(is_wanted).collect();
            if wanted.is_empty() {
                return;
            }
            let pick = wanted[self.rng.usize(..wanted.len())];
            let candidates = &mut self.nodes[node as usize].candidates;
            candidates.rest(pick, DIALLING);
            let peer = candidates.peers[pick];
            self.dial(node, peer, true);
            dialling += 1;
        }
    }

    /// A wish was dialled. Whoever has neighbours enough can do without one that could not be reached.
    pub(crate) fn wished(&mut self, node: NodeId, peer: NodeId, is_there: bool) {
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        let Some(at) = state.candidates.position(peer) else { return };
        if !is_there && state.links.len() >= limits::ROOM_NEIGHBOURS {
            return state.candidates.remove(at);
        }
        let known = &mut state.candidates.known[at];
        if is_there {
            (known.due, known.failures) = (0, 0);
            return;
        }
        let most = micros(limits::BOOK_REDIAL_MOST);
        let delay = (micros(limits::REDIAL_FIRST) << known.failures.min(20)).min(most);
        known.failures += 1;
        let due = now + delay - self.rng.u64(0..=delay / 2);
        state.candidates.rest(at, due);
    }

    /// A neighbour is not one any more, and not to be dialled again at once.
    pub(crate) fn rest(&mut self, node: NodeId, peer: NodeId) {
        let again = self.now + micros(limits::REDIAL_FIRST);
        let candidates = &mut self.node(node).candidates;
        if let Some(at) = candidates.position(peer) {
            candidates.rest(at, again);
        }
    }
}
