//! STUN on real QUIC sockets: between two nodes, and with coturn as server and as client. All on loopback.

mod coturn;

use std::{net::SocketAddr, pin::Pin, time::Duration};

use async_io::Timer;
use futures::future::poll_fn;
use libp2p::{
    Multiaddr, Transport as _,
    core::transport::{ListenerId, TransportEvent},
    identity::Keypair,
    multiaddr::Protocol,
};
use smol::{LocalExecutor, future::or};
use warren::{
    nat::stun::{
        Family,
        client::Counters,
        driver::{self, Config, Event, Handle, Serve},
        verdict::{Filtering, Mapping, Verdict},
    },
    transport::quic::{Kind, Transport},
};

/// Runs a test on one thread, and not for ever.
fn run<T>(test: impl AsyncFnOnce(&LocalExecutor<'static>) -> T) -> T {
    let executor = LocalExecutor::new();
    let late = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("the test does not come to an end");
    };
    smol::block_on(or(executor.run(test(&executor)), late))
}

/// A QUIC transport and the STUN driver on its sockets.
struct Node {
    transport: Transport,
    stun: Handle,
}

impl Node {
    /// Not listening yet.
    fn new(executor: &LocalExecutor<'static>, config: Config) -> Self {
        let (transport, driver) = Transport::new(&Keypair::generate_ed25519()).expect("TLS");
        executor.spawn(driver).detach();
        let (driver, stun) = driver::new(transport.datagrams(Kind::Stun), config).expect("free ports");
        executor.spawn(driver).detach();
        Node { transport, stun }
    }

    async fn listen(&mut self, addr: SocketAddr) -> SocketAddr {
        let multiaddr = Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1);
        self.transport.listen_on(ListenerId::next(), multiaddr).expect("a free port");
        let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = event else { panic!("unexpected {event:?}") };
        self.stun.addresses_changed();
        let mut parts = listen_addr.iter();
        match (parts.next(), parts.next()) {
            (Some(Protocol::Ip4(ip)), Some(Protocol::Udp(port))) => (ip, port).into(),
            (Some(Protocol::Ip6(ip)), Some(Protocol::Udp(port))) => (ip, port).into(),
            _ => panic!("{listen_addr}"),
        }
    }

    async fn event(&self) -> Event {
        self.stun.events.recv().await.expect("the driver runs")
    }

    /// The next verdict of a family.
    async fn verdict(&self, family: Family) -> Verdict {
        loop {
            match self.event().await {
                Event::Verdict(verdict) if verdict.family == family => return *verdict,
                _ => {}
            }
        }
    }
}

fn loopback(last: u8, port: u16) -> SocketAddr {
    ([127, 0, 0, last], port).into()
}

fn asking(servers: &[String]) -> Config {
    Config {
        servers: servers.iter().map(|name| name.parse().expect("a server")).collect(),
        ..Config::default()
    }
}

/// Two ports that are free on 127.0.0.1 and 127.0.0.2.
fn free_ports() -> [u16; 2] {
    let mut ports = Vec::new();
    // Held until both are found.
    let mut held = Vec::new();
    while ports.len() < 2 {
        let first = std::net::UdpSocket::bind(loopback(1, 0)).expect("a free port");
        let port = first.local_addr().expect("an address").port();
        if let Ok(second) = std::net::UdpSocket::bind(loopback(2, port)) {
            ports.push(port);
            held.push((first, second));
        }
    }
    [ports[0], ports[1]]
}

/// A node that serves on two addresses with two ports each, and its first socket.
async fn helper(executor: &LocalExecutor<'static>) -> (Node, SocketAddr) {
    let [port, other] = free_ports();
    let beside = vec![loopback(1, other), loopback(2, port), loopback(2, other)];
    let serve = Some(Serve { beside, seen: vec![] });
    let mut node = Node::new(executor, Config { serve, ..Config::default() });
    let addr = node.listen(loopback(1, port)).await;
    (node, addr)
}

/// Whether a client has asked, and believed each answer.
fn nothing_was_dropped(counters: &Counters) -> bool {
    counters.checks > 0 && *counters == Counters { checks: counters.checks, ..Counters::default() }
}

