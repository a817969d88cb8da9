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
}

fn loopback() -> Networks {
    Networks::new([(Ipv4Addr::LOCALHOST.into(), 8)], &[])
}

fn swarm(executor: &LocalExecutor<'_>, server: bool) -> Swarm<Node> {
    let key = Keypair::generate_ed25519();
    let (transport, driver) = transport::build(&key, Carriers::Quic).expect("a transport");
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
    let mut swarm = swarm(executor, server);
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
    executor.spawn(run(swarm, asked, tell)).detach();
    Running { peer, addr, ask, events }
}

async fn run(
    mut swarm: Swarm<Node>,
    asked: async_channel::Receiver<Query>,
    tell: async_channel::Sender<Event>,
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
        let (found, succeeded) = two.query(Query::Lookup(key)).await;
        assert!(succeeded);
        assert_eq!(found, BTreeSet::from([one.peer]));
    });
}
