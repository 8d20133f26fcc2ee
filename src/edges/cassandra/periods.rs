//! Remembers in which periods of time a list has rows, so that nobody looks for them elsewhere.
//!
//! A row is written before its mark. A mark is removed by who found no row there, if it is old, and only the mark that
//! was read before: so whatever was written meanwhile is marked. No node's clock counts for that, since it may be hours
//! off: the age of a mark is by the database's clock, and whether it has been marked lately by how long ago it was.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use kubeml_actors::ports::PortError;
use tokio::time::Instant;

use super::{places::shards, query::Query, session::Session};

const MARK: Query = Query::write("INSERT INTO $.task_period (list, shard, period, mark) VALUES (?, ?, ?, 0)");
const MARKED: Query = Query::read(
    "SELECT period, WRITETIME(mark), toUnixTimestamp(now()) FROM $.task_period WHERE list = ? AND shard = ?",
);
/// What was marked again since the mark was read stays.
const FORGET: Query =
    Query::write("DELETE FROM $.task_period USING TIMESTAMP ? WHERE list = ? AND shard = ? AND period = ?");

/// For so long a mark stands for rows that are written after it.
const FRESH_FOR: Duration = Duration::from_mins(5);
/// An empty period is forgotten when its mark is older. The difference is for what clocks of the database differ by.
const KEPT_FOR: Duration = Duration::from_mins(10);

pub(super) struct Periods {
    session: Session,
    list: &'static str,
    /// When this process has marked them, and not longer ago than that is good for.
    marked: Mutex<HashMap<(i32, i64), Instant>>,
    known: Mutex<Vec<Period>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Period {
    pub shard: i32,
    pub period: i64,
    marked_at: i64,
    is_old: bool,
}

impl Period {
    pub fn is_at(&self, other: &Self) -> bool {
        (self.shard, self.period) == (other.shard, other.period)
    }
}

impl Periods {
    pub fn new(session: Session, list: &'static str) -> Self {
        Self { session, list, marked: Mutex::default(), known: Mutex::default() }
    }

    /// To be called after a row was written there, and before anything relies on its being found.
    pub async fn mark(&self, shard: i32, period: i64) -> Result<(), PortError> {
        let is_fresh = |marked: &mut Instant| marked.elapsed() < FRESH_FOR;
        if self.lock().get_mut(&(shard, period)).is_some_and(is_fresh) {
            return Ok(());
        }
        let now = Instant::now();
        self.session.write(MARK, (self.list, shard, period)).await?;
        let mut marked = self.lock();
        marked.retain(|_, marked| is_fresh(marked));
        marked.insert((shard, period), now);
        Ok(())
    }

    /// Those that were there when somebody last noted it.
    pub fn known(&self) -> Vec<Period> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn note_known(&self, periods: Vec<Period>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = periods;
    }

    /// Those of each shard.
    pub async fn by_shard(&self) -> Vec<(i32, Result<Vec<Period>, PortError>)> {
        join_all(shards().map(async |shard| (shard, self.of_shard(shard).await))).await
    }

    /// Those of all shards.
    pub async fn all(&self) -> Result<Vec<Period>, PortError> {
        let found: Result<Vec<_>, _> = self.by_shard().await.into_iter().map(|(_, found)| found).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    async fn of_shard(&self, shard: i32) -> Result<Vec<Period>, PortError> {
        let rows: Vec<(i64, i64, i64)> = self.session.rows(MARKED, (self.list, shard)).await?;
        let period = |(period, marked_at, now)| Period { shard, period, marked_at, is_old: is_old(marked_at, now) };
        Ok(rows.into_iter().map(period).collect())
    }

    /// `period` was found to be empty.
    pub async fn forget(&self, period: Period) -> Result<(), PortError> {
        if !period.is_old {
            return Ok(());
        }
        self.session.write(FORGET, (period.marked_at, self.list, period.shard, period.period)).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(i32, i64), Instant>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Microseconds and milliseconds, as the database gives them.
fn is_old(marked_at: i64, now_millis: i64) -> bool {
    let age = now_millis.saturating_mul(1_000).saturating_sub(marked_at);
    u64::try_from(age).is_ok_and(|age| Duration::from_micros(age) > KEPT_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_outlives_what_it_stands_for() {
        assert!(FRESH_FOR * 2 <= KEPT_FOR);
        let (minute, now) = (60_000_000, 1_000 * 60_000_000);
        let is_old = |minutes: i64| is_old(now - minutes * minute, now / 1_000);
        assert_eq!([-5, 0, 9, 10, 11, 500].map(is_old), [false, false, false, false, true, true]);
        assert!(super::is_old(i64::MIN, i64::MAX) && !super::is_old(i64::MAX, i64::MIN));
    }
}
