//! Tasks and their log behind one lock, so that a record and its facts are written together.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{facts::Facts, lock};
use crate::{
    event::{Seq, TaskEvent},
    ports::{Cas, EventLog, Inserted, ListCursor, LogPage, PortError, Position, TaskFilter, TaskPage, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};

#[derive(Debug)]
pub struct InMemoryState {
    inner: Mutex<Inner>,
    head: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<TaskId, TaskRecord>,
    facts: Facts,
}

impl InMemoryState {
    pub fn new() -> Self {
        let inner = Inner::default();
        let (head, _) = watch::channel(inner.facts.head());
        Self { inner: Mutex::new(inner), head }
    }

    fn read<T>(&self, query: impl FnOnce(&Inner) -> T) -> T {
        query(&lock(&self.inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = lock(&self.inner);
        let changed = change(&mut inner);
        let head = inner.facts.head();
        self.head.send_if_modified(|newest| {
            let has_moved = *newest != head;
            *newest = head;
            has_moved
        });
        changed
    }
}

impl Default for InMemoryState {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl TaskStore for InMemoryState {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        Ok(self.write(|inner| inner.insert(record, facts)))
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        self.write(|inner| inner.compare_and_set(next, facts))
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        Ok(self.read(|inner| inner.records.get(&id).cloned()))
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.get(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        Ok(self.read(|inner| inner.list(filter, after, limit)))
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        Ok(self.read(|inner| inner.queue(states, limit)))
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        let mut counts: HashMap<TaskState, u64> = TaskState::ALL.map(|state| (state, 0)).into();
        self.read(|inner| {
            for record in inner.records.values() {
                *counts.entry(record.state).or_default() += 1;
            }
        });
        Ok(counts)
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        self.write(|inner| inner.delete(id))
    }
}

#[async_trait]
impl EventLog for InMemoryState {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        self.write(|inner| inner.facts.take(events));
        Ok(())
    }

    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        Ok(self.read(|inner| inner.facts.of_task(task, after, limit)))
    }

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        Ok(self.read(|inner| inner.facts.page(after, limit)))
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Whatever is taken is heard.
    async fn relay(&self, _: TaskId, _: Seq) -> Result<(), PortError> {
        Ok(())
    }

    fn is_live(&self) -> bool {
        true
    }

    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        Ok(self.write(|inner| {
            let records = &inner.records;
            inner.facts.trim(horizon, |task| records.get(&task).map(|record| record.state))
        }))
    }
}

impl Inner {
    fn insert(&mut self, record: &TaskRecord, facts: &[TaskEvent]) -> Inserted {
        if let Some(existing) = self.records.get(&record.id) {
            return Inserted::Exists(Box::new(existing.clone()));
        }
        self.records.insert(record.id, record.clone());
        self.facts.take(facts);
        Inserted::Fresh
    }

    fn compare_and_set(&mut self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        let stored = self.records.get_mut(&next.id).ok_or_else(|| no_such_task(next.id))?;
        if stored.version.checked_add(1) != Some(next.version) {
            return Ok(Cas::Conflict(Box::new(stored.clone())));
        }
        *stored = next.clone();
        self.facts.take(facts);
        Ok(Cas::Applied)
    }

    fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> TaskPage {
        let behind_cursor = |record: &&TaskRecord| after.is_none_or(|after| ListCursor::of(record) < after);
        let mut found: Vec<&TaskRecord> =
            self.records.values().filter(|record| filter.admits(record)).filter(behind_cursor).collect();
        found.sort_unstable_by_key(|record| Reverse(ListCursor::of(record)));
        let records: Vec<TaskRecord> = found.iter().take(limit).copied().cloned().collect();
        let next = records.last().filter(|_| found.len() > limit).map(ListCursor::of);
        TaskPage { records, next }
    }

    fn queue(&self, states: &[TaskState], limit: usize) -> Vec<TaskRecord> {
        let mut queued: Vec<&TaskRecord> =
            self.records.values().filter(|record| record.is_queued() && states.contains(&record.state)).collect();
        queued.sort_unstable_by_key(|record| (Reverse(record.priority), record.created_at, record.id));
        queued.into_iter().take(limit).cloned().collect()
    }

    fn delete(&mut self, id: TaskId) -> Result<(), PortError> {
        let record = self.records.get(&id).ok_or_else(|| no_such_task(id))?;
        if !record.announced {
            let state = record.state;
            return Err(PortError::Rejected(format!("task {id} is {state}: only an announced task can be deleted")));
        }
        self.records.remove(&id);
        self.facts.remove_task(id);
        Ok(())
    }
}

fn no_such_task(id: TaskId) -> PortError {
    PortError::NotFound(format!("there is no task {id}"))
}
