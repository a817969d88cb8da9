//! Who is in a room, as far as this node can know.
//!
//! A direct neighbour is a member from its subscription on; one further away from its first message. Members
//! announce themselves when they join, answer newcomers, repeat it now and then, and say goodbye. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::Nick;
use crate::limits;

/// The members of one room, without ourselves.
#[derive(Default)]
pub struct Members {
    all: BTreeMap<PeerId, Member>,
    /// How many of them are neighbours.
    neighbours: usize,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name it last used; none before its first message.
    pub nick: Option<Nick>,
    /// When it was last heard.
    heard: Instant,
    /// Whether it is connected to us and subscribed to the room: then its connection tells when it leaves.
    neighbour: bool,
}

/// What a message or subscription changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// A member that was not known before.
    Joined,
    /// A known one with a new name.
    Renamed,
    /// Nothing new.
    None,
}

/// Our own announcements in one room: when the next is due.
#[derive(Debug)]
pub struct Announcer {
    /// When the next announcement is due.
    due: Instant,
    /// When the last one was made.
    last: Option<Instant>,
}

impl Members {
    /// A neighbour subscribed to the room.
    pub fn subscribed(&mut self, peer: PeerId, now: Instant) -> Change {
        self.entry(peer, now, |member| member.neighbour = true)
    }

    /// A member spoke.
    pub fn heard(&mut self, peer: PeerId, nick: &Nick, now: Instant) -> Change {
        let mut renamed = false;
        let change = self.entry(peer, now, |member| {
            member.heard = now;
            renamed = member.nick.as_ref() != Some(nick);
            if renamed {
                member.nick = Some(nick.clone());
            }
        });
        if change == Change::None && renamed { Change::Renamed } else { change }
    }

    /// A member left: `true` if it was known.
    pub fn left(&mut self, peer: &PeerId) -> bool {
        self.forget(peer)
    }

    /// The connection to a neighbour is gone. It may still be in the room by other ways, and stays a member
    /// until it has been silent for long.
    pub fn disconnected(&mut self, peer: &PeerId) {
        if let Some(member) = self.all.get_mut(peer) {
            self.neighbours -= usize::from(std::mem::take(&mut member.neighbour));
        }
    }

    /// Whether a neighbour is among the members.
    pub fn has_neighbour(&self) -> bool {
        self.neighbours > 0
    }

    /// The neighbours among the members.
    pub fn iter_neighbours(&self) -> impl Iterator<Item = &PeerId> {
        self.all.iter().filter(|(_, member)| member.neighbour).map(|(peer, _)| peer)
    }

    /// Whether this peer is one of them.
    pub fn is_neighbour(&self, peer: &PeerId) -> bool {
        self.all.get(peer).is_some_and(|member| member.neighbour)
    }

    /// How many there are of them.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// Takes out those who are no neighbours and have been silent for [`limits::MEMBER_SILENCE`].
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let gone = |m: &Member| !m.neighbour && now.duration_since(m.heard) >= limits::MEMBER_SILENCE;
        let peers: Vec<_> = self.all.iter().filter(|(_, m)| gone(m)).map(|(p, _)| *p).collect();
        for peer in &peers {
            self.forget(peer);
        }
        peers
    }

    /// The members, by peer ID.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.all.iter()
    }

    /// One member.
    pub fn member(&self, peer: &PeerId) -> Option<&Member> {
        self.all.get(peer)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether some may have been forgotten for want of place.
    pub fn is_full(&self) -> bool {
        self.all.len() >= limits::MEMBERS
    }

    /// Whether there is nobody else.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn entry(&mut self, peer: PeerId, now: Instant, update: impl FnOnce(&mut Member)) -> Change {
        if let Some(member) = self.all.get_mut(&peer) {
            let was_neighbour = member.neighbour;
            update(member);
            self.neighbours += usize::from(member.neighbour && !was_neighbour);
            return Change::None;
        }
        if self.all.len() >= limits::MEMBERS {
            self.evict();
        }
        let mut member = Member { nick: None, heard: now, neighbour: false };
        update(&mut member);
        self.neighbours += usize::from(member.neighbour);
        self.all.insert(peer, member);
        Change::Joined
    }

    /// Whether it was there.
    fn forget(&mut self, peer: &PeerId) -> bool {
        let member = self.all.remove(peer);
        self.neighbours -= usize::from(member.as_ref().is_some_and(|member| member.neighbour));
        member.is_some()
    }

    /// Makes place by forgetting the one who was silent longest, distant members first.
    fn evict(&mut self) {
        let oldest = self.all.iter().min_by_key(|(_, m)| (m.neighbour, m.heard)).map(|(peer, _)| *peer);
        if let Some(peer) = oldest {
            self.forget(&peer);
        }
    }
}

