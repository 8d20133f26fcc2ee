//! The way in: [`fit`] checks what is asked, starts the threads, runs the session and hands back what came of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Snapshot};
use crate::data::Data;
use crate::error::TrainError;
use crate::metrics::{EpochMetrics, Evaluation};
use crate::observer::Observer;
use crate::pool::Pool;
use crate::session::Session;
use crate::spec::FitSpec;

/// How a training is computed; no part of its meaning.
#[derive(Clone)]
pub struct Threads {
    /// At least 1. More than the batch has shards is allowed; the rest help with evaluation and the optimizer.
    pub count: usize,
    /// Runs first on every training thread: the place to lower its priority.
    pub on_start: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Threads {
    pub fn new(count: usize) -> Self {
        Threads { count, on_start: None }
    }
}

/// How [`fit`] ended without an error.
pub enum Outcome {
    Finished(Box<Trained>),
    /// The observer said stop; the snapshot resumes exactly there.
    Stopped(Box<Snapshot>),
}

/// Why a finished training ended when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Completed,
    TargetAccuracy,
    Patience,
    MaxSeconds,
}

impl StopReason {
    /// The name used in checkpoints, logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::Completed => "completed",
            StopReason::TargetAccuracy => "target_accuracy",
            StopReason::Patience => "patience",
            StopReason::MaxSeconds => "max_seconds",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Completed, Self::TargetAccuracy, Self::Patience, Self::MaxSeconds]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}

/// A finished training.
pub struct Trained {
    /// The last epoch: train loss and accuracy, and `val_*` after it.
    pub last: EpochMetrics,
    /// The epoch of the best model.
    pub best: EpochMetrics,
    /// The final model on the test split.
    pub test: Evaluation,
    /// The best model on the test split.
    pub best_test: Evaluation,
    /// SHA-256 over (name, dtype, shape, little-endian bytes) of the final parameters sorted by name, in hex.
    pub weights_sha256: String,
    /// The same of the best model.
    pub best_weights_sha256: String,
    /// The final model as a safetensors file; equal weights give equal bytes.
    pub model: Vec<u8>,
    /// The best model as a safetensors file.
    pub best_model: Vec<u8>,
    pub epochs_run: u32,
    pub steps: u64,
    /// Seconds of training over all attempts, without evaluation. By the observer's clock.
    pub train_seconds: f64,
    pub stop_reason: StopReason,
    /// What computed it, see [`crate::kernel_set`]: of all attempts, joined by `+` where one resumed on another processor.
    pub kernel_sets: String,
}

/// Trains `spec` on `data`, from the start or from `resume`, and returns when it is done, stopped or failed.
///
/// Blocks the calling thread; the work runs on `threads.count` threads of its own, which end after it.
///
/// # Errors
/// See [`TrainError`]; its `verdict` says whether to try again. A panic inside becomes [`TrainError::Panicked`].
pub fn fit(
    spec: &FitSpec,
    data: &Data,
    resume: Option<Checkpoint>,
    threads: &Threads,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let problems = spec.problems_with(data);
    if !problems.is_empty() {
        return Err(TrainError::InvalidSpec { problems });
    }
    let resume = resume.map(|checkpoint| checkpoint.into_snapshot(spec, data)).transpose()?;
    let pool = Pool::start(threads)?;
    let run = || pool.install(|| Session::open(spec, data, resume, &pool)?.run(observer));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(payload: &(dyn Any + Send)) -> TrainError {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
    TrainError::Panicked { message: message.unwrap_or_else(|| "no message".to_string()) }
}
