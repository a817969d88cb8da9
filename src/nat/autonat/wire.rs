//! The messages, and how they are told apart on a stream.

use std::io;

use futures::io::AsyncRead;

use crate::{limits, nat::frame};

pub(super) use crate::nat::frame::write;

/// What goes over a stream of [`super::DIAL_REQUEST`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(oneof = "Part", tags = "1, 2, 3, 4")]
    pub(super) part: Option<Part>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Part {
    #[prost(message, tag = "1")]
    Request(DialRequest),
    #[prost(message, tag = "2")]
    Response(DialResponse),
    #[prost(message, tag = "3")]
    DataRequest(DialDataRequest),
    #[prost(message, tag = "4")]
    Data(DialDataResponse),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) addrs: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "2")]
    pub(super) nonce: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialResponse {
    /// See [`status`].
    #[prost(uint32, tag = "1")]
    pub(super) status: u32,
    /// Which of the addresses it is about.
    #[prost(uint32, tag = "2")]
    pub(super) index: u32,
    /// See [`dial_status`].
    #[prost(uint32, tag = "3")]
    pub(super) dial_status: u32,
}

/// Of the request.
pub(super) mod status {
    pub(in super::super) const REJECTED: u32 = 100;
    pub(in super::super) const REFUSED: u32 = 101;
    pub(in super::super) const OK: u32 = 200;
}

/// Of the dial.
pub(super) mod dial_status {
    pub(in super::super) const NO_CONNECTION: u32 = 100;
    pub(in super::super) const NO_DIAL_BACK: u32 = 101;
    pub(in super::super) const OK: u32 = 200;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialDataRequest {
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialDataResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) data: Vec<u8>,
}

/// The first message on a stream of [`super::DIAL_BACK`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialBack {
    #[prost(fixed64, tag = "1")]
    pub(super) nonce: u64,
}

/// The other one. Its only status is OK, which is 0.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DialBackResponse {
    #[prost(uint32, tag = "1")]
    pub(super) status: u32,
}

/// # Errors
/// [`io::ErrorKind::InvalidData`] for what is too long or no such message.
pub(super) async fn read<M: prost::Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<M> {
    frame::read(stream, limits::AUTONAT_MESSAGE_BYTES).await
}

pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(message: &impl prost::Message) -> Vec<u8> {
        let mut wire = Vec::new();
        smol::block_on(write(&mut wire, message)).expect("writes");
        wire
    }

    /// From the specification's protobufs: a length, a field of `Message`, its length, and the fields in it.
    #[test]
    fn the_messages_are_those_of_the_specification() {
        let request =
            DialRequest { addrs: vec![vec![4, 192, 0, 2, 1, 6, 0, 1]], nonce: 0x0102_0304_0506_0708 };
        let message = Message { part: Some(Part::Request(request)) };
        let expected =
            [[21, 0x0a, 19, 0x0a, 8, 4, 192, 0, 2, 1, 6, 0, 1].as_slice(), &[0x11, 8, 7, 6, 5, 4, 3, 2, 1]];
        assert_eq!(bytes_of(&message), expected.concat());
        let response = DialResponse { status: status::OK, index: 1, dial_status: dial_status::NO_CONNECTION };
        let message = Message { part: Some(Part::Response(response)) };
        assert_eq!(bytes_of(&message), [9, 0x12, 7, 0x08, 200, 1, 0x10, 1, 0x18, 100]);
        let message = Message { part: Some(Part::DataRequest(DialDataRequest { index: 0, bytes: 30_000 })) };
        assert_eq!(bytes_of(&message), [6, 0x1a, 4, 0x10, 0xb0, 0xea, 1]);
        let message = Message { part: Some(Part::Data(DialDataResponse { data: vec![0, 0] })) };
        assert_eq!(bytes_of(&message), [6, 0x22, 4, 0x0a, 2, 0, 0]);
        assert_eq!(bytes_of(&DialBack { nonce: 2 }), [9, 0x09, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes_of(&DialBackResponse { status: 0 }), [0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = smol::block_on(read::<Message>(&mut &bytes[..]));
            let _ = smol::block_on(read::<DialBack>(&mut &bytes[..]));
        }
    }
}
