//! A training at one batch boundary: taken as a [`Snapshot`], written as bytes, read back as a [`Checkpoint`].
//!
//! The bytes are a safetensors file (tensors `param.*`, `first.*`, `second.*`, `best.*`, and the bytes of `header`)
//! followed by the SHA-256 of all of it. Everything is checked before anything is used.

use std::sync::Arc;

use kubeml_spec::{EpochMetrics, StopReason, TaskSpec};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::Data;
use crate::hex;
use crate::metrics::Tally;
use crate::optimizer::Moments;
use crate::parameters::{ParameterShape, le_bytes, views};

mod header;

use header::Header;

/// The newest format that this version knows.
const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 32;
const PARAM: &str = "param.";
const FIRST: &str = "first.";
const SECOND: &str = "second.";
const BEST: &str = "best.";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint has {found} bytes, too few to be one")]
    Truncated { found: usize },
    #[error("the checkpoint is damaged: its bytes hash to {found}, its trailer says {expected}")]
    Damaged { expected: String, found: String },
    #[error("the checkpoint is in format {found}, newer than the {FORMAT} that this version of kubeml knows")]
    Newer { found: u8 },
    #[error("the checkpoint is malformed: {0}")]
    Malformed(String),
    #[error("the checkpoint has no tensor {name}")]
    MissingTensor { name: String },
    #[error("the checkpoint's tensor {name} is {found}, expected {expected}")]
    WrongTensor { name: String, expected: String, found: String },
    #[error("the checkpoint is of spec {found}, this training's is {expected}")]
    OtherSpec { expected: String, found: String },
    #[error("the checkpoint is of dataset {found}, this training's is {expected}")]
    OtherDataset { expected: String, found: String },
}

/// Counters, sums and best metrics: all of a training's state but its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps done of all epochs.
    pub(crate) step: u64,
    /// Epochs closed, their evaluation included.
    pub(crate) epoch: u32,
    /// Sums over the open epoch.
    pub(crate) tally: Tally,
    pub(crate) epoch_seconds: f64,
    pub(crate) train_seconds: f64,
    pub(crate) last: Option<EpochMetrics>,
    pub(crate) best: Option<EpochMetrics>,
    /// Set once it is decided that no further step is trained.
    pub(crate) ended: Option<StopReason>,
}

impl Progress {
    /// Whether a training of so many epochs can have come here; else what is wrong.
    pub(crate) fn check(&self, epochs: u32, steps_per_epoch: u64) -> Result<(), String> {
        let &Progress { step, epoch, .. } = self;
        let open = step.checked_sub(u64::from(epoch) * steps_per_epoch);
        if self.ended.is_none() && open.is_none_or(|open| open > steps_per_epoch) {
            return Err(format!("step {step} is not in the epoch after {epoch}, of {steps_per_epoch} steps"));
        }
        let [last, best] = [self.last, self.best].map(|metrics| metrics.map_or(0, |metrics| metrics.epoch));
        if epoch > epochs || last != epoch || best > epoch || (best == 0) != (epoch == 0) {
            return Err(format!("{epoch} of {epochs} epochs are closed, the last is {last}, the best {best}"));
        }
        Ok(())
    }
}

/// A copy of a training's whole state, made between two batches. Encode it on any thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(crate) progress: Progress,
    pub(crate) shapes: Arc<[ParameterShape]>,
    /// All parameters, one after the other, in the order of `shapes`.
    pub(crate) weights: Vec<f32>,
    pub(crate) moments: Moments,
    /// The best model's parameters, once an epoch is closed.
    pub(crate) best_weights: Option<Arc<Vec<f32>>>,
    pub(crate) spec_hash: String,
    pub(crate) dataset_hash: String,
    /// Whatever computed a part of it, joined by `+`.
    pub(crate) kernel_sets: String,
}

impl Snapshot {
    /// Steps done of all epochs.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Epochs closed.
    pub fn epoch(&self) -> u32 {
        self.progress.epoch
    }

    /// The best epoch so far.
    pub fn best(&self) -> Option<&EpochMetrics> {
        self.progress.best.as_ref()
    }

    /// The epoch that was closed last.
    pub fn last(&self) -> Option<&EpochMetrics> {
        self.progress.last.as_ref()
    }

