//! The log of facts, and places in it.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use tokio::sync::watch;

use super::PortError;
use crate::{
    event::{Seq, TaskEvent},
    task::TaskId,
    timestamp::Timestamp,
};

#[cfg(test)]
mod tests;

/// Where one entry lies: the `counter`-th of its partition, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub partition: u32,
    pub counter: u64,
}

/// How far somebody has read the log of all tasks: one counter for each of its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position(pub Vec<u64>);

impl Position {
    /// A position in a log of one partition.
    pub fn single(counter: u64) -> Self {
        Self(vec![counter])
    }

    /// Of a log that has not been heard of yet.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// 0, its beginning, for a partition that the position does not name.
    pub fn counter(&self, partition: u32) -> u64 {
        self.0.get(partition as usize).copied().unwrap_or(0)
    }

    /// Whether everything up to `other` lies before this position, or at it.
    pub fn covers(&self, other: &Self) -> bool {
        (0u32..).zip(&other.0).all(|(partition, other)| self.counter(partition) >= *other)
    }

    /// Whether it is of another log than the one that ends at `head`: this one has not got so far.
    pub fn lies_beyond(&self, head: &Self) -> bool {
        !head.is_unknown() && !head.covers(self)
    }

    /// The part of it that lies before `head` as well.
    pub fn up_to(&self, head: &Self) -> Self {
        Self((0u32..).zip(&head.0).map(|(partition, end)| self.counter(partition).min(*end)).collect())
    }

    pub fn includes(&self, place: Place) -> bool {
        self.counter(place.partition) >= place.counter
    }

    /// The position of who has read the entry at `place` as well.
    pub fn advance(&mut self, place: Place) {
        let partition = place.partition as usize;
        if self.0.len() <= partition {
            self.0.resize(partition + 1, 0);
        }
        self.0[partition] = self.0[partition].max(place.counter);
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&counters.join("-"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no position in the log: expected numbers joined by '-'")]
pub struct BadPosition(pub String);

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let counters: Result<Vec<u64>, _> = text.split('-').map(str::parse).collect();
        counters.map(Self).map_err(|_| BadPosition(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Of who has read up to this entry and has read it.
    pub position: Position,
    pub place: Place,
    pub event: TaskEvent,
}

impl LogEntry {
    /// An entry of a log of one partition.
    pub fn single(counter: u64, event: TaskEvent) -> Self {
        Self { position: Position::single(counter), place: Place { partition: 0, counter }, event }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    pub entries: Vec<LogEntry>,
    /// Entries after the asked-for position and before the last of these have been removed.
    pub gap: bool,
}

/// The log of facts: one task's in the order of `seq`; all tasks' in an order that keeps each task's, and that may differ
/// from reader to reader. A position says what its reader has read, so it is understood by all of them.
///
/// Writing the same fact again is no error and changes nothing. A fact older than the newest of its task comes from a
/// writer that has been replaced: live readers never hear it.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Returns when the facts are durable.
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError>;

    /// Has live readers hear what is stored of a task's facts from `from` on, whose writer may have died before it told
    /// them. Returns when it has reached them; what they have heard before changes nothing.
    async fn relay(&self, task: TaskId, from: Seq) -> Result<(), PortError>;

    /// `limit` is at least 1.
    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError>;

    /// Entries up to [`EventLog::head`], as it was before the call or is after it, and none beyond.
    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError>;

    /// The newest durable position; changes wake. It falls when the log was replaced or has lost its end: whoever has
    /// read further missed something, and goes on from here.
    fn head(&self) -> watch::Receiver<Position>;

    /// Whether `head` hears of every fact soon. While it does not, only asking the store tells.
    fn is_live(&self) -> bool;

    /// Removes facts from before `horizon`, except of tasks that have not ended. Returns how many.
    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError>;
}
