//! The facts of tasks, as the database keeps them: the truth about what happened, by task.
//!
//! What everybody hears of them, in which order, is the bus's business. `trim` walks the index of buckets, a row or
//! three a task; it reads facts only of buckets that may have old ones and have not been emptied.

use std::sync::Arc;

use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::PortError,
    task::{TaskId, TaskRecord},
    timestamp::Timestamp,
};
use scylla::response::PagingState;

use super::{
    facts::{Fact, Facts},
    places::{DAY, signed},
    query::Query,
    records::{Records, RowFacts},
    session::Session,
};

const BUCKETS: Query = Query::read("SELECT task_id, bucket, begun_at, trimmed, is_empty FROM $.event_bucket");
const TIMES: Query = Query::read("SELECT seq, at FROM $.event WHERE task_id = ? AND bucket = ?");
const REMOVE_FACT: Query = Query::write("DELETE FROM $.event WHERE task_id = ? AND bucket = ? AND seq = ?");
const REMOVE_BUCKET: Query = Query::write("DELETE FROM $.event WHERE task_id = ? AND bucket = ?");
const NOTE_TRIMMED: Query =
    Query::write("UPDATE $.event_bucket SET trimmed = ?, is_empty = ? WHERE task_id = ? AND bucket = ?");

const REMOVED_TOGETHER: usize = 200;

/// Wall clocks step back, but hardly further.
const CLOCK_STEP_MAX: u64 = DAY;

#[derive(Clone)]
pub struct CassandraEvents {
    session: Session,
    pub(super) facts: Arc<Facts>,
    pub(super) records: Arc<Records>,
}

