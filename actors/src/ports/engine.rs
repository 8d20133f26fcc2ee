//! The engine's port: what one attempt's training is given, tells and ends with.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_spec::{EpochMetrics, Outcome, TaskSpec};
use tokio::sync::mpsc;

use crate::{
    dataset::Dataset,
    task::{Failure, FailureKind, Progress, TaskId},
};

/// How an attempt's trainer and its engine steer each other without waiting for one another.
#[derive(Debug)]
pub struct Control {
    stop: AtomicBool,
    checkpoint_wanted: AtomicBool,
    beats: AtomicU64,
    progress: Mutex<Progress>,
}

impl Control {
    pub fn new(progress: Progress) -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            checkpoint_wanted: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            progress: Mutex::new(progress),
        })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The engine looks at every batch.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub fn want_checkpoint(&self) {
        self.checkpoint_wanted.store(true, Ordering::Release);
    }

    /// Whether a checkpoint has been wanted since the last call.
    pub fn take_checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.load(Ordering::Relaxed) && self.checkpoint_wanted.swap(false, Ordering::AcqRel)
    }

    pub fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        self.beat();
    }

    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the attempt is alive, whatever it is at: an attempt without beats is taken for stalled.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// A state that training can go on from, taken by the engine at a batch boundary.
pub struct Snapshot {
    pub step: u64,
    /// Epochs closed.
    pub epochs: u32,
    pub progress: Progress,
    /// Makes the checkpoint's bytes; takes milliseconds, so not on the training thread.
    pub encode: Box<dyn FnOnce() -> Bytes + Send>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("step", &self.step).finish_non_exhaustive()
    }
}

/// What an engine tells while it trains.
#[derive(Debug)]
pub enum Report {
    /// The attempt's first batch is done.
    FirstStep {
        began: Instant,
    },
    /// Asked for by [`Control::want_checkpoint`]. Never at an epoch's last batch: the epoch's own comes then.
    Checkpoint(Snapshot),
    EpochFinished(EpochMetrics, Snapshot),
}

/// One attempt's training.
pub struct Work {
    pub task: TaskId,
    pub slot: usize,
    pub spec: TaskSpec,
    pub dataset: Arc<Dataset>,
    pub checkpoint: Option<Bytes>,
    pub control: Arc<Control>,
    /// Bounded: an engine that is ahead of the stores waits here.
    pub reports: mpsc::Sender<Report>,
}

#[derive(Debug)]
pub enum Fitted {
    Finished(Box<Trained>),
    /// [`Control::stop`] was heard.
    Stopped(Snapshot),
}

#[derive(Clone, Debug)]
pub struct Trained {
    pub outcome: Outcome,
    pub model: Bytes,
    pub best_model: Bytes,
}

/// Why a training has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The given checkpoint cannot be resumed from; an earlier one, or none, may do.
    #[error("{0}")]
    BadCheckpoint(String),
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl EngineError {
    pub fn failed(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(kind, message))
    }
}

/// Trains. Dropping the future of `fit` stops the training at its next batch.
#[async_trait]
pub trait Engine: Send + Sync {
    async fn fit(&self, work: Work) -> Result<Fitted, EngineError>;
}
