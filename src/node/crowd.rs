//! Too many connections: whom to let go, and whom not to let in. Pure.
//!
//! Keys cost nothing and addresses cost something, so who takes much is measured by networks: what one owner is
//! likely to have ([`Prefix::of_owner`]), and what one home has ([`Prefix::of_host`]). Many nodes behind the address
//! of one CGNAT are honest, so there is room for some. Machines in our own networks are not counted: they are ours.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    time::Instant,
};

use libp2p::PeerId;

use crate::{
    discovery::scope::{Networks, Prefix},
    limits,
};

/// A connection, as far as its worth goes.
#[derive(Clone, Debug)]
pub struct Link {
    pub peer: PeerId,
    /// Where it is ([`crate::discovery::scope::ip_of`]); `None` behind a relay.
    pub ip: Option<IpAddr>,
    /// It wanted us, not we it.
    pub is_inbound: bool,
    pub since: Instant,
    pub worth: Worth,
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// For nothing that we know of.
    Nothing,
    /// It answers lookups.
    Server,
    /// It is in a room with us, beside the mesh.
    Room,
    /// It is never closed: a bootstrap peer, one that the operator named, a relay of ours, one of a room's mesh.
    Protected,
}

/// What is to be done about a crowd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Peers to disconnect from, all of their connections.
    pub go: Vec<PeerId>,
    /// When to ask again although nothing changed: those that were too young are not any more.
    pub again: Option<Instant>,
}

/// Whom to let go when there are more than [`limits::CONNECTIONS_HIGH`] connections, so that
/// [`limits::CONNECTIONS_LOW`] remain, if so many can go.
///
/// The first to go is in the network with the most connections (a flood pays for itself), then good for nothing,
/// then inbound (whom we chose is less likely to be there to harm us), then the youngest. The same crowd always
/// gets the same verdict.
pub fn verdict(links: &[Link], networks: &Networks, now: Instant) -> Verdict {
    let mut verdict = Verdict::default();
    if links.len() <= limits::CONNECTIONS_HIGH {
        return verdict;
    }
    let owner = |link: &Link| link.ip.filter(|ip| !networks.is_neighbour(*ip)).map(Prefix::of_owner);
    let age = |link: &Link| now.saturating_duration_since(link.since);
    let mut left: Vec<&Link> = links.iter().collect();
    while left.len() > limits::CONNECTIONS_LOW {
        let mut crowds: HashMap<Prefix, usize> = HashMap::new();
        left.iter().filter_map(|link| owner(link)).for_each(|owner| *crowds.entry(owner).or_default() += 1);
        let crowd = |link: &Link| owner(link).and_then(|owner| crowds.get(&owner).copied()).unwrap_or(1);
        let may_go = |peer: PeerId| {
            let mut all = links.iter().filter(|link| link.peer == peer);
            all.all(|link| link.worth != Worth::Protected && age(link) >= limits::CONNECTION_YOUNG)
        };
        let worst = left
            .iter()
            .filter(|link| may_go(link.peer))
            .max_by_key(|link| {
                let worth = std::cmp::Reverse(link.worth);
                (crowd(link), worth, link.is_inbound, link.since, link.peer)
            })
            .map(|link| link.peer);
        let Some(worst) = worst else { break };
        left.retain(|link| link.peer != worst);
        verdict.go.push(worst);
    }
    if left.len() > limits::CONNECTIONS_HIGH {
        let is_young = |link: &&&Link| link.worth != Worth::Protected && age(link) < limits::CONNECTION_YOUNG;
        verdict.again = left.iter().filter(is_young).map(|link| link.since + limits::CONNECTION_YOUNG).min();
    }
    verdict
}

