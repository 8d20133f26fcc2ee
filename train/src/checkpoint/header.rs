//! A checkpoint's counters, as a self-describing value (MessagePack with names) in a tensor of bytes.
//!
//! A reader ignores fields that it does not know, and a field that comes later has a default, so that a checkpoint
//! survives a new field. Floats keep their bits.

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, FORMAT, Progress, Snapshot};

/// The tensor's name.
pub(super) const NAME: &str = "header";

#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    /// The lowest format that can express the checkpoint.
    format: u8,
    pub(super) spec_sha256: String,
    pub(super) dataset: String,
    pub(super) kernel_sets: String,
    pub(super) progress: Progress,
}

impl Header {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            format: 1,
            spec_sha256: snapshot.spec_hash.clone(),
            dataset: snapshot.dataset_hash.clone(),
            kernel_sets: snapshot.kernel_sets.clone(),
            progress: snapshot.progress.clone(),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        // Structs of numbers and strings always have an encoding, and memory takes it.
        rmp_serde::to_vec_named(self).unwrap_or_default()
    }

    pub(super) fn read(tensor: &TensorView<'_>) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Format {
            format: u8,
        }
        let malformed = |error: rmp_serde::decode::Error| CheckpointError::Malformed(format!("its header: {error}"));
        if tensor.dtype() != Dtype::U8 {
            return Err(CheckpointError::Malformed(format!("its header is {:?}, not bytes", tensor.dtype())));
        }
        let Format { format } = rmp_serde::from_slice(tensor.data()).map_err(malformed)?;
        if format > FORMAT {
            return Err(CheckpointError::Newer { found: format });
        }
        rmp_serde::from_slice(tensor.data()).map_err(malformed)
    }
}
