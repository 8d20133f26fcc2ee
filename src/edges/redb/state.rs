//! Tasks in `state.redb`. Their log is next door, in the same file and the same transactions.

use std::{collections::HashMap, ops::Bound, path::Path, sync::Arc};

use async_trait::async_trait;
use kubeml_actors::{
    event::TaskEvent,
    ports::{Cas, Inserted, ListCursor, PortError, Position, TaskFilter, TaskPage, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
};
use kubeml_spec::ModelKind;
use redb::{ReadTransaction, ReadableTable};
use tokio::sync::watch;

use super::{
    file::{Fault, Format, StoreFile},
    tables::{COUNTS, HEADS, LIST, LOG_HEAD, QUEUE, TASKS, Tables, create, encoded, state_code, task_id},
    writer::Writer,
};
use crate::codec;

const STATE: Format = Format { name: "state", version: 2, create_tables: create };

/// How many facts one transaction removes, so that no other write waits long for it: about 20 ms.
pub(super) const REMOVED_AT_ONCE: usize = 1024;

/// The task store and the event log of an embedded node.
pub struct RedbState {
    pub(super) writer: Writer,
    pub(super) file: Arc<StoreFile>,
    pub(super) head: Arc<watch::Sender<Position>>,
}

impl RedbState {
    /// Opens the file or creates it. Blocks, after a crash as long as it takes to read the whole file.
    pub fn open(path: &Path) -> Result<Self, PortError> {
        let file = Arc::new(StoreFile::open(path, STATE)?);
        let newest = file.read(|transaction| {
            let heads = transaction.open_table(HEADS)?;
            Ok(heads.get(LOG_HEAD)?.map_or(0, |head| head.value()))
        })?;
        let head = Arc::new(watch::channel(Position::single(newest)).0);
        let moving = head.clone();
        let on_head = move |newest| {
            moving.send_if_modified(|head| {
                let has_moved = head.counter(0) < newest;
                *head = Position::single(newest.max(head.counter(0)));
                has_moved
            });
        };
        let writer = Writer::start(file.clone(), on_head)?;
        Ok(Self { writer, file, head })
    }

    /// Reads on a thread where that may block, and where a damaged page may panic.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Snapshot<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, PortError> {
        let (file, place) = (self.file.clone(), self.file.place());
        let read = move || file.read(|transaction| query(&Snapshot { transaction, place: &place }));
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| Err(PortError::Unavailable(format!("{}: {error}", self.file.place()))))
    }
}

#[async_trait]
impl TaskStore for RedbState {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        let place = self.file.place();
        let bytes = codec::encode(record).map_err(|error| error.at(&place))?;
        let (record, facts) = (record.clone(), encoded(facts, &place)?);
        let insert = move |tables: &mut Tables<'_>| {
            if let Some(existing) = tables.record(record.id)? {
                return Ok(Inserted::Exists(Box::new(existing)));
            }
            tables.put_record(None, &record, &bytes)?;
            tables.take_facts(&facts)?;
            Ok(Inserted::Fresh)
        };
        self.writer.write(insert).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        let place = self.file.place();
        let bytes = codec::encode(next).map_err(|error| error.at(&place))?;
        let (next, facts) = (next.clone(), encoded(facts, &place)?);
        let set = move |tables: &mut Tables<'_>| {
            let stored = tables.record(next.id)?.ok_or_else(|| no_such_task(next.id))?;
            if stored.version.checked_add(1) != Some(next.version) {
                return Ok(Cas::Conflict(Box::new(stored)));
            }
            tables.take_facts(&facts)?;
            tables.put_record(Some(&stored), &next, &bytes)?;
            Ok(Cas::Applied)
        };
        self.writer.write(set).await
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.read(move |snapshot| snapshot.record(id)).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        // It takes its turn behind every write that was asked for before.
        self.writer.write(move |tables| tables.record(id)).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        let filter = filter.clone();
        self.read(move |snapshot| snapshot.list(&filter, after, limit)).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        let states: Vec<u8> = states.iter().copied().map(state_code).collect();
        self.read(move |snapshot| snapshot.queue(&states, limit)).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.read(|snapshot| {
            let counts = snapshot.transaction.open_table(COUNTS)?;
            let count = |state| Ok((state, counts.get(state_code(state))?.map_or(0, |count| count.value())));
            TaskState::ALL.into_iter().map(count).collect()
        })
        .await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        let remove_some = move |tables: &mut Tables<'_>| {
            let record = tables.record(id)?.ok_or_else(|| no_such_task(id))?;
            if !record.announced {
                let state = record.state;
                let text = format!("task {id} is {state}: only an announced task can be deleted");
                return Err(PortError::Rejected(text).into());
            }
            let has_more = tables.remove_facts(id, REMOVED_AT_ONCE)? == REMOVED_AT_ONCE;
            if !has_more {
                tables.remove_record(&record)?;
            }
            Ok(has_more)
        };
        while self.writer.write(remove_some).await? {}
        Ok(())
    }
}

/// The file as it was at one moment.
pub(super) struct Snapshot<'a> {
    pub(super) transaction: &'a ReadTransaction,
    pub(super) place: &'a str,
}

impl Snapshot<'_> {
    pub(super) fn record(&self, id: TaskId) -> Result<Option<TaskRecord>, Fault> {
        let tasks = self.transaction.open_table(TASKS)?;
        let stored = tasks.get(id.0.as_u128())?;
        let record = stored.map(|bytes| codec::decode(bytes.value())).transpose();
        Ok(record.map_err(|error| error.at(&format!("{}, task {id}", self.place)))?)
    }

    fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, Fault> {
        let (state, model) = (filter.state.map(state_code), filter.model.map(ModelKind::as_str));
        let end = after.map_or(Bound::Unbounded, |after| Bound::Excluded((after.created_at.0, after.id.0.as_u128())));
        let mut records: Vec<TaskRecord> = Vec::new();
        for row in self.transaction.open_table(LIST)?.range((Bound::Unbounded, end))?.rev() {
            let (key, value) = row?;
            let (of_state, of_model) = value.value();
            if state.is_some_and(|state| state != of_state) || model.is_some_and(|model| model != of_model) {
                continue;
            }
            if records.len() == limit {
                let next = records.last().map(ListCursor::of);
                return Ok(TaskPage { records, next });
            }
            records.extend(self.readable_record(task_id(key.value().1))?);
        }
        Ok(TaskPage { records, next: None })
    }

    fn queue(&self, states: &[u8], limit: usize) -> Result<Vec<TaskRecord>, Fault> {
        let mut records = Vec::new();
        for row in self.transaction.open_table(QUEUE)?.iter()? {
            let (key, state) = row?;
            if records.len() == limit {
                break;
            }
            if states.contains(&state.value()) {
                records.extend(self.readable_record(task_id(key.value().2))?);
            }
        }
        Ok(records)
    }

    /// One damaged record does not hide the others; to `get` it is an error.
    fn readable_record(&self, id: TaskId) -> Result<Option<TaskRecord>, Fault> {
        match self.record(id) {
            Err(Fault::Refused(error)) => {
                tracing::error!(%error, "a task is left out of a list");
                Ok(None)
            }
            read => read,
        }
    }
}

fn no_such_task(id: TaskId) -> PortError {
    PortError::NotFound(format!("there is no task {id}"))
}
