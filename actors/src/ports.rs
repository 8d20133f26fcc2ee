//! What the application needs from the outside, as traits. Adapters compare, set, keep and carry; they decide nothing.
//!
//! Every adapter of a port passes the port's contract suite (feature `testing`); the in-memory ones are its reference.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    dataset::{ChunkHash, Manifest, RawDataset},
    event::{Seq, TaskEvent},
    spec::ModelKind,
    task::{ArtifactKey, ArtifactRef, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};

mod engine;

pub use engine::{Control, Engine, EngineError, Fitted, Report, Snapshot, Trained, Work};

/// Why a port could not do it. `what` says where and, if somebody can do something about it, what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Worth trying again. Of a write it says nothing about whether it has happened.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    NotFound(String),
    /// It will never be taken as it is.
    #[error("{0}")]
    Rejected(String),
    /// What was read is not what was written.
    #[error("{0}")]
    Corrupt(String),
}

impl PortError {
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    Fresh,
    Exists(Box<TaskRecord>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cas {
    Applied,
    /// The record is of another version: this is it.
    Conflict(Box<TaskRecord>),
}

/// A narrowing of the list of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub state: Option<TaskState>,
    pub model: Option<ModelKind>,
}

impl TaskFilter {
    pub fn admits(&self, record: &TaskRecord) -> bool {
        self.state.is_none_or(|state| state == record.state)
            && self.model.is_none_or(|model| model == record.spec.model)
    }
}

/// Where a list of tasks goes on: after this task, in the order of newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    pub created_at: Timestamp,
    pub id: TaskId,
}

impl ListCursor {
    pub fn of(record: &TaskRecord) -> Self {
        Self { created_at: record.created_at, id: record.id }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskPage {
    pub records: Vec<TaskRecord>,
    /// `None` when there is no more.
    pub next: Option<ListCursor>,
}

/// The only truth about a task's state.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Stores `record` and `facts` together unless the id is taken.
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError>;

    /// Puts `next` in the place of the version before it, together with `facts`, or changes nothing.
    /// [`PortError::NotFound`] when there is no such task.
    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError>;

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError>;

    /// Like `get`, after every write that is still under way has happened or can never happen.
    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError>;

    /// Newest first. `limit` is at least 1.
    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError>;

    /// The queued tasks (see [`TaskRecord::is_queued`]) in one of `states`: highest priority first, then oldest.
    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError>;

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError>;

    /// Removes an announced task and its events. [`PortError::Rejected`] when it has not ended.
    async fn delete(&self, id: TaskId) -> Result<(), PortError>;
}

/// A place in the log of all tasks: one counter for each of its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position(pub Vec<u64>);

impl Position {
    /// A position in a log of one partition.
    pub fn single(counter: u64) -> Self {
        Self(vec![counter])
    }

    /// The counter of a log of one partition; 0, its beginning, for the empty position.
    pub fn counter(&self) -> u64 {
        self.0.first().copied().unwrap_or(0)
    }

    /// Whether everything up to `other` lies before this position, or at it.
    pub fn covers(&self, other: &Self) -> bool {
        let counter = |partition| self.0.get(partition).copied().unwrap_or(0);
        other.0.iter().enumerate().all(|(partition, other)| counter(partition) >= *other)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&counters.join("-"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no position in the log: expected numbers joined by '-'")]
pub struct BadPosition(pub String);

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let counters: Result<Vec<u64>, _> = text.split('-').map(str::parse).collect();
        counters.map(Self).map_err(|_| BadPosition(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    pub position: Position,
    pub event: TaskEvent,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    pub entries: Vec<LogEntry>,
    /// Entries after the asked-for position and before the last of these have been removed.
    pub gap: bool,
}

/// The log of facts: one task's in the order of `seq`, all tasks' in the order of `Position`.
///
/// A fact older than the newest of its task is not taken: its writer has been replaced. Writing the same fact again is
/// no error and changes nothing.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Returns when the facts are durable.
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError>;

    /// `limit` is at least 1.
    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError>;

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError>;

    /// The newest durable position; changes wake.
    fn head(&self) -> watch::Receiver<Position>;

    /// Removes facts from before `horizon`, except of tasks that have not ended. Returns how many.
    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError>;
}

/// A wake-up: there may be work for whoever has a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    pub task: TaskId,
}

/// What nobody can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: &'static str,
    pub reason: &'static str,
    pub detail: String,
}

/// Carries hints. Lossy by contract: tasks are found by scanning the store; hints only make it sooner.
#[async_trait]
pub trait TaskBus: Send + Sync {
    /// Never waits.
    fn publish(&self, hint: Hint);

