//! Binding requests and responses on the wire (RFC 8489, section 5; RFC 5780, section 7).
//!
//! `stun_codec` reads and writes the attributes. Three things are done here on the bytes themselves:
//! - FINGERPRINT: the crate compares the checksum of what it would have written, so that bits which it does not
//!   keep may be anything, and it allows attributes behind it.
//! - CHANGE-REQUEST: the crate's decoder looks at the wrong bits.
//! - the frame: what is not well-formed is refused before anything is allocated for it.

use std::net::SocketAddr;

use bytecodec::{DecodeExt, EncodeExt};
use stun_codec::{
    Message, MessageClass, MessageDecoder, MessageEncoder, TransactionId, define_attribute_enums,
    rfc5389::{
        attributes::{ErrorCode, MappedAddress, UnknownAttributes, XorMappedAddress},
        methods::BINDING,
    },
    rfc5780::attributes::{OtherAddress, ResponseOrigin},
};

use super::Change;
use crate::limits;

/// The 96 bits that belong to one question and its answer.
pub(super) type Id = [u8; 12];

const HEADER_BYTES: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const CHANGE_REQUEST: u16 = 0x0003;
const FINGERPRINT: u16 = 0x8028;
/// Bytes of a FINGERPRINT with its type and length.
const FINGERPRINT_BYTES: usize = 8;
/// "STUN", RFC 8489, section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// What servers of RFC 3489 add to a response, and RFC 8489 only reserves: SOURCE-ADDRESS, CHANGED-ADDRESS,
/// REFLECTED-FROM.
const OF_OLD_SERVERS: [u16; 3] = [0x0004, 0x0005, 0x000b];

define_attribute_enums!(
    Attribute,
    AttributeDecoder,
    AttributeEncoder,
    [XorMappedAddress, MappedAddress, ErrorCode, UnknownAttributes, ResponseOrigin, OtherAddress]
);

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No STUN, or an attribute that cannot be read.
    Form,
    /// The checksum is another, or not at the end.
    Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A message of the method Binding, or what is common to all if it is of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) class: Class,
    pub(super) is_binding: bool,
    pub(super) id: Id,
    /// XOR-MAPPED-ADDRESS, or from old servers MAPPED-ADDRESS: some routers rewrite the latter on its way.
    pub(super) mapped: Option<SocketAddr>,
    pub(super) origin: Option<SocketAddr>,
    pub(super) other: Option<SocketAddr>,
    pub(super) change: Option<Change>,
    pub(super) error: Option<u16>,
    pub(super) has_fingerprint: bool,
    /// Attributes that have to be understood and were not, the first [`limits::STUN_UNKNOWN`].
    pub(super) unknown: Vec<u16>,
}

/// What a success response says.
pub(super) struct Success {
    pub(super) id: Id,
    pub(super) mapped: SocketAddr,
    pub(super) origin: Option<SocketAddr>,
    pub(super) other: Option<SocketAddr>,
    pub(super) fingerprint: bool,
}

/// Whether a datagram claims to be a response: the high bit of the class, RFC 8489, section 5.
pub(super) fn is_response(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 1 == 1)
}

