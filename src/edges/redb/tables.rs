//! The tables of `state.redb`, and the writes that keep them in step with each other.
//!
//! | table | key | value |
//! |---|---|---|
//! | tasks | id | record |
//! | list | created, id | state, model |
//! | queue | priority (highest first), created, id | state |
//! | counts | state | tasks |
//! | events | task, seq | position, fact |
//! | log | position | task, seq, time |
//! | trimmed | task | newest seq that was trimmed |
//! | heads | "log" | newest position |
//!
//! The lists, the queue and the counts follow from the records, and change in the same transaction.

use std::collections::HashMap;

use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::PortError,
    task::{TaskId, TaskRecord, TaskState},
};
use kubeml_spec::ModelKind;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::file::Fault;
use crate::codec;

pub(super) type ListKey = (u64, u128);
pub(super) type QueueKey = (i64, u64, u128);
pub(super) type EventKey = (u128, u64);

pub(super) const TASKS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("tasks");
pub(super) const LIST: TableDefinition<'static, ListKey, (u8, &str)> = TableDefinition::new("list");
pub(super) const QUEUE: TableDefinition<'static, QueueKey, u8> = TableDefinition::new("queue");
pub(super) const COUNTS: TableDefinition<'static, u8, u64> = TableDefinition::new("counts");
pub(super) const EVENTS: TableDefinition<'static, EventKey, (u64, &[u8])> = TableDefinition::new("events");
pub(super) const LOG: TableDefinition<'static, u64, (u128, u64, u64)> = TableDefinition::new("log");
const TRIMMED: TableDefinition<'static, u128, u64> = TableDefinition::new("trimmed");
pub(super) const HEADS: TableDefinition<'static, &str, u64> = TableDefinition::new("heads");
pub(super) const LOG_HEAD: &str = "log";

/// Every table of one write transaction.
pub(super) struct Tables<'txn> {
    place: &'txn str,
    tasks: Table<'txn, u128, &'static [u8]>,
    list: Table<'txn, ListKey, (u8, &'static str)>,
    queue: Table<'txn, QueueKey, u8>,
    counts: Table<'txn, u8, u64>,
    events: Table<'txn, EventKey, (u64, &'static [u8])>,
    log: Table<'txn, u64, (u128, u64, u64)>,
    trimmed: Table<'txn, u128, u64>,
    heads: Table<'txn, &'static str, u64>,
    has_changed: bool,
}

impl<'txn> Tables<'txn> {
    /// `place` is what errors call the file.
    pub(super) fn open(transaction: &'txn WriteTransaction, place: &'txn str) -> Result<Self, Fault> {
        Ok(Self {
            place,
            tasks: transaction.open_table(TASKS)?,
            list: transaction.open_table(LIST)?,
            queue: transaction.open_table(QUEUE)?,
            counts: transaction.open_table(COUNTS)?,
            events: transaction.open_table(EVENTS)?,
            log: transaction.open_table(LOG)?,
            trimmed: transaction.open_table(TRIMMED)?,
            heads: transaction.open_table(HEADS)?,
            has_changed: false,
        })
    }

    /// Whether there is anything to commit.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// The newest position.
    pub(super) fn head(&self) -> Result<u64, Fault> {
        Ok(self.heads.get(LOG_HEAD)?.map_or(0, |head| head.value()))
    }

    pub(super) fn record(&self, id: TaskId) -> Result<Option<TaskRecord>, Fault> {
        let stored = self.tasks.get(id.0.as_u128())?;
        let record = stored.map(|bytes| codec::decode(bytes.value())).transpose();
        Ok(record.map_err(|error| error.at(&format!("{}, task {id}", self.place)))?)
    }

    /// Puts `next`, encoded as `bytes`, in the place of `old`.
    pub(super) fn put_record(
        &mut self,
        old: Option<&TaskRecord>,
        next: &TaskRecord,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        self.has_changed = true;
        self.tasks.insert(next.id.0.as_u128(), bytes)?;
        let (old_row, next_row) = (old.map(Row::of), Row::of(next));
        if old_row == Some(next_row) {
            return Ok(());
        }
        if let Some(old_row) = old_row {
            self.remove_row(old_row)?;
        }
        self.list.insert(next_row.list_key(), (state_code(next_row.state), next_row.model.as_str()))?;
        if next_row.is_queued {
            self.queue.insert(next_row.queue_key(), state_code(next_row.state))?;
        }
        self.count(next_row.state, |count| count.saturating_add(1))
    }

    pub(super) fn remove_record(&mut self, record: &TaskRecord) -> Result<(), Fault> {
        self.has_changed = true;
        self.tasks.remove(record.id.0.as_u128())?;
        self.trimmed.remove(record.id.0.as_u128())?;
        self.remove_row(Row::of(record))
    }