#[test]
fn two_nodes_find_that_there_is_nothing_between_them() {
    run(async |executor| {
        let (server, addr) = helper(executor).await;
        let mut client = Node::new(executor, asking(&[addr.to_string()]));
        let local = client.listen(loopback(1, 0)).await;
        assert_eq!(client.event().await, Event::External { addr: local, family: Family::V4 });
        let verdict = client.verdict(Family::V4).await;
        assert_eq!(
            (verdict.mapping, verdict.filtering),
            (Mapping::NoNat, Filtering::EndpointIndependent),
            "{verdict:?}"
        );
        assert_eq!(verdict.external, [local]);
        let (asked, answered) = (client.stun.counters().await, server.stun.counters().await);
        // The server, two tests of filtering, three addresses beside.
        assert_eq!(answered.expect("it runs").server.answered, 6);
        let asked = asked.expect("it runs").client;
        assert!(nothing_was_dropped(&asked), "{asked:?}");
    });
}

#[test]
fn a_wish_brings_the_verdict_again() {
    run(async |executor| {
        let (_server, addr) = helper(executor).await;
        let mut client = Node::new(executor, asking(&[addr.to_string()]));
        client.listen(loopback(1, 0)).await;
        let first = client.verdict(Family::V4).await;
        client.stun.wish_fresh();
        let second = client.verdict(Family::V4).await;
        assert!(first.agrees_with(&second));
    });
}

#[test]
fn a_second_port_is_better_than_nothing() {
    run(async |executor| {
        let [port, other] = free_ports();
        let serve = Some(Serve { beside: vec![loopback(1, other)], seen: vec![] });
        let mut server = Node::new(executor, Config { serve, ..Config::default() });
        server.listen(loopback(1, port)).await;
        let mut client = Node::new(executor, asking(&[loopback(1, port).to_string()]));
        client.listen(loopback(1, 0)).await;
        let verdict = client.verdict(Family::V4).await;
        assert_eq!((verdict.mapping, verdict.filtering), (Mapping::NoNat, Filtering::AddressDependent));
    });
}

#[test]
fn ipv6_has_a_verdict_of_its_own() {
    run(async |executor| {
        let v6 = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        if let Err(error) = std::net::UdpSocket::bind(v6(0)) {
            println!("skipped: no IPv6 here: {error}");
            return;
        }
        let serve = Some(Serve { beside: vec![v6(0)], seen: vec![] });
        let mut server = Node::new(executor, Config { serve, ..Config::default() });
        let addr = server.listen(v6(0)).await;
        let mut client = Node::new(executor, asking(&[addr.to_string()]));
        let local = client.listen(v6(0)).await;
        assert_eq!(client.event().await, Event::External { addr: local, family: Family::V6 });
        let verdict = client.verdict(Family::V6).await;
        assert_eq!((verdict.mapping, verdict.filtering), (Mapping::NoNat, Filtering::AddressDependent));
    });
}

#[test]
fn nothing_is_asked_before_there_is_a_socket() {
    run(async |executor| {
        let (server, addr) = helper(executor).await;
        let mut client = Node::new(executor, asking(&[addr.to_string()]));
        // Once this is answered the driver has had its first turn.
        client.stun.counters().await.expect("it runs");
        assert!(client.stun.events.is_empty());
        let local = client.listen("0.0.0.0:0".parse().expect("an address")).await;
        let Event::External { addr: external, .. } = client.event().await else { panic!("no address") };
        assert_eq!(external, loopback(1, local.port()), "the wildcard's address on this route");
        assert!(server.stun.counters().await.is_some());
    });
}

#[test]
#[cfg(feature = "dns")]
fn servers_have_names() {
    run(async |executor| {
        let (_server, addr) = helper(executor).await;
        let mut client = Node::new(executor, Config::default());
        client.listen(loopback(1, 0)).await;
        let name = format!("localhost:{}", addr.port()).parse().expect("a server");
        client.stun.set_servers(vec![name]);
        assert_eq!(client.verdict(Family::V4).await.mapping, Mapping::NoNat);
    });
}

#[test]
fn a_port_that_somebody_has_is_told() {
    run(async |_| {
        let taken = std::net::UdpSocket::bind(loopback(1, 0)).expect("a port");
        let addr = taken.local_addr().expect("an address");
        let (transport, _driver) = Transport::new(&Keypair::generate_ed25519()).expect("TLS");
        let serve = Some(Serve { beside: vec![addr], seen: vec![] });
        let refused = driver::new(transport.datagrams(Kind::Stun), Config { serve, ..Config::default() });
        let error = refused.err().expect("the port is taken").to_string();
        assert!(error.contains(&addr.to_string()), "{error}");
    });
}
