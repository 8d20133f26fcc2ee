//! Ports with faults: they fail, lose their reply or lie, as often as a test says, and then work again.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    dataset::ChunkHash,
    event::{Seq, TaskEvent},
    ports::{
        CacheStats, Cas, ChunkCache, EventLog, Inserted, ListCursor, LogPage, NodeRegistry, NodeRow, PortError,
        Position, TaskFilter, TaskPage, TaskStore,
    },
    task::{Incarnation, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};

/// A number of faults still to come.
#[derive(Debug, Default)]
pub struct Faults(AtomicU32);

impl Faults {
    pub fn set(&self, times: u32) {
        self.0.store(times, Ordering::SeqCst);
    }

    pub fn take(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

fn unavailable() -> PortError {
    PortError::Unavailable("scripted outage".to_owned())
}

/// A task store whose writes may fail before they happen, or happen without a reply.
pub struct FaultyTasks {
    inner: Arc<dyn TaskStore>,
    /// Compare-and-sets that do not happen.
    pub refused: Faults,
    /// Compare-and-sets that happen, but look as if they had not.
    pub lost_replies: Faults,
    /// Reads that fail.
    pub unread: Faults,
    /// Reads for the outcome of a write that fail.
    pub unsettled: Faults,
    /// Tasks that can be read, but not be written any more.
    damaged: Mutex<HashSet<TaskId>>,
}

impl FaultyTasks {
    pub fn new(inner: Arc<dyn TaskStore>) -> Self {
        let [refused, lost_replies, unread, unsettled] = Default::default();
        Self { inner, refused, lost_replies, unread, unsettled, damaged: Mutex::default() }
    }

    pub fn damage(&self, task: TaskId) {
        self.damaged.lock().expect("nobody panicked").insert(task);
    }

    fn read(&self) -> Result<&dyn TaskStore, PortError> {
        if self.unread.take() { Err(unavailable()) } else { Ok(self.inner.as_ref()) }
    }
}

#[async_trait]
impl TaskStore for FaultyTasks {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        self.inner.insert(record, facts).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        if self.refused.take() {
            return Err(unavailable());
        }
        if self.damaged.lock().expect("nobody panicked").contains(&next.id) {
            return Err(PortError::Corrupt("scripted damage".to_owned()));
        }
        let outcome = self.inner.compare_and_set(next, facts).await;
        if self.lost_replies.take() { Err(unavailable()) } else { outcome }
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.read()?.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        if self.unsettled.take() {
            return Err(unavailable());
        }
        self.read()?.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        self.read()?.list(filter, after, limit).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        self.read()?.queue(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.read()?.counts().await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        self.inner.delete(id).await
    }
}

/// An event log that is away for a while, for writers or for readers.
pub struct FaultyLog {
    inner: Arc<dyn EventLog>,
    /// Appends that do not happen.
    pub unwritten: Faults,
    /// Reads that fail.
    pub unread: Faults,
}

impl FaultyLog {
    pub fn new(inner: Arc<dyn EventLog>) -> Self {
        Self { inner, unwritten: Faults::default(), unread: Faults::default() }
    }

    fn read(&self) -> Result<&dyn EventLog, PortError> {
        if self.unread.take() { Err(unavailable()) } else { Ok(self.inner.as_ref()) }
    }
}

#[async_trait]
impl EventLog for FaultyLog {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        if self.unwritten.take() { Err(unavailable()) } else { self.inner.append(events).await }
    }

    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.read()?.read_task(task, after, limit).await
    }

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        self.read()?.read_all(after, limit).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }

    async fn relay(&self, task: TaskId, from: Seq) -> Result<(), PortError> {
        if self.unwritten.take() { Err(unavailable()) } else { self.inner.relay(task, from).await }
    }

    fn is_live(&self) -> bool {
        self.inner.is_live()
    }

    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        self.inner.trim(horizon).await
    }
}

/// A registry that a node writes to in vain, as if its process were dead or cut off.
pub struct MuteableNodes {
    inner: Arc<dyn NodeRegistry>,
    mute: AtomicBool,
}

impl MuteableNodes {
    pub fn new(inner: Arc<dyn NodeRegistry>) -> Self {
        Self { inner, mute: AtomicBool::new(false) }
    }

    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }

    fn written(&self) -> Result<&dyn NodeRegistry, PortError> {
        if self.mute.load(Ordering::SeqCst) { Err(unavailable()) } else { Ok(self.inner.as_ref()) }
    }
}

#[async_trait]
impl NodeRegistry for MuteableNodes {
    async fn beat(&self, row: &NodeRow) -> Result<(), PortError> {
        self.written()?.beat(row).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, PortError> {
        self.inner.nodes().await
    }

    async fn leave(&self, incarnation: &Incarnation) -> Result<(), PortError> {
        self.written()?.leave(incarnation).await
    }
}

/// A cache that answers every question with the wrong bytes.
pub struct LyingCache;

#[async_trait]
impl ChunkCache for LyingCache {
    async fn get(&self, _: ChunkHash) -> Result<Option<Bytes>, PortError> {
        Ok(Some(Bytes::from_static(b"not what you asked for")))
    }

    async fn put(&self, _: ChunkHash, _: Bytes) -> Result<(), PortError> {
        Err(unavailable())
    }

    async fn remove(&self, _: ChunkHash) -> Result<(), PortError> {
        Ok(())
    }

    async fn clear(&self) -> Result<(), PortError> {
        Ok(())
    }

    async fn stats(&self) -> Result<CacheStats, PortError> {
        Err(unavailable())
    }

    async fn get_value(&self, _: &str) -> Result<Option<String>, PortError> {
        Err(unavailable())
    }

    async fn put_value(&self, _: &str, _: String) -> Result<(), PortError> {
        Err(unavailable())
    }
}
