//! Stored bytes: the only place that knows their encodings.
//!
//! ```text
//! value: format (1 byte) | checksum (8 bytes) | MessagePack, structs as maps with names
//! chunk: format (1 byte) | unpacked length (4 bytes, little-endian) | lz4 block
//! ```
//! The checksum is cut from BLAKE3 over the value's name, format and encoding, so bytes of one type never pass for
//! another's. A value describes itself: a reader keeps or ignores fields that it does not know and fills in those that
//! are missing. The format is the lowest that can express the value, so an older version refuses only what it cannot
//! read (docs/adr/0017). Whatever the bytes are, reading them neither panics nor allocates more than the caps below.

use kubeml_actors::{
    dataset::Manifest,
    event::TaskEvent,
    ports::{NodeRow, PortError},
    task::TaskRecord,
};
use kubeml_spec::TaskSpec;
use serde::{Serialize, de::DeserializeOwned};

pub mod cached_chunk;

#[cfg(test)]
mod tests;

/// Of a value's encoding. A manifest of this size names 7 GiB of chunks.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

const CHECKSUM_BYTES: usize = 8;
const VALUE_HEADER_BYTES: usize = 1 + CHECKSUM_BYTES;
const CHUNK_HEADER_BYTES: usize = 1 + size_of::<u32>();
const CHUNK_FORMAT: u8 = 1;

/// A type whose values are stored. `codec/golden` keeps the bytes that every release wrote.
pub trait Stored: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;

    /// The newest format that this version knows.
    fn newest_format() -> u8 {
        1
    }

    /// The lowest format that can express the value.
    fn format(&self) -> u8 {
        1
    }
}

impl Stored for TaskRecord {
    const NAME: &'static str = "task record";

    fn newest_format() -> u8 {
        TaskSpec::newest_format()
    }

    fn format(&self) -> u8 {
        self.spec.format()
    }
}

impl Stored for TaskEvent {
    const NAME: &'static str = "task event";
}

impl Stored for NodeRow {
    const NAME: &'static str = "node row";
}

impl Stored for Manifest {
    const NAME: &'static str = "dataset manifest";
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a {name} of {bytes} bytes is longer than the {bytes_max} that can be stored")]
    TooLong { name: &'static str, bytes: usize, bytes_max: usize },
    #[error(
        "a {name} is in format {format}, newer than the {known} that this version of kubeml knows; start the version \
         that wrote it, or a newer one"
    )]
    Newer { name: &'static str, format: u8, known: u8 },
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
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|e| malformed(T::NAME, e))?;
    sealed(T::NAME, value.format(), bytes)
}

pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut encoded = opened(T::NAME, T::newest_format(), bytes)?;
    let value = rmp_serde::from_read(&mut encoded).map_err(|error| malformed(T::NAME, error))?;
    match encoded.len() {
        0 => Ok(value),
        rest => Err(malformed(T::NAME, format!("{rest} bytes follow its end"))),
    }
}

/// Fills in the header in front of an encoded value.
fn sealed(name: &'static str, format: u8, mut bytes: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    let length = bytes.len() - VALUE_HEADER_BYTES;
    if length > VALUE_BYTES_MAX {
        return Err(CodecError::TooLong { name, bytes: length, bytes_max: VALUE_BYTES_MAX });
    }
    let checksum = checksum(name, format, &bytes[VALUE_HEADER_BYTES..]);
    bytes[0] = format;
    bytes[1..VALUE_HEADER_BYTES].copy_from_slice(&checksum);
    Ok(bytes)
}

/// The encoded value behind a header that fits it.
fn opened<'a>(name: &'static str, known: u8, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    let damaged = CodecError::Damaged { name, bytes: bytes.len() };
    let Some((header, encoded)) = bytes.split_at_checked(VALUE_HEADER_BYTES) else { return Err(damaged) };
    let format = header[0];
    if header[1..] != checksum(name, format, encoded) {
        return Err(damaged);
    }
    if format > known {
        return Err(CodecError::Newer { name, format, known });
    }
    if encoded.len() > VALUE_BYTES_MAX {
        return Err(CodecError::TooLong { name, bytes: encoded.len(), bytes_max: VALUE_BYTES_MAX });
    }
    Ok(encoded)
}

/// Packs a dataset's chunk. Its hash, under which it is stored, stands in for a checksum.
pub fn pack(chunk: &[u8]) -> Result<Vec<u8>, CodecError> {
    let too_long = |_| CodecError::TooLong { name: "chunk", bytes: chunk.len(), bytes_max: u32::MAX as usize };
    let length = u32::try_from(chunk.len()).map_err(too_long)?;
    let mut packed = vec![0; CHUNK_HEADER_BYTES + lz4_flex::block::get_maximum_output_size(chunk.len())];
    packed[0] = CHUNK_FORMAT;
    packed[1..CHUNK_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let written = lz4_flex::block::compress_into(chunk, &mut packed[CHUNK_HEADER_BYTES..]);
    let written = written.map_err(|error| bad_chunk(error.to_string()))?;
    packed.truncate(CHUNK_HEADER_BYTES + written);
    Ok(packed)
}

/// Unpacks a chunk that may be `bytes_max` long.
pub fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let Some((&[format, ref length @ ..], block)) = packed.split_first_chunk::<CHUNK_HEADER_BYTES>() else {
        return Err(bad_chunk(format!("{} bytes are less than its header", packed.len())));
    };
    if format > CHUNK_FORMAT {
        return Err(CodecError::Newer { name: "chunk", format, known: CHUNK_FORMAT });
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

fn checksum(name: &str, format: u8, encoded: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&[0, format]).update(encoded);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

fn malformed(name: &'static str, reason: impl std::fmt::Display) -> CodecError {
    CodecError::Malformed { name, reason: reason.to_string() }
}

fn bad_chunk(reason: String) -> CodecError {
    malformed("chunk", reason)
}
