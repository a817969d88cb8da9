//! Nodes that were not told where the others are find them.
//!
//! All of them listen on the loopback interface only, which makes that the network in which told addresses are
//! dialled.

use std::{fs, net::TcpListener, sync::Arc};

use crate::net::{Dir, LOOPBACK, Node, PATIENCE, until};

/// A node that finds others by itself.
fn seeker(name: &str, options: &[&str]) -> Node {
    in_dir(Arc::new(Dir::new()), name, options)
}

fn in_dir(dir: Arc<Dir>, name: &str, options: &[&str]) -> Node {
    Node::start_in(dir, name, &[&["run", "--listen", LOOPBACK, "--nick", name], options].concat())
}

fn until_connected(node: &mut Node, other: &Node) {
    until("they are connected", || node.peers().contains(&other.peer).then_some(()));
}

#[test]
fn a_member_leads_to_the_others() {
    let mut ada = seeker("ada", &["--dht", "off"]);
    let mut bob = seeker("bob", &["--dht", "off", "--bootstrap", &ada.addr]);
    let mut eve = seeker("eve", &["--dht", "off", "--bootstrap", &ada.addr]);
    until_connected(&mut bob, &eve);
    until_connected(&mut eve, &bob);
    // Now nobody depends on the one they all knew.
    ada.done("quit", &[]);
    bob.event_of("peer_disconnected", &ada.peer);
    eve.event_of("peer_disconnected", &ada.peer);
    bob.until_mesh(1);
    bob.say("still here");
    eve.hear("still here");
}

#[test]
fn who_comes_back_needs_nobody_to_tell_him() {
    let dir = Arc::new(Dir::new());
    let mut ada = seeker("ada", &["--dht", "off"]);
    let mut bob = in_dir(dir.clone(), "bob", &["--dht", "off", "--bootstrap", &ada.addr]);
    bob.meets(&ada);
    bob.done("quit", &[]);
    // As long as it runs, the key is its own.
    assert_eq!(bob.program.ends_within(PATIENCE), Some(0));
    ada.event_of("peer_disconnected", &bob.peer);
    let again = in_dir(dir, "bob", &["--dht", "off"]);
    assert_eq!(again.peer, bob.peer);
    ada.event_of("peer_connected", &bob.peer);
    ada.meets(&again);
}

#[test]
fn an_address_that_somebody_names_does_not_wait_for_one_that_is_remembered() {
    let ada = seeker("ada", &["--dht", "off"]);
    // Whatever is there today takes connections and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let book = format!("# warren address book 1\n/ip4/127.0.0.1/tcp/{port}/p2p/{} missed=0\n", ada.peer);
    let with_book = || {
        let dir = Dir::new();
        fs::create_dir_all(dir.path("state/warren")).expect("a directory");
        dir.file("state/warren/peers", &book, 0o600);
        Arc::new(dir)
    };
    let mut bob = in_dir(with_book(), "bob", &["--dht", "off"]);
    silent.accept().expect("bob dials what his book says");
    bob.done("connect", &[("addr", &ada.addr)]);
    bob.event_of("peer_connected", &ada.peer);
    let mut eve = in_dir(with_book(), "eve", &["--dht", "off", "--bootstrap", &ada.addr]);
    eve.event_of("peer_connected", &ada.peer);
}

