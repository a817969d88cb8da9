//! Three swarms in one process: upstream's relay server, and two nodes with this client.

use std::time::Duration;

use futures::{StreamExt, future};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{self, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    yamux,
};

use super::*;

#[derive(NetworkBehaviour)]
struct Server {
    relay: relay::Behaviour,
}

type Client = Swarm<Behaviour>;

fn config() -> swarm::Config {
    // What keeps a connection is only what this is about.
    swarm::Config::with_executor(|task| smol::spawn(task).detach())
        .with_idle_connection_timeout(Duration::from_millis(100))
}

fn client() -> Client {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let (through, behaviour) = new(peer);
    let transport = through
        .or_transport(MemoryTransport::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("a key"))
        .multiplex(yamux::Config::default())
        .boxed();
    Swarm::new(transport, behaviour, peer, config())
}

/// A relay, running by itself, and its address.
fn server(config: relay::Config) -> (smol::Task<()>, Relay) {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("a key"))
        .multiplex(yamux::Config::default())
        .boxed();
    let mut behaviour = relay::Behaviour::new(peer, config);
    behaviour.set_status(Some(relay::Status::Enable));
    let mut swarm = Swarm::new(transport, Server { relay: behaviour }, peer, self::config());
    let addr: Multiaddr = Protocol::Memory(fastrand::u64(1..)).into();
    swarm.listen_on(addr.clone()).expect("a free number");
    swarm.add_external_address(addr.clone());
    let task = smol::spawn(async move {
        loop {
            swarm.next().await;
        }
    });
    (task, Relay { peer, addr: addr.with(Protocol::P2p(peer)) })
}

fn generous() -> relay::Config {
    relay::Config { max_circuit_duration: Duration::from_secs(600), ..relay::Config::default() }
}

/// The next event that fits; it has to come in time.
async fn until<T>(swarm: &mut Client, mut fits: impl FnMut(SwarmEvent<Event>) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = fits(swarm.next().await.expect("a swarm does not end")) {
                return found;
            }
        }
    };
    let late = async {
        Delay::new(Duration::from_secs(20)).await;
        panic!("nothing has come")
    };
    smol::future::or(found, late).await
}

/// Takes a place there.
async fn take_place(swarm: &mut Client, relay: &Relay) -> (ListenerId, Option<Duration>) {
    let listener = swarm.listen_on(relay.circuit()).expect("an address of ours");
    let granted = |event| match event {
        SwarmEvent::Behaviour(Event::Granted { lifetime, is_renewal: false, .. }) => Some(lifetime),
        _ => None,
    };
    (listener, until(swarm, granted).await)
}

/// The peer at the other end of the next connection through a relay.
async fn circuit(swarm: &mut Client) -> PeerId {
    until(swarm, |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } if endpoint.is_relayed() => Some(peer_id),
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
        _ => None,
    })
    .await
}

#[test]
fn who_has_a_place_is_reached_through_the_relay() {
    smol::block_on(async {
        let ((_task, relay), mut ada, mut bob) = (server(generous()), client(), client());
        let (_, lifetime) = take_place(&mut bob, &relay).await;
        let hour = Duration::from_secs(3600);
        assert!(lifetime.is_some_and(|time| time <= hour && time > hour / 2), "{lifetime:?}");
        let there = until(&mut bob, |event| match event {
            SwarmEvent::NewListenAddr { address, .. } => Some(address),
            _ => None,
        });
        assert_eq!(there.await, relay.circuit());
        let external: Vec<Multiaddr> = bob.external_addresses().cloned().collect();
        let addr = relay.circuit().with(Protocol::P2p(*bob.local_peer_id()));
        assert_eq!(external, std::slice::from_ref(&addr));
        ada.dial(addr).expect("an address of ours");
        let (at_ada, at_bob) = future::join(circuit(&mut ada), circuit(&mut bob)).await;
        assert_eq!((at_ada, at_bob), (*bob.local_peer_id(), *ada.local_peer_id()));
    });
}

#[test]
fn a_place_is_held_for_longer_when_asked_for() {
    smol::block_on(async {
        let ((_task, relay), mut bob) = (server(generous()), client());
        let (listener, _) = take_place(&mut bob, &relay).await;
        bob.behaviour_mut().renew(listener);
        let renewed = |event| matches!(event, SwarmEvent::Behaviour(Event::Granted { is_renewal: true, .. }));
        until(&mut bob, |event| renewed(event).then_some(())).await;
    });
}

#[test]
fn a_place_keeps_the_connection_and_goes_with_it() {
    smol::block_on(async {
        let ((task, relay), mut bob) = (server(generous()), client());
        let (listener, _) = take_place(&mut bob, &relay).await;
        // Longer than an idle connection lasts.
        let alone = until(&mut bob, |event| match event {
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::ListenerClosed { .. } => Some(()),
            _ => None,
        });
        let waited = smol::future::or(
            async {
                alone.await;
                false
            },
            async {
                Delay::new(Duration::from_millis(600)).await;
                true
            },
        );
        assert!(waited.await, "the connection was closed");
        task.cancel().await;
        let closed = until(&mut bob, |event| match event {
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => Some((listener_id, reason.is_err())),
            _ => None,
        });
        assert_eq!(closed.await, (listener, true));
        assert_eq!(bob.external_addresses().count(), 0);
    });
}

