use std::{
    net::{Ipv6Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use libp2p::{Transport as _, core::Endpoint as Role, multiaddr::Protocol};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::transport::{address, interfaces::Change};

const NEW: DialOpts = DialOpts { role: Role::Dialer, port_use: PortUse::New };
const REUSE: DialOpts = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
const LOOPBACKS: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"];

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn listen(transport: &mut Transport, addr: &str) -> ListenerId {
    let id = ListenerId::next();
    transport.listen_on(id, multiaddr(addr)).expect("the address is free");
    id
}

async fn next(transport: &mut Transport) -> Event {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

async fn next_address(transport: &mut Transport) -> Multiaddr {
    next(transport).await.into_new_address().expect("a new address")
}

async fn next_connection(transport: &mut Transport) -> (Stream, Multiaddr, Multiaddr) {
    loop {
        if let TransportEvent::Incoming { upgrade, local_addr, send_back_addr, .. } = next(transport).await {
            return (upgrade.await.expect("an open connection"), local_addr, send_back_addr);
        }
    }
}

async fn dial(transport: &mut Transport, addr: &Multiaddr, opts: DialOpts) -> Result<Stream, Error> {
    transport.dial(addr.clone(), opts).expect("a dialable address").await
}

/// A transport that listens on one concrete address.
async fn listening(addr: &str) -> (Transport, Multiaddr) {
    let mut transport = Transport::default();
    listen(&mut transport, addr);
    let addr = next_address(&mut transport).await;
    (transport, addr)
}

/// Both ends of a connection between two transports.
async fn connected(addr: &str) -> (Stream, Stream) {
    let (mut server, addr) = listening(addr).await;
    let mut client = Transport::default();
    let (dialled, (accepted, ..)) =
        futures::join!(dial(&mut client, &addr, NEW), next_connection(&mut server));
    (dialled.expect("a connection"), accepted)
}

fn port(addr: &Multiaddr) -> u16 {
    Endpoint::from_tcp(addr).expect("a TCP address").port
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn dialer_and_listener_talk() {
    for addr in LOOPBACKS {
        smol::block_on(async {
            let (mut dialled, mut accepted) = connected(addr).await;
            let mut buf = [0; 3];
            dialled.write_all(&[1, 2, 3]).await.expect("room");
            accepted.read_exact(&mut buf).await.expect("three bytes");
            assert_eq!(buf, [1, 2, 3]);
            accepted.write_all(&[4, 5, 6]).await.expect("room");
            dialled.read_exact(&mut buf).await.expect("three bytes");
            assert_eq!(buf, [4, 5, 6]);
        });
    }
}

#[test]
fn both_ends_send_without_delay() {
    smol::block_on(async {
        let (dialled, accepted) = connected(LOOPBACKS[0]).await;
        assert!(dialled.get_ref().nodelay().expect("an option"));
        assert!(accepted.get_ref().nodelay().expect("an option"));
    });
}

#[test]
fn a_megabyte_passes_through_full_buffers() {
    smol::block_on(async {
        let (mut dialled, mut accepted) = connected(LOOPBACKS[0]).await;
        let sent: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        let write = async {
            // Two slices each time, so that vectored writes that take half of it are covered.
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (a, b) = rest.split_at(rest.len() / 2);
                let count = dialled.write_vectored(&[io::IoSlice::new(a), io::IoSlice::new(b)]).await;
                rest = &rest[count.expect("an open connection")..];
            }
            dialled.close().await.expect("an open connection");
        };
        let mut received = Vec::new();
        let (_, read) = futures::join!(write, accepted.read_to_end(&mut received));
        read.expect("an open connection");
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    });
}

#[test]
fn a_closed_connection_can_still_be_read() {
    smol::block_on(async {
        let (mut dialled, mut accepted) = connected(LOOPBACKS[0]).await;
        dialled.close().await.expect("an open connection");
        assert_eq!(accepted.read(&mut [0]).await.expect("the end"), 0);
        accepted.write_all(b"late").await.expect("room");
        drop(accepted);
        let mut text = String::new();
        dialled.read_to_string(&mut text).await.expect("text");
        assert_eq!(text, "late");
        dialled.close().await.expect("closing twice is harmless");
    });
}

#[test]
fn waiting_for_bytes_asks_the_kernel_once() {
    smol::block_on(async {
        let (_dialled, mut accepted) = connected(LOOPBACKS[0]).await;
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        let mut cx = Context::from_waker(&waker);
        let mut buf = [0; 8];
        for _ in 0..3 {
            let polled = futures::AsyncRead::poll_read(Pin::new(&mut accepted), &mut cx, &mut buf);
            assert!(polled.is_pending());
            assert!(!accepted.is_readable(), "the next poll must not read");
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "polling again must not wake the task");
    });
}

#[test]
fn a_wildcard_is_announced_as_concrete_addresses() {
    for addr in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"] {
        smol::block_on(async {
            let (mut server, addr) = listening(addr).await;
            let endpoint = Endpoint::from_tcp(&addr).expect("a TCP address");
            assert!(endpoint.is_dialable(), "{addr}");
            let mut client = Transport::default();
            let (dialled, _) = futures::join!(dial(&mut client, &addr, NEW), next_connection(&mut server));
            dialled.expect("a connection to the announced address");
        });
    }
}

#[test]
fn wildcard_listeners_share_what_is_known_about_interfaces() {
    smol::block_on(async {
        let mut transport = Transport::default();
        listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
        while next_address(&mut transport).await.iter().next() != Some(Protocol::Ip4([127, 0, 0, 1].into())) {
        }
        // The second one comes when the watcher has told its news already.
        let second = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
        loop {
            match next(&mut transport).await {
                TransportEvent::NewAddress { listener_id, listen_addr } if listener_id == second => {
                    if listen_addr.iter().next() == Some(Protocol::Ip4([127, 0, 0, 1].into())) {
                        break;
                    }
                }
                TransportEvent::NewAddress { .. } => {}
                other => panic!("unexpected event: {other:?}"),
            }
        }
    });
}

#[test]
fn without_a_watcher_wildcard_addresses_expire() {
    smol::block_on(async {
        let mut transport = Transport::default();
        let id = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
        let addr = next_address(&mut transport).await;
        transport.listeners.events.clear();
        transport.listeners.on_change(Change::Lost(io::ErrorKind::BrokenPipe.into()));
        match next(&mut transport).await {
            TransportEvent::AddressExpired { listen_addr, .. } => assert_eq!(listen_addr, addr),
            other => panic!("unexpected event: {other:?}"),
        }
        match transport.listeners.events.pop_back() {
            Some(TransportEvent::ListenerError { listener_id, error: Error::Watch(_) }) => {
                assert_eq!(listener_id, id);
            }
            other => panic!("unexpected event: {other:?}"),
        }
    });
}

#[test]
fn a_dial_may_come_from_the_listening_port() {
    for addr in LOOPBACKS {
        smol::block_on(async {
            let (mut server, server_addr) = listening(addr).await;
            let (mut client, client_addr) = listening(addr).await;
            let (dialled, (_, local, remote)) =
                futures::join!(dial(&mut client, &server_addr, REUSE), next_connection(&mut server));
            dialled.expect("a connection");
            assert_eq!(local, server_addr);
            assert_eq!(remote, client_addr);
        });
    }
}

#[test]
fn the_wildcard_port_is_reused_too() {
    smol::block_on(async {
        let (mut server, server_addr) = listening(LOOPBACKS[0]).await;
        let (mut client, client_addr) = listening("/ip4/0.0.0.0/tcp/0").await;
        let (dialled, (_, _, remote)) =
            futures::join!(dial(&mut client, &server_addr, REUSE), next_connection(&mut server));
        dialled.expect("a connection");
        assert_eq!(port(&remote), port(&client_addr));
    });
}

#[test]
fn a_second_connection_between_the_same_ports_gets_a_new_one() {
    smol::block_on(async {
        let (mut server, server_addr) = listening(LOOPBACKS[0]).await;
        let (mut client, client_addr) = listening(LOOPBACKS[0]).await;
        let mut ports = Vec::new();
        let mut connections = Vec::new();
        for _ in 0..2 {
            let (dialled, (accepted, _, remote)) =
                futures::join!(dial(&mut client, &server_addr, REUSE), next_connection(&mut server));
            connections.push((dialled.expect("a connection"), accepted));
            ports.push(port(&remote));
        }
        assert_eq!(ports[0], port(&client_addr));
        assert_ne!(ports[1], port(&client_addr));
    });
}

#[test]
fn a_dial_that_wants_a_new_port_gets_one() {
    smol::block_on(async {
        let (mut server, server_addr) = listening(LOOPBACKS[0]).await;
        let (mut client, client_addr) = listening(LOOPBACKS[0]).await;
        let (dialled, (_, _, remote)) =
            futures::join!(dial(&mut client, &server_addr, NEW), next_connection(&mut server));
        dialled.expect("a connection");
        assert_ne!(port(&remote), port(&client_addr));
    });
}

#[test]
fn reuse_without_a_listener_dials_from_a_new_port() {
    smol::block_on(async {
        let (mut server, server_addr) = listening(LOOPBACKS[0]).await;
        let mut client = Transport::default();
        let (dialled, _) =
            futures::join!(dial(&mut client, &server_addr, REUSE), next_connection(&mut server));
        dialled.expect("a connection");
    });
}

#[test]
fn one_transport_may_listen_twice_on_an_address() {
    smol::block_on(async {
        let (mut transport, addr) = listening(LOOPBACKS[0]).await;
        transport.listen_on(ListenerId::next(), addr.clone()).expect("our own port");
        assert_eq!(next_address(&mut transport).await, addr);
    });
}

#[test]
fn two_transports_may_not() {
    smol::block_on(async {
        let (_first, addr) = listening(LOOPBACKS[0]).await;
        let error = Transport::default().listen_on(ListenerId::next(), addr.clone()).expect_err("taken");
        let TransportError::Other(Error::Listen { addr: named, source }) = error else {
            panic!("unexpected error: {error:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(named, format!("127.0.0.1:{}", port(&addr)));
    });
}

#[test]
fn port_zero_becomes_a_real_port() {
    for addr in LOOPBACKS {
        let (_, addr) = smol::block_on(listening(addr));
        assert_ne!(port(&addr), 0);
    }
}

#[test]
fn both_families_may_have_the_same_port() {
    let both = || {
        let mut transport = Transport::default();
        listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
        let port = transport.listeners.iter().next().expect("a listener").bound.port();
        transport.listen_on(ListenerId::next(), multiaddr(&format!("/ip6/::/tcp/{port}"))).is_ok()
    };
    // Somebody else may have the port in the other family, but not ten times in a row.
    assert!((0..10).any(|_| both()));
}

#[test]
fn addresses_of_other_transports_are_not_supported() {
    let mut transport = Transport::default();
    for addr in ["/ip4/127.0.0.1/tcp/12345/tcp/12345", "/ip4/127.0.0.1/udp/1", "/dns4/localhost/tcp/1"] {
        let addr = multiaddr(addr);
        let refused = transport.listen_on(ListenerId::next(), addr.clone());
        assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(a)) if a == addr));
        let refused = transport.dial(addr.clone(), NEW).err();
        assert!(matches!(refused, Some(TransportError::MultiaddrNotSupported(a)) if a == addr));
    }
}

#[test]
fn addresses_that_name_no_peer_are_not_dialled() {
    for addr in ["/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip6/fe80::1/tcp/1"] {
        let refused = Transport::default().dial(multiaddr(addr), NEW).err();
        assert!(matches!(refused, Some(TransportError::MultiaddrNotSupported(_))), "{addr}");
    }
}

#[test]
fn the_peer_id_of_an_address_is_left_to_others() {
    smol::block_on(async {
        let (mut server, addr) = listening(LOOPBACKS[0]).await;
        let addr = addr.with(Protocol::P2p(libp2p::PeerId::random()));
        let mut client = Transport::default();
        let (dialled, _) = futures::join!(dial(&mut client, &addr, NEW), next_connection(&mut server));
        dialled.expect("a connection");
    });
}

#[test]
fn a_removed_listener_says_goodbye_and_frees_the_port() {
    smol::block_on(async {
        let mut transport = Transport::default();
        let id = listen(&mut transport, LOOPBACKS[0]);
        let addr = next_address(&mut transport).await;

        // The transport is idle when the listener is removed: its task has to be woken.
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        assert!(Pin::new(&mut transport).poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(transport.remove_listener(id));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);

        match next(&mut transport).await {
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                assert_eq!((listener_id, listen_addr), (id, addr.clone()));
            }
            other => panic!("unexpected event: {other:?}"),
        }
        match next(&mut transport).await {
            TransportEvent::ListenerClosed { listener_id, reason } => {
                assert_eq!(listener_id, id);
                reason.expect("closed because we wanted to");
            }
            other => panic!("unexpected event: {other:?}"),
        }
        assert!(!transport.remove_listener(id));
        TcpListener::bind(("127.0.0.1", port(&addr))).expect("a free port");
    });
}

