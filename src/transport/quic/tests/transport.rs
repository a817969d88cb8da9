//! The transport over loopback: sockets, driver and libp2p's side of it.

use std::{io, net::UdpSocket, pin::Pin, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        Endpoint as Role,
        muxing::StreamMuxerExt,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};

use super::super::{Connection, Driver, Error, Event, Kind, Stream, Transport};
use crate::transport::{address, interfaces::Change};

const NEW: DialOpts = DialOpts { role: Role::Dialer, port_use: PortUse::New };
const REUSE: DialOpts = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
const PUNCH: DialOpts = DialOpts { role: Role::Listener, port_use: PortUse::Reuse };
const LOOPBACKS: [&str; 2] = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1"];

/// A binding request without attributes, RFC 8489, section 5.
const STUN: &[u8; 20] = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";

/// A transport with its driver running on a test's executor.
struct Node {
    transport: Transport,
    peer: PeerId,
    /// Dropping it stops the driver.
    driver: smol::Task<()>,
}

impl Node {
    fn new(executor: &smol::LocalExecutor<'_>) -> Self {
        let key = Keypair::generate_ed25519();
        let (transport, driver): (_, Driver) = Transport::new(&key).expect("TLS");
        Node { transport, peer: key.public().to_peer_id(), driver: executor.spawn(driver) }
    }

    /// A node that listens on one address.
    async fn listening(executor: &smol::LocalExecutor<'_>, addr: &str) -> (Self, Multiaddr) {
        let mut node = Node::new(executor);
        node.listen(addr);
        let addr = node.next_address().await;
        (node, addr)
    }

    fn listen(&mut self, addr: &str) -> ListenerId {
        let id = ListenerId::next();
        self.transport.listen_on(id, multiaddr(addr)).expect("the address is free");
        id
    }

    async fn next(&mut self) -> Event {
        poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await
    }

    async fn next_address(&mut self) -> Multiaddr {
        self.next().await.into_new_address().expect("a new address")
    }

    /// The next connection that comes in, with the address it came to and the one it came from.
    async fn accept(&mut self) -> (PeerId, Connection, Multiaddr, Multiaddr) {
        loop {
            if let TransportEvent::Incoming { upgrade, local_addr, send_back_addr, .. } = self.next().await {
                let (peer, connection) = upgrade.await.expect("a handshake");
                return (peer, connection, local_addr, send_back_addr);
            }
        }
    }

    async fn dial(&mut self, addr: &Multiaddr, opts: DialOpts) -> Result<(PeerId, Connection), Error> {
        self.transport.dial(addr.clone(), opts).expect("a dialable address").await
    }
}

/// Runs a test, or fails when it takes longer than any machine needs.
fn run<'a, F: Future<Output = ()>>(executor: &smol::LocalExecutor<'a>, test: F) {
    let late = async {
        Delay::new(Duration::from_secs(30)).await;
        panic!("the test does not come to its end");
    };
    smol::block_on(executor.run(smol::future::or(test, late)));
}

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn socket_addr(addr: &Multiaddr) -> std::net::SocketAddr {
    address::Endpoint::from_quic(addr).expect("a QUIC address").resolve().expect("no zone")
}

async fn open(connection: &mut Connection) -> Stream {
    poll_fn(|cx| connection.poll_outbound_unpin(cx)).await.expect("a stream")
}

async fn inbound(connection: &mut Connection) -> Stream {
    poll_fn(|cx| connection.poll_inbound_unpin(cx)).await.expect("a stream")
}

async fn close(mut connection: Connection) {
    poll_fn(|cx| connection.poll_close_unpin(cx)).await.expect("a close");
}

/// Why a connection ended.
async fn lost(connection: &mut Connection) -> Error {
    poll_fn(|cx| connection.poll_unpin(cx)).await.expect_err("nobody moves")
}

/// Writes a line from one end and reads it at the other.
async fn say(from: &mut Connection, to: &mut Connection, text: &str) {
    let mut stream = open(from).await;
    stream.write_all(text.as_bytes()).await.expect("room");
    stream.close().await.expect("an end");
    let mut heard = String::new();
    inbound(to).await.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, text);
}

#[test]
fn dialer_and_listener_talk_and_know_each_other() {
    for addr in LOOPBACKS {
        let executor = smol::LocalExecutor::new();
        run(&executor, async {
            let (mut server, addr) = Node::listening(&executor, addr).await;
            let mut client = Node::new(&executor);
            let (dialled, (peer, mut accepted, local, remote)) =
                futures::join!(client.dial(&addr, NEW), server.accept());
            let (dialled_peer, mut dialled) = dialled.expect("a connection");
            assert_eq!((dialled_peer, peer), (server.peer, client.peer));
            assert_eq!(local, addr);
            assert_eq!(socket_addr(&remote).ip(), socket_addr(&addr).ip());
            say(&mut dialled, &mut accepted, "there").await;
            say(&mut accepted, &mut dialled, "and back").await;
        });
    }
}

