//! Tasks: the conditional write of the record, and around it everything that follows from it.
//!
//! ```text
//! insert:   rows of the lists -> record, if the id is free -> its facts
//! replace:  record, if the version is the same, with the facts of the one before, unless they are known to be in the log
//!           -> its facts, advice
//! ```
//! Whatever is left out by a crash is found later: lists by who reads them, facts by who writes the next version.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use kubeml_actors::{
    event::TaskEvent,
    ports::{Cas, Inserted, ListCursor, PortError, TaskFilter, TaskPage, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
};
use tokio::sync::oneshot;

use super::{
    counts::Counts,
    days::{Days, Page, READS_AT_ONCE},
    events::CassandraEvents,
    facts::{Fact, Facts},
    memory::Stripes,
    places::QueueKey,
    queue::{Queue, Queued, Wanted},
    records::{Read, Records, RowFacts, Version},
    session::Session,
};

/// When a scan was cut too short, the next one looks this many times further.
const FURTHER: usize = 4;
/// For so long after it was written nobody takes a row without a record for an orphan: far less than that takes.
const ROWS_STAY: Duration = Duration::from_secs(300);

/// The task store of a cluster's node.
pub struct CassandraTasks {
    inner: Arc<Inner>,
    /// Held by writes: those of one task would only get into each other's way in the database, and who wants to read what
    /// they come to waits for them.
    turns: Stripes,
}

struct Inner {
    records: Arc<Records>,
    facts: Arc<Facts>,
    queue: Queue,
    days: Days,
    counts: Counts,
}

impl CassandraTasks {
    /// `events` are those of the same node: they share what they know of tasks.
    pub fn new(session: Session, events: &CassandraEvents) -> Self {
        let inner = Inner {
            records: events.records.clone(),
            facts: events.facts.clone(),
            queue: Queue::new(session.clone()),
            days: Days::new(session),
            counts: Counts::default(),
        };
        Self { inner: Arc::new(inner), turns: Stripes::new() }
    }

    /// Returns when what follows from the writes up to now is done, as for who looks from elsewhere.
    pub async fn finish(&self) {
        self.turns.all().await;
    }

    /// Finishes what was begun although the caller goes away: an abandoned conditional write may still happen. The caller
    /// goes on as soon as there is an answer, the next change of the task when the work is done.
    async fn unbroken<T: Send + 'static, W>(
        &self,
        id: TaskId,
        work: impl FnOnce(Answer<T>) -> W,
    ) -> Result<T, PortError>
    where
        W: Future<Output = Result<T, PortError>> + Send + 'static,
    {
        let turn = self.turns.turn(id).await;
        let (answer, early) = oneshot::channel();
        let work = work(Answer(answer));
        let work = tokio::spawn(async move {
            let _turn = turn;
            work.await
        });
        tokio::select! {
            biased;
            Ok(answer) = early => Ok(answer),
            done = work => done.unwrap_or_else(|error| Err(PortError::Unavailable(format!("task {id}: {error}")))),
        }
    }
}

#[async_trait]
impl TaskStore for CassandraTasks {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        let (version, facts) = (Version::of(record)?, stored(facts)?);
        let inner = self.inner.clone();
        self.unbroken(record.id, |answer| async move { inner.insert(version, facts, answer).await }).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        let (next, facts) = (Version::of(next)?, stored(facts)?);
        let inner = self.inner.clone();
        self.unbroken(next.record.id, |answer| async move { inner.compare_and_set(next, facts, answer).await }).await
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.inner.records.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        drop(self.turns.turn(id).await);
        self.inner.records.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        let page = Page::new(filter, after, limit);
        match filter.state {
            Some(state @ (TaskState::Pending | TaskState::Running)) => self.inner.list_queued(state, page).await,
            _ => self.inner.days.page(&self.inner.records, page).await,
        }
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        self.inner.queued(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.inner.counts.get(&self.inner.queue).await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        let inner = self.inner.clone();
        self.unbroken(id, |_| async move { inner.delete(id).await }).await
    }
}

