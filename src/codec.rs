//! Stored bytes: the only place that knows bincode and lz4.
//!
//! ```text
//! value: format version (1 byte) | checksum (8 bytes) | bincode
//! chunk: format version (1 byte) | unpacked length (4 bytes, little-endian) | lz4 block
//! ```
//! The checksum is cut from BLAKE3 over the value's name, version and bincode, so bytes of one type never pass for
//! another's. This frame never changes; what is inside changes with the version. Whatever the bytes are, reading them
//! neither panics nor allocates more than the caps below.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use kubeml_actors::{
    dataset::Manifest,
    event::TaskEvent,
    ports::{NodeRow, PortError},
    task::TaskRecord,
};
use serde::{Serialize, de::DeserializeOwned};

pub mod cached_chunk;

#[cfg(test)]
mod tests;

/// Of a value's bincode. A manifest of this size names 8 GiB of chunks.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

/// bincode counts what it reads by the size in memory, and a `u64` of one byte as eight.
const DECODED_BYTES_MAX: usize = 8 * VALUE_BYTES_MAX;
const BINCODE: Configuration<LittleEndian, Varint, Limit<DECODED_BYTES_MAX>> =
    bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();

const CHECKSUM_BYTES: usize = 8;
const VALUE_HEADER_BYTES: usize = 1 + CHECKSUM_BYTES;
const CHUNK_HEADER_BYTES: usize = 1 + size_of::<u32>();
const CHUNK_VERSION: u8 = 1;

/// A type whose values are stored. `codec/golden` keeps bytes of every version ever released.
pub trait Stored: Serialize + DeserializeOwned {
    /// What it is called in errors and in the files' list of versions.
    const NAME: &'static str;

    /// The version that is written. It grows with every change of the type's serde shape.
    const VERSION: u8;

    /// Reads the bincode of an older version; see [`from_bincode`].
    fn from_older(version: u8, _bincode: &[u8]) -> Result<Self, CodecError> {
        Err(CodecError::Malformed { name: Self::NAME, reason: format!("there never was a format {version}") })
    }
}

impl Stored for TaskRecord {
    const NAME: &'static str = "task record";
    const VERSION: u8 = 1;
}

impl Stored for TaskEvent {
    const NAME: &'static str = "task event";
    const VERSION: u8 = 1;
}

impl Stored for NodeRow {
    const NAME: &'static str = "node row";
    const VERSION: u8 = 1;
}

impl Stored for Manifest {
    const NAME: &'static str = "dataset manifest";
    const VERSION: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a {name} of {bytes} bytes is longer than the {bytes_max} that can be stored")]
    TooLong { name: &'static str, bytes: usize, bytes_max: usize },
    #[error(
        "a {name} is in format {version}, newer than the {known} that this version of kubeml knows; start the version \
         that wrote it, or a newer one"
    )]
    Newer { name: &'static str, version: u8, known: u8 },
    #[error("a {name} is damaged: its {bytes} bytes do not fit their checksum")]
    Damaged { name: &'static str, bytes: usize },
    #[error("a {name} cannot be read: {reason}")]
    Malformed { name: &'static str, reason: String },
}

impl CodecError {
    /// As an error of the port whose adapter keeps the bytes at `place`.
    pub fn at(self, place: &str) -> PortError {
        let text = format!("{place}: {self}");
        match self {
            Self::TooLong { .. } | Self::Newer { .. } => PortError::Rejected(text),
            Self::Damaged { .. } | Self::Malformed { .. } => PortError::Corrupt(text),
        }
    }
}

pub fn encode<T: Stored>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; VALUE_HEADER_BYTES];
    bincode::serde::encode_into_std_write(value, &mut bytes, BINCODE).map_err(malformed::<T>)?;
    let length = bytes.len() - VALUE_HEADER_BYTES;
    if length > VALUE_BYTES_MAX {
        return Err(CodecError::TooLong { name: T::NAME, bytes: length, bytes_max: VALUE_BYTES_MAX });
    }
    let checksum = checksum(T::NAME, T::VERSION, &bytes[VALUE_HEADER_BYTES..]);
    bytes[0] = T::VERSION;
    bytes[1..VALUE_HEADER_BYTES].copy_from_slice(&checksum);
    Ok(bytes)
}

pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let damaged = CodecError::Damaged { name: T::NAME, bytes: bytes.len() };
    let Some((header, bincode)) = bytes.split_at_checked(VALUE_HEADER_BYTES) else { return Err(damaged) };
    let version = header[0];
    if header[1..] != checksum(T::NAME, version, bincode) {
        return Err(damaged);
    }
    if version > T::VERSION {
        return Err(CodecError::Newer { name: T::NAME, version, known: T::VERSION });
    }
    if bincode.len() > VALUE_BYTES_MAX {
        return Err(CodecError::TooLong { name: T::NAME, bytes: bincode.len(), bytes_max: VALUE_BYTES_MAX });
    }
    if version == T::VERSION { from_bincode::<T, T>(bincode) } else { T::from_older(version, bincode) }
}

/// Reads a `Shape`, which is `T` itself or what an older version of it looked like.
pub fn from_bincode<T: Stored, Shape: DeserializeOwned>(bincode: &[u8]) -> Result<Shape, CodecError> {
    let (value, read) = bincode::serde::decode_from_slice(bincode, BINCODE).map_err(malformed::<T>)?;
    match bincode.len() - read {
        0 => Ok(value),
        rest => Err(CodecError::Malformed { name: T::NAME, reason: format!("{rest} bytes follow its end") }),
    }
}

/// Packs a dataset's chunk. Its hash, under which it is stored, stands in for a checksum.
pub fn pack(chunk: &[u8]) -> Result<Vec<u8>, CodecError> {
    let too_long = |_| CodecError::TooLong { name: "chunk", bytes: chunk.len(), bytes_max: u32::MAX as usize };
    let length = u32::try_from(chunk.len()).map_err(too_long)?;
    let mut packed = vec![0; CHUNK_HEADER_BYTES + lz4_flex::block::get_maximum_output_size(chunk.len())];
    packed[0] = CHUNK_VERSION;
    packed[1..CHUNK_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let written = lz4_flex::block::compress_into(chunk, &mut packed[CHUNK_HEADER_BYTES..]);
    let written = written.map_err(|error| bad_chunk(error.to_string()))?;
    packed.truncate(CHUNK_HEADER_BYTES + written);
    Ok(packed)
}

/// Unpacks a chunk that may be `bytes_max` long.
pub fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let Some((&[version, ref length @ ..], block)) = packed.split_first_chunk::<CHUNK_HEADER_BYTES>() else {
        return Err(bad_chunk(format!("{} bytes are less than its header", packed.len())));
    };
    if version > CHUNK_VERSION {
        return Err(CodecError::Newer { name: "chunk", version, known: CHUNK_VERSION });
    }
    let length = u32::from_le_bytes(*length) as usize;
    if length > bytes_max {
        return Err(bad_chunk(format!("it claims {length} bytes, and at most {bytes_max} are possible")));
    }
    let mut chunk = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut chunk) {
        Ok(written) if written == length => Ok(chunk),
        Ok(written) => Err(bad_chunk(format!("it claims {length} bytes and has {written}"))),
        Err(error) => Err(bad_chunk(error.to_string())),
    }
}

fn checksum(name: &str, version: u8, bincode: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&[0, version]).update(bincode);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

fn malformed<T: Stored>(reason: impl std::fmt::Display) -> CodecError {
    CodecError::Malformed { name: T::NAME, reason: reason.to_string() }
}

fn bad_chunk(reason: String) -> CodecError {
    CodecError::Malformed { name: "chunk", reason }
}
