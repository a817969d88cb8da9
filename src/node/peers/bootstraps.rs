//! The bootstrap addresses, which are dialled again for ever.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use super::peer_of;
use crate::limits;

/// The bootstrap peers of a node.
#[derive(Debug)]
pub struct Bootstraps {
    targets: Vec<Target>,
    /// The node has found the company that it wants, and can do without for a while.
    calm: bool,
}

/// One peer, or one address of an unknown one, and how its dials have gone.
#[derive(Debug)]
struct Target {
    /// All that were given for this peer: they are dialled together, so that the transport can prefer one.
    addrs: Vec<Multiaddr>,
    /// Known from the address, or since the first connection.
    peer: Option<PeerId>,
    state: State,
    /// The delay before the next dial, if this one fails.
    delay: Duration,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Dial at this time.
    Waiting(Instant),
    /// The dial with this id is under way.
    Dialing(ConnectionId),
    /// Connected since.
    Connected(Instant),
}

impl Bootstraps {
    /// All of `addrs` are due at `now`.
    pub fn new(addrs: impl IntoIterator<Item = Multiaddr>, now: Instant) -> Self {
        let mut targets: Vec<Target> = Vec::new();
        for addr in addrs {
            let peer = peer_of(&addr);
            match targets.iter_mut().find(|target| peer.is_some() && target.peer == peer) {
                Some(target) => target.addrs.push(addr),
                None => targets.push(Target {
                    addrs: vec![addr],
                    peer,
                    state: State::Waiting(now),
                    delay: limits::REDIAL_FIRST,
                }),
            }
        }
        Self { targets, calm: false }
    }

    /// The operator names others, of which those that `is_connected` need not be dialled. Those that stay go on as they
    /// are; connections with others are not closed by this.
    pub fn replace(
        &mut self,
        addrs: impl IntoIterator<Item = Multiaddr>,
        is_connected: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) {
        let fresh = Self::new(addrs, now).targets;
        let mut old = std::mem::take(&mut self.targets);
        for mut target in fresh {
            if let Some(same) = old.iter().position(|other| other.addrs == target.addrs) {
                target = old.swap_remove(same);
            } else if target.peer.as_ref().is_some_and(&is_connected) {
                target.state = State::Connected(now);
            }
            self.targets.push(target);
        }
    }

    /// Whether the node has found the company that it wants. While it has, dials are rarer.
    pub fn set_calm(&mut self, calm: bool, now: Instant) {
        if std::mem::replace(&mut self.calm, calm) && !calm {
            let soon = now + limits::REDIAL_MOST;
            for target in &mut self.targets {
                target.delay = target.delay.min(limits::REDIAL_MOST);
                if let State::Waiting(at) = &mut target.state {
                    *at = soon.min(*at);
                }
            }
        }
    }

    fn most(&self) -> Duration {
        if self.calm { limits::REDIAL_CALM } else { limits::REDIAL_MOST }
    }

    /// The addresses of one peer to dial at `now`, if one is due. Answer with [`Self::dialing`], [`Self::connected`] or
    /// [`Self::failed_at_once`].
    pub fn due(&self, now: Instant) -> Option<(usize, &[Multiaddr])> {
        let due = |t: &Target| matches!(t.state, State::Waiting(at) if at <= now);
        self.targets.iter().position(due).map(|i| (i, self.targets[i].addrs.as_slice()))
    }

    /// When the next dial is due.
    pub fn next_due(&self) -> Option<Instant> {
        let at = |t: &Target| match t.state {
            State::Waiting(at) => Some(at),
            _ => None,
        };
        self.targets.iter().filter_map(at).min()
    }

    /// The dial of target `i` is under way.
    pub fn dialing(&mut self, i: usize, id: ConnectionId) {
        if let Some(target) = self.targets.get_mut(i) {
            target.state = State::Dialing(id);
        }
    }

    /// The dial of target `i` could not even start. `jitter` is random in 0..1.
    pub fn failed_at_once(&mut self, i: usize, now: Instant, jitter: f64) {
        let most = self.most();
        if let Some(target) = self.targets.get_mut(i) {
            target.wait(most, now, jitter);
        }
    }

    /// A dial failed. Returns the addresses and the delay if it was one of ours.
    pub fn failed(
        &mut self,
        id: ConnectionId,
        now: Instant,
        jitter: f64,
    ) -> Option<(&[Multiaddr], Duration)> {
        let most = self.most();
        let target = self.targets.iter_mut().find(|t| t.state == State::Dialing(id))?;
        let delay = target.wait(most, now, jitter);
        Some((&target.addrs, delay))
    }

    /// A connection to `peer` is there: by the dial `id`, or by any other way. Every target that leads to
    /// this peer is satisfied.
    pub fn connected(&mut self, id: ConnectionId, peer: PeerId, now: Instant) {
        for target in &mut self.targets {
            if target.state == State::Dialing(id) {
                target.peer = Some(peer);
            }
            if target.peer == Some(peer) && !matches!(target.state, State::Connected(_)) {
                target.state = State::Connected(now);
            }
        }
    }

    /// Whether `peer` is one of them, as far as is known: who is at an address shows when it is reached.
    pub fn has(&self, peer: &PeerId) -> bool {
        self.targets.iter().any(|target| target.peer.as_ref() == Some(peer))
    }

    /// The last connection to `peer` is gone.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        let most = self.most();
        for target in &mut self.targets {
            if let State::Connected(since) = target.state
                && target.peer == Some(peer)
            {
                if now.duration_since(since) >= limits::REDIAL_SETTLED {
                    target.delay = limits::REDIAL_FIRST;
                }
                target.wait(most, now, jitter);
            }
        }
    }
}

