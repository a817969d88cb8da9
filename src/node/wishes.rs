//! Whom this node wants to be connected with, and does not know how to reach: that is the address book's
//! business. Pure.
//!
//! In order:
//! 1. members of rooms that have fewer than [`limits::ROOM_NEIGHBOURS`] neighbours, picked at random, so that the
//!    links of a room make a random graph, which holds together;
//! 2. peers that have been said to be in a room for [`limits::UNHEARD`] and were not heard there: perhaps the room is
//!    in two parts;
//! 3. peers of the local network, to learn what rooms they are in;
//! 4. while a room is empty, whoever this node was connected with in an earlier life.

use std::{collections::BTreeMap, time::Instant};

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
    /// It may be a neighbour in a room of ours soon: it is being dialled or connected for less than
    /// [`limits::PROMISING`], and has not said what rooms it is in.
    fn is_promising(&self, room: &Room, peer: &PeerId) -> bool;
    /// Whether it has been heard in a room of ours, or may have been.
    fn is_member(&self, room: &Room, peer: &PeerId) -> bool;
}

/// Peers that may be worth a connection.
#[derive(Default)]
pub(super) struct Wishes {
    /// Those that are said to be in a room of ours, and since when.
    rooms: BTreeMap<Room, BTreeMap<PeerId, Instant>>,
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
    pub(super) fn candidate(&mut self, room: &Room, peer: PeerId, world: &impl World, now: Instant) {
        let Some(candidates) = self.rooms.get_mut(room) else { return };
        if candidates.contains_key(&peer) {
            return;
        }
        if candidates.len() >= limits::CANDIDATES {
            let useless = |peer: &&PeerId| !world.is_linked(peer) && !world.is_due(peer);
            let Some(useless) = candidates.keys().find(useless).copied() else { return };
            candidates.remove(&useless);
        }
        candidates.insert(peer, now);
    }

    /// A member left a room.
    pub(super) fn gone(&mut self, room: &Room, peer: &PeerId) {
        if let Some(candidates) = self.rooms.get_mut(room) {
            candidates.remove(peer);
        }
    }

    /// A dial of a peer failed. A room that has neighbours enough can do without: should the peer be there after all,
    /// the next lookup, or its own word, says so again.
    pub(super) fn missed(&mut self, peer: &PeerId, world: &impl World) {
        for (room, candidates) in &mut self.rooms {
            if world.neighbours(room) >= limits::ROOM_NEIGHBOURS {
                candidates.remove(peer);
            }
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
        self.room_wish(world, now, pick)
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
        let rested = |(peer, rest): (&PeerId, &Option<Instant>)| {
            let due = world.due(peer).filter(|_| !world.is_linked(peer))?;
            Some(rest.map_or(due, |until| until.max(due)))
        };
        let saved = self.saved.iter().filter(|peer| self.is_lonely(world) && !world.is_linked(peer));
        let saved = saved.filter_map(|peer| world.due(peer));
        let candidates = self.rooms.keys().flat_map(|room| self.candidates_due(room, world, now));
        let next =
            candidates.chain(saved).chain(self.lan.iter().filter_map(rested)).filter(|due| *due > now).min();
        // What is due already was refused for want of place, and waits for something else to happen.
        next
    }

    /// A room of ours is empty; or there is none, and the node is there for others.
    pub(super) fn is_seeking(&self, world: &impl World) -> bool {
        self.rooms.is_empty() || self.rooms.keys().any(|room| world.neighbours(room) == 0)
    }

    /// It is seeking, and there are few to ask.
    fn is_lonely(&self, world: &impl World) -> bool {
        world.links() < limits::LONELY_LINKS && self.is_seeking(world)
    }

    fn room_wish(&self, world: &impl World, now: Instant, pick: usize) -> Option<PeerId> {
        let mut rooms: Vec<_> =
            self.rooms.iter().map(|(room, c)| (neighbours(room, c, world), room, c)).collect();
        rooms.sort_by_key(|(neighbours, ..)| *neighbours);
        for (neighbours, room, candidates) in rooms {
            let wanted = |(peer, since): &(&PeerId, &Instant)| {
                let unheard = || now >= **since + limits::UNHEARD && !world.is_member(room, peer);
                !world.is_linked(peer)
                    && world.is_due(peer)
                    && (neighbours < limits::ROOM_NEIGHBOURS || unheard())
            };
            let count = candidates.iter().filter(wanted).count();
            if count > 0 {
                return candidates.iter().filter(wanted).nth(pick % count).map(|(peer, _)| *peer);
            }
        }
        None
    }

    /// When there may be something to do about the candidates of a room.
    fn candidates_due(&self, room: &Room, world: &impl World, now: Instant) -> Vec<Instant> {
        let Some(candidates) = self.rooms.get(room) else { return Vec::new() };
        let (certain, hoped) = (world.neighbours(room), neighbours(room, candidates, world));
        let mut due: Vec<Instant> = candidates
            .iter()
            .filter(|(peer, _)| !world.is_linked(peer))
            .filter(|(peer, _)| certain < limits::ROOM_NEIGHBOURS || !world.is_member(room, peer))
            .filter_map(|(peer, since)| {
                let due = world.due(peer)?;
                Some(if certain < limits::ROOM_NEIGHBOURS { due } else { due.max(*since + limits::UNHEARD) })
            })
            .collect();
        // Hopes may come to nothing.
        if certain < limits::ROOM_NEIGHBOURS && hoped > certain {
            due.push(now + limits::PROMISING);
        }
        due
    }
}

/// Those that a room has, and those that it may soon have.
fn neighbours(room: &Room, candidates: &BTreeMap<PeerId, Instant>, world: &impl World) -> usize {
    world.neighbours(room) + candidates.keys().filter(|peer| world.is_promising(room, peer)).count()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet, time::Duration};

