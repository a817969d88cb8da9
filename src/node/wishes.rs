//! Whom this node wants to be connected with, and does not know how to reach: that is the address book's
//! business. Pure.
//!
//! In order:
//! 1. members of rooms that have fewer than [`limits::ROOM_NEIGHBOURS`] neighbours, picked at random, so that the
//!    links of a room make a random graph, which holds together;
//! 2. peers that are said to be in a room whose members have never heard of them: perhaps the room is in two parts;
//! 3. peers of the local network, to learn what rooms they are in;
//! 4. while a room is empty, whoever this node was connected with in an earlier life.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::PeerId;

use crate::{limits, rooms::Room};

/// What the wishes need to know of everything else.
pub(super) trait World {
    /// It is connected.
    fn is_linked(&self, peer: &PeerId) -> bool;
    /// Connected peers.
    fn links(&self) -> usize;
    /// It can be dialled now.
    fn is_due(&self, peer: &PeerId) -> bool;
    /// When it can be dialled, if it is known where.
    fn due(&self, peer: &PeerId) -> Option<Instant>;
    /// Neighbours in a room of ours.
    fn neighbours(&self, room: &Room) -> usize;
    /// Whether it has been heard in a room of ours.
    fn is_member(&self, room: &Room, peer: &PeerId) -> bool;
}

/// Peers that may be worth a connection.
#[derive(Default)]
pub(super) struct Wishes {
    /// Those that are said to be in a room of ours.
    rooms: BTreeMap<Room, BTreeSet<PeerId>>,
    /// Those of the local network; and until when they need not be asked again about their rooms.
    lan: BTreeMap<PeerId, Option<Instant>>,
    /// Those of an earlier life, best first.
    saved: Vec<PeerId>,
}

impl Wishes {
    /// `saved` is best first.
    pub(super) fn new(saved: Vec<PeerId>) -> Self {
        Wishes { saved, ..Wishes::default() }
    }

    /// This node joined a room: everybody in the house may be in it.
    pub(super) fn joined(&mut self, room: &Room) {
        self.rooms.entry(room.clone()).or_default();
        self.lan.values_mut().for_each(|rest| *rest = None);
    }

    pub(super) fn left(&mut self, room: &Room) {
        self.rooms.remove(room);
    }

    /// Somebody is said to be in a room. Who cannot be reached makes place for others, nobody else does.
    pub(super) fn candidate(&mut self, room: &Room, peer: PeerId, world: &impl World) {
        let Some(candidates) = self.rooms.get_mut(room) else { return };
        if candidates.contains(&peer) {
            return;
        }
        if candidates.len() >= limits::CANDIDATES {
            let useless = |peer: &&PeerId| !world.is_linked(peer) && !world.is_due(peer);
            let Some(useless) = candidates.iter().find(useless).copied() else { return };
            candidates.remove(&useless);
        }
        candidates.insert(peer);
    }

    /// A member left a room.
    pub(super) fn gone(&mut self, room: &Room, peer: &PeerId) {
        if let Some(candidates) = self.rooms.get_mut(room) {
            candidates.remove(peer);
        }
    }

    /// A peer of the local network.
    #[cfg(any(test, feature = "mdns"))]
    pub(super) fn lan(&mut self, peer: PeerId) {
        if self.lan.len() < limits::LAN_KNOWN {
            self.lan.entry(peer).or_insert(None);
        }
    }

    #[cfg(feature = "mdns")]
    pub(super) fn lan_gone(&mut self, peer: &PeerId) {
        self.lan.remove(peer);
    }

    /// A peer turned out to be in no room of ours: no need to ask it again soon.
    pub(super) fn stranger(&mut self, peer: &PeerId, now: Instant) {
        if let Some(rest) = self.lan.get_mut(peer) {
            *rest = Some(now + limits::STRANGER_REST);
        }
    }

    /// Whom to dial now. `pick` is random: among equals it decides.
    pub(super) fn next(&self, world: &impl World, now: Instant, pick: usize) -> Option<PeerId> {
        let free = |peer: &&PeerId| !world.is_linked(peer) && world.is_due(peer);
        self.room_wish(world, pick)
            .or_else(|| {
                let here = self.lan.keys().filter(|peer| world.is_linked(peer)).count();
                let asked = |rest: &Option<Instant>| rest.is_some_and(|until| until > now);
                let unknown = self.lan.iter().filter(|(_, rest)| !asked(rest)).map(|(peer, _)| peer);
                let mut unknown = unknown.filter(free);
                if here < limits::LAN_PEERS { unknown.next().copied() } else { None }
            })
            .or_else(|| match self.is_lonely(world) {
                true => self.saved.iter().find(free).copied(),
                false => None,
            })
    }

