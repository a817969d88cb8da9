//! Swarms that speak nothing but this, over TCP on the loopback interface.

use std::{collections::BTreeSet, net::Ipv4Addr};

use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    identity::Keypair,
    swarm::{self, SwarmEvent},
};
use smol::LocalExecutor;

use super::*;
use crate::transport::{self, Carriers};
use libp2p::kad::store::RecordStore as _;

#[derive(NetworkBehaviour)]
struct Node {
    kad: Behaviour,
    identify: identify::Behaviour,
}

/// A node that says what it was told, and does what it is asked, until the test ends.
struct Running {
    peer: PeerId,
    addr: Multiaddr,
    ask: async_channel::Sender<Query>,
    events: async_channel::Receiver<Event>,
    /// Where it dialled in vain.
    missed: async_channel::Receiver<Multiaddr>,
}

fn loopback() -> Networks {
    Networks::new([(Ipv4Addr::LOCALHOST.into(), 8)], &[])
}

fn swarm(executor: &LocalExecutor<'_>, server: bool) -> Swarm<Node> {
    let key = Keypair::generate_ed25519();
    let transport::Built { transport, driver, .. } =
        transport::build(&key, Carriers::Quic).expect("a transport");
    executor.spawn(driver).detach();
    let peer = key.public().to_peer_id();
    let mut kad = Behaviour::new(peer, Dht::Private);
    kad.set_networks(loopback());
    kad.set_server(server);
    let identify = identify::Behaviour::new(identify::Config::new("/test".into(), key.public()));
    let config = swarm::Config::with_executor(|task| smol::spawn(task).detach())
        .with_idle_connection_timeout(Duration::from_secs(3600));
    Swarm::new(transport, Node { kad, identify }, peer, config)
}

/// Starts a node that knows `bootstrap`.
async fn start(executor: &LocalExecutor<'_>, server: bool, bootstrap: Option<&Running>) -> Running {
    launch(executor, swarm(executor, server), bootstrap).await
}

async fn launch(
    executor: &LocalExecutor<'_>,
    mut swarm: Swarm<Node>,
    bootstrap: Option<&Running>,
) -> Running {
    let peer = *swarm.local_peer_id();
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("valid")).expect("listens");
    let addr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    if let Some(bootstrap) = bootstrap {
        swarm.dial(bootstrap.addr.clone()).expect("dials");
    }
    let ((ask, asked), (tell, events)) = (async_channel::unbounded(), async_channel::unbounded());
    let (miss, missed) = async_channel::unbounded();
    executor.spawn(run(swarm, asked, tell, miss)).detach();
    Running { peer, addr, ask, events, missed }
}

async fn run(
    mut swarm: Swarm<Node>,
    asked: async_channel::Receiver<Query>,
    tell: async_channel::Sender<Event>,
    miss: async_channel::Sender<Multiaddr>,
) {
    let mut dialled = HashMap::new();
    loop {
        let next = async { Ok(swarm.select_next_some().await) };
        match smol::future::or(next, async { Err(asked.recv().await) }).await {
            Ok(SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. }) if endpoint.is_dialer() => {
                dialled.insert(peer_id, endpoint.get_remote_address().clone());
            }
            Ok(SwarmEvent::Behaviour(NodeEvent::Kad(event))) => {
                // The test may have seen enough.
                let _ = tell.try_send(event);
            }
            Ok(SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            }))) => {
                let dialled = dialled.get(&peer_id);
                let kad = &mut swarm.behaviour_mut().kad;
                kad.identified(peer_id, &info.protocols, &info.listen_addrs, dialled);
            }
            Ok(SwarmEvent::OutgoingConnectionError { error: DialError::Transport(tried), .. }) => {
                // The test may have seen enough.
                tried.into_iter().for_each(|(addr, _)| drop(miss.try_send(addr)));
            }
            Ok(_) => {}
            Err(Ok(query)) => swarm.behaviour_mut().kad.start(query),
            Err(Err(_)) => return,
        }
    }
}

impl Running {
    async fn event<T>(&self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.events.recv().await.expect("the node runs")) {
                return found;
            }
        }
    }

    async fn knows(&self, routes: usize) {
        self.event(|event| matches!(event, Event::Routes(n) if n >= routes).then_some(())).await;
    }

    /// Does it, and says who was found.
    async fn query(&self, query: Query) -> (BTreeSet<PeerId>, bool) {
        self.ask.send(query).await.expect("the node runs");
        let mut found = BTreeSet::new();
        loop {
            match self.events.recv().await.expect("the node runs") {
                Event::Found { peers, .. } => found.extend(peers.into_iter().map(|(peer, _)| peer)),
                Event::Done { query: done, succeeded } if done == query => return (found, succeeded),
                _ => {}
            }
        }
    }
}

