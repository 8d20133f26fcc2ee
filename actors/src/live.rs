//! The newest facts, in memory: what live subscribers read instead of the store, and how far each running task is.
//!
//! The log relay writes it and subscriptions read it. It belongs to neither, so it outlives the relay's restarts; what
//! it does not cover is read from the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    event::EventKind,
    ports::{LogEntry, Position},
    task::{Progress, TaskId},
};

#[cfg(test)]
mod tests;

pub struct Live {
    ring: Mutex<Ring>,
    newest: watch::Sender<Position>,
    capacity: usize,
}

struct Ring {
    /// Contiguous: everything after `start`.
    entries: VecDeque<LogEntry>,
    start: Position,
    progress: HashMap<TaskId, (u32, Progress)>,
}

impl Live {
    /// An empty ring that begins after `start`.
    pub fn new(start: Position, capacity: usize) -> Self {
        let ring = Ring { entries: VecDeque::new(), start: start.clone(), progress: HashMap::new() };
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
            ring.note_progress(&entry);
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
        entries.iter().for_each(|entry| ring.note_progress(entry));
        ring.entries.clear();
        ring.start = position.clone();
        drop(ring);
        self.newest.send_replace(position.clone());
    }

    /// The entries after a position, or `None` when the ring does not reach back so far.
    pub fn after(&self, position: &Position, limit: usize) -> Option<Vec<LogEntry>> {
        let ring = self.lock();
        let skipped = match ring.entries.iter().rposition(|entry| entry.position == *position) {
            Some(index) => index + 1,
            None if ring.start == *position => 0,
            None => return None,
        };
        Some(ring.entries.iter().skip(skipped).take(limit).cloned().collect())
    }

    /// The latest progress of a running task's `attempt`, if one was heard of.
    pub fn progress(&self, task: TaskId, attempt: u32) -> Option<Progress> {
        self.lock().progress.get(&task).filter(|(heard, _)| *heard == attempt).map(|(_, progress)| *progress)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn note_progress(&mut self, entry: &LogEntry) {
        let event = &entry.event;
        match &event.kind {
            EventKind::Progress(progress) => {
                self.progress.insert(event.task, (event.seq.attempt(), *progress));
            }
            kind if kind.is_terminal() => {
                self.progress.remove(&event.task);
            }
            _ => {}
        }
    }
}