    /// When [`Self::next`] may have something new without anything else happening.
    pub(super) fn next_due(&self, world: &impl World, now: Instant) -> Option<Instant> {
        let needy = self.rooms.iter().filter(|(room, _)| world.neighbours(room) < limits::ROOM_NEIGHBOURS);
        let candidates = needy.flat_map(|(_, candidates)| candidates);
        let rested = |(peer, rest): (&PeerId, &Option<Instant>)| {
            let due = world.due(peer).filter(|_| !world.is_linked(peer))?;
            Some(rest.map_or(due, |until| until.max(due)))
        };
        let saved = self.saved.iter().filter(|_| self.is_lonely(world));
        let due = candidates.chain(saved).filter(|peer| !world.is_linked(peer));
        let next = due.filter_map(|peer| world.due(peer)).chain(self.lan.iter().filter_map(rested)).min();
        // What is due already was refused for want of place, and waits for something else to happen.
        next.filter(|due| *due > now)
    }

    /// A room of ours is empty; or there is none, and the node is there for others.
    pub(super) fn is_seeking(&self, world: &impl World) -> bool {
        self.rooms.is_empty() || self.rooms.keys().any(|room| world.neighbours(room) == 0)
    }

    /// It is seeking, and there are few to ask.
    fn is_lonely(&self, world: &impl World) -> bool {
        world.links() < limits::LONELY_LINKS && self.is_seeking(world)
    }