fn in_time(test: impl AsyncFnOnce(&LocalExecutor<'_>)) {
    let executor = LocalExecutor::new();
    let late = async {
        async_io::Timer::after(Duration::from_secs(60)).await;
        panic!("too late");
    };
    smol::block_on(executor.run(smol::future::or(test(&executor), late)));
}

#[test]
fn two_members_find_each_other_through_a_third() {
    in_time(async |executor| {
        let key = RoomKey::new(&"one".parse().expect("valid"));
        let third = start(executor, true, None).await;
        let [one, two] =
            [start(executor, false, Some(&third)).await, start(executor, false, Some(&third)).await];
        one.knows(1).await;
        two.knows(1).await;
        assert!(one.query(Query::Provide(key)).await.1);
        // An announcement is not answered: nobody knows when it has arrived.
        let found = loop {
            let (found, succeeded) = two.query(Query::Lookup(key)).await;
            assert!(succeeded);
            if !found.is_empty() {
                break found;
            }
        };
        assert_eq!(found, BTreeSet::from([one.peer]));
    });
}

/// The nodes that a liar knows are in networks of others, or not there at all.
#[test]
fn nobody_is_sent_into_the_networks_of_others() {
    in_time(async |executor| {
        let key = RoomKey::new(&"one".parse().expect("valid"));
        let mut liar = swarm(executor, true);
        for n in 0..2000u32 {
            let [.., a, b] = n.to_be_bytes();
            let addr = match n % 3 {
                0 => format!("/ip4/10.1.{a}.{b}/tcp/1"),
                1 => format!("/ip6/fd00::{n:x}/tcp/1"),
                _ => format!("/ip4/127.1.{a}.{}/tcp/1", b.max(1)),
            };
            let addr: Multiaddr = addr.parse().expect("valid");
            let kad = &mut liar.behaviour_mut().kad;
            kad.inner.add_address(&PeerId::random(), addr.clone());
            let provider = kad::ProviderRecord::new(key.multihash(), PeerId::random(), vec![addr]);
            kad.inner.store_mut().add_provider(provider).expect("taken");
        }
        let liar = launch(executor, liar, None).await;
        let honest = start(executor, true, Some(&liar)).await;
        let (one, two) =
            (start(executor, false, Some(&honest)).await, start(executor, false, Some(&honest)).await);
        one.knows(1).await;
        two.knows(1).await;
        assert!(one.query(Query::Provide(key)).await.1);
        let (found, _) = two.query(Query::Lookup(key)).await;
        assert!(found.contains(&one.peer), "{found:?}");
        let missed: Vec<Multiaddr> = std::iter::from_fn(|| two.missed.try_recv().ok()).collect();
        assert!(!missed.is_empty() && missed.len() <= limits::DHT_DIALS.into(), "{} dials", missed.len());
        let is_loopback = |addr: &Multiaddr| scope::ip_of(addr).is_some_and(|ip| ip.is_loopback());
        assert!(missed.iter().all(is_loopback), "{missed:?}");
    });
}

#[test]
fn dials_have_a_budget() {
    let start = Instant::now();
    let mut budget = Budget::new(limits::DHT_DIALS, start);
    let taken = (0..1000).filter(|_| budget.take(start)).count();
    assert_eq!(taken, limits::DHT_DIALS.into());
    let later = start + Duration::from_secs(30);
    assert_eq!((0..1000).filter(|_| budget.take(later)).count(), usize::from(limits::DHT_DIALS) / 2);
}

#[test]
fn one_prefix_cannot_fill_the_table() {
    let executor = LocalExecutor::new();
    let mut swarm = swarm(&executor, true);
    let kad = &mut swarm.behaviour_mut().kad;
    for n in 0..200u8 {
        let addr: Multiaddr = format!("/ip4/203.0.113.{n}/tcp/1").parse().expect("valid");
        kad.identified(PeerId::random(), &[PRIVATE], &[addr], None);
    }
    assert_eq!(kad.routes(), limits::DHT_PER_PREFIX);
    for n in 0..200u8 {
        let addr: Multiaddr = format!("/ip4/8.8.{n}.1/tcp/1").parse().expect("valid");
        kad.identified(PeerId::random(), &[PRIVATE], &[addr], None);
    }
    // Each half of the keys that is left has one bucket.
    assert!(kad.routes() > 3 * limits::DHT_BUCKET, "{}", kad.routes());
    assert!(kad.routes() <= limits::DHT_TABLE);
}

#[test]
fn who_cannot_be_reached_leaves_the_table() {
    let executor = LocalExecutor::new();
    let mut swarm = swarm(&executor, true);
    let (kad, peer) = (&mut swarm.behaviour_mut().kad, PeerId::random());
    kad.identified(peer, &[PRIVATE], &["/ip4/203.0.113.1/tcp/1".parse().expect("valid")], None);
    assert_eq!(kad.routes(), 1);
    for _ in 0..limits::DHT_FAILURES {
        kad.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: Some(peer),
            error: &DialError::NoAddresses,
            connection_id: ConnectionId::new_unchecked(1),
        }));
    }
    assert_eq!(kad.routes(), 0);
}

#[test]
fn one_circuit_is_told_for_each_relay_and_family() {
    let (me, relays) = (PeerId::random(), [PeerId::random(), PeerId::random()]);
    let mut kad = Behaviour::new(me, Dht::Private);
    let circuit = |carrier: &str, relay: PeerId| -> Multiaddr {
        format!("{carrier}/p2p/{relay}/p2p-circuit/p2p/{me}").parse().expect("valid")
    };
    let confirmed = circuit("/ip4/192.0.2.1/udp/1/quic-v1", relays[0]);
    kad.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr: &confirmed }));
    assert!(kad.tells(&confirmed));
    assert!(!kad.tells(&circuit("/ip4/192.0.2.1/tcp/1", relays[0])));
    assert!(kad.tells(&circuit("/ip6/2001:db8::1/tcp/1", relays[0])));
    assert!(!kad.tells(&circuit("/ip6/2001:db8::1/udp/1/quic-v1", relays[0])));
    assert!(kad.tells(&circuit("/ip4/192.0.2.9/tcp/1", relays[1])));
    let listener_id = libp2p::core::transport::ListenerId::next();
    let expired = swarm::behaviour::ExpiredListenAddr { listener_id, addr: &confirmed };
    kad.on_swarm_event(FromSwarm::ExpiredListenAddr(expired));
    assert!(kad.tells(&circuit("/ip4/192.0.2.1/tcp/1", relays[0])));
}
