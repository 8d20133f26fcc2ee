//! The facts' own tables: a task's facts in buckets of bounded size, and which buckets there are.

use std::collections::HashMap;

use futures::future::try_join_all;
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::PortError,
    task::TaskId,
};

use super::{
    memory::{Memory, Stripes},
    places::{DAY, signed, unsigned},
    query::Query,
    session::Session,
};
use crate::codec;

const PUT_FACT: Query =
    Query::write("INSERT INTO $.event (task_id, bucket, seq, at, payload) VALUES (?, ?, ?, ?, ?) USING TTL ?");
const MARK_BUCKET: Query = Query::write(
    "INSERT INTO $.event_bucket (task_id, bucket, begun_at, is_empty) VALUES (?, ?, ?, false) USING TTL ?",
);
const BUCKETS_FROM: Query = Query::read("SELECT bucket FROM $.event_bucket WHERE task_id = ? AND bucket >= ?");
const NEWEST_BUCKETS: Query =
    Query::read("SELECT bucket, trimmed FROM $.event_bucket WHERE task_id = ? ORDER BY bucket DESC");
const NEWEST_FACT: Query =
    Query::read("SELECT seq FROM $.event WHERE task_id = ? AND bucket = ? ORDER BY seq DESC LIMIT 1");
const FACTS_AFTER: Query =
    Query::read("SELECT seq, payload FROM $.event WHERE task_id = ? AND bucket = ? AND seq > ? LIMIT ?");
const WRITTEN_AT: Query =
    Query::read("SELECT WRITETIME(payload) FROM $.event WHERE task_id = ? AND bucket = ? AND seq = ?");
const CLOSE: Query =
    Query::write("DELETE FROM $.event USING TIMESTAMP ? WHERE task_id = ? AND bucket = ? AND seq > ? AND seq < ?");
const REMOVE_BUCKET: Query = Query::write("DELETE FROM $.event WHERE task_id = ? AND bucket = ?");
const REMOVE_BUCKETS: Query = Query::write("DELETE FROM $.event_bucket WHERE task_id = ?");

/// A bucket holds 65,536 places of one attempt; what ends the attempt has the last bucket.
const BUCKET_BITS: u32 = 16;
/// Facts that belong to no task are news of the day.
const NEWS_TTL_SECONDS: i32 = 7 * 24 * 3600;
/// The bucket outlives the last fact of its day.
const NEWS_BUCKET_TTL_SECONDS: i32 = NEWS_TTL_SECONDS + 24 * 3600;

/// A write for which nobody waits any more is on its way no longer than this, in the database's microseconds.
const UNDER_WAY_MAX: i64 = 10_000_000;

/// More facts than arrive between the reading of an attempt and its closing.
const LATE_MAX: i32 = 100;

/// One mutation, which readers see whole: bounded far below what the database takes.
const FACTS_TOGETHER: usize = 100;
const BYTES_TOGETHER: usize = 256 << 10;

/// A fact, and how it is stored.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub event: TaskEvent,
    pub bytes: Vec<u8>,
}

impl Fact {
    pub fn of(event: &TaskEvent) -> Result<Self, PortError> {
        let bytes = codec::encode(event).map_err(|error| error.at(&format!("task {}", event.task)))?;
        Ok(Self { event: event.clone(), bytes })
    }

    fn bucket(&self) -> i64 {
        bucket_of(self.event.task, self.event.seq)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    seq: Option<Seq>,
    /// The bucket that is known to be marked.
    marked: Option<i64>,
}

pub(super) struct Facts {
    session: Session,
    newest: Memory<Newest>,
    turns: Stripes,
}

impl Facts {
    pub fn new(session: Session) -> Self {
        Self { session, newest: Memory::new(), turns: Stripes::new() }
    }

    /// Writes those facts that are newer than their task's newest, each task's in order. `tell` hears of those of a task
    /// when they are written, before anything else of it can be.
    pub async fn append(&self, facts: Vec<Fact>, tell: impl Fn(&[TaskEvent])) -> Result<(), PortError> {
        let mut by_task: HashMap<TaskId, Vec<Fact>> = HashMap::new();
        for fact in facts {
            by_task.entry(fact.event.task).or_default().push(fact);
        }
        let appends = by_task.into_iter().map(async |(task, facts)| {
            let events: Vec<TaskEvent> = facts.iter().map(|fact| fact.event.clone()).collect();
            let _turn = self.turns.turn(task).await;
            let fresh = self.fresh(task, facts).await?;
            self.write(task, fresh).await?;
            tell(&events);
            Ok(())
        });
        try_join_all(appends).await.map(drop)
    }

    /// Writes facts of a task that have been accepted. Writing them again changes nothing.
    pub async fn put(&self, task: TaskId, facts: Vec<Fact>) -> Result<(), PortError> {
        self.put_after(task, facts, || ()).await.1
    }