    fn room_wish(&self, world: &impl World, pick: usize) -> Option<PeerId> {
        let mut rooms: Vec<_> =
            self.rooms.iter().map(|(room, c)| (world.neighbours(room), room, c)).collect();
        rooms.sort_by_key(|(neighbours, ..)| *neighbours);
        for (neighbours, room, candidates) in rooms {
            let wanted = |peer: &&PeerId| {
                let unheard = || !world.is_member(room, peer);
                !world.is_linked(peer)
                    && world.is_due(peer)
                    && (neighbours < limits::ROOM_NEIGHBOURS || unheard())
            };
            let count = candidates.iter().filter(wanted).count();
            if count > 0 {
                return candidates.iter().filter(wanted).nth(pick % count).copied();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;

    /// Peers that can be reached, and what they are to us.
    #[derive(Default)]
    struct Toy {
        linked: RefCell<BTreeSet<PeerId>>,
        /// They cannot be dialled before this.
        resting: BTreeMap<PeerId, Instant>,
        neighbours: BTreeMap<Room, usize>,
        members: BTreeSet<(Room, PeerId)>,
    }

    impl World for Toy {
        fn is_linked(&self, peer: &PeerId) -> bool {
            self.linked.borrow().contains(peer)
        }

        fn links(&self) -> usize {
            self.linked.borrow().len()
        }

        fn is_due(&self, peer: &PeerId) -> bool {
            !self.resting.contains_key(peer)
        }

        fn due(&self, peer: &PeerId) -> Option<Instant> {
            self.resting.get(peer).copied()
        }

        fn neighbours(&self, room: &Room) -> usize {
            self.neighbours.get(room).copied().unwrap_or(0)
        }

        fn is_member(&self, room: &Room, peer: &PeerId) -> bool {
            self.members.contains(&(room.clone(), *peer))
        }
    }

    fn room(name: &str) -> Room {
        name.parse().expect("valid")
    }

    fn peers<const N: usize>() -> [PeerId; N] {
        std::array::from_fn(|_| PeerId::random())
    }

    /// All that is wanted now, one after the other.
    fn all(wishes: &Wishes, world: &Toy, now: Instant) -> Vec<PeerId> {
        let next = |pick| {
            let peer = wishes.next(world, now, pick)?;
            world.linked.borrow_mut().insert(peer);
            Some(peer)
        };
        (0..).map_while(next).collect()
    }

    fn in_room(candidates: &[PeerId], world: &Toy) -> Wishes {
        let mut wishes = Wishes::default();
        wishes.joined(&room("one"));
        candidates.iter().for_each(|peer| wishes.candidate(&room("one"), *peer, world));
        wishes
    }

    #[test]
    fn an_empty_room_wants_its_members_and_a_full_one_does_not() {
        let (mut world, candidates) = (Toy::default(), peers::<3>());
        let wishes = in_room(&candidates, &world);
        world.members = candidates.iter().map(|peer| (room("one"), *peer)).collect();
        world.neighbours.insert(room("one"), limits::ROOM_NEIGHBOURS);
        assert_eq!(all(&wishes, &world, Instant::now()), []);
        world.neighbours.insert(room("one"), limits::ROOM_NEIGHBOURS - 1);
        assert_eq!(all(&wishes, &world, Instant::now()).len(), 3);
    }

    #[test]
    fn who_is_said_to_be_there_and_was_never_heard_is_dialled() {
        let (mut world, candidates) = (Toy::default(), peers::<2>());
        let wishes = in_room(&candidates, &world);
        world.neighbours.insert(room("one"), limits::ROOM_NEIGHBOURS);
        world.members.insert((room("one"), candidates[0]));
        assert_eq!(all(&wishes, &world, Instant::now()), [candidates[1]]);
    }

    #[test]
    fn the_emptier_room_goes_first() {
        let ([one, two], mut world) = (peers(), Toy::default());
        let mut wishes = in_room(&[one], &world);
        wishes.joined(&room("two"));
        wishes.candidate(&room("two"), two, &world);
        world.neighbours.insert(room("one"), 2);
        assert_eq!(all(&wishes, &world, Instant::now()), [two, one]);
    }

    #[test]
    fn a_neighbour_of_the_house_is_asked_once_in_a_while() {
        let ([lan], world, now) = (peers(), Toy::default(), Instant::now());
        let mut wishes = Wishes::default();
        wishes.lan(lan);
        assert_eq!(wishes.next(&world, now, 0), Some(lan));
        wishes.stranger(&lan, now);
        assert_eq!(wishes.next(&world, now, 0), None);
        assert_eq!(wishes.next(&world, now + limits::STRANGER_REST, 0), Some(lan));
        wishes.joined(&room("another"));
        assert_eq!(wishes.next(&world, now, 0), Some(lan), "it may be in this room");
    }

    #[test]
    fn a_house_full_of_strangers_is_not_dialled_all_over() {
        let (world, mut wishes) = (Toy::default(), Wishes::default());
        (0..10_000).for_each(|_| wishes.lan(PeerId::random()));
        assert_eq!(wishes.lan.len(), limits::LAN_KNOWN);
        assert_eq!(all(&wishes, &world, Instant::now()).len(), limits::LAN_PEERS);
    }

    #[test]
    fn an_earlier_life_counts_while_a_room_is_empty() {
        let (saved, mut world) = (peers::<2>(), Toy::default());
        let mut wishes = Wishes::new(saved.to_vec());
        wishes.joined(&room("one"));
        assert_eq!(wishes.next(&world, Instant::now(), 7), Some(saved[0]), "the best first");
        world.neighbours.insert(room("one"), 1);
        assert_eq!(wishes.next(&world, Instant::now(), 7), None);
    }

    #[test]
    fn who_cannot_be_reached_makes_place() {
        let (mut world, now) = (Toy::default(), Instant::now());
        let crowd: Vec<PeerId> = (0..limits::CANDIDATES).map(|_| PeerId::random()).collect();
        let mut wishes = in_room(&crowd, &world);
        let [late] = peers();
        wishes.candidate(&room("one"), late, &world);
        assert!(!wishes.rooms[&room("one")].contains(&late), "all of the others are as good");
        world.resting.insert(crowd[5], now + Duration::from_secs(9));
        wishes.candidate(&room("one"), late, &world);
        let candidates = &wishes.rooms[&room("one")];
        assert!(candidates.contains(&late) && !candidates.contains(&crowd[5]));
        assert_eq!(candidates.len(), limits::CANDIDATES);
    }

    #[test]
    fn it_wakes_for_who_rests() {
        let ([peer], mut world, now) = (peers(), Toy::default(), Instant::now());
        let wishes = in_room(&[peer], &world);
        assert_eq!(wishes.next_due(&world, now), None, "it is due already");
        world.resting.insert(peer, now + Duration::from_secs(9));
        assert_eq!(wishes.next_due(&world, now), Some(now + Duration::from_secs(9)));
        world.neighbours.insert(room("one"), limits::ROOM_NEIGHBOURS);
        assert_eq!(wishes.next_due(&world, now), None);
    }
}
