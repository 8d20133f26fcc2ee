//! A fact as JSON: `{"task_id", "seq", "at", "attempt", "kind", …}`.

use kubeml_actors::{
    event::{EventKind, LogLevel, TaskEvent},
    task::{Failure, Progress, TaskId},
};
use kubeml_spec::{EpochMetrics, Outcome};
use serde::{Deserialize, Serialize};

use super::{time, view::FailureView};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `null` for lines that belong to no task, like the import of a dataset.
    pub task_id: Option<TaskId>,
    pub seq: u64,
    pub at: String,
    pub attempt: u32,
    #[serde(flatten)]
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    Queued,
    Claimed {
        worker_id: String,
    },
    Resumed {
        from_step: u64,
    },
    Progress {
        epoch: u32,
        epochs: u32,
        step: u64,
        steps: u64,
        loss: f64,
        accuracy: f64,
        samples_per_second: f64,
        eta_seconds: f64,
    },
    EpochFinished(EpochMetrics),
    CheckpointSaved {
        step: u64,
    },
    Log {
        level: String,
        message: String,
    },
    AttemptFailed {
        failure: FailureView,
        charged: bool,
    },
    CancelRequested,
    Succeeded(Box<Success>),
    Failed {
        failure: FailureView,
    },
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// The last epoch.
    #[serde(flatten)]
    pub last: EpochMetrics,
    pub test_loss: f64,
    pub test_accuracy: f64,
    pub best_test_accuracy: f64,
    pub best_epoch: u32,
    pub weights_sha256: String,
    pub kernel_set: String,
    pub stop_reason: String,
    /// Test samples by true class (rows) and predicted class (columns).
    pub confusion_matrix: Vec<Vec<u64>>,
}

impl Event {
    pub fn new(fact: &TaskEvent) -> Self {
        Self {
            task_id: (fact.task != TaskId::NONE).then_some(fact.task),
            seq: fact.seq.0,
            at: time(fact.at),
            attempt: if fact.task == TaskId::NONE { 0 } else { fact.seq.attempt() },
            body: Body::new(&fact.kind),
        }
    }
}

impl Body {
    fn new(kind: &EventKind) -> Self {
        match kind {
            EventKind::Queued => Self::Queued,
            EventKind::Claimed { worker_id } => Self::Claimed { worker_id: worker_id.clone() },
            EventKind::Resumed { from_step } => Self::Resumed { from_step: *from_step },
            EventKind::Progress(progress) => Self::progress(progress),
            EventKind::EpochFinished(metrics) => Self::EpochFinished(*metrics),
            EventKind::CheckpointSaved { step } => Self::CheckpointSaved { step: *step },
            EventKind::Log { level, message } => {
                let level = match level {
                    LogLevel::Info => "info",
                    LogLevel::Warn => "warn",
                };
                Self::Log { level: level.to_owned(), message: message.clone() }
            }
            EventKind::AttemptFailed { failure, charged } => {
                Self::AttemptFailed { failure: FailureView::new(failure), charged: *charged }
            }
            EventKind::CancelRequested => Self::CancelRequested,
            EventKind::Succeeded { result, last } => Self::Succeeded(Box::new(Success::new(&result.outcome, *last))),
            EventKind::Failed { failure } => Self::failed(failure),
            EventKind::Cancelled => Self::Cancelled,
        }
    }

    fn progress(progress: &Progress) -> Self {
        let Progress { epoch, epochs, step, steps, samples_per_second, eta_seconds, loss, accuracy } = *progress;
        Self::Progress { epoch, epochs, step, steps, loss, accuracy, samples_per_second, eta_seconds }
    }

    fn failed(failure: &Failure) -> Self {
        Self::Failed { failure: FailureView::new(failure) }
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed { .. } | Self::Cancelled)
    }
}

impl Success {
    fn new(outcome: &Outcome, last: EpochMetrics) -> Self {
        Self {
            last,
            test_loss: outcome.test.loss,
            test_accuracy: outcome.test.accuracy,
            best_test_accuracy: outcome.best_test.accuracy,
            best_epoch: outcome.best_epoch,
            weights_sha256: outcome.weights_sha256.clone(),
            kernel_set: outcome.kernel_set.clone(),
            stop_reason: outcome.stop_reason.as_str().to_owned(),
            confusion_matrix: outcome.confusion.clone(),
        }
    }
}
