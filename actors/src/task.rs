//! The record of a task: what was asked, where it stands, what it has produced.
//!
//! Records change in one way only: `transition` makes the next one, and a store puts it in the place of the version it
//! was made from.

use std::{fmt, str::FromStr};

use kubeml_spec::{Epochs, Kept, TaskSpec, Unknown};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    event::{EventKind, Seq, TaskEvent},
    timestamp::Timestamp,
};

mod product;

pub use product::{ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, DatasetUsed, Progress, Reached, TaskResult};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// Stands for no task in facts about the node, like the import of a dataset.
    pub const NONE: Self = Self(Uuid::nil());

    /// Ids made this way sort by the time of their making.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The same key gives the same task for ever.
    pub fn from_idempotency_key(key: &str) -> Self {
        const KEYS: Uuid = Uuid::from_u128(0x6b75_6265_6d6c_5eed_a000_6964_656d_6b65);
        Self(Uuid::new_v5(&KEYS, key.as_bytes()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// One life of one node's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    pub node: String,
    pub boot: Uuid,
}

impl Incarnation {
    pub fn fresh(node: impl Into<String>) -> Self {
        Self { node: node.into(), boot: Uuid::new_v4() }
    }

    /// The name that people see, like `node-1/0`.
    pub fn worker_id(&self, slot: usize) -> String {
        format!("{}/{slot}", self.node)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl TaskState {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Proof of holding an attempt: every write of an owner carries it, and only the current one is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    pub attempt: u32,
    pub nonce: Uuid,
}

/// Who holds a running task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    pub incarnation: Incarnation,
    pub nonce: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Trying again cannot help: a bad spec, another dataset under the same name, a time limit.
    Permanent,
    /// A store, a cache, a dataset's source: not the task's fault, free of charge until a deadline.
    Infrastructure,
    /// The trainer ended in error, panicked, stalled or vanished: charged.
    Crashed,
    /// The loss is no number. Training is deterministic, so a second time makes it permanent.
    Diverged,
    /// The node is shutting down: free of charge.
    Drained,
    /// Too many attempts in a row without progress.
    NoProgress,
}

impl FailureKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Infrastructure => "infrastructure",
            Self::Crashed => "crashed",
            Self::Diverged => "diverged",
            Self::Drained => "drained",
            Self::NoProgress => "no_progress",
        }
    }
}

/// How an attempt, or a whole task, came to a bad end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn drained() -> Self {
        Self::new(FailureKind::Drained, "the node is shutting down")
    }

    pub fn crashed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Crashed, message)
    }
}

/// What a person hands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    pub id: TaskId,
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub priority: i32,
    pub retry_of: Option<TaskId>,
    pub spec: TaskSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub id: TaskId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub priority: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<TaskId>,
    pub spec: TaskSpec,

    pub state: TaskState,
    /// Grows by one with every accepted transition.
    pub version: u64,
    /// The compare-and-set that made this version.
    pub op_id: Uuid,
    /// The current or last attempt; 0 before the first claim.
    pub attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The current or last holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Consecutive attempts, the running one included, without a newer checkpoint.
    pub no_progress: u32,
    /// Since when attempts have ended for no fault of the task; cleared by progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    pub cancel_requested: bool,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Kept<DatasetUsed>>,
    /// The furthest that ever was in a checkpoint: only what lies beyond it is progress.
    pub reached: Reached,
    /// Newest first, at most two.
    pub checkpoints: Vec<Kept<Checkpoint>>,
    pub progress: Kept<Progress>,
    /// The metrics of every finished epoch, once.
    pub epochs: Epochs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Kept<TaskResult>>,
    /// How the last attempt ended, when it ended badly; for a FAILED task, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Kept<Failure>>,
    /// The terminal fact is in the log.
    pub announced: bool,

    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,

    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TaskRecord {
    pub fn submitted(submission: Submission, op_id: Uuid, now: Timestamp) -> Self {
        let Submission { id, name, tags, priority, retry_of, spec } = submission;
        let progress = Progress { epochs: spec.hyperparameters().epochs, ..Progress::default() };
        Self {
            id,
            name,
            tags,
            priority,
            retry_of,
            spec,
            state: TaskState::Pending,
            version: 1,
            op_id,
            attempt: 0,
            owner: None,
            worker_id: None,
            no_progress: 0,
            blocked_since: None,
            not_before: None,
            cancel_requested: false,
            dataset: None,
            reached: Reached::default(),
            checkpoints: Vec::new(),
            progress: progress.into(),
            epochs: Epochs::default(),
            result: None,
            failure: None,
            announced: false,
            created_at: now,
            updated_at: now,
            started_at: None,
            finished_at: None,
            unknown: Unknown::new(),
        }
    }

    /// Whether the same person asked for the same thing: what a repeated `Idempotency-Key` is compared by.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        (self.spec.hash(), &self.name, &self.tags, self.priority)
            == (other.spec.hash(), &other.name, &other.tags, other.priority)
    }

    pub fn holds(&self, fence: Fence) -> bool {
        self.fence() == Some(fence)
    }

    /// The running attempt's fence.
    pub fn fence(&self) -> Option<Fence> {
        match (&self.owner, self.state) {
            (Some(owner), TaskState::Running) => Some(Fence { attempt: self.attempt, nonce: owner.nonce }),
            _ => None,
        }
    }

    /// Whether the task still needs somebody: to run it, to end it or to announce its end.
    pub fn is_queued(&self) -> bool {
        !self.announced
    }

    /// An earlier attempt ended without progress: what it does to its process, neighbours shall not pay for.
    pub fn is_suspect(&self) -> bool {
        match self.state {
            TaskState::Running => self.no_progress >= 2,
            _ => self.no_progress >= 1,
        }
    }

    pub fn newest_checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoints.first().map(|checkpoint| &checkpoint.known)
    }

    /// The step at which the next attempt starts.
    pub fn resume_step(&self) -> u64 {
        self.newest_checkpoint().map_or(0, Checkpoint::step)
    }

    /// The fact that ends the task's stream; the same whoever writes it and however often.
    pub fn terminal_fact(&self) -> Option<TaskEvent> {
        let kind = match self.state {
            TaskState::Pending | TaskState::Running => return None,
            TaskState::Succeeded => {
                let last = self.epochs.last().copied().unwrap_or_default();
                EventKind::Succeeded { result: Box::new(self.result.clone()?.known), last }
            }
            TaskState::Failed => EventKind::Failed { failure: self.failure.clone()?.known },
            TaskState::Cancelled => EventKind::Cancelled,
        };
        let at = self.finished_at.unwrap_or(self.updated_at);
        Some(TaskEvent { task: self.id, seq: Seq::terminal(self.attempt), at, kind })
    }
}
