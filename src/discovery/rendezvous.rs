//! When to look for the members of a room in the DHT, and when to say there that this node is one. Pure.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{limits, rooms::Room};

/// Where a room's members meet in the DHT: a hash, so that who carries it does not learn the room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomKey([u8; 32]);

impl RoomKey {
    /// SHA-256 of `warren-room:` and the room's name.
    pub fn new(room: &Room) -> Self {
        RoomKey(Sha256::new_with_prefix(b"warren-room:").chain_update(room.as_str()).finalize().into())
    }

    /// As a multihash (code 0x12 for SHA-256, 32 bytes), which is what the IPFS DHT takes as a provider key.
    pub fn multihash(&self) -> Vec<u8> {
        [&[0x12, 0x20], &self.0[..]].concat()
    }
}

/// Something to do in the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Say that this node is in the room.
    Provide(RoomKey),
    /// Ask who else is.
    Lookup(RoomKey),
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, RoomKey([a, b, ..])) = match self {
            Query::Provide(key) => ("providing", key),
            Query::Lookup(key) => ("looking up", key),
        };
        write!(f, "{what} room {a:02x}{b:02x}..")
    }
}

/// The rooms of this node, and when each is due.
pub struct Rendezvous {
    rooms: BTreeMap<Room, State>,
    /// Nodes of the DHT that are known: without any there is nobody to ask.
    routes: usize,
    /// Until then nothing is provided: an address that others can use is about to come.
    held: Option<Instant>,
    /// [`limits::DHT_CALM`], so that those who start together do not go on together.
    calm: Duration,
}

struct State {
    key: RoomKey,
    provide: Task,
    lookup: Task,
    /// As many neighbours are in the room as it needs.
    satisfied: bool,
}

/// One kind of query for one room.
struct Task {
    due: Instant,
    /// The delay after the next one.
    delay: Duration,
    /// It is under way.
    busy: bool,
    /// Nodes of the DHT that were known when it began.
    routes: usize,
    /// When it last began.
    begun: Option<Instant>,
    /// What it tells has changed since.
    again: bool,
}

impl Task {
    fn new(now: Instant, delay: Duration) -> Self {
        Task { due: now, delay, busy: false, routes: 0, begun: None, again: false }
    }

    /// Waits for the current delay, less up to a fifth, and doubles the next one up to `most`.
    /// `rest` is for [`Self::repeat`].
    fn wait(&mut self, most: Duration, rest: Duration, now: Instant, jitter: f64) {
        self.busy = false;
        self.due = now + self.delay.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0));
        self.delay = (self.delay * 2).min(most);
        if std::mem::take(&mut self.again) {
            self.repeat(rest, now);
        }
    }

    /// What it tells has changed: it is worth doing at once, or after `rest` if it was only just done.
    fn repeat(&mut self, rest: Duration, now: Instant) {
        self.again = self.busy;
        let earliest = self.begun.map_or(now, |begun| now.max(begun + rest));
        self.due = self.due.min(earliest);
    }

    /// So many more nodes are known now that others are to be told or asked.
    fn is_outgrown(&self, routes: usize) -> bool {
        self.routes * 2 <= routes
    }

    /// It is worth doing soon, though not at once: more may come.
    fn hurry(&mut self, now: Instant, pause: Duration) {
        self.due = self.due.min(now + pause);
    }
}

impl State {
    /// How soon what was done while the DHT was smaller is done again.
    fn pause(&self, calm: Duration) -> Duration {
        if self.satisfied { calm } else { limits::DHT_LOOKUP_FIRST }
    }

    /// How soon after an announcement there may be another one.
    fn rest(&self, calm: Duration) -> Duration {
        if self.satisfied { calm } else { limits::DHT_MOVED }
    }
}

impl Rendezvous {
    /// `jitter` is random in 0..1.
    pub fn new(jitter: f64) -> Self {
        let calm = limits::DHT_CALM.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
        Rendezvous { rooms: BTreeMap::new(), routes: 0, held: None, calm }
    }

