//! The way in: [`fit`] checks what is asked, starts the threads, runs the session and hands back what came of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kubeml_spec::{EpochMetrics, Outcome, TaskSpec};

use crate::checkpoint::{Checkpoint, Snapshot};
use crate::data::Data;
use crate::error::TrainError;
use crate::observer::Observer;
use crate::pool::Pool;
use crate::session::Session;
use crate::size::fitting_stages;

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
pub enum Ended {
    Finished(Box<Trained>),
    /// The observer said stop; the snapshot resumes exactly there.
    Stopped(Box<Snapshot>),
}

/// A finished training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub outcome: Outcome,
    /// The last epoch: train loss and accuracy, and `val_*` after it.
    pub last: EpochMetrics,
    /// The epoch of the best model.
    pub best: EpochMetrics,
    /// The final model as a safetensors file; equal weights give equal bytes.
    pub model: Vec<u8>,
    /// The best model as a safetensors file.
    pub best_model: Vec<u8>,
}

/// Trains `spec` on `data`, from the start or from `resume`, and returns when it is done, stopped or failed.
///
/// Blocks the calling thread; the work runs on `threads.count` threads of its own, which end after it.
///
/// # Errors
/// See [`TrainError`]. A panic inside becomes [`TrainError::Panicked`].
pub fn fit(
    spec: &TaskSpec,
    data: &Data,
    resume: Option<Checkpoint>,
    threads: &Threads,
    observer: &mut dyn Observer,
) -> Result<Ended, TrainError> {
    let stages = fitting_stages(spec, data).map_err(|problems| TrainError::InvalidSpec { problems })?;
    let resume = resume.map(|checkpoint| checkpoint.into_snapshot(spec, data)).transpose()?;
    let pool = Pool::start(threads)?;
    let run = || pool.install(|| Session::open(spec, &stages, data, resume, &pool)?.run(observer));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(payload: &(dyn Any + Send)) -> TrainError {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
    TrainError::Panicked { message: message.unwrap_or_else(|| "no message".to_string()) }
}
