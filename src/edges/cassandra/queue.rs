//! The queue: a row for every task that still needs somebody, and for some that do not any more.
//!
//! A row says which task there is and advises what state it is in. Readers believe records only; one who finds a row
//! that is wrong mends it. Half of the scans read what is advised to be pending, the other half everything else, so what
//! is wrongly advised is seen by one of the two.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt, stream};
use kubeml_actors::{
    ports::PortError,
    task::{TaskRecord, TaskState},
    timestamp::Timestamp,
};
use scylla::response::PagingState;

use super::{
    periods::{Period, Periods},
    places::{QueueKey, SHARDS, blob, id_of, is_orphan, signed, state_code, state_of, unsigned},
    query::Query,
    records::Read,
    session::Session,
};

const PUT: Query = Query::write(
    "INSERT INTO $.task_queue (shard, period, priority, created_at, task_id, state) VALUES (?, ?, ?, ?, ?, ?)",
);
const REMOVE: Query = Query::write(
    "DELETE FROM $.task_queue WHERE shard = ? AND period = ? AND priority = ? AND created_at = ? AND task_id = ?",
);
/// What was written again since the row was read stays.
const REMOVE_SEEN: Query = Query::write(
    "DELETE FROM $.task_queue USING TIMESTAMP ? \
     WHERE shard = ? AND period = ? AND priority = ? AND created_at = ? AND task_id = ?",
);
const ROWS: Query = Query::read(
    "SELECT priority, created_at, task_id, state, WRITETIME(state), toUnixTimestamp(now()) \
     FROM $.task_queue WHERE shard = ? AND period = ?",
);

/// Partitions read at once.
const SCANS_AT_ONCE: usize = 32;
/// More partitions than these do not fail by themselves: the database is away, and it is no use to ask for the rest.
const UNREAD_MAX: usize = SHARDS as usize - 1;

type Row = (i32, i64, Vec<u8>, Option<i8>, Option<i64>, i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub key: QueueKey,
    /// Advice. Unknown is not pending.
    pub state: Option<TaskState>,
    written_at: i64,
    read_at_millis: i64,
}

/// Which rows a scan is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub pending: bool,
    pub others: bool,
}

impl Wanted {
    pub fn any_of(states: &[TaskState]) -> Self {
        let pending = states.contains(&TaskState::Pending);
        Self { pending, others: states.iter().any(|state| *state != TaskState::Pending) }
    }

    fn includes(self, row: &Queued) -> bool {
        if row.state == Some(TaskState::Pending) { self.pending } else { self.others }
    }
}

/// What has to be done about a row, as its record shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mend {
    Nothing,
    Remove,
    Advise,
    /// The record's row is another one.
    Move,
}

pub(super) struct Queue {
    session: Session,
    periods: Periods,
    unread: Unread,
}

/// Rows of one period in the order of the queue, and whether these are all.
type Scan = (Vec<Queued>, bool);

/// A part of the queue: those of the marks, and those of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Marks { shard: i32 },
    Rows { shard: i32, period: i64 },
}

/// What could not be read the last time. It is told once: scans come several times a second.
#[derive(Default)]
struct Unread(Mutex<HashSet<Part>>);

impl Queue {
    pub fn new(session: Session) -> Self {
        let periods = Periods::new(session.clone(), "queue");
        Self { session, periods, unread: Unread::default() }
    }

    /// Before the record is written.
    pub async fn put(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        self.advise(record).await?;
        self.periods.mark(key.shard(), key.period()).await
    }

    pub async fn advise(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        let values = (key.shard(), key.period(), key.priority, signed(key.created_at.0), blob(key.id));
        let (shard, period, priority, created_at, id) = values;
        self.session.write(PUT, (shard, period, priority, created_at, id, state_code(record.state))).await
    }

    pub async fn remove(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        let values = (key.shard(), key.period(), key.priority, signed(key.created_at.0), blob(key.id));
        self.session.write(REMOVE, values).await
    }

