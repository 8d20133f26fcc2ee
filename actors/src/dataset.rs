//! A dataset: labelled grey images in two splits, kept as hashed chunks that a manifest names.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// Stores and caches take no longer chunk.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Splits are cut into chunks of this size; only a split's last chunk is smaller. There is room for what packing adds to bytes
/// that do not compress, so that nothing longer than [`CHUNK_BYTES`] is ever stored.
pub const CUT_BYTES: usize = CHUNK_BYTES - (8 << 10);

/// BLAKE3 of a chunk's bytes: its name in every store and cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl ChunkHash {
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

/// What a source delivers: images `[samples, height, width]` of bytes, one label byte a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct RawDataset {
    pub name: String,
    pub classes: u32,
    pub height: u32,
    pub width: u32,
    pub train: RawSplit,
    pub test: RawSplit,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RawSplit {
    pub images: Bytes,
    pub labels: Bytes,
}

/// The table of contents of one dataset version. Written last, so whoever reads one finds all of its chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    /// The first twelve digits of `sha256`: the content is the version.
    pub version: String,
    /// SHA-256 over shapes and bytes of both splits, hexadecimal.
    pub sha256: String,
    pub classes: u32,
    pub height: u32,
    pub width: u32,
    pub train: SplitManifest,
    pub test: SplitManifest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    pub samples: u64,
    pub images: Vec<ChunkHash>,
    pub labels: Vec<ChunkHash>,
}

/// A whole dataset in memory, shared by every attempt that trains on it.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub manifest: Manifest,
    pub train: RawSplit,
    pub test: RawSplit,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    #[error("dataset {name}, {split} split: {images_bytes} image bytes are not {samples} labels x {height} x {width}")]
    Shape { name: String, split: &'static str, images_bytes: usize, samples: usize, height: u32, width: u32 },
    #[error("dataset {name}, {split} split: label {label} of sample {sample} is not below {classes}")]
    Label { name: String, split: &'static str, sample: usize, label: u8, classes: u32 },
    #[error("dataset {name}: the {split} split is empty")]
    Empty { name: String, split: &'static str },
    #[error("dataset {name}: chunk {index} of {expected} is missing, out of place or not one of the manifest's")]
    Chunk { name: String, index: usize, expected: usize },
}

impl RawDataset {
    pub fn check(&self) -> Result<(), DatasetError> {
        self.check_split("train", &self.train)?;
        self.check_split("test", &self.test)
    }

    fn check_split(&self, split: &'static str, raw: &RawSplit) -> Result<(), DatasetError> {
        let (name, samples) = (self.name.clone(), raw.labels.len());
        if samples == 0 {
            return Err(DatasetError::Empty { name, split });
        }
        let (height, width) = (self.height, self.width);
        if raw.images.len() as u128 != samples as u128 * u128::from(height) * u128::from(width) {
            return Err(DatasetError::Shape { name, split, images_bytes: raw.images.len(), samples, height, width });
        }
        match raw.labels.iter().position(|label| u32::from(*label) >= self.classes) {
            None => Ok(()),
            Some(sample) => {
                Err(DatasetError::Label { name, split, sample, label: raw.labels[sample], classes: self.classes })
            }
        }
    }

    /// Everything that is stored of the dataset: its manifest, and its chunks in order.
    pub fn cut(&self) -> (Manifest, Vec<(ChunkHash, Bytes)>) {
        let mut chunks = Vec::new();
        let mut split = |raw: &RawSplit| SplitManifest {
            samples: raw.labels.len() as u64,
            images: cut_into(&raw.images, &mut chunks),
            labels: cut_into(&raw.labels, &mut chunks),
        };
        let (train, test) = (split(&self.train), split(&self.test));
        let sha256 = self.sha256();
        let manifest = Manifest {
            name: self.name.clone(),
            version: sha256[..12].to_owned(),
            sha256,
            classes: self.classes,
            height: self.height,
            width: self.width,
            train,
            test,
        };
        (manifest, chunks)
    }

    fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{} {} {}", self.classes, self.height, self.width));
        for split in [&self.train, &self.test] {
            hasher.update((split.labels.len() as u64).to_le_bytes());
            hasher.update(&split.images);
            hasher.update(&split.labels);
        }
        hex(&hasher.finalize())
    }
}

impl Manifest {
    /// Every chunk in the order in which [`Manifest::assemble`] expects them.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkHash> + '_ {
        [&self.train, &self.test].into_iter().flat_map(|split| split.images.iter().chain(&split.labels).copied())
    }

    pub fn bytes(&self) -> u64 {
        (self.train.samples + self.test.samples) * (u64::from(self.height) * u64::from(self.width) + 1)
    }

    /// Puts the chunks together again: in the order of [`Manifest::chunks`], each with the hash that its bytes have, of
    /// which whoever read it has made sure.
    pub fn assemble(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<Dataset, DatasetError> {
        self.check_chunks(chunks)?;
        let mut rest = chunks.iter().map(|(_, bytes)| bytes.as_ref());
        let mut join = |hashes: &[ChunkHash]| {
            let these: Vec<&[u8]> = rest.by_ref().take(hashes.len()).collect();
            Bytes::from(these.concat())
        };
        let mut split = |split: &SplitManifest| RawSplit { images: join(&split.images), labels: join(&split.labels) };
        let (train, test) = (split(&self.train), split(&self.test));
        let raw = RawDataset {
            name: self.name.clone(),
            classes: self.classes,
            height: self.height,
            width: self.width,
            train,
            test,
        };
        raw.check()?;
        Ok(Dataset { manifest: self.clone(), train: raw.train, test: raw.test })
    }

    fn check_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), DatasetError> {
        let expected: Vec<ChunkHash> = self.chunks().collect();
        let fits = |index: &usize| expected.get(*index) == chunks.get(*index).map(|(hash, _)| hash);
        match (0..expected.len().max(chunks.len())).find(|index| !fits(index)) {
            None => Ok(()),
            Some(index) => Err(DatasetError::Chunk { name: self.name.clone(), index, expected: expected.len() }),
        }
    }
}

fn cut_into(bytes: &Bytes, chunks: &mut Vec<(ChunkHash, Bytes)>) -> Vec<ChunkHash> {
    let starts = (0..bytes.len()).step_by(CUT_BYTES);
    starts
        .map(|start| {
            let chunk = bytes.slice(start..bytes.len().min(start + CUT_BYTES));
            let hash = ChunkHash::of(&chunk);
            chunks.push((hash, chunk));
            hash
        })
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
