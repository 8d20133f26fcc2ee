//! What a task's attempts produce: progress, metrics, checkpoints, a result.

use serde::{Deserialize, Serialize};

use super::TaskId;
use crate::dataset::Manifest;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ArtifactKind {
    Checkpoint,
    FinalModel,
    BestModel,
}

/// Names stored bytes. Keys carry the attempt, so a stale attempt can never overwrite a newer one's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArtifactKey {
    pub task: TaskId,
    pub attempt: u32,
    pub step: u64,
    pub kind: ArtifactKind,
}

/// A key together with what its bytes must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArtifactRef {
    pub key: ArtifactKey,
    pub hash: [u8; 32],
    pub bytes: u64,
}

/// How far training is. Steps count over the whole task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub epoch: u32,
    pub epochs: u32,
    pub step: u64,
    pub steps: u64,
    pub samples_per_second: f64,
    pub eta_seconds: f64,
    /// Running means of the open epoch.
    pub loss: f64,
    pub accuracy: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u32,
    pub loss: f64,
    pub accuracy: f64,
    pub val_loss: f64,
    pub val_accuracy: f64,
    pub samples_per_second: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub val_accuracy: f64,
    pub epoch: u32,
}

/// The last finished epoch's metrics and the best so far; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub last: EpochMetrics,
    pub best: Best,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub artifact: ArtifactRef,
    pub progress: Progress,
    pub metrics: Metrics,
}

impl Checkpoint {
    pub fn step(&self) -> u64 {
        self.artifact.key.step
    }

    pub fn reached(&self) -> Reached {
        Reached { step: self.step(), epochs: self.metrics.last.epoch }
    }
}

/// How far training came: its steps, then the epochs that were closed after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reached {
    pub step: u64,
    pub epochs: u32,
}

/// Which bytes the task trains on; set when its first attempt has them, and kept by every later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetUsed {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub train_samples: u64,
    pub test_samples: u64,
    /// Why another dataset than the asked-for one is used.
    pub instead_of: Option<String>,
}

impl DatasetUsed {
    pub fn of(manifest: &Manifest, instead_of: Option<String>) -> Self {
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256: manifest.sha256.clone(),
            train_samples: manifest.train.samples,
            test_samples: manifest.test.samples,
            instead_of,
        }
    }
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    Completed,
    TargetAccuracy,
    Patience,
    MaxSeconds,
}

impl StopReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TargetAccuracy => "target_accuracy",
            Self::Patience => "patience",
            Self::MaxSeconds => "max_seconds",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    pub attempt: u32,
    pub progress: Progress,
    pub metrics: Metrics,
    pub test_loss: f64,
    pub test_accuracy: f64,
    pub best_test_accuracy: f64,
    /// Test samples by true class (rows) and predicted class (columns).
    pub confusion: Vec<Vec<u64>>,
    pub weights_sha256: String,
    pub kernel_set: String,
    pub stop_reason: StopReason,
    pub model: ArtifactRef,
    pub best_model: ArtifactRef,
}