    /// Wanted rows in the order of the queue, and whether there may be more to be had with a higher `limit`. At most
    /// `limit` of each partition are read, and none is given that may come after one that was not reached.
    ///
    /// A few partitions that cannot be read keep nobody from the tasks in the others.
    pub async fn rows(&self, wanted: Wanted, limit: usize) -> Result<Scan, PortError> {
        // Most of the time the periods are those of the last scan: they are read while it is asked which there are.
        let known = self.periods.known();
        let (marks, scans) = tokio::join!(self.periods.by_shard(), self.scans(known.clone(), wanted, limit));
        let (marks, mut scans) = (marks.into_iter(), scans?);
        let marks = stream::iter(marks.map(|(shard, found)| (Part::Marks { shard }, found)));
        let periods: Vec<Period> = self.readable(marks).await?.into_iter().flatten().collect();
        let news: Vec<Period> =
            periods.iter().filter(|period| !known.iter().any(|k| k.is_at(period))).copied().collect();
        scans.extend(self.scans(news, wanted, limit).await?);
        self.periods.note_known(periods);
        Ok(merged(scans))
    }

    async fn scans(&self, periods: Vec<Period>, wanted: Wanted, limit: usize) -> Result<Vec<Scan>, PortError> {
        let scans = periods.into_iter().map(async |period| {
            let part = Part::Rows { shard: period.shard, period: period.period };
            (part, self.rows_of(period, wanted, limit).await)
        });
        self.readable(stream::iter(scans).buffer_unordered(SCANS_AT_ONCE)).await
    }

    /// Leaves out what cannot be read, unless that is too much.
    async fn readable<T>(&self, parts: impl Stream<Item = (Part, Result<T, PortError>)>) -> Result<Vec<T>, PortError> {
        let (mut readable, mut unread, mut parts) = (Vec::new(), 0, pin!(parts));
        while let Some((part, read)) = parts.next().await {
            match read {
                Ok(read) => {
                    self.unread.note_read(part);
                    readable.push(read);
                }
                Err(error) if unread == UNREAD_MAX => return Err(error),
                Err(error) => {
                    unread += 1;
                    self.unread.note(part, &error);
                }
            }
        }
        Ok(readable)
    }

    async fn rows_of(&self, period: Period, wanted: Wanted, limit: usize) -> Result<Scan, PortError> {
        let (mut found, mut is_empty, mut next) = (Vec::new(), true, Some(PagingState::start()));
        while let Some(state) = next {
            let page: Vec<Row>;
            (page, next) = self.session.page(ROWS, (period.shard, period.period), state).await?;
            is_empty &= page.is_empty();
            found.extend(page.into_iter().filter_map(queued).filter(|row| wanted.includes(row)));
            if found.len() > limit {
                found.truncate(limit);
                return Ok((found, false));
            }
        }
        if is_empty {
            // If that fails, the next scan does it.
            let forgotten = self.periods.forget(period).await;
            forgotten.unwrap_or_else(|error| tracing::debug!(%error, "an empty period is not forgotten"));
        }
        Ok((found, true))
    }

    /// Makes the row agree with what was read at its id.
    pub async fn mend(&self, row: &Queued, read: &Read) -> Result<(), PortError> {
        let record = match read {
            Read::Record(record) => record,
            Read::Missing if is_orphan(row.written_at, row.read_at_millis) => return self.remove_seen(row).await,
            Read::Missing | Read::Damaged => return Ok(()),
        };
        match row.mending(record) {
            Mend::Nothing => Ok(()),
            Mend::Remove => self.remove_seen(row).await,
            Mend::Advise => self.advise(record).await,
            Mend::Move => {
                self.put(record).await?;
                self.remove_seen(row).await
            }
        }
    }

    async fn remove_seen(&self, row: &Queued) -> Result<(), PortError> {
        let key = row.key;
        let values = (row.written_at, key.shard(), key.period(), key.priority, signed(key.created_at.0), blob(key.id));
        self.session.write(REMOVE_SEEN, values).await
    }
}

impl Unread {
    fn note(&self, part: Part, error: &PortError) {
        if self.lock().insert(part) {
            tracing::warn!(%error, ?part, "a part of the queue cannot be read: its tasks wait until it can be");
        }
    }

