//! The messages, and what is said with them. Each function has its part of one stream.

use std::time::{Duration, SystemTime};

use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId};

use super::{
    Error,
    proto::{HOP_CONNECT, HOP_STATUS, Hop, Peer, RESERVE, STOP_CONNECT, STOP_STATUS, Status, Stop},
};
use crate::{limits, nat::frame};

/// A place at a relay.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// Where the relay says that it is, without peer IDs at the end.
    pub(super) addrs: Vec<Multiaddr>,
    /// How long it lasts, if the clocks of both ends agree well enough for that to make sense.
    pub(super) lifetime: Option<Duration>,
}

/// Asks for a place.
///
/// # Errors
/// See [`Error`]. The stream is of no use then, nor is it afterwards.
pub(super) async fn reserve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    clock: impl Fn() -> SystemTime,
) -> Result<Place, Error> {
    frame::write(&mut stream, &Hop { kind: RESERVE, ..Hop::default() }).await?;
    let answer = answer(&mut stream).await?;
    let reservation = answer.reservation.ok_or(Error::Incomplete)?;
    // Whether the relay has closed its side already does not matter any more.
    let _ = stream.close().await;
    if let Some(limit) = answer.limit {
        log::debug!("circuits through this relay are limited: {limit:?}");
    }
    let short = reservation.addrs.into_iter().filter(|addr| addr.len() <= limits::ADDRESS_BYTES);
    let addrs = short.filter_map(|addr| Multiaddr::try_from(addr).ok());
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(reservation.expire));
    let lifetime = expires.and_then(|at| at.duration_since(clock()).ok());
    Ok(Place {
        addrs: addrs.take(limits::RELAY_ADDRESSES).collect(),
        lifetime: lifetime.filter(|lifetime| limits::RELAY_LIFETIMES.contains(lifetime)),
    })
}

