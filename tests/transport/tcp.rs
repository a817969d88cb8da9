use std::{
    collections::BTreeSet,
    fs, io,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use async_io::Timer;
use futures::{AsyncReadExt, AsyncWriteExt, future::join_all};
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    multiaddr::Protocol,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use warren::{
    limits,
    transport::tcp::{Error, Stream, Transport},
};

use super::{ip, multiaddr, next, run_alone, run_in_an_empty_network};

#[test]
fn a_listener_survives_running_out_of_descriptors() {
    run_alone("tcp::child_without_descriptors");
}

#[test]
fn addresses_follow_the_interfaces() {
    run_in_an_empty_network("tcp::child_in_an_empty_network");
}

#[test]
fn a_connection_ends_when_its_link_is_cut() {
    run_in_an_empty_network("tcp::child_whose_link_is_cut");
}

/// One silent connection, one that is spoken to at once, and one at about the worst time, just before it
/// would end as a silent one.
#[test]
#[ignore = "run by a_connection_ends_when_its_link_is_cut"]
fn child_whose_link_is_cut() {
    smol::block_on(async {
        ip("link set lo up");
        let mut listener = Transport::default();
        listen(&mut listener, "/ip4/127.0.0.1/tcp/0");
        let addr = next_address(&mut listener).await;
        let mut pairs = Vec::new();
        for speak in [None, Some(Duration::ZERO), Some(limits::TCP_UNACKED)] {
            let dialled = dial_once_routed(&addr).await;
            let TransportEvent::Incoming { upgrade, .. } = next(&mut listener).await else {
                panic!("nobody")
            };
            pairs.push((dialled, upgrade.await.expect("an open connection"), speak));
        }
        ip("link set lo down");
        let cut = Instant::now();
        let ended =
            pairs.into_iter().flat_map(|(dialled, accepted, speak)| [(dialled, speak), (accepted, speak)]);
        join_all(ended.map(async |(mut stream, speak)| {
            if let Some(pause) = speak {
                Timer::after(pause).await;
                stream.write_all(b"anybody?").await.expect("place in the socket");
            }
            let error = stream.read(&mut [0; 1]).await.expect_err("the other end cannot have said anything");
            let noticed = cut.elapsed();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{speak:?}");
            assert!(noticed <= limits::DEAD_LINK, "spoken to after {speak:?}: noticed after {noticed:?}");
            println!("spoken to after {speak:?}: noticed after {noticed:?}");
        }))
        .await;
    });
}

#[test]
#[ignore = "run by a_listener_survives_running_out_of_descriptors"]
fn child_without_descriptors() {
    smol::block_on(async {
        let mut transport = Transport::default();
        let id = listen(&mut transport, "/ip4/127.0.0.1/tcp/0");
        let addr = socket_addr(&next_address(&mut transport).await);
        let _client = TcpStream::connect(addr).expect("a place in the backlog");

        let limits = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limits).expect("a lower limit");
        let mut hoard = Vec::new();
        let full = loop {
            match fs::File::open("/dev/null") {
                Ok(file) => hoard.push(file),
                Err(error) => break error,
            }
        };

        for attempt in ["the first", "after the pause"] {
            match next(&mut transport).await {
                TransportEvent::ListenerError { listener_id, error: Error::Accept { source, .. } } => {
                    assert_eq!(listener_id, id, "{attempt}");
                    assert_eq!(source.raw_os_error(), full.raw_os_error(), "{attempt}");
                }
                other => panic!("{attempt}: unexpected event: {other:?}"),
            }
        }
        hoard.clear();
        match next(&mut transport).await {
            TransportEvent::Incoming { listener_id, upgrade, .. } => {
                assert_eq!(listener_id, id);
                upgrade.await.expect("the connection that had to wait");
            }
            other => panic!("unexpected event: {other:?}"),
        }
    });
}

