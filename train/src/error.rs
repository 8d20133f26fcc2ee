//! What can go wrong in a training.

use kubeml_spec::{Problem, problem::on_one_line};

use crate::checkpoint::CheckpointError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("the task does not fit its dataset: {}", on_one_line(problems))]
    InvalidSpec { problems: Vec<Problem> },

    #[error("the dataset has {} problems: {}", problems.len(), problems.join("; "))]
    InvalidData { problems: Vec<String> },

    /// The checkpoint is damaged or belongs to something else; an earlier one, or none, may do.
    #[error("cannot resume: {0}")]
    Checkpoint(#[from] CheckpointError),

    #[error("the loss is {loss} at step {step} of epoch {epoch}; lower learning_rate")]
    NotFinite { step: u64, epoch: u32, loss: f64 },

    #[error("cannot start {threads} training threads: {reason}")]
    Threads { threads: usize, reason: String },

    /// A bug, or memory that ran out; the process itself is fine.
    #[error("a training thread panicked: {message}")]
    Panicked { message: String },

    /// A kernel refused its input: a bug in this package, the same at every try.
    #[error("a kernel failed: {0}")]
    Kernel(#[from] candle_core::Error),
}
