//! A client of an MQTT 5 broker, as lean as it can be: it subscribes to one topic without its own messages (`No Local`),
//! publishes at QoS 0, and hands what it gets to an [`Ear`].

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::ear::Ear;
use super::verify::precede;

const TOPIC: &str = "study";

/// How long the broker may take to answer: several repetitions of a lost packet.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Longer than any message of a study. Unit: bytes.
const LONGEST: usize = 64 * 1024;

/// Types of packets, in the first four bits (MQTT 5.0, section 2.1.2), with the flags that each must have.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// One connection. What comes in is read by a thread that ends with it.
pub(super) struct Client(TcpStream);

impl Client {
    /// Connects, in the namespace that this thread is in, and returns when the subscription is there.
    pub(super) fn new(broker: SocketAddr, name: &str, ear: Ear) -> Result<Self> {
        let mut stream = TcpStream::connect_timeout(&broker, PROMPTLY).context("no broker")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PROMPTLY))?;
        stream.write_all(&packet(CONNECT, &connect(name)))?;
        let mut input = BufReader::new(stream.try_clone()?);
        let (kind, body) = read(&mut input).context("no CONNACK")?;
        // Flags, then the reason (section 3.2.2).
        ensure!(kind == CONNACK && body.get(1) == Some(&0), "the broker refuses {name}: {body:?}");
        stream.write_all(&packet(SUBSCRIBE, &subscribe()))?;
        let (kind, body) = read(&mut input).context("no SUBACK")?;
        // Its identifier, no properties, then the reason (section 3.9).
        ensure!(
            kind == SUBACK && body.get(3) == Some(&0),
            "the broker does not let {name} subscribe: {body:?}"
        );
        stream.set_read_timeout(None)?;
        std::thread::spawn(move || {
            precede();
            while let Ok((kind, body)) = read(&mut input) {
                if kind == PUBLISH
                    && let Some(text) = payload(&body)
                {
                    ear.hear(text);
                }
            }
        });
        Ok(Client(stream))
    }

    pub(super) fn publish(&mut self, text: &str) -> Result<()> {
        let body = [&word(TOPIC)[..], &[0], text.as_bytes()].concat();
        self.0.write_all(&packet(PUBLISH, &body)).context("the broker takes no message")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // So that the reading thread ends, too. It fails when the broker has gone already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Section 3.1: protocol name and version, a clean start, no keep-alive, no properties, the client's name.
fn connect(name: &str) -> Vec<u8> {
    [&word("MQTT")[..], &[5, 2, 0, 0, 0], &word(name)].concat()
}

/// Section 3.8: an identifier, no properties, the topic, and QoS 0 with No Local.
fn subscribe() -> Vec<u8> {
    [&[0, 1, 0][..], &word(TOPIC), &[4]].concat()
}

/// Section 3.3 at QoS 0: the topic, properties, and the rest.
fn payload(body: &[u8]) -> Option<&str> {
    let topic = usize::from(u16::from_be_bytes(body.get(..2)?.try_into().ok()?));
    let rest = body.get(2 + topic..)?;
    // The broker has no properties to add that are longer than one byte can tell.
    let properties = usize::from(*rest.first()?);
    str::from_utf8(rest.get(1 + properties..)?).ok()
}

/// A string with its length (section 1.5.4).
fn word(text: &str) -> Vec<u8> {
    // Names here are short.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], &text.as_bytes()[..usize::from(length)]].concat()
}

/// A whole packet: type, remaining length (section 1.5.5), body.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let more = if left > 127 { 128 } else { 0 };
        packet.push((left % 128) as u8 | more);
        left /= 128;
        if left == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// The next packet's type, without flags of a PUBLISH, and its body.
fn read(input: &mut impl Read) -> Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    let kind = byte[0] & 0xf0;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        input.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        if byte[0] < 128 {
            ensure!(length <= LONGEST, "a packet of {length} bytes");
            let mut body = vec![0; length];
            input.read_exact(&mut body)?;
            return Ok((kind, body));
        }
    }
    bail!("a length without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_are_written() -> Result<()> {
        for length in [0, 127, 128, 300, 16_384] {
            let body = vec![7; length];
            assert_eq!(read(&mut &packet(PUBLISH, &body)[..])?, (PUBLISH, body));
        }
        assert!(read(&mut &[PUBLISH, 0xff, 0xff, 0xff, 0xff, 1][..]).is_err());
        Ok(())
    }

    #[test]
    fn a_payload_is_found_behind_topic_and_properties() {
        let body = [&word("study")[..], &[2, 1, 1], b"m 1 2 x"].concat();
        assert_eq!(payload(&body), Some("m 1 2 x"));
        assert_eq!(payload(&[0, 9, 1]), None);
    }
}
