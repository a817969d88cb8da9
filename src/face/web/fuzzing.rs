//! What `bench/fuzz` reaches: the bytes of a client, as they come from the network.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use super::socket::{Frames, Next};
use crate::{
    face::{json, stdio::Line},
    limits,
};

/// The far end of a socket that does what a script says.
struct Scripted {
    /// What comes, piece by piece.
    pieces: VecDeque<Vec<u8>>,
    /// What is taken, write by write: nothing, or so many bytes.
    takes: VecDeque<u8>,
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.front_mut() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        piece.drain(..length);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(length)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.takes.pop_front() {
            None => Ok(bytes.len()),
            Some(0) => Err(io::ErrorKind::WouldBlock.into()),
            Some(most) => Ok(bytes.len().min(most.into())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A WebSocket meets what comes from the network, in pieces. The first byte says how the rest is read: as it is, or as
/// the headers and texts of frames, so that more of them are whole; and how slow the client is.
pub fn socket(script: &[u8]) {
    let Some((&how, script)) = script.split_first() else { return };
    let bytes = if how & 1 == 0 { script.to_vec() } else { frames(script) };
    let pieces = bytes.chunks(1 + usize::from(how >> 4) * 16).map(<[u8]>::to_vec).collect();
    let takes = script.iter().take(usize::from(how & 0x0e)).copied().collect();
    let mut socket = Frames::new(Scripted { pieces, takes }, Vec::new());
    // Each step takes a byte, writes or ends.
    for _ in 0..10 * (script.len() + 100) {
        match socket.next() {
            Ok(Next::Line(Line::Text(text))) => {
                assert!(text.len() <= limits::LINE_BYTES);
                let reply = json::parse(&text).map_or_else(|bad| bad.message, |ask| ask.name.into());
                if socket.push(&reply).and_then(|()| socket.flush()).is_err() {
                    return;
                }
            }
            Ok(Next::Rest) => socket.next_turn(),
            Ok(Next::End) | Err(_) => return,
            // Nothing is left to read.
            Ok(Next::Wait) => return,
            Ok(_) => {}
        }
    }
    panic!("it does not get on");
}

/// Frames of a client: a byte as in RFC 6455, a byte of length, and so much of what follows, under the mask 0.
fn frames(mut script: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, length, rest @ ..] = script {
        let length = usize::from(*length).min(125).min(rest.len());
        bytes.extend([*first, 0x80 | length as u8, 0, 0, 0, 0]);
        bytes.extend(&rest[..length]);
        script = &rest[length..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_ends_it(script in proptest::collection::vec(any::<u8>(), 0..600)) {
            socket(&script);
        }
    }

    #[test]
    fn who_takes_nothing_is_not_read_and_loses_nothing() {
        let pings = [&b"\x89\x80\0\0\0\0"[..]; 2].concat();
        let text = b"\x81\x82\0\0\0\0hi".to_vec();
        let mut socket =
            Frames::new(Scripted { pieces: [pings, text].into(), takes: [0, 0, 0].into() }, Vec::new());
        let next: Vec<Next> = (0..5).map(|_| socket.next().expect("good frames")).collect();
        let hi = Next::Line(Line::Text("hi".into()));
        assert_eq!(next.iter().filter(|next| **next == Next::Alive).count(), 2, "{next:?}");
        assert!(next.contains(&Next::Stuck) && next.contains(&hi), "{next:?}");
    }

    #[test]
    fn who_sends_without_end_is_read_in_turns() {
        // Pieces of a message that is never done: they are no messages, and must not keep the others waiting.
        let empty = [&b"\x01\x80\0\0\0\0"[..], &b"\0\x80\0\0\0\0".repeat(limits::WEB_TURN_BYTES)].concat();
        let mut socket = Frames::new(Scripted { pieces: [empty].into(), takes: VecDeque::new() }, Vec::new());
        for _ in 0..6 {
            assert_eq!(socket.next().expect("good frames"), Next::Rest);
            socket.next_turn();
        }
        assert_eq!(socket.next().expect("good frames"), Next::Wait);
    }
}
