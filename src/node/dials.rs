//! The dials of the node's own accord: of whom the wishes name, at what the address book says.

use std::{collections::BTreeSet, time::Instant};

use libp2p::{
    Multiaddr, PeerId,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::{
    Node,
    company::{Company, Dial, Surroundings},
    jitter,
    links::Links,
};
use crate::{discovery::scope, limits};

impl Node {
    /// Dials who is due.
    pub(super) fn dial_wished(&mut self, now: Instant) {
        if self.company.due.is_none_or(|due| due > now) {
            return;
        }
        while self.company.dialing.len() < limits::WISH_DIALS {
            let Self { company: Company { book, wishes, dialing, .. }, links, rooms, .. } = self;
            let world = Surroundings { book, dialing, links, rooms, now };
            let Some(peer) = wishes.next(&world, now, fastrand::usize(..)) else { break };
            let Some(mut addrs) = self.company.book.due(peer, now) else { break };
            one_circuit_each(&mut addrs, &self.links);
            let opts = DialOpts::peer_id(peer).addresses(addrs.clone()).build();
            let id = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => {
                    log::debug!("dialling {peer}, who is wanted, at {addrs:?}");
                    // The swarm says so too, and later.
                    self.company.book.dialing(peer);
                    self.company.dialing.insert(id, Dial { peer, since: now, addrs });
                }
                // Somebody else is dialling it; or it is not to be. Either way: later.
                Err(e) => {
                    log::debug!("{peer} is wanted and not dialled: {e}");
                    self.company.book.failed(peer, [], now, jitter());
                }
            }
        }
        let Self { company: Company { book, wishes, dialing, .. }, links, rooms, .. } = self;
        self.company.due = wishes.next_due(&Surroundings { book, dialing, links, rooms, now }, now);
    }

    /// Dials the addresses of a peer that were learnt while it is being dialled at others, where it may not be:
    /// those may take long to fail, and in the meantime it has found a relay.
    pub(super) fn dial_news(&mut self, peer: PeerId, now: Instant) {
        let company = &mut self.company;
        let under_way: Vec<&Dial> = company.dialing.values().filter(|dial| dial.peer == peer).collect();
        if under_way.is_empty() || self.links.has(&peer) || company.dialing.len() >= limits::WISH_DIALS {
            return;
        }
        let mut addrs = company.book.dialable(peer);
        let relays: Vec<PeerId> =
            under_way.iter().flat_map(|dial| dial.addrs.iter().filter_map(scope::relay_of)).collect();
        let is_tried = |addr: &Multiaddr| match scope::relay_of(addr) {
            Some(relay) if self.links.has(&relay) => relays.contains(&relay),
            _ => under_way.iter().any(|dial| dial.addrs.contains(addr)),
        };
        addrs.retain(|addr| !is_tried(addr));
        one_circuit_each(&mut addrs, &self.links);
        addrs.truncate(limits::DIAL_ADDRESSES);
        if addrs.is_empty() {
            return;
        }
        let opts = DialOpts::peer_id(peer).addresses(addrs.clone()).condition(PeerCondition::Disconnected);
        let opts = opts.build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                log::debug!("dialling {peer} at {addrs:?}, too");
                company.dialing.insert(id, Dial { peer, since: now, addrs });
            }
            Err(e) => log::debug!("{peer} is not dialled at {addrs:?}: {e}"),
        }
    }
}

/// Of the addresses through one relay that we are connected with, one is enough: the connection is there, and by
/// which address it was made does not matter.
fn one_circuit_each(addrs: &mut Vec<Multiaddr>, links: &Links) {
    let mut relays = BTreeSet::new();
    addrs.retain(|addr| match scope::relay_of(addr) {
        Some(relay) if links.has(&relay) => relays.insert(relay),
        _ => true,
    });
}