impl Inner {
    async fn insert(
        &self,
        version: Version,
        facts: Vec<Fact>,
        answer: Answer<Inserted>,
    ) -> Result<Inserted, PortError> {
        let record = &version.record;
        let began = Instant::now();
        self.put_rows(record).await?;
        if !self.records.insert(&version, &facts).await? {
            return self.taken(record).await;
        }
        // A process may be stopped in between.
        if began.elapsed() > ROWS_STAY {
            self.put_rows(record).await?;
        }
        self.facts.begin(record.id);
        self.counts.moved(None, queued(record));
        let answer = || answer.give(Inserted::Fresh);
        self.log(&version, &RowFacts::of(&[], &facts), facts, answer).await;
        Ok(Inserted::Fresh)
    }

    async fn put_rows(&self, record: &TaskRecord) -> Result<(), PortError> {
        let queueing = async { if record.is_queued() { self.queue.put(record).await } else { Ok(()) } };
        futures::try_join!(queueing, self.days.put(record)).map(drop)
    }

    /// Somebody has the id: perhaps this very insert, whose reply was lost.
    async fn taken(&self, record: &TaskRecord) -> Result<Inserted, PortError> {
        let existing = self.records.settle(record.id, &self.facts).await?;
        let existing = existing.ok_or_else(|| changed_meanwhile(record.id))?;
        let is_same = QueueKey::of(record) == QueueKey::of(&existing);
        if !is_same {
            self.days.remove(record).await?;
        }
        if !is_same || !existing.is_queued() {
            self.queue.remove(record).await?;
        }
        // Its own rows may have been taken for orphans while its insert was still under way.
        self.put_rows(&existing).await?;
        Ok(Inserted::Exists(Box::new(existing)))
    }

    async fn compare_and_set(&self, next: Version, facts: Vec<Fact>, answer: Answer<Cas>) -> Result<Cas, PortError> {
        let id = next.record.id;
        let before = next.number.saturating_sub(1);
        let known = self.records.settled(id).filter(|known| known.version == before);
        let (was_queued, untold) = if let Some(known) = known {
            (known.queued, Vec::new())
        } else if let Some(seen) = self.records.seen(id, before) {
            (queued(&seen.record), self.records.untold(&seen, &self.facts)?)
        } else {
            let current = self.records.settle(id, &self.facts).await?.ok_or_else(|| no_such_task(id))?;
            if current.version.checked_add(1) != Some(next.record.version) {
                return Ok(Cas::Conflict(Box::new(current)));
            }
            (queued(&current), Vec::new())
        };
        let facts = self.facts.fresh(id, facts).await?;
        // All of them are in the new row, so that none is lost whatever becomes of this process.
        let (all, told) = ([untold.as_slice(), facts.as_slice()].concat(), RowFacts::of(&untold, &facts));
        let replacing = self.records.replace(before, &next, &all);
        let (taken_along, replaced) = tokio::join!(self.facts.put(id, untold), replacing);
        if !replaced.inspect_err(|_| self.records.forget(id))? {
            self.records.forget(id);
            let current = self.records.get(id).await?.ok_or_else(|| no_such_task(id))?;
            return Ok(Cas::Conflict(Box::new(current)));
        }
        self.counts.moved(was_queued, queued(&next.record));
        let unlogged = if taken_along.is_ok() { facts } else { all };
        let answer = || answer.give(Cas::Applied);
        tokio::join!(self.log(&next, &told, unlogged, answer), self.advise(was_queued, &next.record));
        Ok(Cas::Applied)
    }

    /// The version has been written, and its facts with it: they are durable, and the caller can have his answer. Who
    /// reads them here waits until they are in the log.
    async fn log(&self, version: &Version, facts: &RowFacts, unlogged: Vec<Fact>, answer: impl FnOnce()) {
        let Version { record, number, .. } = version;
        let id = record.id;
        if let Err(error) = self.records.log(*number, record, facts, unlogged, &self.facts, answer).await {
            self.records.forget(id);
            tracing::warn!(%error, task = %id, "facts stay with their record until its next version");
        }
    }

