//! The connections of a node. Those of its mesh come first, since every message goes over them and nothing else; peers
//! and what a message takes are apart from the rest: ten thousand nodes fit into no cache.

use super::queue::Micros;
use super::world::NodeId;

#[derive(Default)]
pub(crate) struct Links {
    peers: Vec<NodeId>,
    /// When the last of what was sent to each arrives.
    last: Vec<Micros>,
    links: Vec<Link>,
    /// So many of them are in the mesh.
    mesh: usize,
}

pub(crate) struct Link {
    pub(crate) outbound: bool,
    /// No GRAFT before this.
    pub(crate) backoff: Micros,
    pub(crate) since: Micros,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// How many there are in the mesh: those at `..mesh()`.
    pub(crate) fn mesh(&self) -> usize {
        self.mesh
    }

    pub(crate) fn is_mesh(&self, at: usize) -> bool {
        at < self.mesh
    }

    pub(crate) fn has(&self, peer: NodeId) -> bool {
        self.peers.contains(&peer)
    }

    pub(crate) fn position(&self, peer: NodeId) -> Option<usize> {
        self.peers.iter().position(|other| *other == peer)
    }

    pub(crate) fn peer(&self, at: usize) -> NodeId {
        self.peers[at]
    }

    /// Those of the mesh first.
    pub(crate) fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    pub(crate) fn link(&self, at: usize) -> &Link {
        &self.links[at]
    }

    pub(crate) fn link_mut(&mut self, at: usize) -> &mut Link {
        &mut self.links[at]
    }

    /// When something arrives that would at this time by itself: a stream keeps its order.
    pub(crate) fn in_order(&mut self, at: usize, arrival: Micros) -> Micros {
        self.last[at] = self.last[at].max(arrival);
        self.last[at]
    }

    /// Beside the mesh.
    pub(crate) fn add(&mut self, peer: NodeId, outbound: bool, now: Micros) {
        self.peers.push(peer);
        self.last.push(0);
        self.links.push(Link { outbound, backoff: 0, since: now });
    }

    pub(crate) fn remove(&mut self, peer: NodeId) {
        let Some(mut at) = self.position(peer) else { return };
        if self.is_mesh(at) {
            at = self.prune(at);
        }
        self.peers.swap_remove(at);
        self.last.swap_remove(at);
        self.links.swap_remove(at);
    }

    /// It is in the mesh from now on. Others may change their places, too.
    pub(crate) fn graft(&mut self, at: usize) {
        if !self.is_mesh(at) {
            self.swap(at, self.mesh);
            self.mesh += 1;
        }
    }

    /// It is not in the mesh any more. Returns its new place.
    pub(crate) fn prune(&mut self, at: usize) -> usize {
        if !self.is_mesh(at) {
            return at;
        }
        self.mesh -= 1;
        self.swap(at, self.mesh);
        self.mesh
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.peers.swap(a, b);
        self.last.swap(a, b);
        self.links.swap(a, b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn whoever_comes_and_goes_the_mesh_comes_first() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut links, mut known, mut mesh) = (Links::default(), BTreeMap::new(), BTreeSet::new());
        for step in 0..5_000 {
            let peer = rng.u32(..40);
            match (links.position(peer), rng.u8(..4)) {
                (None, _) => {
                    links.add(peer, true, step);
                    known.insert(peer, step);
                }
                (Some(_), 0) => {
                    links.remove(peer);
                    known.remove(&peer);
                    mesh.remove(&peer);
                }
                (Some(at), 1) => {
                    let at = links.prune(at);
                    assert_eq!(links.peer(at), peer);
                    mesh.remove(&peer);
                }
                (Some(at), _) => {
                    links.graft(at);
                    mesh.insert(peer);
                }
            }
            let there = |at: usize| (links.peer(at), links.link(at).since);
            assert_eq!((0..links.len()).map(there).collect::<BTreeMap<_, _>>(), known);
            assert_eq!(links.peers()[..links.mesh()].iter().copied().collect::<BTreeSet<_>>(), mesh);
        }
        assert!(links.len() > 10 && links.mesh() > 3, "it has seen something");
    }
}