#[test]
fn a_port_can_be_had_again_while_its_connections_live() {
    smol::block_on(async {
        let mut server = Transport::default();
        let id = listen(&mut server, LOOPBACKS[0]);
        let addr = next_address(&mut server).await;
        let mut client = Transport::default();
        let (_dialled, _accepted) =
            futures::join!(dial(&mut client, &addr, NEW), next_connection(&mut server));
        server.remove_listener(id);
        Transport::default().listen_on(ListenerId::next(), addr).expect("the port is free");
    });
}

#[test]
fn a_closed_port_is_an_error_that_names_it() {
    smol::block_on(async {
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let error = dial(&mut Transport::default(), &address::tcp_multiaddr(closed), NEW).await;
        let text = error.expect_err("nobody listens").to_string();
        assert!(text.starts_with(&format!("cannot connect to TCP {closed}: ")), "{text}");
    });
}

#[test]
fn a_silent_peer_is_given_up() {
    // A listener that never accepts: once its backlog is full, the kernel ignores further SYNs.
    let silent = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
    silent.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()).expect("a port");
    silent.listen(0).expect("a listener");
    let addr = silent.local_addr().expect("an address").as_socket().expect("an IP address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        waiting.push(stream);
    }

    smol::block_on(async {
        let dial_timeout = Duration::from_millis(100);
        let mut client = Transport::new(Config { dial_timeout, ..Config::default() });
        let error = dial(&mut client, &address::tcp_multiaddr(addr), NEW).await.expect_err("no answer");
        assert!(matches!(error, Error::DialTimeout { after, .. } if after == dial_timeout), "{error}");
    });
}

