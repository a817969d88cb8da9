//! `/warren/witness/1.0.0`: a relay says whether it sees a peer at an IP address.
//!
//! A punch sends up to a thousand packets to where the peer says that it is, and the peer could name somebody whom it
//! wants to be hit. The relay between the two knows better: it is asked before, and only if the operator named it, for
//! any other may be the peer's friend. It tells those two alone, and no more than yes or no.
//!
//! ```text
//!   asker                                     relay
//!     1: the peer's ID, 2: an IP address ──▶
//!     ◀──────────────────────────── 1: seen
//! ```
//! Each message is a protobuf behind its length as a varint.

use std::{io, net::IpAddr};

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, StreamProtocol};

use super::frame;
use crate::{limits, within::within};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/warren/witness/1.0.0");

#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(bytes = "vec", required, tag = "1")]
    peer: Vec<u8>,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", required, tag = "2")]
    ip: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(bool, required, tag = "1")]
    seen: bool,
}

/// Asks whether the relay at the other end sees `peer` at `ip`.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::TimedOut`] after [`limits::WITNESS_TIMEOUT`].
pub async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: PeerId,
    ip: IpAddr,
) -> io::Result<bool> {
    let ip = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let part = async {
        frame::write(&mut stream, &Question { peer: peer.to_bytes(), ip }).await?;
        let answer: Answer = frame::read(&mut stream, limits::WITNESS_BYTES).await?;
        Ok(answer.seen)
    };
    within(limits::WITNESS_TIMEOUT, part).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Answers as `sees` does. `Ok(false)` is the answer to a question that makes no sense, too.
///
/// # Errors
/// As those of [`ask`].
pub async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    sees: impl FnOnce(PeerId, IpAddr) -> bool,
) -> io::Result<bool> {
    let part = async {
        let question: Question = frame::read(&mut stream, limits::WITNESS_BYTES).await?;
        let peer = PeerId::from_bytes(&question.peer).ok();
        let seen = peer.zip(ip(&question.ip)).is_some_and(|(peer, ip)| sees(peer, ip));
        frame::write(&mut stream, &Answer { seen }).await?;
        Ok(seen)
    };
    within(limits::WITNESS_TIMEOUT, part).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use futures::{future, io::Cursor};
    use proptest::prelude::*;

    use super::*;
    use crate::nat::frame::tests::{Loop, duplex};

    #[test]
    fn the_question_arrives_and_the_answer_comes_back() {
        let peer = PeerId::random();
        for ip in ["203.0.113.7", "2001:db8::7"] {
            let ip: IpAddr = ip.parse().expect("valid");
            for seen in [true, false] {
                let (a, b) = duplex();
                let judge = |of, at| {
                    assert_eq!((of, at), (peer, ip));
                    seen
                };
                let (asked, answered) = smol::block_on(future::join(ask(a, peer, ip), answer(b, judge)));
                assert_eq!((asked.expect("answered"), answered.expect("asked")), (seen, seen));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_an_error(bytes: Vec<u8>) {
            let _ = smol::block_on(answer(Loop(Cursor::new(bytes)), |_, _| true));
        }
    }
}