/// Whom to let go although there is place, because each of the rooms that we share has more than
/// [`limits::ROOM_LINKS`] neighbours: of those that we began to connect with the ones behind a relay, then the youngest.
/// `rooms` are the neighbours in each.
///
/// Who began a connection closes it: the other side may have wanted it. Both sides may close some at the same time,
/// and have less than they want; but not less than the room's mesh, which nobody closes.
pub fn spare(links: &[Link], rooms: &[BTreeSet<PeerId>], now: Instant) -> Verdict {
    let mut counts: Vec<usize> = rooms.iter().map(BTreeSet::len).collect();
    let may_go_at = |link: &Link| link.since + limits::CONNECTION_YOUNG;
    let mut own: Vec<&Link> =
        links.iter().filter(|link| !link.is_inbound && link.worth == Worth::Room).collect();
    let is_relayed = |link: &Link| link.ip.is_none();
    own.sort_by_key(|link| {
        (may_go_at(link) > now, !is_relayed(link), std::cmp::Reverse(link.since), link.peer)
    });
    let mut verdict = Verdict::default();
    for link in own {
        let shared: Vec<usize> = (0..rooms.len()).filter(|room| rooms[*room].contains(&link.peer)).collect();
        if shared.iter().any(|room| counts[*room] <= limits::ROOM_LINKS) {
            continue;
        }
        shared.iter().for_each(|room| counts[*room] -= 1);
        match may_go_at(link) {
            at if at > now => verdict.again = verdict.again.into_iter().chain([at]).min(),
            _ => verdict.go.push(link.peer),
        }
    }
    verdict
}

/// How many inbound connections there are of each home and of each owner.
#[derive(Debug, Default)]
pub struct Counts {
    hosts: HashMap<Prefix, usize>,
    owners: HashMap<Prefix, usize>,
}

/// There are enough connections from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// From where.
    pub network: Prefix,
    /// So many are enough.
    pub most: usize,
}

impl Counts {
    pub fn add(&mut self, ip: IpAddr) {
        *self.hosts.entry(Prefix::of_host(ip)).or_default() += 1;
        *self.owners.entry(Prefix::of_owner(ip)).or_default() += 1;
    }

