//! NAT Port Mapping Protocol (RFC 6886). No I/O.

use std::net::Ipv4Addr;

use super::Protocol;

/// Asks for the external address (section 3.2).
pub(super) const ADDRESS: [u8; 2] = [0, 0];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// To [`ADDRESS`]; also what a gateway announces after a restart (section 3.2.1).
    Address { epoch: u32, ip: Ipv4Addr },
    /// To [`map`]: the external port, and for how many seconds.
    Mapped { epoch: u32, protocol: Protocol, internal: u16, external: u16, lifetime: u32 },
    /// To a request of that number: not done, for a reason of section 3.5.
    Failed { opcode: u8, code: u16 },
}

const RESPONSE: u8 = 0x80;

/// The gateway has no address itself.
pub(super) const NETWORK_FAILURE: u16 = 3;
pub(super) const OUT_OF_RESOURCES: u16 = 4;

/// The number of a request.
pub(super) fn opcode(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Udp => 1,
        Protocol::Tcp => 2,
    }
}

/// Asks for a mapping (section 3.3). To delete it, lifetime and external port are 0 (section 3.4).
pub(super) fn map(protocol: Protocol, internal: u16, external: u16, lifetime: u32) -> Vec<u8> {
    let mut bytes = vec![0, opcode(protocol), 0, 0];
    bytes.extend(internal.to_be_bytes());
    bytes.extend(external.to_be_bytes());
    bytes.extend(lifetime.to_be_bytes());
    bytes
}

/// The name of a result code (section 3.5).
pub(super) fn name(code: u16) -> &'static str {
    match code {
        1 => "unsupported version",
        2 => "not authorized",
        3 => "network failure",
        4 => "out of resources",
        5 => "unsupported opcode",
        _ => "an unknown error",
    }
}

/// `None` for what is no response.
pub(super) fn decode(bytes: &[u8]) -> Option<Reply> {
    let (&[version, opcode, c0, c1], rest) = bytes.split_first_chunk()?;
    if version != 0 || opcode & RESPONSE == 0 {
        return None;
    }
    let (opcode, code) = (opcode & !RESPONSE, u16::from_be_bytes([c0, c1]));
    if code != 0 {
        return Some(Reply::Failed { opcode, code });
    }
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let epoch = u32::from_be_bytes(*epoch);
    let protocol = match opcode {
        0 => return Some(Reply::Address { epoch, ip: Ipv4Addr::from(*rest.first_chunk::<4>()?) }),
        1 => Protocol::Udp,
        2 => Protocol::Tcp,
        _ => return None,
    };
    let &[i0, i1, x0, x1, l0, l1, l2, l3] = rest.first_chunk()?;
    Some(Reply::Mapped {
        epoch,
        protocol,
        internal: u16::from_be_bytes([i0, i1]),
        external: u16::from_be_bytes([x0, x1]),
        lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_and_answers_are_laid_out_as_in_section_3() {
        assert_eq!(map(Protocol::Tcp, 80, 8080, 7200), [0, 2, 0, 0, 0, 80, 0x1f, 0x90, 0, 0, 0x1c, 0x20]);
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7];
        assert_eq!(decode(&address), Some(Reply::Address { epoch: 9, ip: [198, 51, 100, 7].into() }));
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0x0f, 0xa2, 0, 0, 0x1c, 0x20];
        let (protocol, internal, external) = (Protocol::Udp, 4001, 4002);
        let reply = Reply::Mapped { epoch: 9, protocol, internal, external, lifetime: 7200 };
        assert_eq!(decode(&mapped), Some(reply));
        assert_eq!(decode(&[0, 130, 0, 2]), Some(Reply::Failed { opcode: 2, code: 2 }));
        assert_eq!(decode(&map(Protocol::Udp, 1, 2, 3)), None, "our own request");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, opcode: u8) {
            let _ = decode(&bytes);
            let _ = decode(&[&[0, opcode, 0, 0], &bytes[..]].concat());
        }
    }
}
