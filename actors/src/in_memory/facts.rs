//! The log behind [`super::InMemoryState`]: each task's facts by `seq`, all tasks' by position.

use std::collections::{BTreeMap, HashMap};

use crate::{
    event::{Seq, TaskEvent},
    ports::{LogEntry, LogPage, Position},
    task::{TaskId, TaskState},
    timestamp::Timestamp,
};

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Counts the facts ever taken; the position of the newest.
    head: u64,
    by_position: BTreeMap<u64, TaskEvent>,
    by_task: HashMap<TaskId, TaskFacts>,
}

#[derive(Debug, Default)]
struct TaskFacts {
    /// Outlives the facts themselves, so that stale ones stay out after a trim.
    newest: Option<Seq>,
    positions: BTreeMap<Seq, u64>,
}

impl Facts {
    pub(super) fn head(&self) -> Position {
        Position::single(self.head)
    }

    pub(super) fn take(&mut self, facts: &[TaskEvent]) {
        for fact in facts {
            let of_task = self.by_task.entry(fact.task).or_default();
            if of_task.newest.is_some_and(|newest| fact.seq <= newest) {
                continue;
            }
            self.head += 1;
            of_task.newest = Some(fact.seq);
            of_task.positions.insert(fact.seq, self.head);
            self.by_position.insert(self.head, fact.clone());
        }
    }

    pub(super) fn of_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Vec<TaskEvent> {
        let Some(facts) = self.by_task.get(&task) else { return Vec::new() };
        let newer = facts.positions.iter().filter(|(seq, _)| after.is_none_or(|after| **seq > after));
        newer.take(limit).filter_map(|(_, position)| self.by_position.get(position).cloned()).collect()
    }

    pub(super) fn page(&self, after: &Position, limit: usize) -> LogPage {
        let after = after.counter(0);
        let newer = self.by_position.range(after.saturating_add(1)..);
        let entries: Vec<LogEntry> =
            newer.take(limit).map(|(position, event)| LogEntry::single(*position, event.clone())).collect();
        let gap = entries.last().is_some_and(|last| last.place.counter - after > entries.len() as u64);
        LogPage { entries, gap }
    }

    pub(super) fn remove_task(&mut self, task: TaskId) {
        let Some(facts) = self.by_task.remove(&task) else { return };
        for position in facts.positions.values() {
            self.by_position.remove(position);
        }
    }

    /// Removes the facts from before `horizon` of tasks in an ended state, and of those that are no tasks.
    pub(super) fn trim(&mut self, horizon: Timestamp, state_of: impl Fn(TaskId) -> Option<TaskState>) -> u64 {
        let before = self.by_position.len();
        let by_task = &mut self.by_task;
        self.by_position.retain(|_, fact| {
            let keep = fact.at >= horizon || state_of(fact.task).is_some_and(|state| !state.is_terminal());
            if !keep && let Some(of_task) = by_task.get_mut(&fact.task) {
                of_task.positions.remove(&fact.seq);
            }
            keep
        });
        // Of what is no task, nothing is remembered: nobody would ever delete it.
        by_task.retain(|task, facts| {
            if state_of(*task).is_none() {
                facts.newest = facts.positions.keys().next_back().copied();
            }
            facts.newest.is_some()
        });
        (before - self.by_position.len()) as u64
    }
}