    /// The next hint; each goes to one receiver.
    async fn receive(&self) -> Result<Hint, PortError>;

    /// The hint was acted on, or needs no action.
    fn acknowledge(&self, hint: Hint);

    /// Never waits.
    fn bury(&self, letter: DeadLetter);
}

/// Write-once chunks by hash; a manifest makes its version visible.
#[async_trait]
pub trait DatasetStore: Send + Sync {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError>;
    /// The bytes are verified against the hash: [`PortError::Corrupt`] when they differ.
    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError>;
    /// [`PortError::Rejected`] when one of its chunks is not stored.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError>;
    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError>;
    /// By name.
    async fn manifests(&self) -> Result<Vec<Manifest>, PortError>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
}

/// May forget, fail and lie: whoever reads verifies, and can do without.
#[async_trait]
pub trait ChunkCache: Send + Sync {
    async fn get(&self, hash: ChunkHash) -> Result<Option<Bytes>, PortError>;
    async fn put(&self, hash: ChunkHash, bytes: Bytes) -> Result<(), PortError>;
    async fn remove(&self, hash: ChunkHash) -> Result<(), PortError>;
    async fn clear(&self) -> Result<(), PortError>;
    async fn stats(&self) -> Result<CacheStats, PortError>;
    /// Small JSON values of the older system's clients: apart from chunks, never able to touch one.
    async fn get_value(&self, key: &str) -> Result<Option<String>, PortError>;
    async fn put_value(&self, key: &str, json: String) -> Result<(), PortError>;
}

/// Where datasets come from before they are stored.
#[async_trait]
pub trait DatasetSource: Send + Sync {
    /// The names that `fetch` knows.
    fn names(&self) -> Vec<String>;

    /// [`PortError::NotFound`]: there is no such dataset, or it is to be had nowhere just now; the text says what to do.
    async fn fetch(&self, name: &str, progress: &FetchProgress) -> Result<RawDataset, PortError>;
}

/// What a fetch says of itself while it works.
#[derive(Clone)]
pub struct FetchProgress(Arc<dyn Fn(Fetching) + Send + Sync>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// The file in work.
    pub item: String,
    pub bytes_done: u64,
    pub bytes_total: Option<u64>,
}

impl FetchProgress {
    pub fn new(listener: impl Fn(Fetching) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub fn ignored() -> Self {
        Self::new(|_| ())
    }

    pub fn report(&self, fetching: Fetching) {
        (self.0)(fetching);
    }
}

/// Checkpoints and models: write-once, verified by hash.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Returns when the bytes are durable. Writing the same bytes again is no error.
    async fn put(&self, key: ArtifactKey, bytes: Bytes) -> Result<ArtifactRef, PortError>;

    /// [`PortError::Corrupt`] when the bytes are not those of `artifact`.
    async fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, PortError>;

    /// Removes the task's artifacts of attempts up to `attempt`, except `keep`: a newer attempt's are not this one's.
    async fn prune(&self, task: TaskId, attempt: u32, keep: &[ArtifactKey]) -> Result<(), PortError>;
}

/// Wall-clock time. Durations are measured by tokio's clock, which tests can pause.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// Every port of one node.
#[derive(Clone)]
pub struct Ports {
    pub tasks: Arc<dyn TaskStore>,
    pub events: Arc<dyn EventLog>,
    pub bus: Arc<dyn TaskBus>,
    pub datasets: Arc<dyn DatasetStore>,
    pub cache: Arc<dyn ChunkCache>,
    pub source: Arc<dyn DatasetSource>,
    pub artifacts: Arc<dyn ArtifactStore>,
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
}