    /// Like `put`, and runs `first` before, when nothing else of the task is being written, read or told.
    pub async fn put_after<T>(
        &self,
        task: TaskId,
        facts: Vec<Fact>,
        first: impl FnOnce() -> T,
    ) -> (T, Result<(), PortError>) {
        let _turn = self.turns.turn(task).await;
        (first(), self.write(task, facts).await)
    }

    /// Those of `facts` that are newer than the newest of their task, and than each other.
    pub async fn fresh(&self, task: TaskId, facts: Vec<Fact>) -> Result<Vec<Fact>, PortError> {
        if task == TaskId::NONE || facts.is_empty() {
            return Ok(facts);
        }
        let mut newest = self.newest(task).await?.seq;
        let is_fresh = |fact: &Fact| {
            let is_fresh = newest.is_none_or(|newest| fact.event.seq > newest);
            newest = newest.max(Some(fact.event.seq));
            is_fresh
        };
        Ok(facts.into_iter().filter(is_fresh).collect())
    }

    /// The task has just come into being: it has no facts but those that are put next.
    pub fn begin(&self, task: TaskId) {
        self.newest.put(task, Newest::default());
    }

    /// The task has gone on elsewhere: what is remembered of its facts may be wrong.
    pub fn forget(&self, task: TaskId) {
        self.newest.forget(task);
    }

    pub fn forget_all(&self) {
        self.newest.clear();
    }

    /// What is being written here can be read.
    pub async fn read(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        drop(self.turns.turn(task).await);
        let first = after.map_or(0, |after| bucket_of(task, after));
        let after = after.map_or(-1, |after| signed(after.0));
        let buckets: Vec<(i64,)> = self.session.rows(BUCKETS_FROM, (task.0, first)).await?;
        let mut events = Vec::new();
        for (bucket,) in buckets {
            // What cannot be read takes the place of none that can.
            let mut after = after;
            while events.len() < limit {
                let wanted = i32::try_from(limit - events.len()).unwrap_or(i32::MAX);
                let values = (task.0, bucket, after, wanted);
                let rows: Vec<(i64, Vec<u8>)> = self.session.rows(FACTS_AFTER, values).await?;
                events.extend(rows.iter().filter_map(|(seq, bytes)| self.readable(task, unsigned(*seq), bytes)));
                match rows.last() {
                    Some((last, _)) if rows.len() == wanted as usize => after = *last,
                    _ => break,
                }
            }
        }
        Ok(events)
    }

    /// Nothing is added between `after` and `end`, the end of its attempt, by writes that come or are still on their way until
    /// ten seconds after it, of an owner who does not know that he has been replaced. What is there already he may have told:
    /// it stays, and is `true`. What he adds and tells between that look and the removal is heard, and not kept.
    pub async fn close(&self, task: TaskId, after: Seq, end: Seq) -> Result<bool, PortError> {
        let _turn = self.turns.turn(task).await;
        let key = (task.0, bucket_of(task, end), signed(end.0));
        let Some((ended_at,)) = self.session.row::<(i64,)>(WRITTEN_AT, key).await? else { return Ok(false) };
        let bucket = bucket_of(task, Seq(after.0.saturating_add(1)));
        let values = (task.0, bucket, signed(after.0), LATE_MAX);
        let rows: Vec<(i64, Vec<u8>)> = self.session.rows(FACTS_AFTER, values).await?;
        let late: Vec<_> = rows.iter().filter(|(seq, _)| *seq < signed(end.0)).collect();
        let is_readable = |(seq, bytes): &&(i64, Vec<u8>)| self.readable(task, unsigned(*seq), bytes).is_some();
        let readable = late.iter().copied().filter(is_readable).count();
        // What cannot be read is perhaps a newer version's, which had its place before the end: it is not ours to remove. Of
        // very many there may be more.
        if readable == late.len() && late.len() < LATE_MAX as usize {
            // A removal hides what was written before it by the database's time, whenever that arrives.
            let hidden_until = ended_at.saturating_add(UNDER_WAY_MAX);
            let last = late.last().map_or(signed(after.0), |(seq, _)| *seq);
            self.session.write(CLOSE, (hidden_until, task.0, bucket, last, signed(end.0))).await?;
        }
        Ok(readable > 0)
    }

    /// Removes everything of the task.
    pub async fn remove(&self, task: TaskId) -> Result<(), PortError> {
        let _turn = self.turns.turn(task).await;
        self.newest.forget(task);
        let buckets: Vec<(i64,)> = self.session.rows(BUCKETS_FROM, (task.0, 0_i64)).await?;
        for (bucket,) in buckets {
            self.session.write(REMOVE_BUCKET, (task.0, bucket)).await?;
        }
        self.session.write(REMOVE_BUCKETS, (task.0,)).await
    }

    /// Each run of facts of one bucket is a few mutations, one after the other; so no reader sees a hole.
    async fn write(&self, task: TaskId, facts: Vec<Fact>) -> Result<(), PortError> {
        for facts in facts.chunk_by(|a, b| a.bucket() == b.bucket()) {
            for facts in runs(facts) {
                let written = self.write_run(task, facts).await;
                written.inspect_err(|_| self.newest.forget(task))?;
            }
        }
        Ok(())
    }