impl Announcer {
    /// An announcer for a room joined at `now`: the first announcement is due at once.
    pub fn new(now: Instant) -> Self {
        Self { due: now, last: None }
    }

    /// Somebody is new here: announce within `delay`, but never more often than [`limits::PRESENCE_INTERVAL`].
    pub fn answer(&mut self, now: Instant, delay: Duration) {
        let earliest = self.last.map_or(now, |last| last + limits::PRESENCE_INTERVAL);
        self.due = self.due.min((now + delay).max(earliest));
    }

    /// Whether an announcement is due.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// It was made.
    pub fn done(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = now + limits::PRESENCE_REPEAT;
    }

    /// It could not be made (nobody hears us yet): the next newcomer makes it due again.
    pub fn postpone(&mut self, now: Instant) {
        self.due = now + limits::PRESENCE_REPEAT;
    }

    /// When the next one is due.
    pub fn due(&self) -> Instant {
        self.due
    }
}

/// How likely one of `members` should answer a newcomer, so that about [`limits::PRESENCE_ANSWERS`] do.
///
/// Where the table is full nobody answers: who is not in it may only have been forgotten, and to more than some 544
/// members (`warren-bench sim`) each answer would seem to be a newcomer itself, for others to answer without an end.
pub fn answer_chance(members: usize) -> f64 {
    if members >= limits::MEMBERS {
        return 0.0;
    }
    (limits::PRESENCE_ANSWERS as f64 / members.max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nick(word: &str) -> Nick {
        word.parse().expect("valid")
    }

    #[test]
    fn a_member_joins_once_and_is_renamed() {
        let (mut members, ada, now) = (Members::default(), PeerId::random(), Instant::now());
        assert_eq!(members.subscribed(ada, now), Change::Joined);
        assert_eq!(members.heard(ada, &nick("ada"), now), Change::Renamed);
        assert_eq!(members.heard(ada, &nick("ada"), now), Change::None);
        assert_eq!(members.heard(ada, &nick("countess"), now), Change::Renamed);
        assert!(members.left(&ada));
        assert!(!members.left(&ada));
    }

    #[test]
    fn the_silent_expire_unless_they_are_neighbours() {
        let (mut members, now) = (Members::default(), Instant::now());
        let (near, far) = (PeerId::random(), PeerId::random());
        members.subscribed(near, now);
        members.heard(far, &nick("far"), now);
        let later = now + limits::MEMBER_SILENCE;
        assert_eq!(members.expire(later), vec![far]);
        members.disconnected(&near);
        assert_eq!(members.expire(later), vec![near]);
    }

    #[test]
    fn neighbours_are_counted_whatever_becomes_of_them() {
        let (mut members, now) = (Members::default(), Instant::now());
        let peers: [PeerId; 3] = std::array::from_fn(|_| PeerId::random());
        members.heard(peers[0], &nick("far"), now);
        for peer in peers.iter().chain(&peers) {
            members.subscribed(*peer, now);
        }
        assert_eq!((members.neighbours(), members.iter_neighbours().count()), (3, 3));
        (0..2).for_each(|_| members.disconnected(&peers[0]));
        assert!(members.left(&peers[1]) && !members.left(&peers[1]));
        assert_eq!((members.neighbours(), members.iter_neighbours().count()), (1, 1));
        members.left(&peers[2]);
        assert!(!members.has_neighbour());
    }

    #[test]
    fn members_are_bounded_and_neighbours_stay() {
        let (mut members, now) = (Members::default(), Instant::now());
        let near = PeerId::random();
        members.subscribed(near, now);
        for i in 0..2 * limits::MEMBERS {
            members.heard(PeerId::random(), &nick("x"), now + Duration::from_millis(i as u64));
        }
        assert!(members.is_full() && members.len() == limits::MEMBERS);
        assert!(members.member(&near).is_some());
    }

    #[test]
    fn announcements_answer_newcomers_but_not_in_a_storm() {
        let now = Instant::now();
        let mut announcer = Announcer::new(now);
        assert!(announcer.is_due(now));
        announcer.done(now);
        announcer.answer(now, Duration::ZERO);
        assert!(!announcer.is_due(now + limits::PRESENCE_INTERVAL - Duration::from_millis(1)));
        assert!(announcer.is_due(now + limits::PRESENCE_INTERVAL));
        announcer.done(now + limits::PRESENCE_INTERVAL);
        assert!(announcer.is_due(now + limits::PRESENCE_INTERVAL + limits::PRESENCE_REPEAT));
    }

    #[test]
    fn few_answer_in_a_large_room() {
        assert_eq!(answer_chance(3), 1.0);
        assert!((answer_chance(160) - 0.1).abs() < 1e-9);
        assert_eq!(answer_chance(limits::MEMBERS), 0.0, "who is not in a full table need not be new");
    }
}
