//! The queue: a row for every task that still needs somebody, and for some that do not any more.
//!
//! A row says which task there is and advises what state it is in. Readers believe records only; one who finds a row
//! that is wrong mends it. Half of the scans read what is advised to be pending, the other half everything else, so what
//! is wrongly advised is seen by one of the two.

use futures::future::try_join_all;
use kubeml_actors::{
    ports::PortError,
    task::{TaskRecord, TaskState},
    timestamp::Timestamp,
};
use scylla::response::PagingState;

use super::{
    periods::{Period, Periods},
    places::{HOUR, QueueKey, blob, id_of, is_orphan, now, signed, state_code, state_of, unsigned},
    query::Query,
    records::Read,
    session::Session,
};

const PUT: Query = Query::write(
    "INSERT INTO $.task_queue (shard, hour, priority, created_at, task_id, state) VALUES (?, ?, ?, ?, ?, ?)",
);
const REMOVE: Query = Query::write(
    "DELETE FROM $.task_queue WHERE shard = ? AND hour = ? AND priority = ? AND created_at = ? AND task_id = ?",
);
/// What was written again since the row was read stays.
const REMOVE_SEEN: Query = Query::write(
    "DELETE FROM $.task_queue USING TIMESTAMP ? \
     WHERE shard = ? AND hour = ? AND priority = ? AND created_at = ? AND task_id = ?",
);
const ROWS: Query = Query::read(
    "SELECT priority, created_at, task_id, state, WRITETIME(state) FROM $.task_queue WHERE shard = ? AND hour = ?",
);

type Row = (i32, i64, Vec<u8>, Option<i8>, Option<i64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub key: QueueKey,
    /// Advice. Unknown is not pending.
    pub state: Option<TaskState>,
    written_at: i64,
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
    hours: Periods,
}

impl Queue {
    pub fn new(session: Session) -> Self {
        let hours = Periods::new(session.clone(), "queue", HOUR);
        Self { session, hours }
    }

    /// Before the record is written.
    pub async fn put(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        self.hours.mark(key.shard(), key.hour()).await?;
        self.advise(record).await
    }

    pub async fn advise(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        let values = (key.shard(), key.hour(), key.priority, signed(key.created_at.0), blob(key.id));
        let (shard, hour, priority, created_at, id) = values;
        self.session.write(PUT, (shard, hour, priority, created_at, id, state_code(record.state))).await
    }

    pub async fn remove(&self, record: &TaskRecord) -> Result<(), PortError> {
        let key = QueueKey::of(record);
        let values = (key.shard(), key.hour(), key.priority, signed(key.created_at.0), blob(key.id));
        self.session.write(REMOVE, values).await
    }

    /// Wanted rows in the order of the queue, and whether these are all. At most `limit` of each partition are read, and
    /// none is given that may come after one that was not read.
    pub async fn rows(&self, wanted: Wanted, limit: usize) -> Result<(Vec<Queued>, bool), PortError> {
        let hours = self.hours.all().await?;
        let scans = try_join_all(hours.into_iter().map(|hour| self.rows_of(hour, wanted, limit))).await?;
        Ok(merged(scans))
    }

    async fn rows_of(&self, hour: Period, wanted: Wanted, limit: usize) -> Result<(Vec<Queued>, bool), PortError> {
        let (mut found, mut is_empty, mut next) = (Vec::new(), true, Some(PagingState::start()));
        while let Some(state) = next {
            let page: Vec<Row>;
            (page, next) = self.session.page(ROWS, (hour.shard, hour.period), state).await?;
            is_empty &= page.is_empty();
            found.extend(page.into_iter().filter_map(queued).filter(|row| wanted.includes(row)));
            if found.len() > limit {
                found.truncate(limit);
                return Ok((found, false));
            }
        }
        if is_empty {
            self.hours.forget(hour).await?;
        }
        Ok((found, true))
    }

    /// Makes the row agree with what was read at its id.
    pub async fn mend(&self, row: &Queued, read: &Read) -> Result<(), PortError> {
        let record = match read {
            Read::Record(record) => record,
            Read::Missing if is_orphan(row.written_at, now()) => return self.remove_seen(row).await,
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
        let values = (row.written_at, key.shard(), key.hour(), key.priority, signed(key.created_at.0), blob(key.id));
        self.session.write(REMOVE_SEEN, values).await
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
fn merged(scans: Vec<(Vec<Queued>, bool)>) -> (Vec<Queued>, bool) {
    let ends = scans.iter().filter(|(_, is_complete)| !is_complete).filter_map(|(rows, _)| rows.last());
    let end = ends.map(|row| row.key.order()).min();
    let mut rows: Vec<Queued> = scans.into_iter().flat_map(|(rows, _)| rows).collect();
    rows.retain(|row| end.is_none_or(|end| row.key.order() <= end));
    rows.sort_by_key(|row| row.key.order());
    (rows, end.is_none())
}

/// A row under no id is nobody's.
fn queued((priority, created_at, id, state, written_at): Row) -> Option<Queued> {
    let id = id_of(&id)?;
    let key = QueueKey { priority, created_at: Timestamp(unsigned(created_at)), id };
    Some(Queued { key, state: state.and_then(state_of), written_at: written_at.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use kubeml_actors::testing::contracts::samples;

    use super::*;

    fn row(record: &TaskRecord) -> Queued {
        Queued { key: QueueKey::of(record), state: Some(record.state), written_at: 1_000_000 }
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
