//! Who may have something dialled, how often, and what. Pure.
//!
//! Whoever has us dial somebody has us send, so there are allowances: for each peer, for each owner of a network
//! ([`Prefix::of_owner`]), and for all together. What is dialled is an address of the asker, or one for which it has
//! paid in bytes, and in any case one that this node would dial on hearsay ([`Networks::may_dial`]).

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{
    discovery::scope::{self, Networks, Prefix},
    limits,
};

/// How much of its allowance each asker has used.
#[derive(Debug, Default)]
pub struct Server {
    peers: BTreeMap<PeerId, Used>,
    owners: BTreeMap<Prefix, Used>,
    all: Option<Used>,
    /// Peers whose request is under way.
    serving: Vec<PeerId>,
}

/// Of a token bucket: when it will be full again. Each request puts that off by the time that one more takes.
type Used = Instant;

/// An allowance: so many at once, and so long until there is one more.
struct Rate {
    burst: u32,
    each: Duration,
}

const PEER: Rate = Rate { burst: limits::AUTONAT_BURST_PER_PEER, each: limits::AUTONAT_RATE_PER_PEER };
const OWNER: Rate = Rate { burst: limits::AUTONAT_BURST_PER_OWNER, each: limits::AUTONAT_RATE_PER_OWNER };
const ALL: Rate = Rate { burst: limits::AUTONAT_BURST, each: limits::AUTONAT_RATE };

impl Rate {
    /// When it is full again after one more request. `None`: there is nothing left of it.
    fn take(&self, used: Option<Used>, now: Instant) -> Option<Used> {
        let full = used.map_or(now, |full| full.max(now)) + self.each;
        (full <= now + self.each * self.burst).then_some(full)
    }
}

impl Server {
    /// A connected peer at `ip` asks. `false`: not now. If `true`, say [`Self::done`] in the end.
    pub fn admit(&mut self, peer: PeerId, ip: IpAddr, now: Instant) -> bool {
        let owner = Prefix::of_owner(ip);
        let is_busy = self.serving.len() >= limits::AUTONAT_SERVING || self.serving.contains(&peer);
        let peer_used = PEER.take(self.peers.get(&peer).copied(), now);
        let owner_used = OWNER.take(self.owners.get(&owner).copied(), now);
        let (Some(peer_used), Some(owner_used), Some(all)) = (peer_used, owner_used, ALL.take(self.all, now))
        else {
            return false;
        };
        if is_busy || !self.has_place(now) {
            return false;
        }
        self.all = Some(all);
        self.peers.insert(peer, peer_used);
        self.owners.insert(owner, owner_used);
        self.serving.push(peer);
        true
    }

    /// A request of this peer's is over.
    pub fn done(&mut self, peer: &PeerId) {
        self.serving.retain(|other| other != peer);
    }

    /// Forgets those who could use all of their allowance again: they are like those we do not know.
    fn has_place(&mut self, now: Instant) -> bool {
        if self.peers.len() >= limits::AUTONAT_ASKERS || self.owners.len() >= limits::AUTONAT_ASKERS {
            self.peers.retain(|_, full| *full > now);
            self.owners.retain(|_, full| *full > now);
        }
        self.peers.len() < limits::AUTONAT_ASKERS && self.owners.len() < limits::AUTONAT_ASKERS
    }
}

/// What an asker may have dialled.
pub struct Terms {
    pub asker: PeerId,
    /// Where it is connected from.
    pub observed: Vec<IpAddr>,
    /// In which told addresses mean something here.
    pub networks: Networks,
}

/// What is dialled for an asker.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    pub addr: Multiaddr,
    /// Its place in the asker's list.
    pub index: u32,
    /// It is not where the asker is seen.
    pub is_others: bool,
}

