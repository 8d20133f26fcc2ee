//! Between the application's words and the training library's.

use kubeml_actors::{
    dataset::{Dataset, RawSplit},
    ports::EngineError,
    spec::{Architecture, Optimizer, Schedule, TaskSpec},
};
use kubeml_train as train;

pub fn spec(spec: &TaskSpec) -> train::FitSpec {
    let h = &spec.hyperparameters;
    train::FitSpec {
        model: model(&h.architecture),
        epochs: h.epochs,
        batch_size: h.batch_size as usize,
        optimizer: match h.optimizer {
            Optimizer::Adam => train::OptimizerKind::Adam,
            Optimizer::AdamW { weight_decay } => train::OptimizerKind::AdamW { weight_decay },
            Optimizer::Sgd { momentum } => train::OptimizerKind::Sgd { momentum },
        },
        learning_rate: h.learning_rate,
        schedule: match h.schedule {
            Schedule::Constant => train::Schedule::Constant,
            Schedule::Step { every, factor } => train::Schedule::Step { every, factor },
            Schedule::Cosine => train::Schedule::Cosine,
        },
        dropout: h.dropout,
        seed: h.seed,
        validation_fraction: h.validation_fraction,
        target_accuracy: h.target_accuracy,
        patience: h.patience,
        max_seconds: h.max_seconds.map(f64::from),
    }
}

fn model(architecture: &Architecture) -> train::ModelSpec {
    let widths = |widths: &[u32]| widths.iter().map(|width| *width as usize).collect();
    match architecture {
        Architecture::Mlp { hidden } => train::ModelSpec::Mlp { hidden: widths(hidden) },
        Architecture::Cnn { channels, dense } => {
            train::ModelSpec::Cnn { channels: widths(channels), dense: *dense as usize }
        }
        Architecture::Lstm { units, dense } => {
            train::ModelSpec::Lstm { units: *units as usize, dense: *dense as usize }
        }
    }
}

pub fn data(dataset: &Dataset) -> Result<train::Data, train::TrainError> {
    let split = |raw: &RawSplit| train::Split { images: raw.images.clone(), labels: raw.labels.clone() };
    let manifest = &dataset.manifest;
    train::Data::new(train::DataParts {
        height: manifest.height as usize,
        width: manifest.width as usize,
        classes: manifest.classes as usize,
        train: split(&dataset.train),
        test: split(&dataset.test),
        hash: manifest.sha256.clone(),
    })
}

pub fn error(error: train::TrainError) -> EngineError {
    let message = error.to_string();
    match error {
        train::TrainError::InvalidSpec { .. } | train::TrainError::InvalidData { .. } => EngineError::Invalid(message),
        train::TrainError::Checkpoint(_) => EngineError::BadCheckpoint(message),
        train::TrainError::NotFinite { .. } => EngineError::Diverged(message),
        train::TrainError::Threads { .. } | train::TrainError::Panicked { .. } | train::TrainError::Kernel(_) => {
            EngineError::Failed(message)
        }
    }
}
