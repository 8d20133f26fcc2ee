//! Between the application's words and the training library's.

use kubeml_actors::{
    dataset::{Dataset, RawSplit},
    ports::EngineError,
    task::FailureKind,
};
use kubeml_train as train;

pub fn data(dataset: &Dataset) -> Result<train::Data, EngineError> {
    let split = |raw: &RawSplit| train::Split { images: raw.images.clone(), labels: raw.labels.clone() };
    let manifest = &dataset.manifest;
    let parts = train::DataParts {
        height: manifest.height as usize,
        width: manifest.width as usize,
        classes: manifest.classes as usize,
        train: split(&dataset.train),
        test: split(&dataset.test),
        hash: manifest.sha256.clone(),
    };
    train::Data::new(parts).map_err(error)
}

pub fn error(error: train::TrainError) -> EngineError {
    match failure_kind(&error) {
        Some(kind) => EngineError::failed(kind, error.to_string()),
        None => EngineError::BadCheckpoint(error.to_string()),
    }
}

/// What an error of training means for the task; `None` where another checkpoint may do.
pub fn failure_kind(error: &train::TrainError) -> Option<FailureKind> {
    Some(match error {
        train::TrainError::Checkpoint(_) => return None,
        train::TrainError::InvalidSpec { .. } | train::TrainError::InvalidData { .. } => FailureKind::Permanent,
        // Training is deterministic: a kernel that refuses its input does so at every try.
        train::TrainError::Kernel(_) => FailureKind::Permanent,
        train::TrainError::NotFinite { .. } => FailureKind::Diverged,
        train::TrainError::Threads { .. } => FailureKind::Infrastructure,
        train::TrainError::Panicked { .. } => FailureKind::Crashed,
    })
}