    /// The bytes [`Checkpoint::decode`] reads. Equal snapshots give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let parts = [
            (PARAM, Some(self.weights.as_slice())),
            (FIRST, Some(self.moments.first.as_slice())),
            (SECOND, Some(self.moments.second.as_slice())),
            (BEST, self.best_weights.as_ref().map(|best| best.as_slice())),
        ];
        let parts: Vec<_> =
            parts.into_iter().filter_map(|(prefix, values)| Some((prefix, le_bytes(values?)))).collect();
        let tensors = parts.iter().flat_map(|(prefix, bytes)| views(&self.shapes, bytes, prefix));
        let header = Header::of(self).write();
        let header = TensorView::new(Dtype::U8, vec![header.len()], &header).ok();
        let tensors = tensors.chain(header.map(|header| (header::NAME.to_string(), header)));
        // Every view was cut to its shape, which is all that can be wrong with it.
        let mut bytes = safetensors::serialize(tensors, None).unwrap_or_default();
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }
}

/// A snapshot that was read back whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint(Snapshot);

impl From<Snapshot> for Checkpoint {
    fn from(snapshot: Snapshot) -> Self {
        Checkpoint(snapshot)
    }
}

impl Checkpoint {
    /// Reads what [`Snapshot::encode`] wrote. Whether it belongs to a spec and a dataset is checked by [`crate::fit()`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let found = bytes.len();
        let (body, trailer) =
            bytes.split_at_checked(found.wrapping_sub(CHECKSUM_BYTES)).ok_or(CheckpointError::Truncated { found })?;
        let checksum = Sha256::digest(body);
        if checksum.as_slice() != trailer {
            return Err(CheckpointError::Damaged { expected: hex(trailer), found: hex(&checksum) });
        }
        let malformed = |error: safetensors::SafeTensorError| CheckpointError::Malformed(error.to_string());
        let tensors = SafeTensors::deserialize(body).map_err(malformed)?;
        let header = tensors.tensor(header::NAME).map_err(|_| missing(header::NAME.to_string()))?;
        let header = Header::read(&header)?;
        let shapes = shapes(&tensors)?;
        let values = |prefix: &str| collect(&tensors, &shapes, prefix);
        let best_weights = header.progress.best.map(|_| values(BEST)).transpose()?.map(Arc::new);
        Ok(Checkpoint(Snapshot {
            weights: values(PARAM)?,
            moments: Moments { first: values(FIRST)?, second: values(SECOND)? },
            best_weights,
            progress: header.progress,
            spec_hash: header.spec_sha256,
            dataset_hash: header.dataset,
            kernel_sets: header.kernel_sets,
            shapes: shapes.into(),
        }))
    }

    /// Steps done of all epochs.
    pub fn step(&self) -> u64 {
        self.0.step()
    }

    /// Epochs closed.
    pub fn epoch(&self) -> u32 {
        self.0.epoch()
    }

    /// The snapshot, if it is of this spec and this dataset.
    pub(crate) fn into_snapshot(self, spec: &TaskSpec, data: &Data) -> Result<Snapshot, CheckpointError> {
        let Checkpoint(snapshot) = self;
        let (expected, found) = (hex(spec.hash()), snapshot.spec_hash.clone());
        if expected != found {
            return Err(CheckpointError::OtherSpec { expected, found });
        }
        let (expected, found) = (data.hash().to_string(), snapshot.dataset_hash.clone());
        if expected != found {
            return Err(CheckpointError::OtherDataset { expected, found });
        }
        Ok(snapshot)
    }
}

/// The header's bytes, for tests that build files by hand.
#[cfg(test)]
pub(crate) fn header_of(snapshot: &Snapshot) -> Vec<u8> {
    Header::of(snapshot).write()
}

fn missing(name: String) -> CheckpointError {
    CheckpointError::MissingTensor { name }
}

/// Names and shapes of the parameters in the file, sorted by name.
fn shapes(tensors: &SafeTensors<'_>) -> Result<Vec<ParameterShape>, CheckpointError> {
    let mut shapes: Vec<ParameterShape> = tensors
        .iter()
        .filter_map(|(name, view)| {
            let name = name.strip_prefix(PARAM)?.to_string();
            Some(ParameterShape { name, dims: view.shape().to_vec() })
        })
        .collect();
    shapes.sort_by(|one, two| one.name.cmp(&two.name));
    if shapes.is_empty() {
        return Err(missing(format!("{PARAM}*")));
    }
    Ok(shapes)
}

/// The values of all tensors of one prefix, in the order of `shapes`.
fn collect(tensors: &SafeTensors<'_>, shapes: &[ParameterShape], prefix: &str) -> Result<Vec<f32>, CheckpointError> {
    let mut all = Vec::with_capacity(shapes.iter().map(ParameterShape::count).sum());
    for shape in shapes {
        let name = format!("{prefix}{}", shape.name);
        let view = tensors.tensor(&name).map_err(|_| missing(name.clone()))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape.dims {
            let expected = format!("F32 {:?}", shape.dims);
            let found = format!("{:?} {:?}", view.dtype(), view.shape());
            return Err(CheckpointError::WrongTensor { name, expected, found });
        }
        all.extend(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    Ok(all)
}
