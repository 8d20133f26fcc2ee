//! The list of all tasks: a row for each, by the day of its creation.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use kubeml_actors::{
    ports::{ListCursor, PortError, TaskFilter, TaskPage},
    task::TaskRecord,
    timestamp::Timestamp,
};
use kubeml_spec::ModelKind;

use super::{
    periods::{Period, Periods},
    places::{blob, day_of, id_of, is_orphan, shard_of, signed, unsigned},
    query::Query,
    records::{Read, Records},
    session::Session,
};

const PUT: Query =
    Query::write("INSERT INTO $.task_by_day (day, shard, created_at, task_id, model) VALUES (?, ?, ?, ?, ?)");
const REMOVE: Query =
    Query::write("DELETE FROM $.task_by_day WHERE day = ? AND shard = ? AND created_at = ? AND task_id = ?");
/// What was written again since the row was read stays.
const REMOVE_SEEN: Query = Query::write(
    "DELETE FROM $.task_by_day USING TIMESTAMP ? WHERE day = ? AND shard = ? AND created_at = ? AND task_id = ?",
);
const NEWEST: Query = Query::read(
    "SELECT created_at, task_id, model, WRITETIME(model), toUnixTimestamp(now()) FROM $.task_by_day \
     WHERE day = ? AND shard = ? LIMIT ?",
);
const AFTER: Query = Query::read(
    "SELECT created_at, task_id, model, WRITETIME(model), toUnixTimestamp(now()) FROM $.task_by_day \
     WHERE day = ? AND shard = ? AND (created_at, task_id) < (?, ?) LIMIT ?",
);

/// Records read at once.
pub(super) const READS_AT_ONCE: usize = 32;
const ROWS_MAX: usize = 1_000;

type Row = (i64, Vec<u8>, Option<String>, Option<i64>, i64);

#[derive(Clone, Debug)]
struct Listed {
    cursor: ListCursor,
    model: Option<String>,
    written_at: i64,
    read_at_millis: i64,
}

pub(super) struct Days {
    session: Session,
    days: Periods,
}

impl Days {
    pub fn new(session: Session) -> Self {
        let days = Periods::new(session.clone(), "day");
        Self { session, days }
    }

    /// Before the record is written.
    pub async fn put(&self, record: &TaskRecord) -> Result<(), PortError> {
        let cursor = ListCursor::of(record);
        let (day, shard) = (day_of(cursor), shard_of(cursor.id));
        let values = (day, shard, signed(cursor.created_at.0), blob(cursor.id), record.spec.model().as_str());
        self.session.write(PUT, values).await?;
        self.days.mark(shard, day).await
    }

    pub async fn remove(&self, record: &TaskRecord) -> Result<(), PortError> {
        let cursor = ListCursor::of(record);
        let values = (day_of(cursor), shard_of(cursor.id), signed(cursor.created_at.0), blob(cursor.id));
        self.session.write(REMOVE, values).await
    }

    /// Newest first.
    pub async fn page(&self, records: &Records, mut page: Page<'_>) -> Result<TaskPage, PortError> {
        let mut days: BTreeMap<i64, Vec<Period>> = BTreeMap::new();
        for day in self.days.all().await? {
            days.entry(day.period).or_default().push(day);
        }
        let mut after = page.after;
        let first = after.map_or(i64::MAX, day_of);
        for (_, shards) in days.range(..=first).rev() {
            loop {
                let wanted = page.missing().clamp(READS_AT_ONCE, ROWS_MAX);
                let rows = self.rows_after(shards, after, wanted).await?;
                if self.take(records, &rows, &mut page).await? {
                    return Ok(page.full());
                }
                match rows.last() {
                    Some(last) if rows.len() == wanted => after = Some(last.cursor),
                    _ => break,
                }
            }
        }
        Ok(page.last())
    }

