//! What two cores promise each other over links good and bad.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quinn_proto::ConnectionError;

use super::pair::*;
use crate::limits;

/// 300 kB: longer than a window, so that flow control is part of it.
fn text() -> Vec<u8> {
    (0..300_000u32).map(|n| (n * 7 / 5) as u8).collect()
}

#[test]
fn a_handshake_takes_one_round_trip_and_shows_who_is_there() {
    let mut pair = Pair::new(CLEAN, 1);
    let client = pair.connect();
    let server = pair.arrival();
    pair.until("the handshake", |pair| pair.client.is_connected(client));
    assert_eq!(pair.elapsed(), 2 * DELAY, "the client");
    pair.until("the handshake", |pair| pair.server.is_connected(server));
    assert_eq!(pair.elapsed(), 3 * DELAY, "the server, by the client's certificate");
    assert_eq!(pair.client.peer_of(client), pair.server.peer);
    assert_eq!(pair.server.peer_of(server), pair.client.peer);
}

#[test]
fn the_first_answer_comes_after_two_round_trips() {
    let mut pair = Pair::new(CLEAN, 1);
    let client = pair.connect();
    let server = pair.arrival();
    pair.until("the handshake", |pair| pair.client.is_connected(client));
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, b"ping").is_ready());
    let mut incoming = None;
    pair.until("a stream", |pair| {
        incoming = pair.server.accept(server);
        incoming.is_some()
    });
    let incoming = incoming.expect("just seen");
    assert!(pair.server.write(server, incoming, b"pong").is_ready());
    let mut buf = [0; 4];
    pair.until("an answer", |pair| pair.client.read(client, stream, &mut buf).is_ready());
    assert_eq!((&buf, pair.elapsed()), (b"pong", 4 * DELAY));
}

#[test]
fn bytes_arrive_whatever_the_link_does() {
    let wires = [
        CLEAN,
        Wire { loss: 0.05, ..CLEAN },
        Wire { reordering: 0.2, ..CLEAN },
        Wire { duplication: 0.2, ..CLEAN },
        Wire { corruption: 0.05, ..CLEAN },
        Wire { loss: 0.02, reordering: 0.1, duplication: 0.1, corruption: 0.02, ..CLEAN },
    ];
    for (seed, wire) in (1..).zip(wires) {
        for from in [End::Client, End::Server] {
            let (mut pair, client, server) = Pair::connected(wire.clone(), seed);
            let received = transfer(&mut pair, from, (client, server), &text());
            assert!(received == text(), "from the {from:?} over {wire:?}");
        }
    }
}

#[test]
fn a_peer_that_is_another_one_is_refused() {
    let mut pair = Pair::new(CLEAN, 1);
    let config = pair.client.setup.client(Some(pair.client.peer)).expect("TLS");
    let client = pair.client.core.connect(pair.now, config, pair.server.addr).expect("a connection");
    let server = pair.arrival();
    pair.until("the end", |pair| pair.client.lost(client).is_some() && pair.server.lost(server).is_some());
    assert!(matches!(pair.client.lost(client), Some(ConnectionError::TransportError(_))));
}

#[test]
fn a_dead_link_is_noticed_in_time() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    pair.pass(Duration::from_secs(60));
    pair.filter = |_| false;
    let cut = pair.now;
    pair.until("the end", |pair| pair.client.lost(client).is_some() && pair.server.lost(server).is_some());
    assert!(pair.now - cut <= limits::DEAD_LINK, "{:?}", pair.now - cut);
    assert_eq!(pair.client.lost(client), Some(ConnectionError::TimedOut));
    pair.client.core.release(client);
    pair.server.core.release(server);
    assert!(pair.client.core.is_empty() && pair.server.core.is_empty());
    assert_eq!((pair.client.core.poll_timeout(), pair.server.core.poll_timeout()), (None, None));
}

#[test]
fn an_idle_connection_keeps_the_nat_open() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    pair.recorded = Some(Vec::new());
    let minutes = 10;
    pair.pass(Duration::from_secs(minutes * 60));
    assert!(pair.client.is_connected(client) && pair.server.is_connected(server));
    let datagrams = pair.recorded.expect("asked for").len() as u64;
    let keep_alives = minutes * 60 / limits::QUIC_KEEP_ALIVE.as_secs();
    assert!(datagrams >= keep_alives && datagrams <= 3 * keep_alives, "{datagrams}");
}

