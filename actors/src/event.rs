//! What happened to a task: the facts of its log.
//!
//! In attempt 0 there is `queued` alone. In a later attempt only its owner writes 0, 1, 2 … without holes; whoever ends
//! an attempt writes [`Seq::attempt_end`], and whoever ends the task [`Seq::terminal`]. So a reader knows a hole when it
//! sees one, and writing a fact again changes nothing.

use std::fmt;

use kubeml_spec::EpochMetrics;
use serde::{Deserialize, Serialize};

use crate::{
    task::{Failure, Progress, TaskId, TaskResult},
    timestamp::Timestamp,
};

/// A fact's place in its task's log: `attempt << 40 | n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    const N_BITS: u32 = 40;
    const N_MAX: u64 = (1 << Self::N_BITS) - 1;
    /// The first fact of every task.
    pub const QUEUED: Self = Self(0);

    pub fn new(attempt: u32, n: u64) -> Self {
        Self(u64::from(attempt) << Self::N_BITS | n.min(Self::N_MAX))
    }

    /// The place of `attempt_failed`.
    pub fn attempt_end(attempt: u32) -> Self {
        Self::new(attempt, Self::N_MAX - 1)
    }

    /// The place of `succeeded`, `failed` and `cancelled`.
    pub fn terminal(attempt: u32) -> Self {
        Self::new(attempt, Self::N_MAX)
    }

    /// Whether it is the place of what ends an attempt or the task.
    pub fn is_end(self) -> bool {
        self.n() >= Self::N_MAX - 1
    }

    /// The place before it; `None` before the first.
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// Whether it may be the next fact of its task after `before`. What ends an attempt may follow any of its facts.
    pub fn follows(self, before: Option<Self>) -> bool {
        let Some(before) = before else { return self == Self::QUEUED };
        let ended = before == Self::QUEUED || before == Self::attempt_end(before.attempt());
        match self.attempt().checked_sub(before.attempt()) {
            Some(0) => self > before && (self.n() == before.n() + 1 || self.is_end()),
            Some(1) => ended && (self.n() == 0 || self.is_end()),
            _ => false,
        }
    }

    pub fn attempt(self) -> u32 {
        (self.0 >> Self::N_BITS) as u32
    }

    pub fn n(self) -> u64 {
        self.0 & Self::N_MAX
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n() {
            Self::N_MAX => write!(f, "{}/end", self.attempt()),
            n if n == Self::N_MAX - 1 => write!(f, "{}/failed", self.attempt()),
            n => write!(f, "{}/{n}", self.attempt()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    pub task: TaskId,
    pub seq: Seq,
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Info,
    Warn,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Queued,
    Claimed { worker_id: String },
    Resumed { from_step: u64 },
    Progress(Progress),
    EpochFinished(EpochMetrics),
    CheckpointSaved { step: u64 },
    Log { level: LogLevel, message: String },
    AttemptFailed { failure: Failure, charged: bool },
    CancelRequested,
    Succeeded { result: Box<TaskResult>, last: EpochMetrics },
    Failed { failure: Failure },
    Cancelled,
}

impl EventKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed { .. } => "claimed",
            Self::Resumed { .. } => "resumed",
            Self::Progress(_) => "progress",
            Self::EpochFinished(_) => "epoch_finished",
            Self::CheckpointSaved { .. } => "checkpoint_saved",
            Self::Log { .. } => "log",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::CancelRequested => "cancel_requested",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Cancelled)
    }
}