#[test]
fn much_data_gets_through_while_both_write() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut client = Node::new(&executor);
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, NEW), server.accept());
        let mut dialled = dialled.expect("a connection").1;
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 3) as u8).collect();
        let mut ours = open(&mut dialled).await;
        ours.write_all(&bytes[..1]).await.expect("room");
        let mut theirs = inbound(&mut accepted).await;
        let both = |stream: Stream, skip: usize, missing: usize| {
            let (mut reader, mut writer) = stream.split();
            let bytes = &bytes;
            async move {
                let write = async {
                    writer.write_all(&bytes[skip..]).await.expect("room");
                    writer.close().await.expect("an end");
                };
                let mut received = Vec::new();
                let (_, read) = futures::join!(write, reader.read_to_end(&mut received));
                read.expect("bytes");
                assert!(received == bytes[missing..]);
            }
        };
        theirs.read_exact(&mut [0]).await.expect("the first byte");
        futures::join!(both(ours, 1, 0), both(theirs, 0, 1));
    });
}

#[test]
fn a_wildcard_is_announced_as_concrete_addresses() {
    for addr in ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1"] {
        let executor = smol::LocalExecutor::new();
        run(&executor, async {
            let (mut server, addr) = Node::listening(&executor, addr).await;
            let target = address::Endpoint::from_quic(&addr).expect("a QUIC address");
            assert!(target.is_dialable(), "{addr}");
            let mut client = Node::new(&executor);
            let (dialled, (_, _, local, _)) = futures::join!(client.dial(&addr, NEW), server.accept());
            dialled.expect("a connection to the announced address");
            assert_eq!(local, addr, "the kernel tells what was dialled");
        });
    }
}

#[test]
fn without_a_watcher_wildcard_addresses_expire() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut node, addr) = Node::listening(&executor, "/ip4/0.0.0.0/udp/0/quic-v1").await;
        node.transport.listeners.events.clear();
        node.transport.listeners.on_change(Change::Lost(io::ErrorKind::BrokenPipe.into()));
        match node.next().await {
            TransportEvent::AddressExpired { listen_addr, .. } => assert_eq!(listen_addr, addr),
            other => panic!("unexpected event: {other:?}"),
        }
        let error = node.transport.listeners.events.pop_back();
        assert!(matches!(error, Some(TransportEvent::ListenerError { error: Error::Watch(_), .. })));
    });
}

#[test]
fn a_dial_comes_from_the_listening_port_if_it_may() {
    for addr in LOOPBACKS {
        let executor = smol::LocalExecutor::new();
        run(&executor, async {
            let (mut server, server_addr) = Node::listening(&executor, addr).await;
            let (mut client, client_addr) = Node::listening(&executor, addr).await;
            for (opts, is_same) in [(REUSE, true), (NEW, false)] {
                let (dialled, (.., remote)) =
                    futures::join!(client.dial(&server_addr, opts), server.accept());
                dialled.expect("a connection");
                assert_eq!(remote == client_addr, is_same, "{remote} and {client_addr}");
            }
        });
    }
}

#[test]
fn dials_without_a_listener_share_a_port() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut client = Node::new(&executor);
        let mut remotes = Vec::new();
        for _ in 0..2 {
            let (dialled, (.., remote)) = futures::join!(client.dial(&addr, REUSE), server.accept());
            dialled.expect("a connection");
            remotes.push(remote);
        }
        assert_eq!(remotes[0], remotes[1]);
    });
}

#[test]
fn a_hole_is_punched_from_the_listening_port_and_the_other_side_comes_through() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut dialler, dialler_addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let (mut puncher, puncher_addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let target = dialler_addr.clone().with(Protocol::P2p(dialler.peer));
        let punch = puncher.transport.dial(target, PUNCH).expect("a dialable address");
        let second = puncher.transport.dial(dialler_addr, PUNCH).expect("a dialable address");
        let reported = async { panic!("reported as well: {:?}", puncher.next().await) };
        let punch = async {
            let mut punch = punch;
            assert!(futures::poll!(&mut punch).is_pending());
            assert!(matches!(second.await, Err(Error::PunchUnderWay { .. })));
            punch.await
        };
        let punch = smol::future::or(punch, reported);
        let (punched, dialled) = futures::join!(punch, dialler.dial(&puncher_addr, REUSE));
        let ((punched_peer, mut punched), (dialled_peer, mut dialled)) =
            (punched.expect("a connection"), dialled.expect("a connection"));
        assert_eq!((punched_peer, dialled_peer), (dialler.peer, puncher.peer));
        say(&mut dialled, &mut punched, "through").await;
        say(&mut punched, &mut dialled, "the hole").await;
    });
}

