//! What a task's attempts produce: progress, metrics, checkpoints, a result.

use kubeml_spec::{EpochMetrics, Kept, Outcome};
use serde::{Deserialize, Serialize};

use super::TaskId;
use crate::dataset::Manifest;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    #[serde(with = "serde_bytes")]
    pub hash: [u8; 32],
    pub bytes: u64,
}

/// How far training is. Steps count over the whole task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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

impl Progress {
    /// Where an attempt stands that resumes at `step`, in a task that has come this far.
    #[must_use]
    pub fn resumed_at(self, step: u64) -> Self {
        let Self { epochs, steps, .. } = self;
        let per_epoch = steps.checked_div(u64::from(epochs)).unwrap_or_default().max(1);
        let epoch = u32::try_from(step.div_ceil(per_epoch)).unwrap_or(epochs).min(epochs);
        Self { epoch, epochs, step, steps, ..Self::default() }
    }

    /// Where a task stands whose training has ended.
    #[must_use]
    pub fn ended(self, outcome: &Outcome, last: Option<&EpochMetrics>) -> Self {
        let last = last.copied().unwrap_or_default();
        Self {
            epoch: outcome.epochs,
            step: outcome.steps,
            samples_per_second: last.samples_per_second,
            eta_seconds: 0.0,
            loss: last.loss,
            accuracy: last.accuracy,
            ..self
        }
    }
}

/// A training's state as stored bytes. Its epochs' metrics are in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub artifact: ArtifactRef,
    /// Epochs that were closed before it.
    pub epochs: u32,
}

impl Checkpoint {
    pub fn step(&self) -> u64 {
        self.artifact.key.step
    }

    pub fn reached(&self) -> Reached {
        Reached { step: self.step(), epochs: self.epochs }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// What a succeeded task has: the outcome of its training, and where its models are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    pub attempt: u32,
    pub outcome: Kept<Outcome>,
    pub model: ArtifactRef,
    pub best_model: ArtifactRef,
}
