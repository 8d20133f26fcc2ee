//! What the application needs from the outside, as traits. Adapters compare, set, keep and carry; they decide nothing.
//!
//! Every adapter of a port passes the port's contract suite (feature `testing`); the in-memory ones are its reference.

use std::{collections::HashMap, sync::Arc};

use crate::{
    dataset::{ChunkHash, Manifest, RawDataset},
    event::TaskEvent,
    task::{ArtifactKey, ArtifactRef, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};
use async_trait::async_trait;
use bytes::Bytes;
use kubeml_spec::ModelKind;

mod engine;
mod log;
mod nodes;

pub use engine::{Control, Engine, EngineError, Fitted, Report, Snapshot, Trained, Work};
pub use log::{BadPosition, EventLog, LogEntry, LogPage, Place, Position};
pub use nodes::{ActorReport, NodeRegistry, NodeRow, SlotReport};

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
            && self.model.is_none_or(|model| model == record.spec.model())
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

    /// The queued tasks by state. Of ended ones that are announced a store need not know the number.
    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError>;

    /// Removes an announced task and its events. [`PortError::Rejected`] when it has not ended.
    async fn delete(&self, id: TaskId) -> Result<(), PortError>;
}

/// A wake-up: there may be work for whoever has a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    pub task: TaskId,
    /// For who listens on the bus without the store; a received hint may lack it.
    pub model: Option<ModelKind>,
}

impl Hint {
    pub fn of(record: &TaskRecord) -> Self {
        Self { task: record.id, model: Some(record.spec.model()) }
    }
}

/// How far the import of a dataset is, for who listens on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetNews {
    pub dataset: String,
    pub completed: bool,
    pub chunks: usize,
    pub bytes: u64,
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

    /// Never waits.
    fn note_dataset(&self, news: DatasetNews);

    /// Whether it can be reached.
    async fn check(&self) -> Result<(), PortError>;

    /// Sends a message to where nobody acts on it, and returns when it has arrived.
    async fn send_test(&self) -> Result<(), PortError>;
}

/// Write-once chunks by hash; a manifest makes its version visible.
#[async_trait]
pub trait DatasetStore: Send + Sync {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError>;
    /// The bytes are verified against the hash: [`PortError::Corrupt`] when they differ. They are no part of a larger
    /// buffer: whoever keeps them keeps nothing else.
    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError>;
    /// [`PortError::Rejected`] when one of its chunks is not stored.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError>;
    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError>;
    /// By name.
    async fn manifests(&self) -> Result<Vec<Manifest>, PortError>;

    /// Keeps two nodes from importing the same dataset side by side: `false` while another one is at it. A node that died
    /// at it is forgotten after a while. Importing twice costs time and changes nothing.
    async fn begin_import(&self, name: &str) -> Result<bool, PortError>;
    async fn end_import(&self, name: &str) -> Result<(), PortError>;
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
    pub nodes: Arc<dyn NodeRegistry>,
    /// What to call store, bus and cache.
    pub kinds: EdgeKinds,
}

/// The names by which store, bus and cache are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeKinds {
    pub store: &'static str,
    pub bus: &'static str,
    pub cache: &'static str,
}
