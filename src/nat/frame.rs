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
pub(super) mod tests;