    /// What was added is gone.
    pub fn remove(&mut self, ip: IpAddr) {
        for (counts, key) in
            [(&mut self.hosts, Prefix::of_host(ip)), (&mut self.owners, Prefix::of_owner(ip))]
        {
            if let Some(count) = counts.get_mut(&key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
    }

    /// Whether one more connection from `ip` may be, when there are `total` connections in all.
    ///
    /// # Errors
    /// Which network has enough.
    pub fn admit(&self, ip: IpAddr, total: usize, networks: &Networks) -> Result<(), Denied> {
        if networks.is_neighbour(ip) {
            return Ok(());
        }
        // See limits::INBOUND_PER_HOST.
        let room = if total < limits::CONNECTIONS_LOW { 2 } else { 1 };
        for (counts, network, most) in [
            (&self.hosts, Prefix::of_host(ip), room * limits::INBOUND_PER_HOST),
            (&self.owners, Prefix::of_owner(ip), room * limits::INBOUND_PER_PREFIX),
        ] {
            if counts.get(&network).is_some_and(|count| *count >= most) {
                return Err(Denied { network, most });
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.owners.is_empty()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} connections from {} already", self.most, self.network)
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn peer(n: usize) -> PeerId {
        let mut bytes = vec![0x12, 0x20];
        bytes.extend([0; 24]);
        bytes.extend((n as u64).to_be_bytes());
        PeerId::from_bytes(&bytes).expect("a SHA-256 multihash")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A connection of a network of its own.
    fn link(n: usize, now: Instant) -> Link {
        Link {
            peer: peer(n),
            ip: Some(IpAddr::from([11, (n / 256) as u8, n as u8, 1])),
            is_inbound: true,
            since: now,
            worth: Worth::Nothing,
        }
    }

    fn old(now: Instant) -> Instant {
        now + limits::CONNECTION_YOUNG
    }

    fn gone(links: &[Link], now: Instant) -> Vec<PeerId> {
        verdict(links, &Networks::default(), now).go
    }

    #[test]
    fn nobody_has_to_go_up_to_the_high_mark_and_then_down_to_the_low_one() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..limits::CONNECTIONS_HIGH).map(|n| link(n, now)).collect();
        assert_eq!(verdict(&links, &Networks::default(), old(now)), Verdict::default());
        links.push(link(999, now));
        let verdict = verdict(&links, &Networks::default(), old(now));
        assert_eq!(verdict.go.len(), links.len() - limits::CONNECTIONS_LOW);
        assert_eq!(verdict.again, None);
    }

    #[test]
    fn the_largest_crowd_goes_before_the_useless_and_the_useless_before_the_useful() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..90).map(|n| link(n, now)).collect();
        for link in &mut links[..15] {
            (link.ip, link.worth) = (Some(ip("203.0.113.5")), Worth::Room);
        }
        for link in &mut links[15..50] {
            link.worth = Worth::Room;
        }
        let gone = gone(&links, old(now));
        assert_eq!(gone.len(), 26);
        let of = |range: std::ops::Range<usize>| range.filter(|n| gone.contains(&peer(*n))).count();
        assert_eq!((of(0..15), of(15..50), of(50..90)), (14, 0, 12));
    }

    #[test]
    fn outbound_and_old_ones_stay_rather_than_inbound_and_young_ones() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..90).map(|n| link(n, now + n as u32 * Duration::from_millis(1))).collect();
        for link in &mut links[60..] {
            link.is_inbound = false;
        }
        let wanted: Vec<_> = (34..60).rev().map(peer).collect();
        assert_eq!(gone(&links, old(now) + Duration::from_secs(1)), wanted);
    }

    #[test]
    fn a_full_room_lets_those_go_that_we_began_and_a_small_one_keeps_everybody() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..20).map(|n| link(n, now + n as u32 * Duration::from_millis(1))).collect();
        for (n, link) in links.iter_mut().enumerate() {
            link.worth = if n < 16 { Worth::Room } else { Worth::Protected };
            link.is_inbound = n % 2 == 0;
        }
        links[5].ip = None;
        let full: BTreeSet<_> = (0..20).map(peer).collect();
        let later = old(now) + Duration::from_secs(1);
        let wanted: Vec<_> = [5, 15, 13, 11, 9, 7, 3, 1].map(peer).to_vec();
        let spare_of = |rooms: &[BTreeSet<PeerId>], now| spare(&links, rooms, now).go;
        assert_eq!(
            spare_of(std::slice::from_ref(&full), later),
            wanted,
            "the relayed, the youngest, no other"
        );
        assert_eq!(spare_of(std::slice::from_ref(&full), now), [], "too young");
        let young = spare(&links, std::slice::from_ref(&full), now);
        assert_eq!(young.again, Some(old(links[1].since)), "the first of them that is old enough");
        assert_eq!(spare(&links, std::slice::from_ref(&full), later).again, None, "all of them went");
        let some = spare(&links, std::slice::from_ref(&full), old(links[13].since));
        let (gone, left) = ([5, 13, 11, 9, 7, 3, 1].map(peer).to_vec(), Some(old(links[15].since)));
        assert_eq!(some, Verdict { go: gone, again: left }, "those that are old enough, and one later");
        let small: BTreeSet<_> = [peer(15), peer(3)].into();
        let but_two: Vec<_> = [5, 13, 11, 9, 7, 1].map(peer).to_vec();
        assert_eq!(spare_of(&[full, small], later), but_two, "those are needed elsewhere");
        let just: BTreeSet<_> = (8..8 + limits::ROOM_LINKS).map(peer).collect();
        assert_eq!(spare(&links[8..], &[just], later), Verdict::default(), "no more than a mesh may have");
        let one_more: BTreeSet<_> = (7..8 + limits::ROOM_LINKS).map(peer).collect();
        assert_eq!(spare(&links[7..], &[one_more], later).go, [peer(15)]);
    }

    #[test]
    fn neighbours_are_no_crowd() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..90).map(|n| link(n, now)).collect();
        for (n, link) in links[..40].iter_mut().enumerate() {
            (link.ip, link.is_inbound) = (Some(IpAddr::from([192, 168, 1, n as u8 + 2])), false);
        }
        let home = Networks::new([(ip("192.168.1.1"), 24)], &[]);
        let gone = verdict(&links, &home, old(now)).go;
        assert!((0..40).all(|n| !gone.contains(&peer(n))), "{gone:?}");
        assert_eq!(gone.len(), 26);
    }

    #[test]
    fn the_protected_and_the_young_stay() {
        let now = Instant::now();
        let mut links: Vec<_> = (0..100).map(|n| link(n, now)).collect();
        for link in &mut links[..90] {
            link.worth = Worth::Protected;
        }
        assert_eq!(gone(&links, old(now)).len(), 10);
        // A second connection of a protected peer.
        links[95].peer = peer(3);
        assert_eq!(gone(&links, old(now)).len(), 9);
        let young = verdict(&links, &Networks::default(), now + Duration::from_secs(1));
        assert_eq!(young, Verdict { go: vec![], again: Some(old(now)) });
        links.iter_mut().for_each(|link| link.worth = Worth::Protected);
        assert_eq!(verdict(&links, &Networks::default(), old(now)), Verdict::default());
    }

    #[test]
    fn a_home_gets_in_and_a_flood_does_not() {
        let (mut counts, networks) = (Counts::default(), Networks::default());
        let home = ip("203.0.113.5");
        for n in 0..2 * limits::INBOUND_PER_HOST {
            assert_eq!(counts.admit(home, n, &networks), Ok(()));
            let busy = counts.admit(home, limits::CONNECTIONS_LOW, &networks);
            assert_eq!(busy.is_ok(), n < limits::INBOUND_PER_HOST, "{n} are there");
            counts.add(home);
        }
        let denied = counts.admit(home, 32, &networks).expect_err("enough");
        assert_eq!(denied.to_string(), "there are 32 connections from 203.0.113.5/32 already");
        assert!(counts.admit(ip("203.0.113.6"), 32, &networks).is_ok(), "the neighbour");
        for n in 0..2 * limits::INBOUND_PER_HOST {
            counts.add(IpAddr::from([203, 0, 113, 100 + n as u8]));
        }
        let denied = counts.admit(ip("203.0.113.6"), 32, &networks).expect_err("enough");
        assert_eq!(denied.network.to_string(), "203.0.113.0/24");
        assert!(counts.admit(ip("203.0.114.6"), 99, &networks).is_ok(), "somebody else");
    }

    #[test]
    fn an_ipv6_home_is_one_whatever_its_addresses() {
        let mut counts = Counts::default();
        for n in 0..limits::INBOUND_PER_HOST {
            counts.add(ip(&format!("2001:db8:1:2::{n:x}")));
        }
        let busy = limits::CONNECTIONS_LOW;
        assert!(counts.admit(ip("2001:db8:1:2:ffff::1"), busy, &Networks::default()).is_err());
        assert!(counts.admit(ip("2001:db8:1:3::1"), busy, &Networks::default()).is_ok());
    }

    #[test]
    fn neighbours_always_get_in() {
        let mut counts = Counts::default();
        let networks = Networks::new([(ip("192.168.1.1"), 24)], &[]);
        for text in ["127.0.0.1", "::1", "192.168.1.7"] {
            (0..90).for_each(|_| counts.add(ip(text)));
            assert!(counts.admit(ip(text), 99, &networks).is_ok(), "{text}");
        }
        assert!(counts.admit(ip("192.168.1.7"), 99, &Networks::default()).is_err(), "of some other network");
    }

    proptest! {
        #[test]
        fn nobody_goes_who_should_not(kinds in prop::collection::vec((0u8..4, 0usize..70, 0u64..20), 0..100)) {
            let start = Instant::now();
            let now = start + 2 * limits::CONNECTION_YOUNG;
            let links: Vec<_> = kinds
                .iter()
                .map(|(worth, n, age)| Link {
                    worth: [Worth::Nothing, Worth::Server, Worth::Room, Worth::Protected][*worth as usize],
                    ..link(*n, now - Duration::from_secs(*age))
                })
                .collect();
            let Verdict { go, .. } = verdict(&links, &Networks::default(), now);
            prop_assert_eq!(&go, &verdict(&links, &Networks::default(), now).go);
            let stays = |link: &&Link| !go.contains(&link.peer);
            let left = links.iter().filter(stays).count();
            // A peer may have more than one, so it may become one less than the mark for each.
            prop_assert!(go.is_empty() || left + kinds.len() / 2 >= limits::CONNECTIONS_LOW);
            prop_assert!(links.len() > limits::CONNECTIONS_HIGH || go.is_empty());
            for link in links.iter().filter(|link| !stays(link)) {
                prop_assert!(link.worth != Worth::Protected && now - link.since >= limits::CONNECTION_YOUNG);
            }
        }

        #[test]
        fn what_is_added_and_removed_leaves_nothing(ips: Vec<[u8; 4]>) {
            let mut counts = Counts::default();
            ips.iter().for_each(|ip| counts.add((*ip).into()));
            ips.iter().for_each(|ip| counts.remove((*ip).into()));
            prop_assert!(counts.is_empty());
        }
    }
}
