//! What can go wrong in a training, and whether trying again can help.

use crate::checkpoint::CheckpointError;
use crate::spec::SpecProblem;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("the spec has {} problems: {}", problems.len(), lines(problems))]
    InvalidSpec { problems: Vec<SpecProblem> },

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

/// What the caller should do about a [`TrainError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same request may succeed later or elsewhere.
    Retry,
    /// The same request fails the same way everywhere.
    GiveUp,
}

impl TrainError {
    pub fn verdict(&self) -> Verdict {
        match self {
            TrainError::InvalidSpec { .. }
            | TrainError::InvalidData { .. }
            | TrainError::Checkpoint(_)
            | TrainError::NotFinite { .. }
            | TrainError::Kernel(_) => Verdict::GiveUp,
            TrainError::Threads { .. } | TrainError::Panicked { .. } => Verdict::Retry,
        }
    }
}

fn lines(problems: &[SpecProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
