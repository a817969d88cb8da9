//! The signed envelope: what a warren message is on the wire, version 1.
//!
//! The data of a gossipsub message is a `Sealed` protobuf:
//!
//! ```proto
//! message Sealed {
//!   bytes content   = 1;  // an encoded Content
//!   bytes signature = 2;  // by the author's key, over "warren-envelope:" followed by `content`
//! }
//! message Content {
//!   uint32  version = 1;  // 1
//!   bytes   author  = 2;  // the author's public key as a libp2p PublicKey protobuf
//!   string  room    = 3;  // the topic, so that nobody can carry a message into another room
//!   string  nick    = 4;
//!   fixed64 time    = 5;  // hybrid logical clock: 48 bits of ms since 1970, 16 bits of count
//!   uint32  kind    = 6;  // 1 text, 2 action, 3 here, 4 gone
//!   string  text    = 7;  // for kinds 1 and 2
//!   repeated bytes addrs = 8;  // for kind 3: multiaddrs at which the author may be reached
//! }
//! ```
//!
//! The signature covers the bytes of `content` as they came, so it does not depend on how a protobuf library
//! writes things, and anyone can hand a message on later with its proof. `Sealed` itself has exactly one
//! valid encoding: fields in order, nothing else. So one message has one gossip id, SHA-256 of the data,
//! and a forged copy, having other bytes, has another id and cannot stand in the way of the true one.
//!
//! A kind that this version does not know is passed on and not shown; another version is neither.
//! Signatures are those of libp2p keys: ed25519 as in RFC 8032; secp256k1 as ECDSA over SHA-256 in DER, with the lower
//! of the two values of `s` that hold.

use libp2p::{
    Multiaddr, PeerId,
    identity::{Keypair, PublicKey, SigningError},
};
use prost::Message as _;

use super::{Nick, Room, clock::Timestamp};
use crate::limits;

/// A message as its author meant it. From [`open`], its signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who wrote it.
    pub author: PeerId,
    /// Where it belongs.
    pub room: Room,
    /// What the author wants to be called.
    pub nick: Nick,
    /// When, by the author's hybrid clock.
    pub time: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Something said.
    Text(String),
    /// Something done, shown as "nick text" (IRC's `/me`).
    Action(String),
    /// The author is in the room, and may be reached at these addresses: so a newcomer that knows one member
    /// gets to know the others.
    Here(Vec<Multiaddr>),
    /// The author leaves the room.
    Gone,
    /// A kind of a later version.
    Unknown(u32),
}

impl Body {
    /// Whether it is somebody's words, rather than news of who is there.
    pub fn is_said(&self) -> bool {
        matches!(self, Body::Text(_) | Body::Action(_))
    }
}