#[test]
fn punching_sends_noise_from_the_listening_port() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut puncher, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let target = address::quic_multiaddr(peer.local_addr().expect("an address"));
        let mut punch = puncher.transport.dial(target, PUNCH).expect("a dialable address");
        assert!(futures::poll!(&mut punch).is_pending());
        let mut buf = [0; 100];
        let (len, from) = peer.recv_from(&mut buf).expect("noise");
        assert_eq!((len, from), (crate::limits::PUNCH_BYTES, socket_addr(&addr)));
        drop(punch);
        // The place is free again.
        let target = address::quic_multiaddr(peer.local_addr().expect("an address"));
        let mut punch = puncher.transport.dial(target, PUNCH).expect("a dialable address");
        assert!(futures::poll!(&mut punch).is_pending());
    });
}

#[test]
fn nobody_punches_without_a_listener() {
    let executor = smol::LocalExecutor::new();
    let refused = Node::new(&executor).transport.dial(multiaddr("/ip4/127.0.0.1/udp/9/quic-v1"), PUNCH).err();
    assert!(matches!(refused, Some(TransportError::Other(Error::NoListener { .. }))));
}

#[test]
fn stun_goes_to_whoever_asked_and_is_answered_from_the_same_port() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (node, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let addr = socket_addr(&addr);
        let stun = node.transport.datagrams(Kind::Stun);
        assert_eq!(stun.local_addrs(), [addr]);
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.send_to(STUN, addr).expect("sent");
        let datagram = stun.recv().await.expect("a datagram");
        assert_eq!((datagram.from, datagram.to), (client.local_addr().expect("an address"), addr));
        assert_eq!(datagram.bytes, STUN);
        stun.send_to(b"an answer", datagram.from).expect("sent");
        let mut buf = [0; 20];
        let (len, from) = client.recv_from(&mut buf).expect("an answer");
        assert_eq!((&buf[..len], from), (&b"an answer"[..], addr));
        let other_family = stun.send_to(b"to nobody", ([0u16; 8], 9).into()).expect_err("no IPv6 socket");
        assert_eq!(other_family.kind(), io::ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn somebody_else_at_the_address_is_refused() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let addr = addr.with(Protocol::P2p(PeerId::random()));
        let mut client = Node::new(&executor);
        let accept = async {
            loop {
                if let TransportEvent::Incoming { upgrade, .. } = server.next().await {
                    break upgrade.await;
                }
            }
        };
        let (dialled, accepted) = futures::join!(client.dial(&addr, NEW), accept);
        let error = dialled.expect_err("another peer").to_string();
        assert!(error.contains(&socket_addr(&addr.clone()).to_string()), "{error}");
        assert!(matches!(accepted, Err(Error::Handshake { .. })));
    });
}

#[test]
fn a_close_reaches_the_other_side() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut client = Node::new(&executor);
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, NEW), server.accept());
        close(dialled.expect("a connection").1).await;
        assert!(matches!(lost(&mut accepted).await, Error::Lost(_)));
        // Dropping is as good, if somebody runs the driver.
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, NEW), server.accept());
        drop(dialled);
        assert!(matches!(lost(&mut accepted).await, Error::Lost(_)));
    });
}

#[test]
fn the_driver_ends_after_the_last_connection() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut client = Node::new(&executor);
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, REUSE), server.accept());
        let mut dialled = dialled.expect("a connection").1;
        drop((client.transport, server.transport));
        say(&mut dialled, &mut accepted, "still here").await;
        close(dialled).await;
        drop(accepted);
        client.driver.await;
        server.driver.await;
    });
}

#[test]
fn a_removed_listener_says_goodbye_and_its_connections_stay() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let mut server = Node::new(&executor);
        let id = server.listen(LOOPBACKS[0]);
        let addr = server.next_address().await;
        let mut client = Node::new(&executor);
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, NEW), server.accept());
        let mut dialled = dialled.expect("a connection").1;
        assert!(server.transport.remove_listener(id));
        match server.next().await {
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                assert_eq!((listener_id, listen_addr), (id, addr.clone()));
            }
            other => panic!("unexpected event: {other:?}"),
        }
        match server.next().await {
            TransportEvent::ListenerClosed { listener_id, reason } => {
                assert_eq!(listener_id, id);
                reason.expect("closed because we wanted to");
            }
            other => panic!("unexpected event: {other:?}"),
        }
        assert!(!server.transport.remove_listener(id));
        say(&mut dialled, &mut accepted, "still here").await;
        // The port is ours while they live, so it can be listened on.
        server.listen(&addr.to_string());
        assert_eq!(server.next_address().await, addr);
        let (dialled, _) = futures::join!(client.dial(&addr, NEW), server.accept());
        dialled.expect("a connection");
    });
}