/// What has become of facts that were to be appended.
#[derive(Clone, Copy, Debug)]
pub enum Appended<'a> {
    Written(&'a [TaskEvent]),
    /// Some of them may be in the log.
    Unknown(&'a [TaskEvent]),
}

#[derive(Clone, Copy)]
struct Bucket {
    task: TaskId,
    bucket: i64,
    begun_at: Option<i64>,
    trimmed: Option<i64>,
    is_empty: bool,
}

type BucketRow = (uuid::Uuid, i64, Option<i64>, Option<i64>, Option<bool>);

impl CassandraEvents {
    pub fn new(session: Session) -> Self {
        let facts = Arc::new(Facts::new(session.clone()));
        let records = Arc::new(Records::new(session.clone()));
        Self { session, facts, records }
    }

    /// `tell` hears of each transition's facts once they are durable, perhaps just before they can be read; and again of
    /// those that whoever made them may not have told. It says whether it need not hear of them once more when they can be
    /// read. Counts once.
    pub fn on_facts(&self, tell: impl Fn(&TaskRecord, &RowFacts) -> bool + Send + Sync + 'static) {
        self.records.on_facts(Box::new(tell));
    }

    /// Writes those facts that are newer than the newest of their task, and returns when they are durable. A reader sees
    /// a task's facts appear in the order of `seq`, and `tell` hears of them in that order, before of any that follow. It
    /// is finished although the caller goes away: a writer that dies leaves nothing behind that is stored and not told, or
    /// told after what ended its attempt.
    pub async fn append(
        &self,
        events: &[TaskEvent],
        tell: impl Fn(Appended<'_>) + Send + Sync + 'static,
    ) -> Result<(), PortError> {
        let (log, events) = (self.clone(), events.to_vec());
        let appending = tokio::spawn(async move {
            let appended = log.append_all(&events, |written| tell(Appended::Written(written))).await;
            appended.inspect_err(|_| tell(Appended::Unknown(&events)))
        });
        appending.await.unwrap_or_else(|error| Err(PortError::Unavailable(format!("facts: {error}"))))
    }

    async fn append_all(&self, events: &[TaskEvent], tell: impl Fn(&[TaskEvent])) -> Result<(), PortError> {
        for event in events.iter().filter(|event| event.kind.is_terminal()) {
            // Nothing may appear in front of the last fact after it.
            self.settle(event.task).await?;
        }
        let facts: Result<Vec<Fact>, _> = events.iter().map(Fact::of).collect();
        self.facts.append(facts?, tell).await
    }

    /// `limit` is at least 1.
    pub async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.facts.read(task, after, limit).await
    }

    /// Nothing is added between `after` and `end`, the end of its attempt; `true` if there are facts.
    pub async fn close(&self, task: TaskId, after: Seq, end: Seq) -> Result<bool, PortError> {
        self.facts.close(task, after, end).await
    }

    /// Sees to it that the facts of the task's newest transition can be read, whoever has died since.
    pub async fn settle(&self, task: TaskId) -> Result<(), PortError> {
        match self.records.settle(task, &self.facts).await {
            // Who asks for the record is told.
            Ok(_) | Err(PortError::Corrupt(_) | PortError::Rejected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes facts from before `horizon`, except of tasks that have not ended. Returns how many.
    pub async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        let (mut trimmed, mut next) = (0, Some(PagingState::start()));
        while let Some(state) = next {
            let page: Vec<BucketRow>;
            (page, next) = self.session.page(BUCKETS, (), state).await?;
            for bucket in page.into_iter().map(Bucket::of).filter(|bucket| bucket.may_have_before(horizon)) {
                trimmed += self.trim_bucket(bucket, horizon).await?;
            }
        }
        // The buckets' marks have changed.
        self.facts.forget_all();
        Ok(trimmed)
    }

    async fn trim_bucket(&self, bucket: Bucket, horizon: Timestamp) -> Result<u64, PortError> {
        let Bucket { task, bucket, trimmed, .. } = bucket;
        if !self.has_ended(task).await? {
            return Ok(0);
        }
        let facts: Vec<(i64, i64)> = self.session.rows(TIMES, (task.0, bucket)).await?;
        let old = facts.iter().filter(|(_, at)| *at < signed(horizon.0)).map(|(seq, _)| *seq);
        let old: Vec<i64> = old.collect();
        let (Some(newest), is_empty) = (old.iter().copied().max(), old.len() == facts.len()) else { return Ok(0) };
        // First what is known of it, so that none of it is ever taken again.
        let trimmed = Some(newest).max(trimmed);
        self.session.write(NOTE_TRIMMED, (trimmed, is_empty, task.0, bucket)).await?;
        if is_empty {
            self.session.write(REMOVE_BUCKET, (task.0, bucket)).await?;
        } else {
            for seqs in old.chunks(REMOVED_TOGETHER) {
                let rows: Vec<_> = seqs.iter().map(|seq| (task.0, bucket, *seq)).collect();
                self.session.write_together(REMOVE_FACT, rows).await?;
            }
        }
        Ok(old.len() as u64)
    }

    /// Of a task that cannot be read, nobody knows.
    async fn has_ended(&self, task: TaskId) -> Result<bool, PortError> {
        match self.records.get(task).await {
            Ok(record) => Ok(record.is_none_or(|record| record.state.is_terminal())),
            Err(PortError::Corrupt(_) | PortError::Rejected(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Bucket {
    fn of((task, bucket, begun_at, trimmed, is_empty): BucketRow) -> Self {
        Self { task: TaskId(task), bucket, begun_at, trimmed, is_empty: is_empty.unwrap_or(false) }
    }

    /// News expire by themselves.
    fn may_have_before(&self, horizon: Timestamp) -> bool {
        let is_old = |begun_at| begun_at < signed(horizon.0.saturating_add(CLOCK_STEP_MAX));
        self.task != TaskId::NONE && !self.is_empty && self.begun_at.is_none_or(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buckets_that_may_have_old_facts_are_read() {
        let bucket = Bucket { task: TaskId::fresh(), bucket: 0, begun_at: Some(100), trimmed: None, is_empty: false };
        let horizon = Timestamp(100);
        assert!(bucket.may_have_before(horizon));
        assert!(Bucket { begun_at: None, ..bucket }.may_have_before(horizon));
        let young = signed(100 + CLOCK_STEP_MAX);
        assert!(!Bucket { begun_at: Some(young), ..bucket }.may_have_before(horizon));
        assert!(!Bucket { is_empty: true, ..bucket }.may_have_before(horizon));
        assert!(!Bucket { task: TaskId::NONE, ..bucket }.may_have_before(horizon));
    }
}
