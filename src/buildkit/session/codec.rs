//! Codecs that leave messages, or the one `bytes` field of a message, as [`Bytes`].
//!
//! The generated types hold `Vec<u8>`, which costs one more copy of all bulk data. These codecs
//! share the buffer that gRPC has read into.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Tag of a length-delimited field 1, the only field of all `BytesMessage` types.
const DATA_TAG: u8 = 0x0a;

/// Messages as they are on the wire, for a method whose message type is known only at run time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawCodec;

/// `BytesMessage { bytes data = 1; }` as its data.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BytesCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if !item.is_empty() {
            let length = item.len() as u64;
            dst.reserve(1 + prost::encoding::encoded_len_varint(length) + item.len());
            dst.put_u8(DATA_TAG);
            prost::encoding::encode_varint(length, dst);
            dst.put(item);
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 << 10, 64 << 10)
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let message = src.copy_to_bytes(src.remaining());
        bytes_field(message).map(Some)
    }
}

/// Returns the data of an encoded `BytesMessage` without copying it.
pub(super) fn bytes_field(mut message: Bytes) -> Result<Bytes, Status> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

    let broken = |_| Status::internal("broken message of bytes");
    let mut data = Bytes::new();
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).map_err(broken)?;
        if tag == 1 && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut message).map_err(broken)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > message.remaining() {
                return Err(Status::internal("message of bytes is cut short"));
            }
            data = message.split_to(length);
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).map_err(broken)?;
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn bytes_field_reads_what_prost_writes(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let encoded = BytesMessage { data: data.clone() }.encode_to_vec();
            prop_assert_eq!(bytes_field(encoded.into()).unwrap(), data);
        }

        #[test]
        fn bytes_field_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..64)) {
            let expected = BytesMessage::decode(noise.as_slice());
            let found = bytes_field(noise.into());
            if let Ok(expected) = expected {
                prop_assert_eq!(found.unwrap(), expected.data);
            }
        }
    }

    #[test]
    fn bytes_field_shares_the_buffer() {
        let encoded = Bytes::from(BytesMessage { data: vec![7; 100] }.encode_to_vec());
        let data = bytes_field(encoded.clone()).unwrap();
        assert_eq!(data.as_ptr(), encoded[2..].as_ptr());
    }

    #[test]
    fn cut_message_is_an_error() {
        assert!(bytes_field(Bytes::from_static(&[DATA_TAG, 5, 1, 2])).is_err());
    }
}
