//! A history of what a node did to the task store: one JSON line for each write, with its outcome as the node saw it.
//!
//! From the histories of all nodes a checker can tell afterwards whether the protocol was kept. Each line is one write to
//! a file opened for appending, so a killed process leaves at most its last line incomplete.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use kubeml_actors::{
    event::TaskEvent,
    ports::{Cas, Inserted, ListCursor, PortError, TaskFilter, TaskPage, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod check;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Insert,
    Set,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// Another version, or another task, was there.
    Refused,
    /// The reply was lost: it has happened or not.
    Unknown,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub node: String,
    pub op: Op,
    pub task: TaskId,
    /// The version that was to be.
    pub version: u64,
    pub op_id: Uuid,
    pub attempt: u32,
    /// Of the owner.
    pub nonce: Option<Uuid>,
    pub state: TaskState,
    /// SHA-256 of the weights, of a task that succeeded.
    pub result: Option<String>,
    pub announced: bool,
    pub outcome: Outcome,
}

/// A task store that keeps a history of its writes.
pub struct HistoricTasks {
    inner: Arc<dyn TaskStore>,
    node: String,
    file: File,
}

impl HistoricTasks {
    pub fn open(inner: Arc<dyn TaskStore>, node: &str, path: &Path) -> Result<Self, PortError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let cannot = |error| PortError::Rejected(format!("cannot write the history to {}: {error}", path.display()));
        Ok(Self { inner, node: node.to_owned(), file: file.map_err(cannot)? })
    }

    fn note(&self, op: Op, record: &TaskRecord, outcome: Outcome) {
        let line = Line {
            node: self.node.clone(),
            op,
            task: record.id,
            version: record.version,
            op_id: record.op_id,
            attempt: record.attempt,
            nonce: record.owner.as_ref().map(|owner| owner.nonce),
            state: record.state,
            result: record.result.as_ref().map(|result| result.outcome.weights_sha256.clone()),
            announced: record.announced,
            outcome,
        };
        let written = serde_json::to_string(&line)
            .map_err(std::io::Error::from)
            .and_then(|line| (&self.file).write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "the history is incomplete");
        }
    }
}

/// A write under way. Whoever waits for it may go away, and then nobody knows what became of it.
struct Pending<'a> {
    history: &'a HistoricTasks,
    op: Op,
    record: &'a TaskRecord,
    outcome: Outcome,
}

impl<'a> Pending<'a> {
    fn new(history: &'a HistoricTasks, op: Op, record: &'a TaskRecord) -> Self {
        Self { history, op, record, outcome: Outcome::Unknown }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.history.note(self.op, self.record, self.outcome);
    }
}

fn outcome_of<T>(reply: &Result<T, PortError>, applied: impl FnOnce(&T) -> bool) -> Outcome {
    match reply {
        Ok(reply) if applied(reply) => Outcome::Applied,
        Err(error) if error.is_transient() => Outcome::Unknown,
        Ok(_) | Err(_) => Outcome::Refused,
    }
}

#[async_trait]
impl TaskStore for HistoricTasks {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        let mut pending = Pending::new(self, Op::Insert, record);
        let reply = self.inner.insert(record, facts).await;
        pending.outcome = outcome_of(&reply, |inserted| *inserted == Inserted::Fresh);
        reply
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        let mut pending = Pending::new(self, Op::Set, next);
        let reply = self.inner.compare_and_set(next, facts).await;
        pending.outcome = outcome_of(&reply, |cas| *cas == Cas::Applied);
        reply
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.inner.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.inner.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        self.inner.list(filter, after, limit).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        self.inner.queue(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.inner.counts().await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        let before = self.inner.get(id).await?;
        let mut pending = before.as_ref().map(|record| Pending::new(self, Op::Delete, record));
        let reply = self.inner.delete(id).await;
        if let Some(pending) = &mut pending {
            pending.outcome = outcome_of(&reply, |()| true);
        }
        reply
    }
}
