//! Messages, and streams for those who test what is said with them.

use std::{
    os::unix::net::UnixStream,
    pin::Pin,
    task::{Context, Poll},
};

use async_io::Async;
use futures::io::Cursor;

use super::*;

#[test]
fn a_long_message_is_not_even_read() {
    let mut wire = Cursor::new(vec![0xff, 0x7f, 0, 0]);
    let refused = smol::block_on(read::<()>(&mut wire, 1000)).expect_err("it is too long");
    assert_eq!((refused.kind(), wire.position()), (io::ErrorKind::InvalidData, 2));
}

#[test]
fn what_follows_is_left() {
    let mut wire = Vec::new();
    smol::block_on(write(&mut wire, &String::from("one"))).expect("writes");
    wire.extend(b"more");
    let mut wire = Cursor::new(wire);
    assert_eq!(smol::block_on(read::<String>(&mut wire, 100)).expect("reads"), "one");
    assert_eq!(wire.into_inner().len() as u64, 6 + 4);
}

/// Reads what it was made of, and swallows what is written.
pub(in crate::nat) struct Loop(pub(in crate::nat) Cursor<Vec<u8>>);

impl AsyncRead for Loop {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Loop {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(in crate::nat) fn duplex() -> (Async<UnixStream>, Async<UnixStream>) {
    Async::<UnixStream>::pair().expect("a pair of sockets")
}