    pub fn joined(&mut self, room: &Room, now: Instant) {
        self.rooms.entry(room.clone()).or_insert_with(|| State {
            key: RoomKey::new(room),
            provide: Task::new(now, limits::DHT_PROVIDE_FIRST),
            lookup: Task::new(now, limits::DHT_LOOKUP_FIRST),
            satisfied: false,
        });
    }

    pub fn left(&mut self, room: &Room) {
        self.rooms.remove(room);
    }

    /// The room that a key in the DHT stands for, if this node is in it.
    pub fn room(&self, key: &RoomKey) -> Option<&Room> {
        self.rooms.iter().find(|(_, state)| state.key == *key).map(|(room, _)| room)
    }

    /// Whether enough members of the room are neighbours. When they are no longer, it is looked up again soon.
    pub fn satisfied(&mut self, room: &Room, satisfied: bool, now: Instant) {
        if let Some(state) = self.rooms.get_mut(room) {
            if state.satisfied && !satisfied {
                state.lookup.delay = limits::DHT_LOOKUP_FIRST;
                state.lookup.hurry(now, limits::DHT_LOOKUP_FIRST);
            }
            state.satisfied = satisfied;
        }
    }

    /// How many nodes of the DHT are known now. What was done while there were half as many is worth doing
    /// again: other nodes are responsible for the keys now, and the first ones may have been liars.
    pub fn routes(&mut self, routes: usize, now: Instant) {
        if std::mem::replace(&mut self.routes, routes) >= routes {
            return;
        }
        for state in self.rooms.values_mut() {
            let pause = state.pause(self.calm);
            for task in [&mut state.provide, &mut state.lookup] {
                if !task.busy && task.is_outgrown(routes) {
                    task.hurry(now, pause);
                }
            }
        }
    }

    /// This node is to be reached elsewhere now: what was said of it is worth saying again.
    pub fn moved(&mut self, now: Instant) {
        self.held = None;
        for state in self.rooms.values_mut() {
            state.provide.repeat(state.rest(self.calm), now);
        }
    }

    /// An address that others can use may come before this time.
    pub fn hold(&mut self, until: Instant) {
        self.held = Some(until);
    }

    /// What to do now, if anything. It is under way then, until [`Self::done`].
    pub fn next(&mut self, now: Instant) -> Option<Query> {
        let routes = self.routes;
        if routes == 0 || self.busy() >= limits::DHT_QUERIES {
            return None;
        }
        let is_held = self.held.is_some_and(|until| now < until);
        let is_due = |task: &Task| !task.busy && task.due <= now;
        let is_provide_due = |state: &State| is_due(&state.provide) && !is_held;
        // A room that is not found yet goes before all that is only kept up.
        let state = self
            .rooms
            .values_mut()
            .filter(|state| is_provide_due(state) || is_due(&state.lookup))
            .min_by_key(|state| (state.satisfied, state.provide.due.min(state.lookup.due)))?;
        let (task, query) = match is_due(&state.lookup) {
            true => (&mut state.lookup, Query::Lookup(state.key)),
            false => (&mut state.provide, Query::Provide(state.key)),
        };
        (task.busy, task.routes, task.begun) = (true, routes, Some(now));
        Some(query)
    }

    /// A query has ended. One that failed is repeated as soon as a first one. `jitter` is random in 0..1.
    pub fn done(&mut self, query: Query, succeeded: bool, now: Instant, jitter: f64) {
        let (Query::Provide(key) | Query::Lookup(key)) = query;
        let Some(state) = self.rooms.values_mut().find(|state| state.key == key) else { return };
        let (pause, rest) = (state.pause(self.calm), state.rest(self.calm));
        let (task, most) = match query {
            Query::Provide(_) => (&mut state.provide, limits::DHT_PROVIDE_MOST),
            // Even who has enough neighbours looks from time to time: a room that fell apart meets again.
            Query::Lookup(_) if state.satisfied => {
                state.lookup.delay = limits::DHT_LOOKUP_SATISFIED;
                (&mut state.lookup, limits::DHT_LOOKUP_SATISFIED)
            }
            Query::Lookup(_) => (&mut state.lookup, limits::DHT_LOOKUP_MOST),
        };
        // The DHT may have grown meanwhile.
        let is_outgrown = succeeded && task.is_outgrown(self.routes);
        if !succeeded {
            task.delay = task.delay.min(limits::DHT_LOOKUP_FIRST * 4);
        }
        let is_first = succeeded && task.delay == limits::DHT_PROVIDE_FIRST;
        task.wait(most, rest, now, jitter);
        if is_outgrown {
            task.hurry(now, pause);
        }
        // Two that look before either is there would both have to wait: who was the later one to say that it is
        // there finds the other one now.
        if let Query::Provide(_) = query
            && is_first
            && !state.satisfied
            && !state.lookup.busy
            && state.lookup.begun < state.provide.begun
        {
            state.lookup.delay = (state.lookup.delay / 2).max(limits::DHT_LOOKUP_FIRST);
            state.lookup.repeat(rest, now);
        }
    }