    /// Where it fails, the next scan mends it.
    async fn advise(&self, was_queued: Option<TaskState>, record: &TaskRecord) {
        let advised = match queued(record) {
            None => self.queue.remove(record).await,
            now if now == was_queued => Ok(()),
            Some(_) => self.queue.advise(record).await,
        };
        if let Err(error) = advised {
            tracing::debug!(%error, task = %record.id, "the queue is not up to date");
        }
    }

    async fn queued(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        let mut reach = limit.max(1);
        loop {
            let (rows, is_complete) = self.queue.rows(Wanted::any_of(states), reach).await?;
            let mut found = Vec::new();
            let mut reads = stream::iter(rows.into_iter().map(|row| self.read(row))).buffered(READS_AT_ONCE);
            while found.len() < limit
                && let Some(read) = reads.try_next().await?
            {
                found.extend(read.filter(|record| record.is_queued() && states.contains(&record.state)));
            }
            if is_complete || found.len() == limit {
                return Ok(found);
            }
            reach = reach.saturating_mul(FURTHER);
        }
    }

    async fn list_queued(&self, state: TaskState, mut page: Page<'_>) -> Result<TaskPage, PortError> {
        let (mut rows, _) = self.queue.rows(Wanted::any_of(&[state]), usize::MAX).await?;
        let cursor = |row: &Queued| ListCursor { created_at: row.key.created_at, id: row.key.id };
        rows.retain(|row| page.is_ahead(cursor(row)));
        rows.sort_by_key(|row| std::cmp::Reverse(cursor(row)));
        let mut reads = stream::iter(rows.into_iter().map(|row| self.read(row))).buffered(READS_AT_ONCE);
        while let Some(read) = reads.try_next().await? {
            if read.is_some_and(|record| page.take(record)) {
                return Ok(page.full());
            }
        }
        Ok(page.last())
    }

    /// The record that the row is for. Mends the row.
    async fn read(&self, row: Queued) -> Result<Option<TaskRecord>, PortError> {
        let read = self.records.readable(row.key.id).await?;
        if let Err(error) = self.queue.mend(&row, &read).await {
            tracing::debug!(%error, task = %row.key.id, "the next scan mends the row");
        }
        match read {
            // Of another row it is found there.
            Read::Record(record) => Ok((QueueKey::of(&record) == row.key).then_some(*record)),
            Read::Missing | Read::Damaged => Ok(None),
        }
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        let record = self.records.get(id).await?.ok_or_else(|| no_such_task(id))?;
        if !record.announced {
            let state = record.state;
            return Err(PortError::Rejected(format!("task {id} is {state}: only an announced task can be deleted")));
        }
        // The record goes last: whatever is left over until then is found again through it.
        self.facts.remove(id).await?;
        futures::try_join!(self.days.remove(&record), self.queue.remove(&record))?;
        match self.records.delete(&record).await? {
            true => Ok(()),
            false if self.records.get(id).await?.is_none() => Err(no_such_task(id)),
            false => Err(changed_meanwhile(id)),
        }
    }
}

/// Where the outcome of a write can be given before the work that follows from it is done.
struct Answer<T>(oneshot::Sender<T>);

impl<T> Answer<T> {
    /// Whoever has gone away is not told.
    fn give(self, outcome: T) {
        let _ = self.0.send(outcome);
    }
}

fn queued(record: &TaskRecord) -> Option<TaskState> {
    record.is_queued().then_some(record.state)
}

fn stored(facts: &[TaskEvent]) -> Result<Vec<Fact>, PortError> {
    facts.iter().map(Fact::of).collect()
}

fn no_such_task(id: TaskId) -> PortError {
    PortError::NotFound(format!("there is no task {id}"))
}

fn changed_meanwhile(id: TaskId) -> PortError {
    PortError::Unavailable(format!("task {id} was changed at the same time; try again"))
}