#[test]
fn without_its_driver_a_connection_is_lost() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut client = Node::new(&executor);
        let (dialled, _) = futures::join!(client.dial(&addr, REUSE), server.accept());
        let mut dialled = dialled.expect("a connection").1;
        let mut stream = open(&mut dialled).await;
        client.driver.cancel().await;
        assert!(matches!(lost(&mut dialled).await, Error::Lost(_)));
        assert!(stream.read(&mut [0]).await.is_err() && stream.write(&[0]).await.is_err());
        close(dialled).await;
        assert_eq!(stream.close().await.expect_err("gone").kind(), io::ErrorKind::NotConnected);
    });
}

#[test]
fn a_dial_whose_socket_has_ended_fails() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let mut client = Node::new(&executor);
        let id = client.listen(LOOPBACKS[0]);
        client.next_address().await;
        let dial = client.transport.dial(multiaddr("/ip4/127.0.0.1/udp/9/quic-v1"), REUSE).expect("dialable");
        client.transport.remove_listener(id);
        drop(client.transport);
        client.driver.await;
        assert!(matches!(dial.await, Err(Error::Dial { .. })));
    });
}

#[test]
fn two_transports_may_not_have_the_same_port() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (_first, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let mut second = Node::new(&executor);
        match second.transport.listen_on(ListenerId::next(), addr.clone()) {
            Err(TransportError::Other(Error::Listen { addr: named, source })) => {
                assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
                assert_eq!(named, socket_addr(&addr).to_string());
            }
            other => panic!("unexpected result: {other:?}"),
        }
    });
}

#[test]
fn a_listener_survives_garbage() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let mut noise = vec![0; 60_000];
        for n in 0..300 {
            fastrand::fill(&mut noise);
            stranger
                .send_to(&noise[..[0, 1, 30, 1200, 1500, 60_000][n % 6]], socket_addr(&addr))
                .expect("sent");
            stranger.send_to(STUN, socket_addr(&addr)).expect("sent");
        }
        let mut client = Node::new(&executor);
        let (dialled, (_, mut accepted, ..)) = futures::join!(client.dial(&addr, NEW), server.accept());
        say(&mut dialled.expect("a connection").1, &mut accepted, "hello").await;
        assert!(server.transport.dropped_datagrams() > 0);
    });
}

#[test]
fn a_closed_port_does_not_harm_the_others() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (mut server, addr) = Node::listening(&executor, LOOPBACKS[0]).await;
        let (mut client, _) = Node::listening(&executor, LOOPBACKS[0]).await;
        let closed = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port");
        let mut hopeless =
            client.transport.dial(address::quic_multiaddr(closed), REUSE).expect("a dialable address");
        assert!(futures::poll!(&mut hopeless).is_pending());
        let (dialled, _) = futures::join!(client.dial(&addr, REUSE), server.accept());
        dialled.expect("a connection, from the socket that got the ICMP error");
    });
}

#[test]
fn without_its_driver_a_transport_says_so() {
    let key = Keypair::generate_ed25519();
    let (mut transport, driver) = Transport::new(&key).expect("TLS");
    drop(driver);
    match transport.listen_on(ListenerId::next(), multiaddr(LOOPBACKS[0])) {
        Err(TransportError::Other(error)) => assert!(error.to_string().contains("driver"), "{error}"),
        other => panic!("unexpected result: {other:?}"),
    }
    match transport.dial(multiaddr("/ip4/127.0.0.1/udp/9/quic-v1"), REUSE).err() {
        Some(TransportError::Other(error)) => assert!(error.to_string().contains("driver"), "{error}"),
        other => panic!("unexpected result: {other:?}"),
    }
}

#[test]
fn addresses_of_other_transports_are_not_supported() {
    let executor = smol::LocalExecutor::new();
    let mut transport = Node::new(&executor).transport;
    for addr in ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/udp/1/quic"] {
        let addr = multiaddr(addr);
        let refused = transport.listen_on(ListenerId::next(), addr.clone());
        assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(a)) if a == addr));
        let refused = transport.dial(addr.clone(), NEW).err();
        assert!(matches!(refused, Some(TransportError::MultiaddrNotSupported(a)) if a == addr));
    }
    for addr in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::/udp/1/quic-v1", "/ip6/fe80::1/udp/1/quic-v1"] {
        let refused = transport.dial(multiaddr(addr), NEW).err();
        assert!(matches!(refused, Some(TransportError::MultiaddrNotSupported(_))), "{addr}");
    }
}

#[test]
fn the_swarm_can_own_it() {
    fn assert<T: Send + Unpin + 'static>() {}
    assert::<Transport>();
    assert::<Driver>();
    assert::<Connection>();
    assert::<Stream>();
}