    fn remove_row(&mut self, row: Row) -> Result<(), Fault> {
        self.list.remove(row.list_key())?;
        self.queue.remove(row.queue_key())?;
        self.count(row.state, |count| count.saturating_sub(1))
    }

    fn count(&mut self, state: TaskState, change: impl FnOnce(u64) -> u64) -> Result<(), Fault> {
        let count = self.counts.get(state_code(state))?.map_or(0, |count| count.value());
        self.counts.insert(state_code(state), change(count))?;
        Ok(())
    }

    /// Appends those of `facts` that are newer than their task's newest. Each comes with its encoding.
    pub(super) fn take_facts(&mut self, facts: &[(TaskEvent, Vec<u8>)]) -> Result<(), Fault> {
        for (fact, bytes) in facts {
            if self.newest_fact(fact.task)?.is_some_and(|newest| fact.seq <= newest) {
                continue;
            }
            self.has_changed = true;
            let (task, position) = (fact.task.0.as_u128(), self.head()? + 1);
            self.heads.insert(LOG_HEAD, position)?;
            self.log.insert(position, (task, fact.seq.0, fact.at.0))?;
            self.events.insert((task, fact.seq.0), (position, bytes.as_slice()))?;
        }
        Ok(())
    }

    /// The newest fact that is, or was, in the log.
    fn newest_fact(&self, id: TaskId) -> Result<Option<Seq>, Fault> {
        let task = id.0.as_u128();
        let newest = self.events.range((task, 0)..=(task, u64::MAX))?.next_back().transpose()?;
        let trimmed = self.trimmed.get(task)?.map(|seq| Seq(seq.value()));
        Ok(newest.map(|(key, _)| Seq(key.value().1)).max(trimmed))
    }

    /// Removes up to `limit` of the task's facts and returns how many.
    pub(super) fn remove_facts(&mut self, id: TaskId, limit: usize) -> Result<usize, Fault> {
        let task = id.0.as_u128();
        let mut positions = Vec::new();
        for row in self.events.range((task, 0)..=(task, u64::MAX))?.take(limit) {
            positions.push(row?.1.value().0);
        }
        for position in &positions {
            self.remove_fact(*position)?;
        }
        Ok(positions.len())
    }

    /// Removes the facts at `positions`, which are in order, and returns how many there were.
    pub(super) fn trim_facts(&mut self, positions: &[u64]) -> Result<u64, Fault> {
        let (mut removed, mut newest) = (0, HashMap::new());
        for position in positions {
            let Some((task, seq)) = self.remove_fact(*position)? else { continue };
            removed += 1;
            newest.insert(task, seq);
        }
        for (task, seq) in newest {
            // Without a record nobody would ever take this away again.
            if self.tasks.get(task)?.is_some() {
                self.trimmed.insert(task, seq)?;
            }
        }
        Ok(removed)
    }

    fn remove_fact(&mut self, position: u64) -> Result<Option<EventKey>, Fault> {
        let Some((task, seq, _)) = self.log.remove(position)?.map(|row| row.value()) else { return Ok(None) };
        self.has_changed = true;
        self.events.remove((task, seq))?;
        Ok(Some((task, seq)))
    }
}

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), Fault> {
    Tables::open(transaction, "").map(drop)
}

/// What the lists keep of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    id: u128,
    created: u64,
    priority: i32,
    state: TaskState,
    model: ModelKind,
    is_queued: bool,
}

impl Row {
    fn of(record: &TaskRecord) -> Self {
        Self {
            id: record.id.0.as_u128(),
            created: record.created_at.0,
            priority: record.priority,
            state: record.state,
            model: record.spec.model(),
            is_queued: record.is_queued(),
        }
    }

    fn list_key(&self) -> ListKey {
        (self.created, self.id)
    }

    fn queue_key(&self) -> QueueKey {
        (-i64::from(self.priority), self.created, self.id)
    }
}

pub(super) fn task_id(id: u128) -> TaskId {
    TaskId(Uuid::from_u128(id))
}

/// Stored: the numbers stay what they are.
pub(super) fn state_code(state: TaskState) -> u8 {
    match state {
        TaskState::Pending => 0,
        TaskState::Running => 1,
        TaskState::Succeeded => 2,
        TaskState::Failed => 3,
        TaskState::Cancelled => 4,
    }
}

/// The facts with their encodings, made by the caller so that the writer's thread only writes.
pub(super) fn encoded(facts: &[TaskEvent], place: &str) -> Result<Vec<(TaskEvent, Vec<u8>)>, PortError> {
    let encoded = facts.iter().map(|fact| Ok((fact.clone(), codec::encode(fact)?)));
    encoded.collect::<Result<_, codec::CodecError>>().map_err(|error| error.at(place))
}