pub(super) fn read(bytes: &[u8]) -> Result<Binding, Flaw> {
    let frame = frame(bytes)?;
    let message = MessageDecoder::<Attribute>::new().decode_from_bytes(bytes);
    let message = message.map_err(|_| Flaw::Form)?.map_err(|_| Flaw::Form)?;
    let class = match message.class() {
        MessageClass::Request => Class::Request,
        MessageClass::Indication => Class::Indication,
        MessageClass::SuccessResponse => Class::Success,
        MessageClass::ErrorResponse => Class::Error,
    };
    let is_response = matches!(class, Class::Success | Class::Error);
    let unknown = message.unknown_attributes().map(|raw| stun_codec::Attribute::get_type(raw).as_u16());
    let unknown = unknown.filter(|kind| {
        let is_known = if is_response { OF_OLD_SERVERS.contains(kind) } else { *kind == CHANGE_REQUEST };
        *kind < 0x8000 && !is_known
    });
    let xor_mapped = message.get_attribute::<XorMappedAddress>().map(XorMappedAddress::address);
    let plain_mapped = || message.get_attribute::<MappedAddress>().map(MappedAddress::address);
    Ok(Binding {
        class,
        is_binding: message.method() == BINDING,
        id: *message.transaction_id().as_bytes(),
        mapped: xor_mapped.or_else(plain_mapped),
        origin: message.get_attribute::<ResponseOrigin>().map(ResponseOrigin::address),
        other: message.get_attribute::<OtherAddress>().map(OtherAddress::address),
        change: frame.change,
        error: message.get_attribute::<ErrorCode>().map(ErrorCode::code),
        has_fingerprint: frame.has_fingerprint,
        unknown: unknown.take(limits::STUN_UNKNOWN).collect(),
    })
}

/// A binding request, with a fingerprint. 28 bytes, or 36 with a change.
pub(super) fn request(id: Id, change: Option<Change>) -> Option<Vec<u8>> {
    let mut bytes = write(MessageClass::Request, id, vec![])?;
    if let Some(Change { ip, port }) = change {
        // RFC 5780, section 7.2: A is 4, B is 2.
        append(&mut bytes, CHANGE_REQUEST, u32::from(ip) << 2 | u32::from(port) << 1);
    }
    append_fingerprint(&mut bytes);
    Some(bytes)
}

/// The answer to a binding request.
pub(super) fn success(success: &Success) -> Option<Vec<u8>> {
    let mut attributes = vec![XorMappedAddress::new(success.mapped).into()];
    attributes.extend(success.origin.map(|addr| ResponseOrigin::new(addr).into()));
    attributes.extend(success.other.map(|addr| OtherAddress::new(addr).into()));
    let mut bytes = write(MessageClass::SuccessResponse, success.id, attributes)?;
    if success.fingerprint {
        append_fingerprint(&mut bytes);
    }
    Some(bytes)
}

/// Error 420: attributes that have to be understood and are not (RFC 8489, section 6.3.1).
pub(super) fn unknown_attributes(id: Id, unknown: &[u16], fingerprint: bool) -> Option<Vec<u8>> {
    // The phrase is for people. Without it the answer is shorter.
    let code = ErrorCode::new(420, String::new()).ok()?;
    let unknown = UnknownAttributes::new(unknown.iter().copied().map(Into::into).collect());
    let mut bytes = write(MessageClass::ErrorResponse, id, vec![code.into(), unknown.into()])?;
    if fingerprint {
        append_fingerprint(&mut bytes);
    }
    Some(bytes)
}

/// A message of any type with anything for attributes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn framed(kind: u16, id: Id, attributes: &[u8], fingerprint: bool) -> Vec<u8> {
    let length = attributes.len() as u16;
    let mut bytes = [&kind.to_be_bytes()[..], &length.to_be_bytes(), &COOKIE, &id, attributes].concat();
    if fingerprint {
        append_fingerprint(&mut bytes);
    }
    bytes
}

/// `None` does not happen: all that is written here is short and valid.
fn write(class: MessageClass, id: Id, attributes: Vec<Attribute>) -> Option<Vec<u8>> {
    let mut message = Message::new(class, BINDING, TransactionId::new(id));
    for attribute in attributes {
        message.add_attribute(attribute);
    }
    MessageEncoder::<Attribute>::new().encode_into_bytes(message).ok()
}

