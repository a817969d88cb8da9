//! What things weigh on the wire.

use anyhow::{Result, anyhow};
use libp2p::Multiaddr;
use warren::rooms::clock::Timestamp;
use warren::rooms::envelope::{self, Body};
use warren::rooms::{Nick, Room};

/// Around one message of a stream in a packet of its own: IPv4 20, UDP 8, QUIC's short header with an ID of 8 bytes and a
/// number of 2 (11), its tag 16, the head of the stream frame 6; and a second packet for every other one that
/// acknowledges, of 28 + 27 + 6 = 61 bytes. Unit: bytes.
pub(crate) const PACKET: u64 = 61 + 61 / 2;

/// Of a message's ID. Unit: bytes: SHA-256.
const ID: u64 = 32;

/// A dial of a node of the DHT with one question or record, as `limits::DHT_PROVIDE_FIRST` has it: 60 kB for eight of
/// them. Other dials are counted likewise. Unit: bytes, both ways.
pub(crate) const DIAL: u64 = 60_000 / 8;

/// A question over a connection that is there, and an answer with 32 providers at two addresses. Unit: bytes, both ways.
pub(crate) const ANSWER: u64 = 2_400;

/// Bytes of what nodes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The gossipsub RPC with a text.
    pub(crate) text: u64,
    /// That with an announcement.
    pub(crate) here: u64,
    /// GRAFT or PRUNE.
    pub(crate) control: u64,
    topic: u64,
}

impl Sizes {
    /// Weighs real envelopes: a text of `size` bytes, and an announcement with four addresses.
    pub(crate) fn new(size: usize) -> Result<Self> {
        let key = warren::identity::from_seed(1);
        let room: Room = "study".parse().map_err(|e| anyhow!("{e:?}"))?;
        let nick: Nick = "node-1234".parse().map_err(|e| anyhow!("{e:?}"))?;
        let addrs: Vec<Multiaddr> = [
            "/ip4/192.0.2.7/udp/40321/quic-v1",
            "/ip4/192.0.2.7/tcp/40321",
            "/ip6/2001:db8:1:2:3:4:5:6/udp/40321/quic-v1",
            "/ip6/2001:db8:1:2:3:4:5:6/tcp/40321",
        ]
        .iter()
        .map(|addr| addr.parse())
        .collect::<std::result::Result<_, _>>()?;
        let time = Timestamp::from_ms(1_800_000_000_000);
        let topic = room.as_str().len() as u64;
        let rpc = |body: Body| -> Result<u64> {
            let data = envelope::seal(&key, &room, &nick, time, &body)?.len() as u64;
            // Length of the frame 2, publish 3, data 3, topic 2.
            Ok(data + topic + 10)
        };
        Ok(Sizes {
            text: rpc(Body::Text("x".repeat(size)))?,
            here: rpc(Body::Here(addrs))?,
            control: topic + 10,
            topic,
        })
    }

    /// An IHAVE or IWANT of so many IDs.
    pub(crate) fn ids(&self, count: usize) -> u64 {
        count as u64 * (ID + 2) + self.topic + 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_weighs_what_its_text_does_and_its_proof() {
        let (empty, long) = (Sizes::new(1).expect("signed"), Sizes::new(101).expect("signed"));
        assert!(long.text - empty.text >= 100 && long.text - empty.text <= 103, "{empty:?} {long:?}");
        assert!(empty.text > 37 + 64 && empty.here > empty.text + 4 * 8);
    }
}