    fn note_read(&self, part: Part) {
        if self.lock().remove(&part) {
            tracing::info!(?part, "a part of the queue can be read again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued {
    fn mending(&self, record: &TaskRecord) -> Mend {
        match (record.is_queued(), self.key == QueueKey::of(record)) {
            (false, _) => Mend::Remove,
            (true, false) => Mend::Move,
            (true, true) if self.state == Some(record.state) => Mend::Nothing,
            (true, true) => Mend::Advise,
        }
    }
}

/// Each scan is in order, and says whether it is complete.
fn merged(scans: Vec<Scan>) -> Scan {
    let ends = scans.iter().filter(|(_, is_complete)| !is_complete).filter_map(|(rows, _)| rows.last());
    let end = ends.map(|row| row.key.order()).min();
    let mut rows: Vec<Queued> = scans.into_iter().flat_map(|(rows, _)| rows).collect();
    rows.retain(|row| end.is_none_or(|end| row.key.order() <= end));
    rows.sort_by_key(|row| row.key.order());
    (rows, end.is_none())
}

/// A row under no id is nobody's.
fn queued((priority, created_at, id, state, written_at, read_at_millis): Row) -> Option<Queued> {
    let id = id_of(&id)?;
    let key = QueueKey { priority, created_at: Timestamp(unsigned(created_at)), id };
    Some(Queued { key, state: state.and_then(state_of), written_at: written_at.unwrap_or(0), read_at_millis })
}

#[cfg(test)]
mod tests {
    use kubeml_actors::testing::contracts::samples;

    use super::*;

    fn row(record: &TaskRecord) -> Queued {
        Queued { key: QueueKey::of(record), state: Some(record.state), written_at: 1_000_000, read_at_millis: 1_000 }
    }

    #[test]
    fn a_row_is_mended_as_its_record_shows() {
        let record = samples::record(7);
        let running = samples::in_state(&record, TaskState::Running);
        assert_eq!(row(&record).mending(&record), Mend::Nothing);
        assert_eq!(row(&record).mending(&running), Mend::Advise);
        assert_eq!(Queued { state: None, ..row(&record) }.mending(&record), Mend::Advise);
        assert_eq!(row(&record).mending(&samples::announced(&record)), Mend::Remove);
        for other in
            [TaskRecord { priority: 1, ..record.clone() }, TaskRecord { created_at: Timestamp(8), ..record.clone() }]
        {
            assert_eq!(row(&other).mending(&record), Mend::Move);
        }
    }

    #[test]
    fn every_row_is_wanted_by_one_of_the_two_scans() {
        let record = samples::record(7);
        let (pending, others) = (Wanted::any_of(&[TaskState::Pending]), Wanted::any_of(&TaskState::ALL[1..]));
        for state in TaskState::ALL.map(Some).into_iter().chain([None]) {
            let row = Queued { state, ..row(&record) };
            assert!(pending.includes(&row) != others.includes(&row), "{state:?}");
            assert!(Wanted::any_of(&TaskState::ALL).includes(&row));
        }
    }

    #[test]
    fn merged_scans_end_where_one_was_cut() {
        let rows = |created: &[u64]| -> Vec<Queued> { created.iter().map(|at| row(&samples::record(*at))).collect() };
        let created = |(rows, is_complete): (Vec<Queued>, bool)| {
            (rows.iter().map(|row| row.key.created_at.0).collect::<Vec<_>>(), is_complete)
        };
        let scans = || vec![(rows(&[1, 4, 9]), true), (rows(&[2, 5]), true), (rows(&[3]), true)];
        assert_eq!(created(merged(scans())), (vec![1, 2, 3, 4, 5, 9], true));
        let mut cut = scans();
        cut[1].1 = false;
        assert_eq!(created(merged(cut)), (vec![1, 2, 3, 4, 5], false));
        let mut cut = scans();
        (cut[1].1, cut[2].1) = (false, false);
        assert_eq!(created(merged(cut)), (vec![1, 2, 3], false));
        assert_eq!(created(merged(Vec::new())), (vec![], true));
    }
}
