//! Remembers in which hours or days a list has rows, so that nobody looks for them elsewhere.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use futures::future::try_join_all;
use kubeml_actors::ports::PortError;

use super::{
    places::{now, period_of, shards},
    query::Query,
    session::Session,
};

const MARK: Query = Query::write("INSERT INTO $.task_period (list, shard, period, mark) VALUES (?, ?, ?, 0)");
const MARKED: Query = Query::read("SELECT period, WRITETIME(mark) FROM $.task_period WHERE list = ? AND shard = ?");
/// What was marked again since the mark was read stays.
const FORGET: Query =
    Query::write("DELETE FROM $.task_period USING TIMESTAMP ? WHERE list = ? AND shard = ? AND period = ?");

/// An empty period this much older than the present one gets no more rows; if it did, it would be marked anew.
const PERIODS_KEPT: i64 = 2;

pub(super) struct Periods {
    session: Session,
    list: &'static str,
    length: u64,
    /// Recent ones that this process has marked.
    marked: Mutex<HashSet<(i32, i64)>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub shard: i32,
    pub period: i64,
    marked_at: i64,
}

impl Periods {
    pub fn new(session: Session, list: &'static str, length: u64) -> Self {
        Self { session, list, length, marked: Mutex::default() }
    }

    /// To be called before a row is written there.
    pub async fn mark(&self, shard: i32, period: i64) -> Result<(), PortError> {
        let is_recent = period + 1 >= self.present();
        if is_recent && self.lock().contains(&(shard, period)) {
            return Ok(());
        }
        self.session.write(MARK, (self.list, shard, period)).await?;
        if is_recent {
            let oldest = self.present() - 1;
            let mut marked = self.lock();
            marked.retain(|(_, period)| *period >= oldest);
            marked.insert((shard, period));
        }
        Ok(())
    }

    /// Those of all shards.
    pub async fn all(&self) -> Result<Vec<Period>, PortError> {
        let marked = try_join_all(shards().map(|shard| self.of_shard(shard))).await?;
        Ok(marked.into_iter().flatten().collect())
    }

    async fn of_shard(&self, shard: i32) -> Result<Vec<Period>, PortError> {
        let rows: Vec<(i64, i64)> = self.session.rows(MARKED, (self.list, shard)).await?;
        Ok(rows.into_iter().map(|(period, marked_at)| Period { shard, period, marked_at }).collect())
    }

    /// `period` was found to be empty.
    pub async fn forget(&self, period: Period) -> Result<(), PortError> {
        if period.period + PERIODS_KEPT >= self.present() {
            return Ok(());
        }
        self.session.write(FORGET, (period.marked_at, self.list, period.shard, period.period)).await
    }

    fn present(&self) -> i64 {
        period_of(now(), self.length)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(i32, i64)>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