#[test]
fn a_node_that_shall_not_seek_does_not() {
    let mut ada = Node::start("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    let mut eve = Node::beside(&ada, "eve", &[]);
    bob.event_of("member_joined", &eve.peer);
    eve.event_of("member_joined", &bob.peer);
    ada.until_mesh(2);
    assert_eq!([bob.peers(), eve.peers()], [[ada.peer.clone()], [ada.peer.clone()]]);
}

#[cfg(feature = "kad")]
mod dht {
    use std::{
        thread::{self, JoinHandle},
        time::Duration,
    };

    use futures::StreamExt;
    use libp2p::{
        Multiaddr, PeerId, StreamProtocol, Swarm, identify,
        identity::Keypair,
        kad::{
            self, ProviderRecord, RecordKey,
            store::{MemoryStore, MemoryStoreConfig, RecordStore},
        },
        swarm::{self, NetworkBehaviour, SwarmEvent},
    };
    use warren::{
        discovery::rendezvous::RoomKey,
        limits,
        transport::{self, Carriers},
    };

    use super::*;
    use crate::net::PATIENCE;

    fn relay() -> Node {
        Node::start_in(Arc::new(Dir::new()), "relay", &["relay", "--listen", LOOPBACK])
    }

    #[test]
    fn members_of_a_room_find_each_other_through_a_node_that_is_in_none() {
        let mut relay = relay();
        let [mut ada, mut bob] =
            ["ada", "bob"].map(|name| seeker(name, &["--room", "den", "--bootstrap", &relay.addr]));
        let mut eve = seeker("eve", &["--room", "elsewhere", "--bootstrap", &relay.addr]);
        ada.meets(&bob);
        bob.meets(&ada);
        relay.done("quit", &[]);
        eve.event_of("peer_disconnected", &relay.peer);
        bob.until_mesh(1);
        bob.say("without it");
        ada.hear("without it");
        assert!(eve.other_messages().is_empty());
    }

    /// ```text
    ///            ┌── honest relay ──┐
    ///     ada ───┤                  ├─── bob
    ///            └── liar ──────────┘
    /// ```
    #[test]
    fn a_liar_in_the_dht_costs_little_and_keeps_nobody_apart() {
        let (relay, liar) = (relay(), Liar::start());
        let bootstrap = ["--room", "den", "--bootstrap", &relay.addr, "--bootstrap", &liar.addr];
        let [mut ada, mut bob] = ["ada", "bob"].map(|name| seeker(name, &bootstrap));
        ada.meets(&bob);
        bob.meets(&ada);
        until("ada was lied to", || (ada.stat("knownPeers") > 8.0).then_some(()));
        bob.until_mesh(1);
        bob.say("among liars");
        ada.hear("among liars");
        for node in [&mut ada, &mut bob] {
            let most =
                f64::from(limits::DHT_DIALS) + (limits::CANDIDATES * limits::BOOK_TRIES as usize) as f64;
            assert!(node.stat("dialFailures") <= most, "{} dials", node.stat("dialFailures"));
            assert!(node.stat("knownPeers") <= limits::BOOK_PEERS as f64);
        }
    }

    #[derive(NetworkBehaviour)]
    struct Lies {
        kad: kad::Behaviour<MemoryStore>,
        identify: identify::Behaviour,
    }

    /// A node of the DHT that knows thousands of peers that do not exist, and that all of them are in the room.
    struct Liar {
        addr: String,
        stop: Option<async_channel::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    }

    impl Liar {
        fn start() -> Self {
            let (stop, stopped) = async_channel::bounded(1);
            let (tell, told) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                let executor = smol::LocalExecutor::new();
                smol::block_on(executor.run(smol::future::or(lie(&executor, tell), async {
                    // Dropped: the test is over.
                    let _ = stopped.recv().await;
                })));
            });
            let addr = told.recv_timeout(PATIENCE).expect("it listens");
            Liar { addr, stop: Some(stop), thread: Some(thread) }
        }
    }

    impl Drop for Liar {
        fn drop(&mut self) {
            self.stop = None;
            if let Some(thread) = self.thread.take()
                && thread.join().is_err()
                && !thread::panicking()
            {
                panic!("the liar panicked");
            }
        }
    }

    /// Nobody listens there; some of it is not even ours.
    fn nowhere(n: u32) -> Multiaddr {
        let [.., a, b, c] = n.to_be_bytes();
        let addr = match n % 4 {
            0 => format!("/ip4/10.{a}.{b}.{c}/tcp/1"),
            1 => format!("/ip4/192.168.{b}.{c}/udp/1/quic-v1"),
            _ => format!("/ip4/127.{a}.{b}.{}/tcp/1", c.max(1)),
        };
        addr.parse().expect("a multiaddr")
    }

    async fn lie(executor: &smol::LocalExecutor<'_>, tell: std::sync::mpsc::Sender<String>) {
        let key = Keypair::generate_ed25519();
        let me = key.public().to_peer_id();
        let transport::Built { transport, driver, .. } =
            transport::build(&key, Carriers::Tcp).expect("a transport");
        executor.spawn(driver).detach();
        let config = MemoryStoreConfig { max_providers_per_key: 10_000, ..MemoryStoreConfig::default() };
        let mut config_kad = kad::Config::new(StreamProtocol::new("/warren/kad/1.0.0"));
        config_kad.set_replication_factor(20.try_into().expect("not 0"));
        let mut kad = kad::Behaviour::with_config(me, MemoryStore::with_config(me, config), config_kad);
        kad.set_mode(Some(kad::Mode::Server));
        let room = RecordKey::from(RoomKey::new(&"den".parse().expect("a room")).multihash());
        for n in 0..4000 {
            kad.add_address(&PeerId::random(), nowhere(n));
            let record = ProviderRecord::new(room.clone(), PeerId::random(), vec![nowhere(n)]);
            kad.store_mut().add_provider(record).expect("taken");
        }
        let identify = identify::Config::new("/liar".into(), key.public());
        let behaviour = Lies { kad, identify: identify::Behaviour::new(identify) };
        let config = swarm::Config::with_executor(|task| smol::spawn(task).detach())
            .with_idle_connection_timeout(Duration::from_secs(600));
        let mut swarm = Swarm::new(transport, behaviour, me, config);
        swarm.listen_on(LOOPBACK.parse().expect("a multiaddr")).expect("listens");
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                // The test may be over.
                let _ = tell.send(format!("{address}/p2p/{me}"));
            }
        }
    }
}
