//! A task as JSON: what was asked, where it stands, what it has produced.

use kubeml_actors::{
    task::{DatasetUsed, Failure, Progress, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};
use kubeml_spec::{EpochMetrics, Outcome, TaskSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{time, time_of_day};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    pub id: TaskId,
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub state: String,
    pub attempt: u32,
    pub worker_id: Option<String>,
    pub priority: i32,
    pub retry_of: Option<TaskId>,
    pub spec: SpecView,
    pub dataset: Option<DatasetView>,
    pub progress: ProgressView,
    pub metrics: MetricsView,
    pub weights_sha256: Option<String>,
    pub kernel_set: Option<String>,
    pub stop_reason: Option<String>,
    pub confusion_matrix: Option<Vec<Vec<u64>>>,
    pub failure: Option<FailureView>,
    pub why: String,
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    /// From the first start to the end, or until now.
    pub duration_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecView {
    pub model: String,
    pub dataset: String,
    pub hyperparameters: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetView {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub train_samples: u64,
    pub test_samples: u64,
    /// Why another dataset than the asked-for one is used; `null` when it is the asked-for one.
    pub instead_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressView {
    pub epoch: u32,
    pub epochs: u32,
    pub step: u64,
    pub steps: u64,
    pub samples_per_second: f64,
    pub eta_seconds: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsView {
    /// The last finished epoch; zeros before the first.
    pub last: EpochMetrics,
    /// The epoch of the best model so far.
    pub best: EpochMetrics,
    /// On the test split, once the task has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestView {
    pub loss: f64,
    pub accuracy: f64,
    /// Of the best model.
    pub best_accuracy: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    pub kind: String,
    pub message: String,
}

impl TaskView {
    /// `live` is the newest progress heard of the running attempt.
    pub fn new(record: &TaskRecord, live: Option<Progress>, now: Timestamp) -> Self {
        let outcome = record.result.as_ref().map(|result| &result.outcome.known);
        let further = live.filter(|live| record.state == TaskState::Running && live.step > record.progress.step);
        let ended = record.finished_at.unwrap_or(now);
        Self {
            id: record.id,
            name: record.name.clone(),
            tags: record.tags.clone(),
            state: record.state.as_str().to_owned(),
            attempt: record.attempt,
            worker_id: record.worker_id.clone(),
            priority: record.priority,
            retry_of: record.retry_of,
            spec: SpecView::new(&record.spec),
            dataset: record.dataset.as_deref().map(DatasetView::new),
            progress: ProgressView::new(&further.unwrap_or(*record.progress)),
            metrics: MetricsView::new(record),
            weights_sha256: outcome.map(|outcome| outcome.weights_sha256.clone()),
            kernel_set: outcome.map(|outcome| outcome.kernel_set.clone()),
            stop_reason: outcome.map(|outcome| outcome.stop_reason.as_str().to_owned()),
            confusion_matrix: outcome.map(|outcome| outcome.confusion.clone()),
            failure: record.failure.as_deref().map(FailureView::new),
            why: why(record, now),
            created_at: time(record.created_at),
            started_at: record.started_at.map(time),
            finished_at: record.finished_at.map(time),
            duration_seconds: record.started_at.map_or(0.0, |started| ended.since(started).as_secs_f64()),
        }
    }
}

impl SpecView {
    fn new(spec: &TaskSpec) -> Self {
        Self {
            model: spec.model().as_str().to_owned(),
            dataset: spec.dataset().name.clone(),
            hyperparameters: spec.hyperparameters_json(),
        }
    }
}

impl DatasetView {
    fn new(used: &DatasetUsed) -> Self {
        Self {
            name: used.name.clone(),
            version: used.version.clone(),
            sha256: used.sha256.clone(),
            train_samples: used.train_samples,
            test_samples: used.test_samples,
            instead_of: used.instead_of.clone(),
        }
    }
}

impl ProgressView {
    fn new(progress: &Progress) -> Self {
        let Progress { epoch, epochs, step, steps, samples_per_second, eta_seconds, .. } = *progress;
        Self { epoch, epochs, step, steps, samples_per_second, eta_seconds }
    }
}

impl MetricsView {
    fn new(record: &TaskRecord) -> Self {
        let epochs = &record.epochs;
        Self {
            last: epochs.last().copied().unwrap_or_default(),
            best: epochs.best().copied().unwrap_or_default(),
            test: record.result.as_ref().map(|result| TestView::new(&result.outcome)),
        }
    }
}

impl MetricsView {
    /// What a repeated training has again: all but what the clock says.
    #[must_use]
    pub fn without_clock(self) -> Self {
        Self { last: self.last.without_clock(), best: self.best.without_clock(), ..self }
    }
}

impl TestView {
    fn new(outcome: &Outcome) -> Self {
        let Outcome { test, best_test, .. } = outcome;
        Self { loss: test.loss, accuracy: test.accuracy, best_accuracy: best_test.accuracy }
    }
}

impl FailureView {
    pub fn new(failure: &Failure) -> Self {
        Self { kind: failure.kind.as_str().to_owned(), message: failure.message.clone() }
    }
}

/// What the task waits for or came to, in one sentence.
fn why(record: &TaskRecord, now: Timestamp) -> String {
    let worker = record.worker_id.as_deref().unwrap_or("a worker");
    let message = record.failure.as_ref().map_or("", |failure| failure.message.as_str());
    match record.state {
        TaskState::Pending => match record.not_before.filter(|not_before| *not_before > now) {
            Some(not_before) => format!("waiting until {} after: {message}", time_of_day(not_before)),
            None if record.attempt == 0 => "waiting for a free trainer".to_owned(),
            None => format!("waiting for a free trainer after: {message}"),
        },
        TaskState::Running if record.cancel_requested => format!("being cancelled on {worker}"),
        TaskState::Running if record.dataset.is_none() => {
            format!("loading the dataset {} on {worker}", record.spec.dataset().name)
        }
        TaskState::Running => format!("training on {worker} since {}", time_of_day(record.started_at.unwrap_or(now))),
        TaskState::Succeeded => format!("trained by {worker}"),
        TaskState::Failed => message.to_owned(),
        TaskState::Cancelled => "cancelled".to_owned(),
    }
}
