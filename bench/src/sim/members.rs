//! warren's table of the members of a room (`src/rooms/members.rs`), for ten thousand nodes in one process: the same
//! answers, with numbers for peers, and forgetting without a look at all of them. A test holds one against the other.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use warren::limits;

use super::queue::Micros;

#[derive(Default)]
pub(crate) struct Members {
    known: HashMap<u32, Member, BuildHasherDefault<Spread>>,
    /// Who was heard when, oldest first. What is not what `known` says is out of date.
    order: VecDeque<(Micros, u32)>,
}

#[derive(Clone, Copy)]
struct Member {
    heard: Micros,
    is_neighbour: bool,
}

impl Members {
    /// A neighbour subscribed to the room. True if it was not known.
    pub(crate) fn subscribed(&mut self, peer: u32, now: Micros) -> bool {
        if let Some(member) = self.known.get_mut(&peer) {
            member.is_neighbour = true;
            return false;
        }
        self.add(peer, now, true);
        true
    }

    /// A member spoke. True if it was not known.
    pub(crate) fn heard(&mut self, peer: u32, now: Micros) -> bool {
        if let Some(member) = self.known.get_mut(&peer) {
            member.heard = now;
            self.order.push_back((now, peer));
            self.forget_what_is_out_of_date();
            return false;
        }
        self.add(peer, now, false);
        true
    }

    /// The connection to a neighbour is gone.
    pub(crate) fn disconnected(&mut self, peer: u32) {
        if let Some(member) = self.known.get_mut(&peer) {
            member.is_neighbour = false;
            // Behind younger ones, unless it is found again by then: a look at all in `evict`.
            let heard = member.heard;
            let place = self.order.partition_point(|(at, _)| *at <= heard);
            self.order.insert(place, (heard, peer));
        }
    }

    pub(crate) fn has(&self, peer: u32) -> bool {
        self.known.contains_key(&peer)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.known.len() >= limits::MEMBERS
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    fn add(&mut self, peer: u32, now: Micros, is_neighbour: bool) {
        if self.known.len() >= limits::MEMBERS {
            self.evict();
        }
        self.known.insert(peer, Member { heard: now, is_neighbour });
        self.order.push_back((now, peer));
        self.forget_what_is_out_of_date();
    }

    /// The one who was silent longest goes, distant members first.
    fn evict(&mut self) {
        while let Some((heard, peer)) = self.order.pop_front() {
            let is_it = |m: &Member| m.heard == heard && !m.is_neighbour;
            if self.known.get(&peer).is_some_and(is_it) {
                self.known.remove(&peer);
                return;
            }
        }
        // None but neighbours are left.
        let oldest = self.known.iter().map(|(peer, m)| (m.heard, *peer)).min();
        if let Some((_, peer)) = oldest {
            self.known.remove(&peer);
        }
    }

    fn forget_what_is_out_of_date(&mut self) {
        if self.order.len() > 4 * limits::MEMBERS {
            let known = &self.known;
            let holds = |(heard, peer): &(Micros, u32)| {
                known.get(peer).is_some_and(|m| m.heard == *heard && !m.is_neighbour)
            };
            self.order.retain(holds);
        }
    }
}

/// Numbers are no secrets: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use libp2p::PeerId;
    use warren::rooms::members::{Change, Members as Real};

    use super::*;

    #[test]
    fn it_answers_as_warren_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        let start = Instant::now();
        let peers: Vec<PeerId> = (0..700).map(|_| PeerId::random()).collect();
        let nick = "x".parse().expect("valid");
        let (mut real, mut ours) = (Real::default(), Members::default());
        for step in 0..40_000u64 {
            let (now, later) = (step * 10, start + Duration::from_micros(step * 10));
            // Some talk more than others, so that some are forgotten and others never.
            let n = rng.usize(..700).min(rng.usize(..700));
            let (peer, id) = (&peers[n], n as u32);
            match rng.u8(..20) {
                0 => {
                    let change = real.subscribed(*peer, later);
                    assert_eq!(change == Change::Joined, ours.subscribed(id, now), "step {step}");
                }
                1 | 2 => {
                    real.disconnected(peer);
                    ours.disconnected(id);
                }
                _ => {
                    let change = real.heard(*peer, &nick, later);
                    assert_eq!(change == Change::Joined, ours.heard(id, now), "step {step}");
                }
            }
            assert_eq!((real.len(), real.is_full()), (ours.len(), ours.is_full()), "step {step}");
        }
        assert_eq!(ours.len(), limits::MEMBERS);
        let same = |(n, peer): (usize, &PeerId)| real.member(peer).is_some() == ours.has(n as u32);
        assert!(peers.iter().enumerate().all(same));
    }
}