    /// When [`Self::next`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        if self.routes == 0 || self.busy() >= limits::DHT_QUERIES {
            return None;
        }
        let provide = |state: &State| {
            let due = state.provide.due;
            (!state.provide.busy).then(|| self.held.map_or(due, |until| due.max(until)))
        };
        let lookup = |state: &State| (!state.lookup.busy).then_some(state.lookup.due);
        self.rooms.values().flat_map(|state| [provide(state), lookup(state)]).flatten().min()
    }

    fn busy(&self) -> usize {
        self.tasks().filter(|task| task.busy).count()
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.rooms.values().flat_map(|state| [&state.provide, &state.lookup])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Room {
        name.parse().expect("valid")
    }

    fn joined(names: &[&str], now: Instant) -> Rendezvous {
        let mut rendezvous = Rendezvous::new(0.5);
        names.iter().for_each(|name| rendezvous.joined(&room(name), now));
        rendezvous
    }

    /// Does everything until `end` as soon as it is due, and returns when, in seconds from `start`.
    fn run(rendezvous: &mut Rendezvous, start: Instant, end: Duration) -> Vec<(u64, Query)> {
        let (mut now, mut done) = (start, Vec::new());
        while let Some(due) = rendezvous.next_due().filter(|due| *due <= start + end) {
            now = now.max(due);
            while let Some(query) = rendezvous.next(now) {
                done.push(((now - start).as_secs(), query));
                rendezvous.done(query, true, now, 0.0);
            }
        }
        done
    }

    #[test]
    fn the_key_is_written_down() {
        let hex: String =
            RoomKey::new(&room("lobby")).multihash().iter().map(|b| format!("{b:02x}")).collect();
        // printf 'warren-room:lobby' | sha256sum
        assert_eq!(hex, "1220d0b58882f4cc4c89a03ea530af9b7f9bb0ccaddb12c24289e111dd98c016a831");
    }

    #[test]
    fn nothing_is_done_while_nobody_can_be_asked() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        assert_eq!((rendezvous.next(now), rendezvous.next_due()), (None, None));
        rendezvous.routes(1, now);
        assert!(rendezvous.next(now).is_some());
    }

    #[test]
    fn looking_backs_off_and_goes_on_for_ever() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        rendezvous.routes(1, now);
        let done = run(&mut rendezvous, now, Duration::from_secs(3600));
        let lookups: Vec<u64> =
            done.iter().filter(|(_, q)| matches!(q, Query::Lookup(_))).map(|(at, _)| *at).collect();
        assert_eq!(lookups[..5], [0, 2, 6, 14, 30]);
        let gaps: Vec<u64> = lookups.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps.last(), Some(&limits::DHT_LOOKUP_MOST.as_secs()));
        let provided = done.len() - lookups.len();
        assert!((3..12).contains(&provided), "renewed before it expires, and not much more: {provided}");
    }

    #[test]
    fn who_has_found_enough_rests() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        rendezvous.routes(1, now);
        rendezvous.satisfied(&room("one"), true, now);
        let hour = Duration::from_secs(3600);
        let lookups = |rendezvous: &mut Rendezvous, from| {
            let done = run(rendezvous, from, hour);
            done.iter().filter(|(_, q)| matches!(q, Query::Lookup(_))).count()
        };
        assert!(lookups(&mut rendezvous, now) <= 5);
        rendezvous.satisfied(&room("one"), false, now + hour);
        assert!(rendezvous.next_due().expect("soon") <= now + hour + limits::DHT_LOOKUP_FIRST);
    }

    #[test]
    fn a_dht_that_grew_is_told_again() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        rendezvous.routes(1, now);
        run(&mut rendezvous, now, Duration::from_secs(1800));
        let later = now + Duration::from_secs(1800);
        rendezvous.routes(2, later);
        let due = rendezvous.next_due().expect("there is always a next time");
        rendezvous.routes(3, later);
        assert!(rendezvous.next_due().expect("now") <= due.min(later + limits::DHT_LOOKUP_FIRST));
    }

    #[test]
    fn a_dht_that_grew_while_it_was_told_is_told_again() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        rendezvous.routes(1, now);
        let first: Vec<Query> = std::iter::from_fn(|| rendezvous.next(now)).collect();
        assert_eq!(first.len(), 2);
        rendezvous.routes(2, now);
        first.iter().for_each(|query| rendezvous.done(*query, true, now, 0.0));
        let soon = now + limits::DHT_LOOKUP_FIRST;
        let again: Vec<Query> = std::iter::from_fn(|| rendezvous.next(soon)).collect();
        assert_eq!(again, first, "the second node knows nothing of the room yet");
    }

    #[test]
    fn a_new_address_is_told_at_once_and_not_lost_while_the_old_one_is_told() {
        let now = Instant::now();
        let mut rendezvous = joined(&["one"], now);
        rendezvous.hold(now + limits::DHT_PROVIDE_HELD);
        rendezvous.routes(1, now);
        let lookup = rendezvous.next(now).expect("somebody can be asked");
        assert!(matches!(lookup, Query::Lookup(_)));
        assert_eq!(rendezvous.next(now), None, "there is nothing to tell yet");
        assert_eq!(rendezvous.next_due(), Some(now + limits::DHT_PROVIDE_HELD));
        rendezvous.moved(now);
        let provide = rendezvous.next(now).expect("there is an address");
        assert!(matches!(provide, Query::Provide(_)));
        rendezvous.moved(now);
        rendezvous.done(provide, true, now, 0.0);
        assert_eq!(rendezvous.next(now), None, "not that often");
        let later = now + limits::DHT_MOVED;
        assert_eq!((rendezvous.next_due(), rendezvous.next(later)), (Some(later), Some(provide)));
        rendezvous.done(provide, true, later, 0.0);
        assert!(rendezvous.next_due().is_some_and(|due| due > later + limits::DHT_LOOKUP_FIRST));
    }

    #[test]
    fn who_says_that_it_is_there_looks_once_more() {
        let (now, moment) = (Instant::now(), Duration::from_millis(100));
        let mut rendezvous = joined(&["one"], now);
        rendezvous.routes(1, now);
        let lookup = rendezvous.next(now).expect("first");
        let provide = rendezvous.next(now + moment).expect("second");
        rendezvous.done(lookup, true, now + moment, 0.0);
        rendezvous.done(provide, true, now + 2 * moment, 0.0);
        assert_eq!(rendezvous.next_due(), Some(now + limits::DHT_MOVED));
        assert_eq!(rendezvous.next(now + limits::DHT_MOVED), Some(lookup));
    }

    #[test]
    fn many_rooms_take_turns() {
        let now = Instant::now();
        let names: Vec<String> = (0..limits::ROOMS).map(|n| format!("room{n}")).collect();
        let mut rendezvous = joined(&names.iter().map(String::as_str).collect::<Vec<_>>(), now);
        rendezvous.routes(5, now);
        let first: Vec<Query> = std::iter::from_fn(|| rendezvous.next(now)).collect();
        assert_eq!(first.len(), limits::DHT_QUERIES);
        rendezvous.done(first[0], false, now, 0.5);
        assert!(rendezvous.next(now).is_some_and(|query| !first.contains(&query)));
    }
}
