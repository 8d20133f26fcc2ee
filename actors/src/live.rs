//! The newest facts, in memory: what live subscribers read instead of the store, and how far each running task is.
//!
//! The log relay writes it and subscriptions read it. It belongs to neither, so it outlives the relay's restarts; what
//! it does not cover is read from the store.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    event::TaskEvent,
    ports::{LogEntry, Position},
    task::{Progress, TaskId},
};

mod latest;
#[cfg(test)]
mod tests;

use latest::Latest;

pub struct Live {
    ring: Mutex<Ring>,
    newest: watch::Sender<Position>,
    capacity: usize,
}

struct Ring {
    /// Contiguous: everything after `start`.
    entries: VecDeque<LogEntry>,
    start: Position,
    latest: Latest,
}

impl Live {
    /// An empty ring that begins after `start`.
    pub fn new(start: Position, capacity: usize) -> Self {
        let ring = Ring { entries: VecDeque::new(), start: start.clone(), latest: Latest::default() };
        Self { ring: Mutex::new(ring), newest: watch::channel(start).0, capacity: capacity.max(1) }
    }

    /// The position of the newest entry; changes wake.
    pub fn newest(&self) -> watch::Receiver<Position> {
        self.newest.subscribe()
    }

    /// Adds the entries that follow the newest one.
    pub fn push(&self, entries: Vec<LogEntry>) -> usize {
        let Some(last) = entries.last().map(|entry| entry.position.clone()) else { return self.lock().entries.len() };
        let mut ring = self.lock();
        for entry in entries {
            ring.latest.note(&entry.event);
            ring.entries.push_back(entry);
        }
        while ring.entries.len() > self.capacity {
            if let Some(oldest) = ring.entries.pop_front() {
                ring.start = oldest.position;
            }
        }
        let kept = ring.entries.len();
        drop(ring);
        self.newest.send_replace(last);
        kept
    }

    /// Begins again after `position`: before it the log has a hole, which only the store can tell of. `entries` are not
    /// kept, but what they say of progress is.
    pub fn skip_to(&self, position: &Position, entries: &[LogEntry]) {
        let mut ring = self.lock();
        entries.iter().for_each(|entry| ring.latest.note(&entry.event));
        ring.entries.clear();
        ring.start = position.clone();
        drop(ring);
        self.newest.send_replace(position.clone());
    }

    /// The entries after a position that `wanted` admits, at most `limit`, each with the position of who has read from
    /// there on; and how far that reaches. `None` when the ring does not reach back so far.
    pub fn after(
        &self,
        position: &Position,
        limit: usize,
        wanted: impl Fn(&TaskEvent) -> bool,
    ) -> Option<(Vec<LogEntry>, Position)> {
        let ring = self.lock();
        if !position.covers(&ring.start) {
            return None;
        }
        let mut reached = position.clone();
        let mut found = Vec::new();
        let read = ring.entries.partition_point(|entry| position.covers(&entry.position));
        for LogEntry { place, event, .. } in ring.entries.range(read..) {
            if found.len() == limit {
                break;
            }
            // In a log of several partitions some of what follows may have been read.
            let is_new = !reached.includes(*place);
            reached.advance(*place);
            if is_new && wanted(event) {
                found.push(LogEntry { position: reached.clone(), place: *place, event: event.clone() });
            }
        }
        Some((found, reached))
    }

    /// Whether the ring has something after a position.
    pub fn has_after(&self, position: &Position) -> bool {
        let ring = self.lock();
        position.covers(&ring.start) && ring.entries.back().is_some_and(|last| !position.covers(&last.position))
    }

    /// The latest progress of a running task's `attempt`, if one was heard of.
    pub fn progress(&self, task: TaskId, attempt: u32) -> Option<Progress> {
        self.lock().latest.progress(task, attempt)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
