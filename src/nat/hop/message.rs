//! The messages of circuit relay v2, as the relay reads and writes them.
//!
//! ```text
//!   HOP, who wants something ──▶ relay:   RESERVE, or CONNECT with the peer that is meant
//!   HOP, relay ──▶ who wants something:   STATUS, with the reservation or the limits of the circuit
//!   STOP, relay ──▶ who has a place here: CONNECT with the peer that comes
//!   STOP, and back:                       STATUS
//! ```
//! Each is a protobuf behind its length as a varint. Source: libp2p/specs, relay/circuit-v2.md.

use std::{
    io,
    time::{Duration, SystemTime},
};

use futures::io::AsyncRead;
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;

use super::places::Limits;
use crate::{
    limits,
    nat::{
        circuit::proto::{
            HOP_CONNECT, HOP_STATUS, Hop, Limit, Peer, RESERVE, Reservation, STOP_CONNECT, STOP_STATUS,
            Status, Stop,
        },
        frame,
    },
};

/// What a peer wants of the relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To be reached here, or to be reached here for longer.
    Reserve,
    /// To reach this peer.
    Connect(PeerId),
}

/// Reads a request.
///
/// # Errors
/// What to answer.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request, Status> {
    let message: Hop = read(stream).await.map_err(|_| Status::MALFORMED_MESSAGE)?;
    match (message.kind, message.peer) {
        (RESERVE, _) => Ok(Request::Reserve),
        (HOP_CONNECT, Some(peer)) => {
            let peer = PeerId::from_bytes(&peer.id).map_err(|_| Status::MALFORMED_MESSAGE)?;
            Ok(Request::Connect(peer))
        }
        (HOP_STATUS, _) => Err(Status::UNEXPECTED_MESSAGE),
        _ => Err(Status::MALFORMED_MESSAGE),
    }
}

/// Reads whether the peer takes the circuit.
pub(super) async fn read_taken(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let message: io::Result<Stop> = read(stream).await;
    message.is_ok_and(|message| message.kind == STOP_STATUS && message.status == Some(Status::OK.0))
}

/// The answer to [`Request::Reserve`]. `addrs`: where the relay is, each with its peer ID.
pub(super) fn reserved(addrs: impl Iterator<Item = Multiaddr>, lasts: Duration, limits: &Limits) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let reservation =
        Reservation { expire: (now + lasts).as_secs(), addrs: addrs.map(|addr| addr.to_vec()).collect() };
    hop(Status::OK, Some(reservation), Some(limit(limits)))
}

/// The answer to [`Request::Connect`] when the circuit is there.
pub(super) fn connected(limits: &Limits) -> Vec<u8> {
    hop(Status::OK, None, Some(limit(limits)))
}

pub(super) fn refused(status: Status) -> Vec<u8> {
    hop(status, None, None)
}

/// Tells who has a place here that `source` comes.
pub(super) fn comes(source: PeerId, limits: &Limits) -> Vec<u8> {
    let peer = Some(Peer { id: source.to_bytes() });
    let message = Stop { kind: STOP_CONNECT, peer, limit: Some(limit(limits)), status: None };
    message.encode_length_delimited_to_vec()
}

fn hop(status: Status, reservation: Option<Reservation>, limit: Option<Limit>) -> Vec<u8> {
    let message = Hop { kind: HOP_STATUS, peer: None, reservation, limit, status: Some(status.0) };
    message.encode_length_delimited_to_vec()
}

fn limit(limits: &Limits) -> Limit {
    let duration = u32::try_from(limits.circuit_time.as_secs()).unwrap_or(u32::MAX);
    Limit { duration: Some(duration), data: Some(limits.circuit_bytes) }
}

async fn read<T: prost::Message + Default>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    frame::read(stream, limits::CIRCUIT_MESSAGE_BYTES).await
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::*;

    fn request(wire: &[u8]) -> Result<Request, Status> {
        smol::block_on(read_request(&mut Cursor::new(wire)))
    }

    /// From the specification's protobuf: field 1 as a varint, field 2 a message whose field 1 is the peer.
    #[test]
    fn requests_are_those_of_the_specification() {
        assert_eq!(request(&[2, 0x08, 0]), Ok(Request::Reserve));
        let peer = PeerId::random();
        let id = peer.to_bytes();
        let length = id.len() as u8;
        let wire = [&[6 + length, 0x08, 1, 0x12, 2 + length, 0x0a, length][..], &id].concat();
        assert_eq!(request(&wire), Ok(Request::Connect(peer)));
        assert_eq!(request(&refused(Status::OK)), Err(Status::UNEXPECTED_MESSAGE));
        for bad in [&[][..], &[2, 0x08], &[2, 0x08, 9], &[2, 0x08, 1], &[0xff, 0x7f], &[3, 0xff, 0xff, 0xff]]
        {
            assert_eq!(request(bad), Err(Status::MALFORMED_MESSAGE), "{bad:?}");
        }
    }

    #[test]
    fn answers_are_those_of_the_specification() {
        let limits =
            Limits { circuit_time: Duration::from_secs(120), circuit_bytes: 300, ..Limits::default() };
        // Kind 2, limit {120 s, 300 bytes}, status 100.
        assert_eq!(connected(&limits), [11, 0x08, 2, 0x22, 5, 0x08, 120, 0x10, 0xac, 0x02, 0x28, 100]);
        assert_eq!(refused(Status::NO_RESERVATION), [5, 0x08, 2, 0x28, 0xcc, 0x01]);
        let addr: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().expect("valid");
        let wire = reserved([addr.clone()].into_iter(), Duration::from_secs(60), &limits);
        let answer = Hop::decode_length_delimited(&*wire).expect("ours");
        let reservation = answer.reservation.expect("one");
        assert_eq!(reservation.addrs, [addr.to_vec()]);
        assert!(reservation.expire > 1_700_000_000, "{}", reservation.expire);
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        let taken = |wire: &[u8]| smol::block_on(read_taken(&mut Cursor::new(wire)));
        assert!(taken(&[4, 0x08, 1, 0x20, 100]));
        assert!(!taken(&[5, 0x08, 1, 0x20, 0xca, 0x01]));
        assert!(!taken(&[4, 0x08, 0, 0x20, 100]) && !taken(&[]));
        assert!(!taken(&comes(PeerId::random(), &Limits::default())));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(wire: Vec<u8>) {
            let _ = request(&wire);
            let _ = smol::block_on(read_taken(&mut Cursor::new(&wire)));
        }
    }
}
