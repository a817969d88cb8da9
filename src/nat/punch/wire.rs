//! The messages of `/warren/punch/1.0.0`: each is a byte of length and so many bytes.
//!
//! ```text
//! hello: kind (1 steady, 2 sequential, 3 random), IPv4 address (4), port (2, big-endian),
//!        step (2, big-endian, signed), token (16)
//! go:    nothing
//! ```

use std::net::Ipv4Addr;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Error, Nat, Token};

/// What one side tells of its NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) nat: Nat,
    pub(super) token: Token,
}

const HELLO_BYTES: usize = 1 + 4 + 2 + 2 + 16;

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), hello: &Hello) -> Result<(), Error> {
    let (kind, ip, port, step) = match hello.nat {
        Nat::Steady { addr } => (1, *addr.ip(), addr.port(), 0),
        Nat::Sequential { last, step } => (2, *last.ip(), last.port(), step),
        Nat::Random { ip } => (3, ip, 0, 0),
    };
    let mut bytes = vec![HELLO_BYTES as u8, kind];
    bytes.extend(ip.octets());
    bytes.extend(port.to_be_bytes());
    bytes.extend(step.to_be_bytes());
    bytes.extend(hello.token);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, Error> {
    let mut bytes = [0; 1 + HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    let [length, kind, a, b, c, d, p0, p1, s0, s1, token @ ..] = bytes;
    let ip = Ipv4Addr::new(a, b, c, d);
    let (port, step) = (u16::from_be_bytes([p0, p1]), i16::from_be_bytes([s0, s1]));
    let nat = match (usize::from(length), kind) {
        (HELLO_BYTES, 1) if port != 0 => Nat::Steady { addr: std::net::SocketAddrV4::new(ip, port) },
        (HELLO_BYTES, 2) => Nat::Sequential { last: std::net::SocketAddrV4::new(ip, port), step },
        (HELLO_BYTES, 3) => Nat::Random { ip },
        _ => return Err(Error::Malformed),
    };
    Ok(Hello { nat, token })
}

pub(super) async fn write_go(stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
    stream.write_all(&[0]).await?;
    Ok(stream.flush().await?)
}

pub(super) async fn read_go(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Error> {
    let mut length = [0];
    stream.read_exact(&mut length).await?;
    if length == [0] { Ok(()) } else { Err(Error::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (ip, addr) = (Ipv4Addr::new(203, 0, 113, 9), "203.0.113.9:4001".parse().expect("valid"));
        for nat in [Nat::Steady { addr }, Nat::Sequential { last: addr, step: -3 }, Nat::Random { ip }] {
            let hello = Hello { nat, token: [7; 16] };
            let mut wire = Vec::new();
            smol::block_on(write(&mut wire, &hello)).expect("writes");
            assert_eq!(wire.len(), 1 + HELLO_BYTES);
            assert_eq!(smol::block_on(read(&mut &wire[..])).expect("reads"), hello);
        }
    }

    #[test]
    fn a_hello_in_bytes() {
        let nat = Nat::Sequential { last: "192.0.2.1:258".parse().expect("valid"), step: 2 };
        let mut wire = Vec::new();
        smol::block_on(write(&mut wire, &Hello { nat, token: [5; 16] })).expect("writes");
        assert_eq!(wire[..10], [25, 2, 192, 0, 2, 1, 1, 2, 0, 2]);
        assert_eq!(wire[10..], [5; 16]);
    }
}