/// Why data is no envelope.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Longer than [`limits::ENVELOPE_BYTES`].
    #[error("{0} bytes are more than the {most} of an envelope", most = limits::ENVELOPE_BYTES)]
    Oversized(usize),
    /// Not in the form above.
    #[error("not an envelope: {0}")]
    Malformed(&'static str),
    /// A version that this program does not know.
    #[error("envelope version {0} is not known here")]
    Version(u32),
    /// The signature does not belong to the content and the author.
    #[error("the signature does not hold")]
    Forged,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sealed {
    #[prost(bytes = "vec", tag = "1")]
    content: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    author: Vec<u8>,
    #[prost(string, tag = "3")]
    room: String,
    #[prost(string, tag = "4")]
    nick: String,
    #[prost(fixed64, tag = "5")]
    time: u64,
    #[prost(uint32, tag = "6")]
    kind: u32,
    #[prost(string, tag = "7")]
    text: String,
    #[prost(bytes = "vec", repeated, tag = "8")]
    addrs: Vec<Vec<u8>>,
}

const VERSION: u32 = 1;
const DOMAIN: &[u8] = b"warren-envelope:";

/// Writes and signs a message of the owner of `key`. Texts longer than [`limits::TEXT_BYTES`] are for the
/// caller to refuse; here they would make an envelope that nobody opens.
pub fn seal(
    key: &Keypair,
    room: &Room,
    nick: &Nick,
    time: Timestamp,
    body: &Body,
) -> Result<Vec<u8>, SigningError> {
    let (kind, text, addrs) = match body {
        Body::Text(text) => (1, text.as_str(), &[][..]),
        Body::Action(text) => (2, text.as_str(), &[][..]),
        Body::Here(addrs) => (3, "", &addrs[..]),
        Body::Gone => (4, "", &[][..]),
        Body::Unknown(kind) => (*kind, "", &[][..]),
    };
    let content = Content {
        version: VERSION,
        author: key.public().encode_protobuf(),
        room: room.as_str().into(),
        nick: nick.as_str().into(),
        time: time.bits(),
        kind,
        text: text.into(),
        addrs: addrs.iter().take(limits::PRESENCE_ADDRESSES).map(Multiaddr::to_vec).collect(),
    }
    .encode_to_vec();
    let signature = key.sign(&signed_bytes(&content))?;
    Ok(Sealed { content, signature }.encode_to_vec())
}

/// A message whose signature nobody has looked at: anybody may have written it.
#[derive(Debug)]
pub struct Unproven {
    key: PublicKey,
    room: Room,
    nick: Nick,
    content: Content,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// Reads a message and checks its signature. Every byte string gives a message or an error.
pub fn open(data: &[u8]) -> Result<Envelope, OpenError> {
    read(data)?.prove()
}

/// Reads a message, and leaves its signature, which costs a router milliseconds, for later.
pub fn read(data: &[u8]) -> Result<Unproven, OpenError> {
    if data.len() > limits::ENVELOPE_BYTES {
        return Err(OpenError::Oversized(data.len()));
    }
    let sealed = Sealed::decode(data).map_err(|_| OpenError::Malformed("not a protobuf"))?;
    if sealed.encode_to_vec() != data {
        return Err(OpenError::Malformed("not the one valid encoding"));
    }
    let content =
        Content::decode(&*sealed.content).map_err(|_| OpenError::Malformed("content is not a protobuf"))?;
    if content.version != VERSION {
        return Err(OpenError::Version(content.version));
    }
    if content.author.len() > limits::KEY_BYTES || sealed.signature.len() > limits::SIGNATURE_BYTES {
        return Err(OpenError::Malformed("key or signature too long"));
    }
    let room = content.room.parse().map_err(|_| OpenError::Malformed("no valid room name"))?;
    let nick = content.nick.parse().map_err(|_| OpenError::Malformed("no valid nickname"))?;
    if content.text.len() > limits::TEXT_BYTES {
        return Err(OpenError::Malformed("text too long"));
    }
    let key = PublicKey::try_decode_protobuf(&content.author)
        .map_err(|_| OpenError::Malformed("no valid public key"))?;
    let (signed, signature) = (signed_bytes(&sealed.content), sealed.signature);
    Ok(Unproven { key, room, nick, content, signed, signature })
}

impl Unproven {
    /// Who is said to have written it.
    pub fn author(&self) -> PeerId {
        self.key.to_peer_id()
    }

    /// When that is said to have been.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_bits(self.content.time)
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`OpenError::Forged`].
    pub fn prove(self) -> Result<Envelope, OpenError> {
        if !self.key.verify(&self.signed, &self.signature) {
            return Err(OpenError::Forged);
        }
        let (author, time) = (self.author(), self.time());
        let Unproven { room, nick, content, .. } = self;
        let body = match content.kind {
            1 => Body::Text(content.text),
            2 => Body::Action(content.text),
            3 => Body::Here(addresses(content.addrs)),
            4 => Body::Gone,
            kind => Body::Unknown(kind),
        };
        Ok(Envelope { author, room, nick, time, body })
    }
}

/// The first few that are any.
fn addresses(encoded: Vec<Vec<u8>>) -> Vec<Multiaddr> {
    let short = encoded.into_iter().filter(|addr| addr.len() <= limits::ADDRESS_BYTES);
    short.filter_map(|addr| Multiaddr::try_from(addr).ok()).take(limits::PRESENCE_ADDRESSES).collect()
}

fn signed_bytes(content: &[u8]) -> Vec<u8> {
    [DOMAIN, content].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> Keypair {
        Keypair::ed25519_from_bytes([seed; 32]).expect("32 bytes are a key")
    }

    fn sealed(body: &Body) -> Vec<u8> {
        let (room, nick) = ("lobby".parse().expect("valid"), "ada".parse().expect("valid"));
        seal(&key(1), &room, &nick, Timestamp::from_bits(0x0001_0203_0405_0607), body).expect("signs")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The test vector for other implementations: ed25519 key from 32 bytes of 0x01, room "lobby", nick
    /// "ada", time 0x0001020304050607, text "hi".
    #[test]
    fn test_vector() {
        let data = sealed(&Body::Text("hi".into()));
        assert_eq!(
            hex(&data),
            concat!(
                "0a430801122408011220",
                "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
                "1a056c6f6262792203616461290706050403020100",
                "30013a026869",
                "1240",
                "fd0f7b54f84e39bce1da268575a008f7d8bb442290e5cd99652b64005095c79e",
                "a2c7920e12680bff1d9be7158536cb804d824d1acba7ae47da6717b12b267800",
            )
        );
        let opened = open(&data).expect("opens");
        assert_eq!(opened.author, key(1).public().to_peer_id());
        assert_eq!(opened.body, Body::Text("hi".into()));
        assert_eq!(opened.time.bits(), 0x0001_0203_0405_0607);
    }

    #[test]
    fn both_kinds_of_key_sign() {
        let (room, nick) = ("r".parse().expect("valid"), "n".parse().expect("valid"));
        for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1()] {
            let data = seal(&key, &room, &nick, Timestamp::from_ms(7), &Body::Gone).expect("signs");
            assert_eq!(open(&data).map(|e| (e.author, e.body)), Ok((key.public().to_peer_id(), Body::Gone)));
        }
    }

    #[test]
    fn another_authors_signature_is_forged() {
        let (mine, theirs) = (sealed(&Body::Gone), {
            let (room, nick) = ("lobby".parse().expect("valid"), "ada".parse().expect("valid"));
            seal(&key(2), &room, &nick, Timestamp::from_ms(1), &Body::Gone).expect("signs")
        });
        let mut mixed = Sealed::decode(&*mine).expect("decodes");
        mixed.signature = Sealed::decode(&*theirs).expect("decodes").signature;
        assert_eq!(open(&mixed.encode_to_vec()), Err(OpenError::Forged));
    }

    #[test]
    fn a_later_kind_is_passed_on_and_a_later_version_is_not() {
        assert_eq!(open(&sealed(&Body::Unknown(99))).map(|e| e.body), Ok(Body::Unknown(99)));
        let mut later = Sealed::decode(&*sealed(&Body::Gone)).expect("decodes");
        let mut content = Content::decode(&*later.content).expect("decodes");
        content.version = 2;
        later.content = content.encode_to_vec();
        assert_eq!(open(&later.encode_to_vec()), Err(OpenError::Version(2)));
    }

    #[test]
    fn the_longest_text_fits_and_nothing_larger_is_looked_at() {
        let text = "x".repeat(limits::TEXT_BYTES);
        assert_eq!(open(&sealed(&Body::Text(text.clone()))).map(|e| e.body), Ok(Body::Text(text)));
        let huge = vec![0; limits::ENVELOPE_BYTES + 1];
        assert_eq!(open(&huge), Err(OpenError::Oversized(huge.len())));
    }

    #[test]
    fn addresses_come_along_as_far_as_they_are_any() {
        let addrs: Vec<Multiaddr> = (1..=limits::PRESENCE_ADDRESSES + 1)
            .map(|port| format!("/ip4/192.0.2.1/udp/{port}/quic-v1").parse().expect("valid"))
            .collect();
        let few = &addrs[..limits::PRESENCE_ADDRESSES];
        assert_eq!(open(&sealed(&Body::Here(addrs.clone()))).map(|e| e.body), Ok(Body::Here(few.to_vec())));
        let odd = vec![vec![0xff; 9], addrs[0].to_vec(), vec![4; limits::ADDRESS_BYTES + 1]];
        assert_eq!(addresses(odd), addrs[..1]);
    }

    #[test]
    fn a_second_encoding_of_the_same_message_is_malformed() {
        let mut data = sealed(&Body::Gone);
        data.extend([0x18, 0x00]); // an unknown field 3
        assert_eq!(open(&data), Err(OpenError::Malformed("not the one valid encoding")));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = open(&data);
        }

        #[test]
        fn what_is_sealed_opens(
            room in "[a-z#é]{1,30}", nick in "[A-Za-z]{1,30}", text in ".{0,200}", time: u64, action: bool,
        ) {
            let body = if action { Body::Action(text) } else { Body::Text(text) };
            let (room, nick): (Room, Nick) = (room.parse().expect("valid"), nick.parse().expect("valid"));
            let data = seal(&key(3), &room, &nick, Timestamp::from_bits(time), &body).expect("signs");
            let author = key(3).public().to_peer_id();
            prop_assert_eq!(open(&data), Ok(Envelope { author, room, nick, time: Timestamp::from_bits(time), body }));
        }

        #[test]
        fn a_flipped_bit_never_opens(text in ".{0,40}", bit: proptest::sample::Index) {
            let mut data = sealed(&Body::Text(text));
            let bit = bit.index(data.len() * 8);
            data[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&data).is_err());
        }

        #[test]
        fn a_cut_message_never_opens(text in ".{0,40}", at: proptest::sample::Index) {
            let data = sealed(&Body::Text(text));
            prop_assert!(open(&data[..at.index(data.len())]).is_err());
        }
    }
}
