//! A task as JSON: what was asked, where it stands, what it has produced.

use kubeml_actors::{
    spec::{Architecture, Hyperparameters, Optimizer, Schedule, TaskSpec},
    task::{DatasetUsed, Failure, Metrics, Progress, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    pub last: LastView,
    pub best: BestView,
    /// On the test split, once the task has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastView {
    pub loss: f64,
    pub accuracy: f64,
    pub val_loss: f64,
    pub val_accuracy: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BestView {
    pub val_accuracy: f64,
    pub epoch: u32,
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
        let result = record.result.as_ref();
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
            dataset: record.dataset.as_ref().map(DatasetView::new),
            progress: ProgressView::new(&further.unwrap_or(record.progress)),
            metrics: MetricsView::new(record),
            weights_sha256: result.map(|result| result.weights_sha256.clone()),
            kernel_set: result.map(|result| result.kernel_set.clone()),
            stop_reason: result.map(|result| result.stop_reason.as_str().to_owned()),
            confusion_matrix: result.map(|result| result.confusion.clone()),
            failure: record.failure.as_ref().map(FailureView::new),
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
            model: spec.model.as_str().to_owned(),
            dataset: spec.dataset.name.clone(),
            hyperparameters: wire_hyperparameters(&spec.hyperparameters),
        }
    }
}

/// The fields that `POST /api/v1/tasks` takes, with the values in force.
pub fn wire_hyperparameters(h: &Hyperparameters) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("epochs", json!(h.epochs));
    put("batch_size", json!(h.batch_size));
    put("learning_rate", json!(h.learning_rate));
    match h.optimizer {
        Optimizer::Adam => put("optimizer", json!("adam")),
        Optimizer::AdamW { weight_decay } => {
            put("optimizer", json!("adamw"));
            put("weight_decay", json!(weight_decay));
        }
        Optimizer::Sgd { momentum } => {
            put("optimizer", json!("sgd"));
            put("momentum", json!(momentum));
        }
    }
    match h.schedule {
        Schedule::Constant => put("schedule", json!("constant")),
        Schedule::Step { every, factor } => {
            put("schedule", json!("step"));
            put("schedule_every", json!(every));
            put("schedule_factor", json!(factor));
        }
        Schedule::Cosine => put("schedule", json!("cosine")),
    }
    put("seed", json!(h.seed));
    put("dropout", json!(h.dropout));
    put("validation_fraction", json!(h.validation_fraction));
    put("target_accuracy", json!(h.target_accuracy));
    put("patience", json!(h.patience));
    put("max_seconds", json!(h.max_seconds));
    match &h.architecture {
        Architecture::Mlp { hidden } => put("hidden", json!(hidden)),
        Architecture::Cnn { channels, dense } => {
            put("channels", json!(channels));
            put("dense", json!(dense));
        }
        Architecture::Lstm { units, dense } => {
            put("units", json!(units));
            put("dense", json!(dense));
        }
    }
    fields
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
        let Metrics { last, best } = record.metrics;
        let (loss, accuracy, val_loss, val_accuracy) = (last.loss, last.accuracy, last.val_loss, last.val_accuracy);
        Self {
            last: LastView { loss, accuracy, val_loss, val_accuracy },
            best: BestView { val_accuracy: best.val_accuracy, epoch: best.epoch },
            test: record.result.as_ref().map(|result| TestView {
                loss: result.test_loss,
                accuracy: result.test_accuracy,
                best_accuracy: result.best_test_accuracy,
            }),
        }
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
            format!("loading the dataset {} on {worker}", record.spec.dataset.name)
        }
        TaskState::Running => format!("training on {worker} since {}", time_of_day(record.started_at.unwrap_or(now))),
        TaskState::Succeeded => format!("trained by {worker}"),
        TaskState::Failed => message.to_owned(),
        TaskState::Cancelled => "cancelled".to_owned(),
    }
}