#[test]
fn a_place_moves_to_another_connection_with_the_same_relay() {
    smol::block_on(async {
        let ((_task, relay), mut bob) = (server(generous()), client());
        take_place(&mut bob, &relay).await;
        let first = *bob.behaviour().connections[&relay.peer].first().expect("connected");
        let again = DialOpts::peer_id(relay.peer).addresses(vec![relay.addr.clone()]);
        bob.dial(again.condition(swarm::dial_opts::PeerCondition::Always).build()).expect("dials");
        until(&mut bob, |event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(()))
            .await;
        assert!(bob.close_connection(first));
        until(&mut bob, |event| match event {
            SwarmEvent::Behaviour(Event::Granted { is_renewal: false, .. }) => Some(()),
            SwarmEvent::ListenerClosed { .. } => panic!("the place was given up"),
            _ => None,
        })
        .await;
        let mut ada = client();
        ada.dial(relay.circuit().with(Protocol::P2p(*bob.local_peer_id()))).expect("an address of ours");
        future::join(circuit(&mut ada), circuit(&mut bob)).await;
    });
}

#[test]
fn who_gives_a_place_back_is_not_told_of_any_more() {
    smol::block_on(async {
        let ((_task, relay), mut bob) = (server(generous()), client());
        let (listener, _) = take_place(&mut bob, &relay).await;
        assert!(bob.remove_listener(listener));
        // Nothing keeps the connection now.
        until(&mut bob, |event| matches!(event, SwarmEvent::ConnectionClosed { .. }).then_some(())).await;
        assert_eq!(bob.external_addresses().count(), 0);
        assert!(!bob.remove_listener(listener));
    });
}

#[test]
fn a_refusal_ends_the_listener_and_says_why() {
    smol::block_on(async {
        let none = relay::Config { max_reservations: 0, ..generous() };
        let ((_task, relay), mut bob) = (server(none), client());
        bob.listen_on(relay.circuit()).expect("an address of ours");
        let why = until(&mut bob, |event| match event {
            SwarmEvent::ListenerClosed { reason, .. } => Some(reason.expect_err("refused").to_string()),
            _ => None,
        });
        assert!(why.await.contains("it has no place left"));
    });
}

#[test]
fn a_dial_fails_with_what_the_relay_says() {
    smol::block_on(async {
        let ((_task, relay), mut ada) = (server(generous()), client());
        let failed = |event| match event {
            SwarmEvent::OutgoingConnectionError { error, peer_id: Some(peer), .. } => {
                Some((peer, format!("{error:?}")))
            }
            _ => None,
        };
        let nobody = PeerId::random();
        ada.dial(relay.circuit().with(Protocol::P2p(nobody))).expect("an address of ours");
        let (peer, why) = until(&mut ada, failed).await;
        assert_eq!(peer, nobody);
        assert!(why.contains("204"), "{why}");
        // A relay that is not there.
        let addr =
            Multiaddr::from(Protocol::Memory(fastrand::u64(1..))).with(Protocol::P2p(PeerId::random()));
        let addr = addr.with(Protocol::P2pCircuit).with(Protocol::P2p(nobody));
        ada.dial(addr).expect("an address of ours");
        let why = until(&mut ada, |event| failed(event).filter(|(peer, _)| *peer == nobody)).await.1;
        assert!(why.contains("Unreachable"), "{why}");
    });
}

#[test]
fn addresses_are_read() {
    let [relay, peer] = [(); 2].map(|()| PeerId::random());
    let read = |text: String| parse(&text.parse().expect("a multiaddr"));
    let at = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{relay}");
    assert!(read(at.clone()).is_none());
    let (found, target) = read(format!("{at}/p2p-circuit/p2p/{peer}")).expect("a circuit").expect("complete");
    assert_eq!((found.peer, found.addr.to_string(), target), (relay, at.clone(), Some(peer)));
    let (_, target) = read(format!("{at}/p2p-circuit")).expect("a circuit").expect("complete");
    assert_eq!(target, None);
    for wrong in [
        "/ip4/192.0.2.1/tcp/1/p2p-circuit".to_owned(),
        format!("/p2p/{relay}/p2p-circuit/p2p/{peer}"),
        "/p2p-circuit".to_owned(),
        format!("{at}/p2p-circuit/ip4/192.0.2.1/p2p/{peer}"),
        format!("{at}/p2p-circuit/p2p/{peer}/p2p-circuit/p2p/{relay}"),
        format!("{at}/p2p/{peer}/p2p-circuit"),
    ] {
        let error = read(wrong.clone()).expect("a circuit").expect_err("incomplete").to_string();
        assert!(error.contains(&format!("'{wrong}'")), "{error}");
    }
}

#[test]
fn what_a_relay_says_of_itself_is_looked_at() {
    let [peer, other] = [(); 2].map(|()| PeerId::random());
    let parse = |text: &str| -> Multiaddr { text.parse().expect("valid") };
    let relay = Relay { peer, addr: parse(&format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}")) };
    let told = [
        "/ip4/192.0.2.1/tcp/1".to_owned(),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{other}"),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{other}/p2p-circuit"),
    ];
    let told = told.iter().map(|addr| parse(addr)).collect();
    assert_eq!(behaviour::addresses(&relay, told), [relay.circuit()]);
    assert_eq!(behaviour::addresses(&relay, Vec::new()), [relay.circuit()]);
}
