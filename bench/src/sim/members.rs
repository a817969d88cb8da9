//! warren's table of the members of a room (`src/rooms/members.rs`), for ten thousand nodes in one process: the same
//! answers, with numbers for peers, and forgetting without a look at all of them. A test holds one against the other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use warren::limits;

use super::queue::Micros;

/// No place.
const NONE: u16 = u16::MAX;

const _: () = assert!(limits::MEMBERS < NONE as usize);

pub(crate) struct Members {
    /// The place of each.
    known: HashMap<u32, u16, BuildHasherDefault<Spread>>,
    members: Vec<Member>,
    /// Those that are no neighbours are in a chain, by when they were heard: its ends.
    oldest: u16,
    newest: u16,
}

struct Member {
    peer: u32,
    is_neighbour: bool,
    heard: Micros,
    older: u16,
    newer: u16,
}

impl Default for Members {
    fn default() -> Self {
        Members { known: HashMap::default(), members: Vec::new(), oldest: NONE, newest: NONE }
    }
}

impl Members {
    /// A neighbour subscribed to the room. True if it was not known.
    pub(crate) fn subscribed(&mut self, peer: u32, now: Micros) -> bool {
        match self.known.get(&peer) {
            Some(&at) => {
                if !std::mem::replace(&mut self.member(at).is_neighbour, true) {
                    self.unchain(at);
                }
                false
            }
            None => {
                self.add(peer, now, true);
                true
            }
        }
    }

    /// A member spoke. True if it was not known.
    pub(crate) fn heard(&mut self, peer: u32, now: Micros) -> bool {
        match self.known.get(&peer) {
            Some(&at) => {
                let member = self.member(at);
                member.heard = now;
                if !member.is_neighbour {
                    self.unchain(at);
                    self.chain(at);
                }
                false
            }
            None => {
                self.add(peer, now, false);
                true
            }
        }
    }

    /// The connection to a neighbour is gone.
    pub(crate) fn disconnected(&mut self, peer: u32) {
        if let Some(&at) = self.known.get(&peer)
            && std::mem::take(&mut self.member(at).is_neighbour)
        {
            self.chain(at);
        }
    }

    pub(crate) fn has(&self, peer: u32) -> bool {
        self.known.contains_key(&peer)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= limits::MEMBERS
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    fn member(&mut self, at: u16) -> &mut Member {
        &mut self.members[usize::from(at)]
    }

    fn add(&mut self, peer: u32, now: Micros, is_neighbour: bool) {
        let member = Member { peer, is_neighbour, heard: now, older: NONE, newer: NONE };
        let at = match self.is_full() {
            true => {
                let at = self.evict();
                *self.member(at) = member;
                at
            }
            false => {
                self.members.push(member);
                (self.members.len() - 1) as u16
            }
        };
        self.known.insert(peer, at);
        if !is_neighbour {
            self.chain(at);
        }
    }

    /// The one who was silent longest goes, distant members first. Returns the place that is free.
    fn evict(&mut self) -> u16 {
        let at = match self.oldest {
            // None but neighbours are left.
            NONE => {
                let heard = |at: &u16| self.members[usize::from(*at)].heard;
                (0..limits::MEMBERS as u16).min_by_key(heard).unwrap_or_default()
            }
            oldest => {
                self.unchain(oldest);
                oldest
            }
        };
        let peer = self.member(at).peer;
        self.known.remove(&peer);
        at
    }

    /// Puts a member into the chain. It is among the newest, as a rule.
    fn chain(&mut self, at: u16) {
        let heard = self.member(at).heard;
        let mut older = self.newest;
        while older != NONE && self.member(older).heard > heard {
            older = self.member(older).older;
        }
        let newer = match older {
            NONE => self.oldest,
            older => self.member(older).newer,
        };
        (self.member(at).older, self.member(at).newer) = (older, newer);
        self.join(older, at);
        self.join(at, newer);
    }

    fn unchain(&mut self, at: u16) {
        let Member { older, newer, .. } = *self.member(at);
        self.join(older, newer);
    }

    /// These two are next to each other; `NONE` is the end.
    fn join(&mut self, older: u16, newer: u16) {
        match older {
            NONE => self.oldest = newer,
            older => self.member(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.member(newer).older = older,
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