#[test]
fn a_socket_that_reached_itself_is_no_connection() {
    smol::block_on(async {
        let (mut transport, addr) = listening(LOOPBACKS[0]).await;
        // Source and destination are the same: the SYN meets the socket that sent it.
        match dial(&mut transport, &addr, REUSE).await {
            Err(Error::DialSelf { .. }) => {}
            other => panic!("unexpected result: {other:?}"),
        }
    });
}

#[test]
fn dialling_does_nothing_before_it_is_polled_and_stops_when_dropped() {
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let addr = address::tcp_multiaddr(listener.local_addr().expect("an address"));
        let mut client = Transport::default();

        let mut attempt = client.dial(addr, NEW).expect("a dialable address");
        let nobody = listener.accept().expect_err("not polled yet");
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);

        // On loopback the first poll is enough for the kernel to finish the handshake.
        let _ = futures::poll!(&mut attempt);
        let (mut accepted, _) = listener.accept().expect("a connection");
        drop(attempt);
        accepted.set_nonblocking(false).expect("an option");
        accepted.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        assert_eq!(io::Read::read(&mut accepted, &mut [0]).expect("the end of the stream"), 0);
    });
}

#[test]
fn a_busy_listener_does_not_starve_another() {
    smol::block_on(async {
        let mut transport = Transport::default();
        let busy = listen(&mut transport, LOOPBACKS[0]);
        let busy_addr = next_address(&mut transport).await;
        let quiet = listen(&mut transport, LOOPBACKS[0]);
        let quiet_addr = next_address(&mut transport).await;
        let socket = |addr: &Multiaddr| Endpoint::from_tcp(addr).expect("TCP").resolve().expect("no zone");
        let _clients: Vec<_> = [&busy_addr, &busy_addr, &busy_addr, &quiet_addr]
            .map(|addr| TcpStream::connect(socket(addr)).expect("a connection"))
            .into();
        let mut order = Vec::new();
        for _ in 0..4 {
            if let TransportEvent::Incoming { listener_id, .. } = next(&mut transport).await {
                order.push(listener_id);
            }
        }
        assert_eq!(order, [busy, quiet, busy, busy]);
    });
}

#[test]
fn the_swarm_can_own_it() {
    fn assert<T: Send + Unpin + 'static>() {}
    assert::<Transport>();
    assert::<Stream>();
    let _ = Transport::default().boxed();
}
