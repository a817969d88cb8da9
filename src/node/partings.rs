//! Connections that this node closes of its own accord, since they are good for nothing or too many.

use std::{collections::BTreeSet, time::Instant};

use libp2p::PeerId;

use super::{
    Node, RoomState,
    company::{Company, Surroundings},
    crowd::{self, Link, Worth},
};
use crate::limits;

impl Node {
    /// Closes connections that we began, and that turned out to lead to nobody in a room of ours. Who began one
    /// closes it: the other side may have wanted it.
    pub(super) fn close_strangers(&mut self, now: Instant) {
        let Self { company: Company { book, wishes, dialing, .. }, links, rooms, .. } = &mut *self;
        // While a room is empty, anybody may be the way to its members.
        let kept = match wishes.is_seeking(&Surroundings { book, dialing, links, rooms, now }) {
            true => limits::LONELY_LINKS,
            false => 0,
        };
        let links = self.crowd();
        let is_stranger = |link: &&Link| !link.is_inbound && link.worth <= Worth::Server;
        let mut strangers: Vec<&Link> = links.iter().filter(is_stranger).collect();
        strangers.sort_by_key(|link| link.since);
        for link in strangers.into_iter().skip(kept) {
            if now.duration_since(link.since) >= limits::STRANGER {
                log::debug!("{} is in no room of ours: closing the connection", link.peer);
                self.company.wishes.stranger(&link.peer, now);
                // It may have gone in the meantime.
                let _ = self.swarm.disconnect_peer_id(link.peer);
            }
        }
    }

    /// Closes connections of rooms that have more than they need.
    pub(super) fn close_spare(&mut self, now: Instant) {
        if !self.has_spare() {
            return;
        }
        let neighbours = |state: &RoomState| state.members.iter_neighbours().copied().collect();
        let rooms: Vec<BTreeSet<PeerId>> = self.rooms.values().map(neighbours).collect();
        let verdict = crowd::spare(&self.crowd(), &rooms, now);
        for peer in verdict.go {
            log::debug!("{peer}'s room has neighbours enough: closing the connection");
            // It is not to be dialled again only because it is near.
            self.company.wishes.stranger(&peer, now);
            // It may have gone in the meantime.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.tidy_by(verdict.again);
    }

    /// Looks for connections to close at that time at the latest.
    pub(super) fn tidy_by(&mut self, time: Option<Instant>) {
        self.company.tidy_due = time.map_or(self.company.tidy_due, |time| self.company.tidy_due.min(time));
    }

    /// Whether a room of ours has more neighbours than it needs.
    pub(super) fn has_spare(&self) -> bool {
        self.rooms.values().any(|state| state.members.neighbours() > limits::ROOM_LINKS)
    }

    /// There are too many connections.
    pub(super) fn thin_out(&mut self, now: Instant) {
        let mut links = self.crowd();
        links.retain(|link| !self.is_served(&link.peer));
        let verdict = crowd::verdict(&links, self.company.book.networks(), now);
        for peer in verdict.go {
            log::info!("more than {} connections: {peer} has to go", limits::CONNECTIONS_HIGH);
            // It may have gone in the meantime.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.tidy_by(verdict.again);
    }

    /// All connected peers, and what they are good for.
    fn crowd(&self) -> Vec<Link> {
        let gossip = &self.swarm.behaviour().gossip;
        let mesh: BTreeSet<&PeerId> = gossip.all_mesh_peers().collect();
        let in_rooms: BTreeSet<&PeerId> =
            self.rooms.values().flat_map(|state| state.members.iter_neighbours()).collect();
        let worth = |peer: &PeerId, is_wanted: bool| {
            let is_needed = is_wanted || self.bootstraps.has(peer) || self.relays.is_used(peer);
            if is_needed || mesh.contains(peer) {
                Worth::Protected
            } else if in_rooms.contains(peer) {
                Worth::Room
            } else {
                Worth::Nothing
            }
        };
        self.links.crowd(worth)
    }
}