/// ```text
///   lo up ─▶ + 10.99.0.1/24 ─▶ + 10.99.0.1/32 ─▶ - 10.99.0.1/24 ─▶ - 10.99.0.1/32
///             announced         known already     still there       expired
/// ```
#[test]
#[ignore = "run by addresses_follow_the_interfaces"]
fn child_in_an_empty_network() {
    smol::block_on(async {
        let mut transport = Transport::default();
        let v4 = listen(&mut transport, "/ip4/0.0.0.0/tcp/4001");
        let v6 = listen(&mut transport, "/ip6/::/tcp/4001");

        ip("link set lo up");
        let announced =
            BTreeSet::from([next_address(&mut transport).await, next_address(&mut transport).await]);
        assert_eq!(announced, ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4001"].map(multiaddr).into());
        assert_eq!(netlink_sockets(), 1, "two listeners share one watcher");

        ip("addr add 10.99.0.1/24 dev lo");
        assert_eq!(next_address(&mut transport).await, multiaddr("/ip4/10.99.0.1/tcp/4001"));

        // The address stays as long as the machine has it at all.
        ip("addr add 10.99.0.1/32 dev lo");
        ip("addr del 10.99.0.1/24 dev lo");
        ip("-6 addr add 2001:db8::1/64 dev lo nodad");
        assert_eq!(next_address(&mut transport).await, multiaddr("/ip6/2001:db8::1/tcp/4001"));
        ip("addr del 10.99.0.1/32 dev lo");
        assert_eq!(next_expired(&mut transport).await, (v4, multiaddr("/ip4/10.99.0.1/tcp/4001")));

        // A link-local address is not announced, yet it works for those who know the link.
        ip("-6 addr add fe80::1/64 dev lo nodad");
        let zoned = multiaddr("/ip6zone/lo/ip6/fe80::1/tcp/4001");
        let _connection = dial_once_routed(&zoned).await;
        match next(&mut transport).await {
            TransportEvent::Incoming { listener_id, local_addr, .. } => {
                assert_eq!((listener_id, local_addr), (v6, zoned));
            }
            other => panic!("unexpected event: {other:?}"),
        }

        // Who comes later is told what is known already.
        let late = listen(&mut transport, "/ip4/0.0.0.0/tcp/4002");
        assert_eq!(next_address(&mut transport).await, multiaddr("/ip4/127.0.0.1/tcp/4002"));
        transport.remove_listener(late);
        assert_eq!(next_expired(&mut transport).await, (late, multiaddr("/ip4/127.0.0.1/tcp/4002")));
        assert!(matches!(next(&mut transport).await, TransportEvent::ListenerClosed { .. }));

        ip("-6 addr del 2001:db8::1/64 dev lo");
        assert_eq!(next_expired(&mut transport).await, (v6, multiaddr("/ip6/2001:db8::1/tcp/4001")));

        assert!(transport.remove_listener(v4));
        assert_eq!(netlink_sockets(), 1, "the other wildcard listener still needs it");
        assert!(transport.remove_listener(v6));
        assert_eq!(netlink_sockets(), 0, "nobody needs it any more");
    });
}

const NEW: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

/// Sockets of programs that talk to the kernel about interfaces, in this network namespace.
fn netlink_sockets() -> usize {
    const ROUTE: &str = "0";
    let table = fs::read_to_string("/proc/net/netlink").expect("a table");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1] == ROUTE && row[2] != "0").count()
}

fn socket_addr(addr: &Multiaddr) -> SocketAddr {
    match addr.iter().collect::<Vec<_>>()[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] => (ip, port).into(),
        _ => panic!("not an IPv4 address: {addr}"),
    }
}

fn listen(transport: &mut Transport, addr: &str) -> ListenerId {
    let id = ListenerId::next();
    transport.listen_on(id, multiaddr(addr)).expect("the address is free");
    id
}

/// Dials as soon as the kernel has made the routes of a new address, which it does a little later.
async fn dial_once_routed(addr: &Multiaddr) -> Stream {
    loop {
        match Transport::default().dial(addr.clone(), NEW).expect("a dialable address").await {
            Err(Error::Dial { source, .. }) if source.kind() == io::ErrorKind::NetworkUnreachable => {
                Timer::after(Duration::from_millis(10)).await;
            }
            result => return result.expect("a connection"),
        }
    }
}

async fn next_address(transport: &mut Transport) -> Multiaddr {
    match next(transport).await {
        TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
        other => panic!("not a new address: {other:?}"),
    }
}

async fn next_expired(transport: &mut Transport) -> (ListenerId, Multiaddr) {
    match next(transport).await {
        TransportEvent::AddressExpired { listener_id, listen_addr } => (listener_id, listen_addr),
        other => panic!("not an expired address: {other:?}"),
    }
}
