//! Port Control Protocol, version 2 (RFC 6887): the MAP opcode, and the announcement of a restart. No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Protocol;

/// The port of a gateway, by UDP; NAT-PMP has the same.
pub(super) const PORT: u16 = 5351;

/// Where gateways announce that they were restarted, to 224.0.0.1; NAT-PMP does it there too.
pub(super) const ANNOUNCEMENTS: u16 = 5350;

/// Proves that who changes a mapping is who made it.
pub(super) type Nonce = [u8; 12];

/// A request for a mapping. A lifetime of 0 deletes it.
pub(super) struct Map {
    pub(super) nonce: Nonce,
    pub(super) protocol: Protocol,
    pub(super) internal: u16,
    /// The external address that is wished for; unspecified and 0 if any will do.
    pub(super) external: SocketAddr,
    /// Unit: seconds.
    pub(super) lifetime: u32,
    /// Our address, which the gateway compares with where the request came from.
    pub(super) client: IpAddr,
}

/// The answer to a request for a mapping.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// 0 or what went wrong (section 7.4).
    pub(super) code: u8,
    /// How long the mapping or the error lasts. Unit: seconds.
    pub(super) lifetime: u32,
    pub(super) epoch: u32,
    pub(super) nonce: Nonce,
    pub(super) protocol: u8,
    pub(super) internal: u16,
    pub(super) external: SocketAddr,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Mapped(Mapped),
    /// The gateway was restarted so many seconds ago (section 14.1).
    Announced {
        epoch: u32,
    },
    /// It does not speak this version: it may be one of NAT-PMP (section 9, and RFC 6886, section 3.5).
    OtherVersion,
}

const VERSION: u8 = 2;
const RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// Longest message (section 7). Unit: bytes.
const LONGEST: usize = 1100;

pub(super) const UNSUPP_VERSION: u8 = 1;
pub(super) const NETWORK_FAILURE: u8 = 7;
pub(super) const NO_RESOURCES: u8 = 8;
pub(super) const UNSUPP_PROTOCOL: u8 = 9;
pub(super) const USER_EX_QUOTA: u8 = 10;
pub(super) const CANNOT_PROVIDE_EXTERNAL: u8 = 11;

/// The name of a result code (section 7.4).
pub(super) fn name(code: u8) -> &'static str {
    const NAMES: [&str; 14] = [
        "SUCCESS",
        "UNSUPP_VERSION",
        "NOT_AUTHORIZED",
        "MALFORMED_REQUEST",
        "UNSUPP_OPCODE",
        "UNSUPP_OPTION",
        "MALFORMED_OPTION",
        "NETWORK_FAILURE",
        "NO_RESOURCES",
        "UNSUPP_PROTOCOL",
        "USER_EX_QUOTA",
        "CANNOT_PROVIDE_EXTERNAL",
        "ADDRESS_MISMATCH",
        "EXCESSIVE_REMOTE_PEERS",
    ];
    NAMES.get(usize::from(code)).unwrap_or(&"an unknown error")
}

impl Map {
    /// Sections 7.1 and 11.1.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, MAP, 0, 0];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(octets(self.client));
        bytes.extend(self.nonce);
        bytes.extend([self.protocol.number(), 0, 0, 0]);
        bytes.extend(self.internal.to_be_bytes());
        bytes.extend(self.external.port().to_be_bytes());
        bytes.extend(octets(self.external.ip()));
        bytes
    }
}

/// Sections 7.2 and 11.1. `None` for what is no response.
pub(super) fn decode(bytes: &[u8]) -> Option<Reply> {
    let (&[version, opcode, ..], _) = bytes.split_first_chunk::<2>()?;
    if opcode & RESPONSE == 0 || bytes.len() > LONGEST {
        return None;
    }
    if version != VERSION {
        return Some(Reply::OtherVersion);
    }
    let (&[_, _, _, code, l0, l1, l2, l3, e0, e1, e2, e3], rest) = bytes.split_first_chunk()?;
    if code == UNSUPP_VERSION {
        return Some(Reply::OtherVersion);
    }
    let epoch = u32::from_be_bytes([e0, e1, e2, e3]);
    let rest = rest.get(12..)?;
    match opcode & !RESPONSE {
        ANNOUNCE => Some(Reply::Announced { epoch }),
        MAP => {
            let (nonce, rest) = rest.split_first_chunk::<12>()?;
            let (&[protocol, _, _, _, i0, i1, x0, x1], rest) = rest.split_first_chunk()?;
            let ip = Ipv6Addr::from(*rest.first_chunk::<16>()?);
            Some(Reply::Mapped(Mapped {
                code,
                lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
                epoch,
                nonce: *nonce,
                protocol,
                internal: u16::from_be_bytes([i0, i1]),
                external: (IpAddr::from(ip).to_canonical(), u16::from_be_bytes([x0, x1])).into(),
            }))
        }
        _ => None,
    }
}

/// IPv4 addresses travel as mapped ones (section 5).
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// "Any address" of the family of another (section 11.1).
pub(super) fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The answer of a gateway to a request, for tests.
#[cfg(test)]
pub(super) fn answer(request: &[u8], code: u8, epoch: u32, lifetime: u32, external: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, request[1] | RESPONSE, 0, code];
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(&request[24..42]);
    bytes.extend(external.port().to_be_bytes());
    bytes.extend(octets(external.ip()));
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Map {
        Map {
            nonce: *b"nonce-nonce!",
            protocol: Protocol::Udp,
            internal: 4001,
            external: ([0, 0, 0, 0], 4002).into(),
            lifetime: 3600,
            client: [192, 168, 1, 2].into(),
        }
    }

    #[test]
    fn a_request_is_laid_out_as_in_the_figures_2_and_9() {
        let bytes = request().encode();
        let mut expected = vec![2, 1, 0, 0, 0, 0, 0x0e, 0x10];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        expected.extend(b"nonce-nonce!");
        expected.extend([17, 0, 0, 0, 0x0f, 0xa1, 0x0f, 0xa2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!((bytes.len(), bytes), (60, expected));
    }

    #[test]
    fn an_answer_says_what_was_mapped() {
        let external = SocketAddr::from(([198, 51, 100, 7], 4002));
        let bytes = answer(&request().encode(), 0, 77, 1800, external);
        let mapped = Mapped {
            code: 0,
            lifetime: 1800,
            epoch: 77,
            nonce: *b"nonce-nonce!",
            protocol: 17,
            internal: 4001,
            external,
        };
        assert_eq!(decode(&bytes), Some(Reply::Mapped(mapped)));
        assert_eq!(decode(&request().encode()), None, "our own request");
    }

    #[test]
    fn another_version_is_told_by_either_protocol() {
        assert_eq!(decode(&[0, 128, 0, 1, 0, 0, 0, 9]), Some(Reply::OtherVersion), "NAT-PMP");
        let bytes = answer(&request().encode(), UNSUPP_VERSION, 0, 0, request().external);
        assert_eq!(decode(&bytes), Some(Reply::OtherVersion), "PCP");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, cut in 0usize..60) {
            let _ = decode(&bytes);
            let mut real = answer(&request().encode(), 0, 1, 2, request().external);
            real.truncate(cut);
            prop_assert!(!matches!(decode(&real), Some(Reply::Mapped(_))));
        }
    }
}
