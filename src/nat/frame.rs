//! Protobuf messages on a stream, each behind its length as a varint.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use prost::Message;

/// Writes a message, and flushes.
///
/// # Errors
/// Those of the stream.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    stream.write_all(&message.encode_length_delimited_to_vec()).await?;
    stream.flush().await
}

/// Reads a message of `most` bytes at the most, and nothing of what follows it: that may belong to somebody else.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if it is longer, or none; otherwise those of the stream.
pub(super) async fn read<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<M> {
    let mut bytes = vec![0; read_length(stream, most).await?];
    stream.read_exact(&mut bytes).await?;
    M::decode(&*bytes).map_err(|_| malformed())
}

/// A length below 2^14.
async fn read_length(stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<usize> {
    let mut length = 0;
    for shift in [0, 7] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return if length <= most { Ok(length) } else { Err(malformed()) };
        }
    }
    Err(malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the peer sent no message of this protocol")
}

#[cfg(test)]
mod tests {
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
}
