//! What `bench/fuzz` reaches of the inside. No part of the interface; nothing here is used by the program.

use std::{net::SocketAddr, time::Instant};

use super::{
    Family,
    client::{Client, Depth, Event, Target},
    message,
    server::{Server, Socket},
    verdict::Evidence,
};
use crate::limits;

/// Gives a datagram to a client that has asked, as if from the server it asked, and to a server.
///
/// The first byte says how much of a valid message comes before the rest of `data`: without the right id and
/// checksum little would be reached.
///
/// # Panics
/// When one of them does: that is what it is for. And when an answer is longer than it may be.
pub fn datagram(data: &[u8]) {
    let Some((shape, rest)) = data.split_first() else { return };
    let now = Instant::now();
    let server_addr = SocketAddr::from(([198, 51, 100, 10], 3478));
    let local = SocketAddr::from(([192, 168, 1, 2], 4001));
    let mut client = Client::new([0; 32]);
    client.check(Family::V4, &[Target { server: server_addr, local }], Depth::Full, now);
    let request = client.poll_transmit().map(|transmit| transmit.bytes).unwrap_or_default();
    let Some(id) = request.get(8..20).and_then(|id| message::Id::try_from(id).ok()) else { return };
    let bytes = match shape % 4 {
        0 => rest.to_vec(),
        1 => message::framed(0x0101, id, rest, shape & 4 != 0),
        2 => message::framed(0x0111, id, rest, shape & 4 != 0),
        _ => message::framed(0x0001, id, rest, shape & 4 != 0),
    };
    client.handle_input(server_addr, &bytes, now);
    let mut evidence = Evidence::new(Family::V4);
    while let Some(event) = client.poll_event() {
        match event {
            Event::Observed(seen) => evidence.observe(seen),
            Event::Tested(test) => evidence.test(test),
            _ => {}
        }
    }
    // What was concluded can be shown.
    let _ = evidence.verdict(now).shown(now).to_string();
    let mut server = Server::new(now);
    let other = SocketAddr::from(([198, 51, 100, 11], 3479));
    server.set_sockets([server_addr, other].map(Socket::bound));
    if let Some(reply) = server.handle(local, server_addr, &bytes, now) {
        assert!(reply.bytes.len() <= limits::STUN_ANSWER_BYTES);
        assert!(server.handle(local, server_addr, &reply.bytes, now).is_none(), "an answer to an answer");
    }
}