#[test]
fn a_connection_survives_an_outage_of_half_the_idle_time() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    pair.pass(Duration::from_secs(30));
    pair.filter = |_| false;
    pair.pass(limits::QUIC_IDLE / 2);
    pair.filter = |_| true;
    pair.pass(Duration::from_secs(60));
    assert!(pair.client.is_connected(client) && pair.server.is_connected(server));
}

#[test]
fn a_client_that_moves_is_followed() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    assert_eq!(transfer(&mut pair, End::Client, (client, server), b"before"), b"before");
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let mut cx = Context::from_waker(&waker);
    let pending = pair.server.core.with(server, |link| link.poll_change(&mut cx)).expect("held").is_pending();
    assert!(pending);

    pair.client.addr = "198.51.100.7:2002".parse().expect("an address");
    pair.client.core.local_address_changed();
    let moved = pair.client.addr;
    pair.until("a move", |pair| pair.server.core.with(server, |link| link.remote()) == Some(moved));
    assert_eq!(wakes.count(), 1, "the muxer is told");
    for from in [End::Client, End::Server] {
        let received = transfer(&mut pair, from, (client, server), &text());
        assert!(received == text(), "from the {from:?}");
    }
}

#[test]
fn a_nat_that_changes_its_mapping_mid_stream_is_followed() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, &text()[..100_000]).is_ready());
    pair.pass(DELAY + DELAY / 2);
    // Nobody tells the client.
    pair.client.addr.set_port(5005);
    pair.client.finish(client, stream);
    let mut received: Vec<u8> = Vec::new();
    let incoming = pair.server.accept(server).expect("a stream");
    let mut buf = vec![0; 100_000];
    pair.until("the rest", |pair| match pair.server.read(server, incoming, &mut buf) {
        Poll::Ready(count) => {
            let count = count.expect("an open stream");
            received.extend(&buf[..count]);
            count == 0
        }
        Poll::Pending => false,
    });
    assert!(received == text()[..received.len()] && received.len() >= 10_000);
    assert_eq!(pair.server.core.with(server, |link| link.remote().port()), Some(5005));
}

#[test]
fn what_was_written_before_a_close_arrives() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, b"goodbye").is_ready());
    pair.client.close(client);
    pair.until("the end", |pair| pair.server.lost(server).is_some());
    assert!(matches!(pair.server.lost(server), Some(ConnectionError::ApplicationClosed(_))));
    let incoming = pair.server.accept(server).expect("a stream");
    let mut buf = [0; 20];
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(7))));
    assert_eq!(&buf[..7], b"goodbye");
    let read = pair.server.read(server, incoming, &mut buf);
    assert!(matches!(read, Poll::Ready(Err(_))), "then the loss is an error");
    pair.client.core.release(client);
    pair.server.core.release(server);
    pair.until("oblivion", |pair| pair.client.core.is_empty() && pair.server.core.is_empty());
}

#[test]
fn a_close_is_done_when_it_is_sent() {
    let (mut pair, client, _) = Pair::connected(CLEAN, 1);
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let mut cx = Context::from_waker(&waker);
    let mut close = |pair: &mut Pair| pair.client.core.with(client, |link| link.poll_close(&mut cx));
    assert!(close(&mut pair).expect("held").is_pending());
    pair.transmit();
    assert_eq!(wakes.count(), 1);
    assert!(close(&mut pair).expect("held").is_ready());
}

#[test]
fn a_restarted_peer_says_so_at_once() {
    let (mut pair, client, _) = Pair::connected(CLEAN, 1);
    pair.pass(Duration::from_secs(1));
    pair.server.restart();
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, &[0; 500]).is_ready());
    let before = pair.now;
    pair.until("the end", |pair| pair.client.lost(client).is_some());
    assert_eq!(pair.client.lost(client), Some(ConnectionError::Reset));
    assert_eq!(pair.now - before, 2 * DELAY);
}

#[test]
fn each_direction_of_a_stream_ends_by_itself() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, b"question").is_ready());
    pair.client.finish(client, stream);
    pair.pass(DELAY);
    let incoming = pair.server.accept(server).expect("a stream");
    let mut buf = [0; 20];
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(8))));
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(0))));
    assert!(pair.server.write(server, incoming, b"answer").is_ready());
    pair.server.finish(server, incoming);
    pair.pass(DELAY);
    assert!(matches!(pair.client.read(client, stream, &mut buf), Poll::Ready(Ok(6))));
    assert!(matches!(pair.client.read(client, stream, &mut buf), Poll::Ready(Ok(0))));
}