impl Target {
    /// Waits for the current delay, less up to a half of it, and doubles the next one up to `most`.
    fn wait(&mut self, most: Duration, now: Instant, jitter: f64) -> Duration {
        let delay = self.delay.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        self.state = State::Waiting(now + delay);
        self.delay = (self.delay * 2).min(most);
        delay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_has_company_dials_rarely_and_who_loses_it_soon() {
        let now = Instant::now();
        let mut bootstraps = one(now);
        bootstraps.set_calm(true, now);
        for n in 0..20 {
            bootstraps.dialing(0, id(n));
            bootstraps.failed(id(n), now, 0.0);
        }
        assert_eq!(bootstraps.next_due(), Some(now + limits::REDIAL_CALM));
        bootstraps.set_calm(false, now);
        assert_eq!(bootstraps.next_due(), Some(now + limits::REDIAL_MOST));
    }

    #[test]
    fn others_can_be_named_while_it_runs() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let addr = |text: &str| text.parse::<Multiaddr>().expect("valid");
        let (one, two) = (addr("/ip4/127.0.0.1/tcp/4001"), addr("/ip4/127.0.0.1/tcp/4002"));
        let here = addr(&format!("/ip4/127.0.0.1/tcp/4003/p2p/{peer}"));
        let mut bootstraps = Bootstraps::new([one.clone(), two.clone()], now);
        bootstraps.dialing(0, id(0));
        bootstraps.dialing(1, id(1));
        bootstraps.replace([two.clone(), here], |other| *other == peer, now);
        assert!(bootstraps.due(now).is_none(), "the second one is being dialled, the third one is there");
        assert!(bootstraps.failed(id(0), now, 0.0).is_none(), "the first one is nobody any more");
        assert_eq!(
            bootstraps.failed(id(1), now, 0.0).map(|(addrs, _)| addrs.to_vec()),
            Some(vec![two.clone()])
        );
        bootstraps.disconnected(peer, now, 0.0);
        bootstraps.replace([one.clone()], |_| false, now);
        assert_eq!(bootstraps.due(now).map(|(_, addrs)| addrs.to_vec()), Some(vec![one]));
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn one(now: Instant) -> Bootstraps {
        Bootstraps::new(["/ip4/127.0.0.1/tcp/4001".parse().expect("valid")], now)
    }

    #[test]
    fn a_peer_that_is_down_is_dialled_for_ever_with_growing_capped_delays() {
        let mut now = Instant::now();
        let mut peers = one(now);
        let mut delays = Vec::new();
        for n in 0..12 {
            let (i, _) = peers.due(now).expect("due");
            peers.dialing(i, id(n));
            assert!(peers.due(now).is_none());
            let (_, delay) = peers.failed(id(n), now, 0.0).expect("ours");
            delays.push(delay.as_secs());
            assert!(peers.due(now).is_none());
            now += delay;
        }
        assert_eq!(delays[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert!(delays[7..].iter().all(|d| *d == limits::REDIAL_MOST.as_secs()));
    }

    #[test]
    fn a_peer_that_was_there_for_long_is_dialled_again_soon() {
        let (start, peer) = (Instant::now(), PeerId::random());
        let mut peers = one(start);
        for n in 0..5 {
            peers.dialing(0, id(n));
            peers.failed(id(n), start, 0.0);
        }
        peers.dialing(0, id(9));
        peers.connected(id(9), peer, start);
        assert_eq!(peers.next_due(), None);
        let later = start + limits::REDIAL_SETTLED;
        peers.disconnected(peer, later, 0.0);
        assert_eq!(peers.next_due(), Some(later + limits::REDIAL_FIRST));
    }

    #[test]
    fn a_peer_that_drops_us_at_once_is_not_hammered() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut peers = one(now);
        for n in 0..4 {
            peers.dialing(0, id(n));
            peers.connected(id(n), peer, now);
            peers.disconnected(peer, now, 0.0);
        }
        assert_eq!(peers.next_due(), Some(now + 8 * limits::REDIAL_FIRST));
    }

    #[test]
    fn a_peer_that_dialled_us_need_not_be_dialled() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").parse().expect("valid");
        let mut peers = Bootstraps::new([addr], now);
        peers.connected(id(1), peer, now);
        assert!(peers.due(now).is_none());
    }

    #[test]
    fn addresses_of_one_peer_are_dialled_together() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let addrs: Vec<Multiaddr> = [
            format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}"),
            "/ip4/127.0.0.1/tcp/2".into(),
            format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{peer}"),
            "/ip4/127.0.0.1/tcp/3".into(),
        ]
        .map(|addr| addr.parse().expect("valid"))
        .into();
        let mut peers = Bootstraps::new(addrs.clone(), now);
        let mut dialled = Vec::new();
        while let Some((i, addrs)) = peers.due(now) {
            dialled.push(addrs.to_vec());
            peers.dialing(i, id(i));
        }
        assert_eq!(
            dialled,
            [vec![addrs[0].clone(), addrs[2].clone()], vec![addrs[1].clone()], vec![addrs[3].clone()]]
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_never_more_than_the_cap_nor_less_than_half_the_first(jitter in -1.0f64..2.0, fails in 1usize..40) {
            let now = Instant::now();
            let mut peers = one(now);
            for n in 0..fails {
                peers.dialing(0, id(n));
                let (_, delay) = peers.failed(id(n), now, jitter).expect("ours");
                prop_assert!(delay <= limits::REDIAL_MOST && delay >= limits::REDIAL_FIRST / 2);
            }
        }
    }
}