/// Asks for a circuit to a peer. The stream is the circuit then.
///
/// # Errors
/// See [`Error`].
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    peer: PeerId,
) -> Result<(), Error> {
    let peer = Some(Peer { id: peer.to_bytes() });
    frame::write(stream, &Hop { kind: HOP_CONNECT, peer, ..Hop::default() }).await?;
    answer(stream).await.map(drop)
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hop, Error> {
    let answer: Hop = frame::read(stream, limits::CIRCUIT_MESSAGE_BYTES).await?;
    match (answer.kind, answer.status.map(Status)) {
        (HOP_STATUS, Some(Status::OK)) => Ok(answer),
        (HOP_STATUS, Some(status)) => Err(Error::Refused(status)),
        (HOP_STATUS, None) => Err(Error::Incomplete),
        (kind, _) => Err(Error::Turn(kind)),
    }
}

/// Takes a circuit that a relay brings, if `is_welcome`. Returns who is at the other end; the stream is the circuit then.
///
/// # Errors
/// See [`Error`]; the relay was told.
pub(super) async fn accept(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    is_welcome: bool,
) -> Result<PeerId, Error> {
    let request: Stop = frame::read(stream, limits::CIRCUIT_MESSAGE_BYTES).await?;
    let peer = request.peer.and_then(|peer| PeerId::from_bytes(&peer.id).ok());
    let (status, result) = match (request.kind, peer) {
        (STOP_CONNECT, Some(peer)) if is_welcome => (Status::OK, Ok(peer)),
        (STOP_CONNECT, Some(_)) => {
            (Status::PERMISSION_DENIED, Err(Error::Refused(Status::PERMISSION_DENIED)))
        }
        (STOP_CONNECT, None) => (Status::MALFORMED_MESSAGE, Err(Error::Incomplete)),
        (kind, _) => (Status::MALFORMED_MESSAGE, Err(Error::Turn(kind))),
    };
    frame::write(stream, &Stop { kind: STOP_STATUS, status: Some(status.0), ..Stop::default() }).await?;
    result
}

#[cfg(test)]
mod tests {
    use futures::{future, io::Cursor};
    use proptest::prelude::*;

    use super::{super::proto::Reservation, *};
    use crate::nat::frame::tests::{Loop, duplex};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn clock(at: Duration) -> impl Fn() -> SystemTime {
        move || SystemTime::UNIX_EPOCH + at
    }

    /// A relay that answers each request with this.
    async fn relay(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: Hop) -> Hop {
        let request = frame::read(stream, 4096).await.expect("a request");
        frame::write(stream, &answer).await.expect("an answer");
        request
    }

    fn granted(expire: u64, addrs: Vec<Vec<u8>>) -> Hop {
        let reservation = Some(Reservation { expire, addrs });
        Hop { kind: HOP_STATUS, status: Some(100), reservation, ..Hop::default() }
    }

    fn reserved(answer: Hop, at: Duration) -> Result<Place, Error> {
        let (ours, mut theirs) = duplex();
        let both = future::join(reserve(ours, clock(at)), relay(&mut theirs, answer));
        let (result, request) = smol::block_on(both);
        assert_eq!(request, Hop { kind: RESERVE, ..Hop::default() });
        result
    }

    #[test]
    fn a_place_is_asked_for() {
        let addr: Multiaddr = "/ip4/192.0.2.1/udp/4001/quic-v1".parse().expect("valid");
        let answer = granted((NOW.as_secs()) + 3600, vec![addr.to_vec(), b"none".to_vec()]);
        let place = reserved(answer, NOW).expect("granted");
        assert_eq!(place, Place { addrs: vec![addr], lifetime: Some(Duration::from_secs(3600)) });
    }

    #[test]
    fn no_clock_keeps_a_node_from_a_place() {
        let years = Duration::from_secs(10 * 365 * 24 * 3600);
        for at in [Duration::ZERO, NOW - years, NOW + years, NOW + Duration::from_secs(3601)] {
            let place = reserved(granted(NOW.as_secs() + 3600, Vec::new()), at).expect("granted");
            assert_eq!(place.lifetime, None, "{at:?}");
        }
        let place = reserved(granted(u64::MAX, Vec::new()), NOW).expect("granted");
        assert_eq!(place.lifetime, None);
    }

    #[test]
    fn a_refusal_says_why() {
        let refused = |status| Hop { kind: HOP_STATUS, status: Some(status), ..Hop::default() };
        let text = reserved(refused(201), NOW).expect_err("refused").to_string();
        assert_eq!(text, "the relay refuses: it has no place left");
        let text = reserved(refused(777), NOW).expect_err("refused").to_string();
        assert_eq!(text, "the relay refuses: status 777");
        let silent = Hop { kind: HOP_STATUS, ..Hop::default() };
        assert!(matches!(reserved(silent, NOW), Err(Error::Incomplete)));
        let asks = Hop { kind: RESERVE, ..Hop::default() };
        assert!(matches!(reserved(asks, NOW), Err(Error::Turn(RESERVE))));
        let nothing = Hop { kind: HOP_STATUS, status: Some(100), ..Hop::default() };
        assert!(matches!(reserved(nothing, NOW), Err(Error::Incomplete)));
    }

    #[test]
    fn what_comes_behind_the_answer_belongs_to_the_circuit() {
        use futures::io::AsyncReadExt;
        let (mut ours, mut theirs) = duplex();
        let peer = PeerId::random();
        let ok = Hop { kind: HOP_STATUS, status: Some(100), ..Hop::default() };
        let relay = async {
            let request = relay(&mut theirs, ok).await;
            theirs.write_all(b"hello").await.expect("writes");
            request
        };
        let (result, request) = smol::block_on(future::join(connect(&mut ours, peer), relay));
        result.expect("connected");
        assert_eq!((request.kind, request.peer), (HOP_CONNECT, Some(Peer { id: peer.to_bytes() })));
        let mut first = [0; 5];
        smol::block_on(ours.read_exact(&mut first)).expect("reads");
        assert_eq!(&first, b"hello");
    }

    #[test]
    fn circuits_come_to_who_has_a_place() {
        let peer = PeerId::random();
        let brought = |is_welcome: bool, kind: u32, peer: Option<Peer>| {
            let (mut ours, mut theirs) = duplex();
            let relay = async {
                let request = Stop { kind, peer, ..Stop::default() };
                frame::write(&mut theirs, &request).await.expect("writes");
                frame::read::<Stop>(&mut theirs, 4096).await.expect("an answer").status
            };
            smol::block_on(future::join(accept(&mut ours, is_welcome), relay))
        };
        let source = Some(Peer { id: peer.to_bytes() });
        let (from, status) = brought(true, STOP_CONNECT, source.clone());
        assert_eq!((from.expect("welcome"), status), (peer, Some(100)));
        assert_eq!(brought(false, STOP_CONNECT, source.clone()).1, Some(202));
        assert_eq!(brought(true, STOP_CONNECT, None).1, Some(400));
        assert_eq!(brought(true, STOP_CONNECT, Some(Peer { id: vec![1, 2] })).1, Some(400));
        assert_eq!(brought(true, STOP_STATUS, source).1, Some(400));
    }

    /// From the specification's protobuf.
    #[test]
    fn the_messages_are_those_of_the_specification() {
        let bytes = prost::Message::encode_to_vec;
        assert_eq!(bytes(&Hop { kind: RESERVE, ..Hop::default() }), [0x08, 0]);
        let peer = Some(Peer { id: vec![7] });
        assert_eq!(bytes(&Hop { kind: HOP_CONNECT, peer, ..Hop::default() }), [0x08, 1, 0x12, 3, 0x0a, 1, 7]);
        let status = Stop { kind: STOP_STATUS, status: Some(100), ..Stop::default() };
        assert_eq!(prost::Message::encode_to_vec(&status), [0x08, 1, 0x20, 100]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes: Vec<u8>) {
            let _ = smol::block_on(answer(&mut Cursor::new(&bytes)));
            let mut stream = Loop(Cursor::new(bytes));
            let _ = smol::block_on(accept(&mut stream, true));
        }
    }
}