#[test]
fn the_last_word_in_a_stream_arrives_and_nobody_hears_an_answer() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    assert!(pair.client.write(client, stream, b"bye").is_ready());
    pair.client.core.with(client, |link| link.let_go(stream, true, true));
    pair.pass(DELAY);
    let incoming = pair.server.accept(server).expect("a stream");
    let mut buf = [0; 9];
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(3))));
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(0))));
    let Poll::Ready(Err(refused)) = pair.server.write(server, incoming, b"hello?") else { panic!("taken") };
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn streams_are_limited_and_come_back() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let streams: Vec<_> = (0..limits::QUIC_STREAMS).map(|_| pair.client.open(client)).collect();
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let mut cx = Context::from_waker(&waker);
    let one_more = pair.client.core.with(client, |link| link.poll_outbound(&mut cx)).expect("held");
    assert!(one_more.is_pending());
    // The peer gives leave for several at once: for less than an eighth it is not worth a packet.
    for stream in &streams[..8] {
        pair.client.core.with(client, |link| link.let_go(*stream, true, true));
    }
    pair.pass(DELAY);
    for _ in 0..8 {
        let incoming = pair.server.accept(server).expect("a stream");
        pair.server.core.with(server, |link| link.let_go(incoming, true, true));
    }
    pair.pass(10 * DELAY);
    assert_eq!(wakes.count(), 1);
    pair.client.open(client);
}

#[test]
fn a_stream_closed_after_nobody_reads_it_does_not_count_for_ever() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    for _ in 0..2 * limits::QUIC_STREAMS {
        let stream = pair.client.open(client);
        assert!(pair.client.write(client, stream, b"for nobody").is_ready());
        pair.pass(DELAY);
        let incoming = pair.server.accept(server).expect("a stream");
        pair.server.core.with(server, |link| link.let_go(incoming, true, true));
        pair.pass(2 * DELAY);
        pair.client.core.with(client, |link| link.finish(stream)).expect("held").expect("nobody minds");
        pair.client.core.with(client, |link| link.let_go(stream, true, false));
        pair.pass(2 * DELAY);
    }
}

#[test]
fn a_reader_and_a_writer_are_woken_once() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    let full = text().repeat(2);
    let mut written = 0;
    while let Poll::Ready(count) = pair.client.write(client, stream, &full[written..]) {
        written += count.expect("an open stream");
    }
    assert_eq!(written, limits::QUIC_STREAM_WINDOW as usize, "the peer's window");
    let [writer, reader] = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    let writers_waker = Arc::clone(&writer).into();
    let mut cx = Context::from_waker(&writers_waker);
    let polled = pair.client.core.with(client, |link| link.poll_write(stream, &mut cx, b"more"));
    assert!(polled.expect("held").is_pending());
    pair.pass(20 * DELAY);
    assert_eq!(writer.count(), 0, "nobody reads");

    let incoming = pair.server.accept(server).expect("a stream");
    let mut buf = vec![0; written];
    assert!(matches!(pair.server.read(server, incoming, &mut buf), Poll::Ready(Ok(n)) if n == written));
    let readers_waker = Arc::clone(&reader).into();
    let mut cx = Context::from_waker(&readers_waker);
    let polled = pair.server.core.with(server, |link| link.poll_read(incoming, &mut cx, &mut buf));
    assert!(polled.expect("held").is_pending());
    pair.pass(DELAY);
    assert_eq!((writer.count(), reader.count()), (1, 0));
    assert!(pair.client.write(client, stream, b"more").is_ready());
    pair.pass(DELAY);
    assert_eq!((writer.count(), reader.count()), (1, 1));
}

#[test]
fn a_lost_connection_wakes_everybody() {
    let (mut pair, client, server) = Pair::connected(CLEAN, 1);
    let stream = pair.client.open(client);
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let mut cx = Context::from_waker(&waker);
    pair.client.core.with(client, |link| {
        assert!(link.poll_read(stream, &mut cx, &mut [0; 9]).is_pending());
        assert!(link.poll_inbound(&mut cx).is_pending());
        assert!(link.poll_change(&mut cx).is_pending());
    });
    pair.server.core.release(server);
    pair.until("the end", |pair| pair.client.lost(client).is_some());
    assert_eq!(wakes.count(), 3);
}
