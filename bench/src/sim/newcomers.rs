//! How far newcomers have come: whom they have met and heard, and who has heard them.

use super::queue::Micros;
use super::world::{Node, NodeId, World};

/// Who has heard one that came.
pub(crate) struct Newcomer {
    node: NodeId,
    /// All that were there before it: their numbers are less than its own.
    audience: usize,
    heard_by: usize,
    /// A bit for each of them.
    ears: Vec<u64>,
}

impl Newcomer {
    pub(crate) fn new(node: NodeId, audience: usize) -> Self {
        Newcomer { node, audience, heard_by: 0, ears: vec![0; (node as usize).div_ceil(64)] }
    }

    /// True if all have heard it now.
    fn is_heard_by(&mut self, other: NodeId) -> bool {
        let (word, bit) = (other as usize / 64, 1 << (other % 64));
        if other < self.node && self.ears[word] & bit == 0 {
            self.ears[word] |= bit;
            self.heard_by += 1;
        }
        self.heard_by >= self.audience
    }
}

impl World {
    /// A node has heard another one, and was heard by it.
    pub(crate) fn note_heard(&mut self, node: NodeId, author: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        if !std::mem::replace(&mut state.way.has_heard, true) {
            self.tally.newcomers.heard.add(since(state, now));
        }
        let author = &mut self.nodes[author as usize];
        if let Some(newcomer) = &mut author.newcomer
            && newcomer.is_heard_by(node)
        {
            author.newcomer = None;
            self.tally.newcomers.heard_by_all.add(since(author, now));
        }
    }

    /// A node has one more neighbour.
    pub(crate) fn note_neighbour(&mut self, node: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node as usize];
        if !std::mem::replace(&mut state.way.is_neighbour, true) {
            self.tally.newcomers.joined.add(since(state, now));
        }
        if state.links.len() >= warren::limits::ROOM_NEIGHBOURS
            && !std::mem::replace(&mut state.way.is_settled, true)
        {
            self.tally.newcomers.settled.add(since(state, now));
        }
    }
}

/// Unit: ms since it started.
fn since(node: &Node, now: Micros) -> u64 {
    (now - node.started) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_heard_by_all_when_the_last_of_those_before_it_has() {
        let mut newcomer = Newcomer::new(70, 3);
        assert!(!newcomer.is_heard_by(2) && !newcomer.is_heard_by(65));
        assert!(!newcomer.is_heard_by(65), "twice the same");
        assert!(!newcomer.is_heard_by(71) && !newcomer.is_heard_by(200), "they came later");
        assert!(newcomer.is_heard_by(69));
    }
}
