//! What a cache that others can write to keeps of a chunk.
//!
//! ```text
//! length of the head (1 byte) | head: a sealed bincode of the chunk's hash and length | the chunk
//! ```
//! The head says whose bytes follow, and how many they are, to whoever reads no more than that. The chunk is not packed:
//! for MNIST's, lz4 takes several times as long as three quarters of the bytes take on a network of ten gigabits.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::Bytes;
use kubeml_actors::dataset::{CHUNK_BYTES, ChunkHash};
use serde::{Deserialize, Serialize};

use super::{CodecError, VALUE_HEADER_BYTES, bad_chunk, malformed, opened, sealed};

/// No head is longer: its length is a byte.
pub const HEAD_BYTES_MAX: usize = 1 + u8::MAX as usize;
/// The longest chunk takes no more.
pub const WRAPPED_BYTES_MAX: usize = HEAD_BYTES_MAX + CHUNK_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedChunk {
    pub hash: ChunkHash,
    pub length: u32,
}

/// What it is called in errors.
const NAME: &str = "cached chunk";
/// The format of the head; also part of the keys under which chunks are cached.
pub const FORMAT: u8 = 1;

const BINCODE: Configuration<LittleEndian, Varint, Limit<HEAD_BYTES_MAX>> =
    bincode::config::standard().with_limit::<HEAD_BYTES_MAX>();

impl CachedChunk {
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = vec![0; VALUE_HEADER_BYTES];
        bincode::serde::encode_into_std_write(self, &mut bytes, BINCODE).map_err(|error| malformed(NAME, error))?;
        sealed(NAME, FORMAT, bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let encoded = opened(NAME, FORMAT, bytes)?;
        let (head, read) =
            bincode::serde::decode_from_slice(encoded, BINCODE).map_err(|error| malformed(NAME, error))?;
        match encoded.len() - read {
            0 => Ok(head),
            rest => Err(malformed(NAME, format!("{rest} bytes follow its end"))),
        }
    }
}

pub fn wrap(hash: ChunkHash, chunk: &[u8]) -> Result<Vec<u8>, CodecError> {
    let too_long = CodecError::TooLong { name: NAME, bytes: chunk.len(), bytes_max: CHUNK_BYTES };
    let length = u32::try_from(chunk.len()).ok().filter(|_| chunk.len() <= CHUNK_BYTES).ok_or(too_long)?;
    let head = CachedChunk { hash, length }.encode()?;
    let head_length = u8::try_from(head.len()).map_err(|error| bad_chunk(error.to_string()))?;
    Ok([&[head_length], head.as_slice(), chunk].concat())
}

/// Reads the head alone; `wrapped` may end anywhere behind it.
pub fn head(wrapped: &[u8]) -> Result<CachedChunk, CodecError> {
    split(wrapped).map(|(head, _)| head)
}

/// The chunk `hash`, if that is what the bytes say they are. Whether they are is for the hash to show.
pub fn unwrap(hash: ChunkHash, wrapped: &Bytes) -> Result<Bytes, CodecError> {
    let (head, chunk) = split(wrapped)?;
    if head.hash != hash {
        return Err(bad_chunk(format!("it is chunk {} under the name of {hash}", head.hash)));
    }
    if chunk.len() as u64 != u64::from(head.length) {
        return Err(bad_chunk(format!("its head says {} bytes, and it has {}", head.length, chunk.len())));
    }
    Ok(wrapped.slice_ref(chunk))
}

fn split(wrapped: &[u8]) -> Result<(CachedChunk, &[u8]), CodecError> {
    let parts = wrapped.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let (head, chunk) = parts.ok_or_else(|| bad_chunk(format!("{} bytes are less than its head", wrapped.len())))?;
    Ok((CachedChunk::decode(head)?, chunk))
}

#[cfg(test)]
mod tests;