/// Adds an attribute of four bytes and corrects the length of the whole.
fn append(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    bytes.extend(kind.to_be_bytes().into_iter().chain([0, 4]).chain(value.to_be_bytes()));
    let length = (bytes.len() - HEADER_BYTES) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

fn append_fingerprint(bytes: &mut Vec<u8>) {
    append(bytes, FINGERPRINT, 0);
    let end = bytes.len() - FINGERPRINT_BYTES;
    let fingerprint = crc32(&bytes[..end]) ^ FINGERPRINT_XOR;
    bytes[end + 4..].copy_from_slice(&fingerprint.to_be_bytes());
}

/// What was found on the way through the attributes.
struct Frame {
    change: Option<Change>,
    has_fingerprint: bool,
}

/// Checks header, lengths and fingerprint.
fn frame(bytes: &[u8]) -> Result<Frame, Flaw> {
    let (header, mut rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(Flaw::Form)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_stun = header[0] & 0xc0 == 0 && header[4..8] == COOKIE && rest.len() == length;
    if !is_stun || bytes.len() > limits::SIDE_BYTES {
        return Err(Flaw::Form);
    }
    let mut frame = Frame { change: None, has_fingerprint: false };
    for _ in 0..limits::STUN_ATTRIBUTES {
        if rest.is_empty() {
            return Ok(frame);
        }
        let before = &bytes[..bytes.len() - rest.len()];
        let (head, tail) = rest.split_at_checked(4).ok_or(Flaw::Form)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (padded, tail) = tail.split_at_checked(length.next_multiple_of(4)).ok_or(Flaw::Form)?;
        rest = tail;
        let number = || padded[..length].try_into().map(u32::from_be_bytes).map_err(|_| Flaw::Form);
        match u16::from_be_bytes([head[0], head[1]]) {
            FINGERPRINT if !rest.is_empty() || number()? ^ FINGERPRINT_XOR != crc32(before) => {
                return Err(Flaw::Fingerprint);
            }
            FINGERPRINT => frame.has_fingerprint = true,
            // RFC 8489, section 14: of attributes that repeat, the first counts.
            CHANGE_REQUEST if frame.change.is_none() => {
                let flags = number()?;
                frame.change = Some(Change { ip: flags & 4 != 0, port: flags & 2 != 0 });
            }
            _ => {}
        }
    }
    if rest.is_empty() { Ok(frame) } else { Err(Flaw::Form) }
}

/// The CRC-32 of ITU V.42. Bit by bit: messages are short, and a table is 1 kB.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |c: u8| (c as char).to_digit(16).expect("hexadecimal") as u8;
        hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    const ID: Id = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    /// RFC 5769, section 2.1: SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY, FINGERPRINT.
    const SAMPLE_REQUEST: &str = "
        00010058 2112a442 b7e7a701bc34d686fa87dfae 80220010 5354554e207465737420636c69656e74 00240004 6e0001ff
        80290008 932ff9b151263b36 00060009 6576746a3a68367659202020
        00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf";

    /// RFC 5769, section 2.2: SOFTWARE, XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT.
    const SAMPLE_V4: &str = "
        0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 00200008 0001a147e112a643
        00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";

    /// RFC 5769, section 2.3.
    const SAMPLE_V6: &str = "
        01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220
        00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9 00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
        80280004 c8fb0b4c";

    #[test]
    fn the_sample_request_of_rfc_5769_is_read() {
        let message = read(&bytes(SAMPLE_REQUEST)).expect("valid");
        assert_eq!((message.class, message.is_binding, message.id), (Class::Request, true, ID));
        assert!(message.has_fingerprint);
        // PRIORITY, USERNAME and MESSAGE-INTEGRITY would have to be understood.
        assert_eq!(message.unknown, [0x0024, 0x0006, 0x0008]);
    }

    #[test]
    fn the_sample_responses_of_rfc_5769_are_read() {
        let samples =
            [(SAMPLE_V4, "192.0.2.1:32853"), (SAMPLE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")];
        for (sample, mapped) in samples {
            let message = read(&bytes(sample)).expect("valid");
            assert_eq!((message.class, message.id), (Class::Success, ID));
            assert_eq!(message.mapped, Some(mapped.parse().expect("an address")));
            assert!(message.has_fingerprint);
        }
    }

    #[test]
    fn the_samples_of_rfc_5769_end_in_our_fingerprints() {
        for sample in [SAMPLE_REQUEST, SAMPLE_V4, SAMPLE_V6].map(bytes) {
            let mut ours = sample[..sample.len() - FINGERPRINT_BYTES].to_vec();
            append_fingerprint(&mut ours);
            assert_eq!(ours, sample);
        }
    }

    #[test]
    fn a_change_has_the_bits_of_rfc_5780() {
        for (change, bits) in [(Change::BOTH, 6), (Change::PORT, 2), (Change { ip: true, port: false }, 4)] {
            let request = request(ID, Some(change)).expect("short");
            assert_eq!(request[20..28], [0, 3, 0, 4, 0, 0, 0, bits]);
            assert_eq!(read(&request).expect("valid").change, Some(change));
        }
    }

    #[test]
    fn old_servers_are_understood() {
        // MAPPED-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS.
        let old = bytes(
            "01010024 2112a442 b7e7a701bc34d686fa87dfae 00010008 00018055c0000201 00040008 00010d96c0000202
             00050008 00010d97c0000203",
        );
        let message = read(&old).expect("valid");
        assert_eq!(message.mapped, Some("192.0.2.1:32853".parse().expect("an address")));
        assert!(message.unknown.is_empty());
    }

    #[test]
    fn nothing_comes_after_a_fingerprint() {
        let mut request = request(ID, None).expect("short");
        append(&mut request, 0x8022, 0);
        assert_eq!(read(&request), Err(Flaw::Fingerprint));
    }

    #[test]
    fn attributes_are_bounded() {
        let mut many = write(MessageClass::Request, ID, vec![]).expect("short");
        for _ in 0..limits::STUN_ATTRIBUTES {
            append(&mut many, 0x7fff, 0);
        }
        assert_eq!(read(&many).expect("valid").unknown.len(), limits::STUN_UNKNOWN);
        append(&mut many, 0x7fff, 0);
        assert_eq!(read(&many), Err(Flaw::Form));
    }

    fn answer() -> Vec<u8> {
        let [mapped, origin, other] =
            ["192.0.2.1:1000", "192.0.2.2:3478", "192.0.2.3:3479"].map(|a| a.parse().expect("an address"));
        success(&Success { id: ID, mapped, origin: Some(origin), other: Some(other), fingerprint: true })
            .expect("short")
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_attributes_are_read(kinds in proptest::collection::vec((0..0x30u16, any::<bool>(), any::<Vec<u8>>()), 0..9)) {
            let mut attributes = Vec::new();
            for (kind, optional, value) in kinds {
                attributes.extend((kind | u16::from(optional) << 15).to_be_bytes());
                attributes.extend((value.len() as u16).to_be_bytes());
                attributes.extend(&value);
                attributes.resize(attributes.len().next_multiple_of(4), 0);
            }
            for fingerprint in [false, true] {
                let _ = read(&framed(0x0101, ID, &attributes, fingerprint));
            }
        }

        #[test]
        fn what_is_cut_is_refused(cut in 0..100usize) {
            let answer = answer();
            prop_assert!(read(&answer[..cut.min(answer.len() - 1)]).is_err());
        }

        /// The type and length of the fingerprint itself are not covered by it; but then it is no fingerprint.
        #[test]
        fn a_flipped_bit_breaks_the_fingerprint(bit in 0..72 * 8usize) {
            let mut bytes = answer();
            let whole = read(&bytes).expect("valid");
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = read(&bytes) {
                prop_assert!((bytes.len() - 8..bytes.len() - 4).contains(&(bit / 8)), "bit {bit}");
                let unknown = read.unknown.clone();
                prop_assert_eq!(read, Binding { has_fingerprint: false, unknown, ..whole });
            }
        }
    }
}