impl Terms {
    /// The first of the told addresses that may and can be dialled. Who asks for a machine in a network of ours has
    /// to be that machine.
    pub fn choose(&self, told: &[Vec<u8>], has_route: impl Fn(IpAddr) -> bool) -> Option<Wanted> {
        let wanted = |(index, bytes): (u32, &Vec<u8>)| {
            let addr = Multiaddr::try_from(bytes.clone()).ok()?;
            let ip = scope::ip_of(&addr)?;
            let is_others = !self.observed.contains(&ip);
            let named = addr.iter().find_map(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            });
            let may = self.networks.may_dial(&addr)
                && (scope::is_public(ip) || !is_others)
                && named.is_none_or(|peer| peer == self.asker);
            (may && has_route(ip)).then_some(Wanted { addr, index, is_others })
        };
        let told =
            told.iter().take(limits::AUTONAT_ADDRESSES).filter(|addr| addr.len() <= limits::ADDRESS_BYTES);
        (0..).zip(told).find_map(wanted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn peer(n: u8) -> PeerId {
        let mut hash = vec![0x12, 32];
        hash.extend([n; 32]);
        PeerId::from_bytes(&hash).expect("a SHA-256 multihash")
    }

    fn admit(server: &mut Server, n: u8, ip: impl Into<IpAddr>, now: Instant) -> bool {
        let is_in = server.admit(peer(n), ip.into(), now);
        if is_in {
            server.done(&peer(n));
        }
        is_in
    }

    #[test]
    fn a_peer_asks_some_times_at_once_and_then_in_its_time() {
        let (mut server, now) = (Server::default(), Instant::now());
        for _ in 0..limits::AUTONAT_BURST_PER_PEER {
            assert!(admit(&mut server, 1, HOME, now));
        }
        assert!(!admit(&mut server, 1, HOME, now));
        assert!(admit(&mut server, 2, HOME, now), "another one");
        let later = now + limits::AUTONAT_RATE_PER_PEER;
        assert!(admit(&mut server, 1, HOME, later));
        assert!(!admit(&mut server, 1, HOME, later));
    }

    #[test]
    fn one_request_of_a_peer_at_a_time_and_some_of_all() {
        let (mut server, now) = (Server::default(), Instant::now());
        for n in 0..limits::AUTONAT_SERVING as u8 {
            assert!(server.admit(peer(n), [198, 51, n, 1].into(), now));
            assert!(!server.admit(peer(n), [198, 51, n, 1].into(), now), "its first is under way");
        }
        assert!(!server.admit(peer(200), HOME, now));
        server.done(&peer(0));
        assert!(server.admit(peer(200), HOME, now));
    }

    #[test]
    fn many_keys_in_one_network_are_one_asker() {
        let (mut server, now) = (Server::default(), Instant::now());
        let asked = (0..=255).filter(|n| admit(&mut server, *n, [203, 0, 113, *n], now)).count();
        assert_eq!(asked as u32, limits::AUTONAT_BURST_PER_OWNER);
        assert!(admit(&mut server, 1, [198, 51, 100, 1], now), "not those elsewhere");
    }

    #[test]
    fn there_are_bounds_for_all_together() {
        let (mut server, now) = (Server::default(), Instant::now());
        let flood = |server: &mut Server, at| {
            (0..1000u16)
                .filter(|n| {
                    let [high, low] = n.to_be_bytes();
                    let (peer, ip) = (PeerId::random(), IpAddr::from([20 + high, low, 0, 1]));
                    let is_in = server.admit(peer, ip, at);
                    server.done(&peer);
                    is_in
                })
                .count() as u32
        };
        assert_eq!(flood(&mut server, now), limits::AUTONAT_BURST);
        let mut at = now;
        for _ in 0..100 {
            at += limits::AUTONAT_RATE * limits::AUTONAT_BURST;
            flood(&mut server, at);
        }
        assert!(
            server.peers.len() <= limits::AUTONAT_ASKERS && server.owners.len() <= limits::AUTONAT_ASKERS
        );
    }

    fn terms(on_link: &[([u8; 4], u8)]) -> Terms {
        let networks = Networks::new(on_link.iter().map(|(ip, len)| ((*ip).into(), *len)), &[]);
        Terms { asker: peer(1), observed: vec![HOME, [192, 168, 1, 9].into()], networks }
    }

    fn choose(terms: &Terms, told: &[&str]) -> Option<(u32, bool)> {
        let told: Vec<_> =
            told.iter().map(|addr| addr.parse::<Multiaddr>().expect("valid").to_vec()).collect();
        terms.choose(&told, |ip| ip.is_ipv4()).map(|wanted| (wanted.index, wanted.is_others))
    }

    #[test]
    fn an_asker_has_its_own_addresses_dialled_and_pays_for_others() {
        let terms = terms(&[]);
        let [own, other] = ["/ip4/203.0.113.7/tcp/4001", "/ip4/198.51.100.1/udp/4001/quic-v1"];
        assert_eq!(choose(&terms, &[own, other]), Some((0, false)));
        assert_eq!(choose(&terms, &[other, own]), Some((0, true)));
        assert_eq!(choose(&terms, &[&format!("{own}/p2p/{}", peer(1))]), Some((0, false)));
        assert_eq!(choose(&terms, &[&format!("{own}/p2p/{}", peer(2))]), None);
        let wrong = ["/dns4/example.org/tcp/1", "/ip4/203.0.113.7/udp/53", "/ip4/203.0.113.7/tcp/0"];
        assert_eq!(choose(&terms, &wrong), None);
        assert_eq!(choose(&terms, &["/ip6/2001:db8::1/tcp/1"]), None, "there is no way to it");
        assert_eq!(choose(&terms, &["/ip6/2001:db8::1/tcp/1", own]), Some((1, false)));
    }

    #[test]
    fn nobody_has_us_knock_inside_of_a_home_or_at_ourselves() {
        let lan = terms(&[([192, 168, 1, 1], 24)]);
        assert_eq!(choose(&lan, &["/ip4/192.168.1.8/tcp/80"]), None, "a neighbour of ours");
        assert_eq!(choose(&lan, &["/ip4/192.168.1.9/tcp/80"]), Some((0, false)), "a neighbour itself");
        for told in
            ["/ip4/127.0.0.1/tcp/22", "/ip4/10.0.0.1/tcp/80", "/ip4/169.254.0.1/tcp/80", "/ip6/fe80::1/tcp/1"]
        {
            assert_eq!(choose(&lan, &[told]), None, "{told}");
        }
        let elsewhere = terms(&[([10, 0, 0, 1], 24)]);
        assert_eq!(choose(&elsewhere, &["/ip4/192.168.1.9/tcp/80"]), None);
    }

    #[test]
    fn nothing_is_dialled_through_a_relay() {
        let circuit = format!("/ip4/203.0.113.7/tcp/1/p2p/{}/p2p-circuit", peer(3));
        assert_eq!(choose(&terms(&[]), &[&circuit, &format!("{circuit}/p2p/{}", peer(1))]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_told_nothing_is_chosen_that_may_not_be_dialled(told: Vec<Vec<u8>>) {
            let terms = terms(&[([192, 168, 1, 1], 24)]);
            if let Some(wanted) = terms.choose(&told, |_| true) {
                prop_assert!(terms.networks.may_dial(&wanted.addr));
            }
        }
    }
}