    async fn write_run(&self, task: TaskId, facts: &[Fact]) -> Result<(), PortError> {
        let (Some(first), Some(last)) = (facts.first(), facts.last()) else { return Ok(()) };
        let (bucket, is_news) = (first.bucket(), task == TaskId::NONE);
        let (ttl, bucket_ttl) = if is_news { (NEWS_TTL_SECONDS, NEWS_BUCKET_TTL_SECONDS) } else { (0, 0) };
        let row = |Fact { event, bytes }: &Fact| {
            (task.0, bucket, signed(event.seq.0), signed(event.at.0), bytes.clone(), ttl)
        };
        let writing = self.session.write_together(PUT_FACT, facts.iter().map(row).collect());
        let known = self.newest.get(task);
        if known.is_some_and(|known| known.marked == Some(bucket)) {
            writing.await?;
        } else {
            let mark = (task.0, bucket, signed(first.event.at.0), bucket_ttl);
            futures::try_join!(writing, self.session.write(MARK_BUCKET, mark))?;
        }
        // Without asking, nobody knows what else there is of the task.
        if let Some(Newest { seq, .. }) = known {
            self.newest.put(task, Newest { seq: seq.max(Some(last.event.seq)), marked: Some(bucket) });
        }
        Ok(())
    }

    async fn newest(&self, task: TaskId) -> Result<Newest, PortError> {
        if let Some(known) = self.newest.get(task) {
            return Ok(known);
        }
        let mut newest = Newest::default();
        let buckets: Vec<(i64, Option<i64>)> = self.session.rows(NEWEST_BUCKETS, (task.0,)).await?;
        for (bucket, trimmed) in buckets {
            let fact: Option<(i64,)> = self.session.row(NEWEST_FACT, (task.0, bucket)).await?;
            let seq = fact.map(|(seq,)| seq).max(trimmed);
            if let Some(seq) = seq {
                newest = Newest { seq: Some(Seq(unsigned(seq))), marked: fact.map(|_| bucket) };
                break;
            }
        }
        self.newest.put(task, newest);
        Ok(newest)
    }

    /// A damaged fact is a hole, and hides no other.
    fn readable(&self, task: TaskId, seq: u64, bytes: &[u8]) -> Option<TaskEvent> {
        let place = self.session.place();
        match codec::decode::<TaskEvent>(bytes) {
            Ok(event) if (event.task, event.seq) == (task, Seq(seq)) => Some(event),
            Ok(event) => {
                tracing::error!(place, %task, seq, found = %event.task, "a fact of elsewhere is left out");
                None
            }
            Err(error) => {
                tracing::error!(%error, place, %task, seq, "a fact is left out");
                None
            }
        }
    }
}

pub(super) fn bucket_of(task: TaskId, seq: Seq) -> i64 {
    // News count microseconds.
    if task == TaskId::NONE { signed(seq.0 / DAY) } else { signed(seq.0 >> BUCKET_BITS) }
}

/// Cuts facts into what is written together.
fn runs(facts: &[Fact]) -> Vec<&[Fact]> {
    let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, fact) in facts.iter().enumerate() {
        if at - start == FACTS_TOGETHER || (at > start && bytes + fact.bytes.len() > BYTES_TOGETHER) {
            runs.push(&facts[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += fact.bytes.len();
    }
    runs.push(&facts[start..]);
    runs
}

#[cfg(test)]
mod tests {
    use kubeml_actors::testing::contracts::samples;

    use super::*;

    fn fact(n: u64, length: usize) -> Fact {
        Fact { event: samples::fact(TaskId::NONE, 1, n), bytes: vec![0; length] }
    }

    #[test]
    fn an_attempt_has_buckets_of_its_own() {
        let task = TaskId::fresh();
        let bucket = |attempt, n| bucket_of(task, Seq::new(attempt, n));
        assert_eq!(bucket_of(task, Seq::QUEUED), 0);
        assert_eq!(bucket(1, 0), bucket(1, 65_535));
        assert!(bucket(1, 65_535) < bucket(1, 65_536) && bucket(1, 65_536) < bucket(2, 0));
        assert_eq!(bucket_of(task, Seq::attempt_end(1)), bucket_of(task, Seq::terminal(1)));
        assert!(bucket_of(task, Seq::terminal(1)) < bucket(2, 0));
        assert_eq!(bucket_of(TaskId::NONE, Seq(3 * DAY + 5)), 3);
    }

    #[test]
    fn runs_are_short_and_lose_nothing() {
        let facts: Vec<Fact> = (0..250).map(|n| fact(n, 10)).collect();
        assert_eq!(runs(&facts).iter().map(|run| run.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let large: Vec<Fact> = (0..5).map(|n| fact(n, 100 << 10)).collect();
        assert_eq!(runs(&large).iter().map(|run| run.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let huge = [fact(0, 1 << 20), fact(1, 1 << 20)];
        assert_eq!(runs(&huge).iter().map(|run| run.len()).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(runs(&[]).len(), 1);
    }
}