    /// Whether the page has become full.
    async fn take(&self, records: &Records, rows: &[Listed], page: &mut Page<'_>) -> Result<bool, PortError> {
        let mut admitted = rows.to_vec();
        admitted.retain(|row| row.is_of(page.filter.model));
        let reads = admitted.into_iter().map(|row| self.read(records, row));
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some(read) = reads.try_next().await? {
            if read.is_some_and(|record| page.take(record)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The record that the row is for. Mends the row.
    async fn read(&self, records: &Records, row: Listed) -> Result<Option<TaskRecord>, PortError> {
        let read = records.readable(row.cursor.id).await?;
        self.mend(&row, &read).await?;
        match read {
            Read::Record(record) => Ok((ListCursor::of(&record) == row.cursor).then_some(*record)),
            Read::Missing | Read::Damaged => Ok(None),
        }
    }

    async fn rows_after(
        &self,
        shards: &[Period],
        after: Option<ListCursor>,
        wanted: usize,
    ) -> Result<Vec<Listed>, PortError> {
        let of_shards = shards.iter().map(|shard| self.rows_of(*shard, after, wanted));
        let mut rows: Vec<Listed> = try_join_all(of_shards).await?.into_iter().flatten().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.cursor));
        rows.truncate(wanted);
        Ok(rows)
    }

    async fn rows_of(&self, shard: Period, after: Option<ListCursor>, wanted: usize) -> Result<Vec<Listed>, PortError> {
        let limit = i32::try_from(wanted).unwrap_or(i32::MAX);
        // Of a later day, nothing is to be left out here.
        let after = after.filter(|after| day_of(*after) <= shard.period);
        let rows: Vec<Row> = match after {
            None => self.session.rows(NEWEST, (shard.period, shard.shard, limit)).await?,
            Some(ListCursor { created_at, id }) => {
                let values = (shard.period, shard.shard, signed(created_at.0), blob(id), limit);
                self.session.rows(AFTER, values).await?
            }
        };
        if rows.is_empty() && after.is_none() {
            self.days.forget(shard).await?;
        }
        Ok(rows.into_iter().filter_map(listed).collect())
    }

    /// Removes a row that has no record, or not the one it says.
    async fn mend(&self, row: &Listed, read: &Read) -> Result<(), PortError> {
        let is_wrong = match read {
            Read::Missing => is_orphan(row.written_at, row.read_at_millis),
            Read::Record(record) => ListCursor::of(record) != row.cursor,
            Read::Damaged => false,
        };
        if !is_wrong {
            return Ok(());
        }
        let ListCursor { created_at, id } = row.cursor;
        let values = (row.written_at, day_of(row.cursor), shard_of(id), signed(created_at.0), blob(id));
        self.session.write(REMOVE_SEEN, values).await
    }
}

impl Listed {
    fn is_of(&self, model: Option<ModelKind>) -> bool {
        let is_other = |model: ModelKind| self.model.as_deref().is_some_and(|listed| listed != model.as_str());
        !model.is_some_and(is_other)
    }
}

fn listed((created_at, id, model, written_at, read_at_millis): Row) -> Option<Listed> {
    let cursor = ListCursor { created_at: Timestamp(unsigned(created_at)), id: id_of(&id)? };
    Some(Listed { cursor, model, written_at: written_at.unwrap_or(0), read_at_millis })
}

/// A page of a list that is being filled, newest first.
pub(super) struct Page<'f> {
    filter: &'f TaskFilter,
    after: Option<ListCursor>,
    limit: usize,
    records: Vec<TaskRecord>,
}

impl<'f> Page<'f> {
    pub fn new(filter: &'f TaskFilter, after: Option<ListCursor>, limit: usize) -> Self {
        Self { filter, after, limit, records: Vec::new() }
    }

    /// Whether what is at the cursor comes on this page or a later one.
    pub fn is_ahead(&self, cursor: ListCursor) -> bool {
        self.after.is_none_or(|after| cursor < after)
    }

    /// With the one that shows whether there is a next page.
    fn missing(&self) -> usize {
        self.limit.saturating_sub(self.records.len()).saturating_add(1)
    }

    /// Takes the record if the filter admits it. Whether the page was full already, so that there is a next one.
    pub fn take(&mut self, record: TaskRecord) -> bool {
        if !self.filter.admits(&record) {
            return false;
        }
        let is_full = self.records.len() == self.limit;
        if !is_full {
            self.records.push(record);
        }
        is_full
    }

    pub fn full(self) -> TaskPage {
        let next = self.records.last().map(ListCursor::of);
        TaskPage { records: self.records, next }
    }

    pub fn last(self) -> TaskPage {
        TaskPage { records: self.records, next: None }
    }
}

#[cfg(test)]
mod tests {
    use kubeml_actors::testing::contracts::samples;

    use super::*;

    #[test]
    fn a_page_takes_what_belongs_on_it() {
        let filter = TaskFilter { state: None, model: Some("mlp".parse().unwrap()) };
        let mut page = Page::new(&filter, None, 2);
        let records = [9, 8, 7].map(samples::record);
        let other = TaskRecord { spec: samples::spec("cnn"), ..samples::record(9) };
        assert!(!page.take(other));
        assert_eq!(records.clone().map(|record| page.take(record)), [false, false, true]);
        let full = page.full();
        assert_eq!((full.records.len(), full.next), (2, Some(ListCursor::of(&records[1]))));
    }

    #[test]
    fn a_page_goes_on_after_its_cursor() {
        let (filter, record) = (TaskFilter::default(), samples::record(5));
        let cursor = ListCursor::of(&record);
        let page = Page::new(&filter, Some(cursor), 2);
        assert!(!page.is_ahead(cursor));
        assert!(page.is_ahead(ListCursor { created_at: Timestamp(4), ..cursor }));
        assert!(!page.is_ahead(ListCursor { created_at: Timestamp(6), ..cursor }));
    }
}
