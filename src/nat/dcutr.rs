//! libp2p's *Direct Connection Upgrade through Relay*: over a relayed connection two peers tell each other where
//! they may be reached, and agree on the moment to dial.
//!
//! ```text
//!   B, who was reached through the relay        A, who reached it
//!     CONNECT, B's addresses ──────────────────▶
//!     ◀────────────────── CONNECT, A's addresses     (B measures the round trip)
//!     SYNC ────────────────────────────────────▶     A dials
//!     half a round trip later B dials, or opens its NAT
//! ```
//! Each message is a protobuf behind its length as a varint. Source: libp2p/specs, relay/DCUtR.md.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::io::{AsyncRead, AsyncWrite};
use futures_timer::Delay;
use libp2p::{Multiaddr, StreamProtocol};

use super::frame;
use crate::{limits, within::within};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/dcutr");

/// Why nothing was agreed upon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the peer sent a message of kind {0}, which is none of this protocol")]
    Kind(u32),
    #[error("the peer said {0} when it was not its turn")]
    Turn(&'static str),
    #[error("the peer has no address to dial")]
    NoAddresses,
    #[error("the peer took longer than {} s", limits::DCUTR_TIMEOUT.as_secs())]
    Late,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HolePunch {
    #[prost(uint32, required, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addrs: Vec<Vec<u8>>,
}

const CONNECT: u32 = 100;
const SYNC: u32 = 300;

/// B's part. Returns A's addresses at the moment to dial them.
///
/// # Errors
/// See [`Error`]. The stream is of no use then.
pub async fn initiate(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    own: &[Multiaddr],
) -> Result<Vec<Multiaddr>, Error> {
    let part = async {
        let mut stream = stream;
        write(&mut stream, CONNECT, own).await?;
        let sent = Instant::now();
        let addrs = read(&mut stream, CONNECT).await?;
        let round_trip = sent.elapsed();
        write(&mut stream, SYNC, &[]).await?;
        if addrs.is_empty() {
            return Err(Error::NoAddresses);
        }
        Delay::new(round_trip / 2).await;
        Ok(addrs)
    };
    within(limits::DCUTR_TIMEOUT, part).await.unwrap_or(Err(Error::Late))
}

/// A's part. Returns B's addresses at the moment to dial them.
///
/// # Errors
/// See [`Error`]. The stream is of no use then.
pub async fn respond(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    own: &[Multiaddr],
) -> Result<Vec<Multiaddr>, Error> {
    let part = async {
        let mut stream = stream;
        let addrs = read(&mut stream, CONNECT).await?;
        write(&mut stream, CONNECT, own).await?;
        read(&mut stream, SYNC).await?;
        if addrs.is_empty() { Err(Error::NoAddresses) } else { Ok(addrs) }
    };
    within(limits::DCUTR_TIMEOUT, part).await.unwrap_or(Err(Error::Late))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: u32, addrs: &[Multiaddr]) -> io::Result<()> {
    let addrs = addrs.iter().take(limits::DCUTR_ADDRESSES).map(Multiaddr::to_vec).collect();
    frame::write(stream, &HolePunch { kind, addrs }).await
}

/// Reads a message of this kind, and the addresses in it that are any.
async fn read(stream: &mut (impl AsyncRead + Unpin), kind: u32) -> Result<Vec<Multiaddr>, Error> {
    let message: HolePunch = frame::read(stream, limits::DCUTR_MESSAGE_BYTES).await?;
    match message.kind {
        known if known == kind => {}
        CONNECT => return Err(Error::Turn("CONNECT")),
        SYNC => return Err(Error::Turn("SYNC")),
        other => return Err(Error::Kind(other)),
    }
    let short = message.addrs.into_iter().filter(|addr| addr.len() <= limits::ADDRESS_BYTES);
    let addrs = short.filter_map(|addr| Multiaddr::try_from(addr).ok());
    Ok(addrs.take(limits::DCUTR_ADDRESSES).collect())
}

/// How long to wait before the next attempt at a direct connection; `None` when there is no use in more.
///
/// A study of the field (Trautwein and others, 2022) found that 97.6 % of those that succeed do so at the first
/// attempt, so the later ones come after time for something to change.
pub fn retry(attempts: u32) -> Option<Duration> {
    (attempts < limits::DCUTR_ATTEMPTS).then(|| limits::DCUTR_RETRY * 4u32.pow(attempts.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use futures::{future, io::Cursor};
    use proptest::prelude::*;

    use super::*;
    use crate::nat::frame::tests::{Loop, duplex};

    fn addrs(ports: std::ops::Range<u16>) -> Vec<Multiaddr> {
        ports.map(|port| format!("/ip4/192.0.2.1/udp/{port}/quic-v1").parse().expect("valid")).collect()
    }

    #[test]
    fn both_learn_where_the_other_is() {
        let (a, b) = duplex();
        let (of_a, of_b) = (addrs(1..3), addrs(7..8));
        let (at_b, at_a) = smol::block_on(future::join(initiate(b, &of_b), respond(a, &of_a)));
        assert_eq!((at_b.expect("agreed"), at_a.expect("agreed")), (of_a, of_b));
    }

    #[test]
    fn who_has_no_address_says_so_and_is_not_waited_for() {
        let (a, b) = duplex();
        let of_b = addrs(7..8);
        let (at_b, at_a) = smol::block_on(future::join(initiate(b, &of_b), respond(a, &[])));
        assert!(matches!(at_b, Err(Error::NoAddresses)), "{at_b:?}");
        assert_eq!(at_a.expect("agreed"), of_b);
    }

    #[test]
    fn addresses_are_bounded() {
        let (a, b) = duplex();
        let (many, one) = (addrs(1..1000), addrs(7..8));
        let (_, at_a) = smol::block_on(future::join(initiate(b, &many), respond(a, &one)));
        assert_eq!(at_a.expect("agreed").len(), limits::DCUTR_ADDRESSES);
    }

    /// From the specification's protobuf: field 1 as varint 100, field 2 as bytes, behind the length.
    #[test]
    fn the_message_is_that_of_the_specification() {
        let mut wire = Vec::new();
        let addr: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().expect("valid");
        smol::block_on(write(&mut wire, CONNECT, &[addr])).expect("writes");
        assert_eq!(wire, [12, 0x08, 100, 0x12, 8, 4, 192, 0, 2, 1, 6, 0, 1]);
        let mut wire = Vec::new();
        smol::block_on(write(&mut wire, SYNC, &[])).expect("writes");
        assert_eq!(wire, [3, 0x08, 0xac, 0x02]);
    }

    #[test]
    fn attempts_end() {
        let waits: Vec<Duration> = (1..).map_while(retry).collect();
        assert_eq!(waits.len() as u32, limits::DCUTR_ATTEMPTS - 1);
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_agreement_or_an_error(bytes: Vec<u8>) {
            let stream = Loop(Cursor::new(bytes));
            let _ = smol::block_on(respond(stream, &addrs(1..2)));
        }
    }
}
