use async_io::Timer;
use futures::future::poll_fn;
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerEvent, StreamMuxerExt},
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use warren::{
    limits,
    transport::quic::{Connection, Error, Transport},
};

use super::{ip, multiaddr, next, run_in_an_empty_network};

const REUSE: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };

#[test]
fn addresses_and_connections_follow_the_interfaces() {
    run_in_an_empty_network("quic::child");
}

/// ```text
///   client, 0.0.0.0:4002 ── from 10.99.0.1, then from 10.99.0.3 ──▶ server, 10.99.0.2:4001
/// ```
#[test]
#[ignore = "run by addresses_and_connections_follow_the_interfaces"]
fn child() {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        ip("link set lo up");
        ip("addr add 10.99.0.1/32 dev lo");
        ip("addr add 10.99.0.2/32 dev lo");
        ip("route replace local 10.99.0.2 dev lo table local src 10.99.0.1");
        let [mut server, mut client] = [(); 2].map(|()| {
            let (transport, driver) = Transport::new(&Keypair::generate_ed25519()).expect("TLS");
            executor.spawn(driver).detach();
            transport
        });
        let server_addr = multiaddr("/ip4/10.99.0.2/udp/4001/quic-v1");
        server.listen_on(ListenerId::next(), server_addr.clone()).expect("free");
        client.listen_on(ListenerId::next(), multiaddr("/ip4/0.0.0.0/udp/4002/quic-v1")).expect("free");
        let mut announced = Vec::new();
        while announced.len() < 3 {
            announced.push(next(&mut client).await.into_new_address().expect("an address"));
        }
        assert!(announced.contains(&multiaddr("/ip4/10.99.0.1/udp/4002/quic-v1")), "{announced:?}");

        let dial = client.dial(server_addr, REUSE).expect("a dialable address");
        let (dialled, (mut accepted, remote)) = futures::join!(dial, accept(&mut server));
        let _dialled = dialled.expect("a connection");
        assert_eq!(remote, multiaddr("/ip4/10.99.0.1/udp/4002/quic-v1"));

        ip("addr add 10.99.0.3/32 dev lo");
        ip("route replace local 10.99.0.2 dev lo table local src 10.99.0.3");
        ip("addr del 10.99.0.1/32 dev lo");
        let expired =
            async { while !matches!(next(&mut client).await, TransportEvent::AddressExpired { .. }) {} };
        let moved = poll_fn(|cx| accepted.poll_unpin(cx));
        // The next keep-alive would move the connection as well, and a silent one has just had its last.
        let late = async {
            Timer::after(limits::QUIC_KEEP_ALIVE / 2).await;
            panic!("nothing was sent when the address changed");
        };
        let moved = smol::future::or(moved, late);
        let (StreamMuxerEvent::AddressChange(moved), ()) =
            futures::join!(async { moved.await.expect("a live connection") }, expired);
        assert_eq!(moved, multiaddr("/ip4/10.99.0.3/udp/4002/quic-v1"));
    }));
}

#[test]
fn a_dial_that_leads_nowhere_fails_at_once() {
    run_in_an_empty_network("quic::lost_child");
}

#[test]
#[ignore = "run by a_dial_that_leads_nowhere_fails_at_once"]
fn lost_child() {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        ip("link set lo up");
        let (mut client, driver) = Transport::new(&Keypair::generate_ed25519()).expect("TLS");
        executor.spawn(driver).detach();
        // There is no route to it.
        let dial =
            client.dial(multiaddr("/ip4/203.0.113.1/udp/4001/quic-v1"), REUSE).expect("a dialable address");
        let refused = dial.await.expect_err("there is no way");
        assert!(matches!(refused, Error::Socket { .. }), "{refused}");
    }));
}

async fn accept(transport: &mut Transport) -> (Connection, Multiaddr) {
    loop {
        if let TransportEvent::Incoming { upgrade, send_back_addr, .. } = next(transport).await {
            return (upgrade.await.expect("a handshake").1, send_back_addr);
        }
    }
}