    use super::*;

    /// Peers that can be reached, and what they are to us.
    #[derive(Default)]
    struct Toy {
        linked: RefCell<BTreeSet<PeerId>>,
        /// They cannot be dialled before this.
        resting: BTreeMap<PeerId, Instant>,
        neighbours: BTreeMap<Room, usize>,
        members: BTreeSet<(Room, PeerId)>,
        /// Those that are dialled count as neighbours to come.
        hopeful: bool,
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

        fn is_promising(&self, _: &Room, peer: &PeerId) -> bool {
            self.hopeful && self.is_linked(peer)
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
        candidates.iter().for_each(|peer| wishes.candidate(&room("one"), *peer, world, Instant::now()));
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
        let now = Instant::now();
        assert_eq!(all(&wishes, &world, now), [], "it may still be heard");
        world.resting.insert(candidates[1], now);
        let due = wishes.next_due(&world, now).expect("later");
        assert!(due > now && due <= now + limits::UNHEARD);
        world.resting.clear();
        assert_eq!(all(&wishes, &world, now + limits::UNHEARD), [candidates[1]]);
    }

    #[test]
    fn who_cannot_be_reached_is_given_up_where_there_are_others() {
        let ([gone], mut world) = (peers(), Toy::default());
        let mut wishes = in_room(&[gone], &world);
        let later = Instant::now() + limits::UNHEARD;
        wishes.missed(&gone, &world);
        assert_eq!(all(&wishes, &world, later), [gone], "the only one there is");
        world.linked.borrow_mut().clear();
        world.neighbours.insert(room("one"), limits::ROOM_NEIGHBOURS);
        wishes.missed(&gone, &world);
        assert_eq!(all(&wishes, &world, later), []);
    }

    #[test]
    fn who_is_being_dialled_counts_for_a_while() {
        let (mut world, now) = (Toy { hopeful: true, ..Toy::default() }, Instant::now());
        let candidates = peers::<20>();
        let wishes = in_room(&candidates, &world);
        world.members = candidates.iter().map(|peer| (room("one"), *peer)).collect();
        assert_eq!(all(&wishes, &world, now).len(), limits::ROOM_NEIGHBOURS);
        world.resting.extend(candidates.map(|peer| (peer, now)));
        assert_eq!(
            wishes.next_due(&world, now),
            Some(now + limits::PROMISING),
            "the hopes are looked at again"
        );
    }

    #[test]
    fn the_emptier_room_goes_first() {
        let ([one, two], mut world) = (peers(), Toy::default());
        let mut wishes = in_room(&[one], &world);
        wishes.joined(&room("two"));
        wishes.candidate(&room("two"), two, &world, Instant::now());
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
        wishes.candidate(&room("one"), late, &world, now);
        assert!(!wishes.rooms[&room("one")].contains_key(&late), "all of the others are as good");
        world.resting.insert(crowd[5], now + Duration::from_secs(9));
        wishes.candidate(&room("one"), late, &world, now);
        let candidates = &wishes.rooms[&room("one")];
        assert!(candidates.contains_key(&late) && !candidates.contains_key(&crowd[5]));
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
        world.members.insert((room("one"), peer));
        assert_eq!(wishes.next_due(&world, now), None);
    }
}
