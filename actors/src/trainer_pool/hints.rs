//! What the bus has said since the pool last looked.

use std::sync::{Arc, Mutex, PoisonError};

use super::claiming::{Claim, PAGE};
use crate::{
    ports::{Hint, TaskBus},
    task::TaskId,
};

/// What the pool knows of the queue.
pub(super) enum Backlog {
    /// Tasks may be due in it: the next claim reads it.
    Unread,
    /// The last claim found none due, so the next one may take the tasks hinted at since then without reading the queue.
    Empty { hinted: Vec<TaskId> },
}

impl Backlog {
    pub(super) fn add(&mut self, tasks: Vec<TaskId>) {
        let Self::Empty { hinted } = self else { return };
        hinted.extend(tasks);
        // A claim reads a page only: the others would be overtaken by what is hinted at next.
        if hinted.len() > PAGE {
            *self = Self::Unread;
        }
    }

    /// The tasks that the next claim tries before it reads the queue.
    pub(super) fn take(&mut self) -> Vec<TaskId> {
        match self {
            Self::Empty { hinted } => std::mem::take(hinted),
            Self::Unread => Vec::new(),
        }
    }

    pub(super) fn note(&mut self, outcome: &Claim) {
        match (outcome, &self) {
            (Claim::Empty, Self::Empty { .. }) => {}
            (Claim::Empty, Self::Unread) => *self = Self::Empty { hinted: Vec::new() },
            (Claim::Claimed(_) | Claim::Held | Claim::Unknown, _) => *self = Self::Unread,
        }
    }
}

/// Hints heeded at a time: of more the first are acknowledged early.
const HEEDED_MAX: usize = 256;

/// Hints that came in since the pool last looked: however many, they say the same.
#[derive(Clone, Default)]
pub(super) struct Hints(Arc<Mutex<Vec<Hint>>>);

impl Hints {
    /// Whether it is the first.
    pub(super) fn add(&self, hint: Hint) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(hint);
        waiting.len() == 1
    }

    pub(super) fn take(&self) -> Vec<Hint> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hints that led to the claim that is under way. If the pool dies they are acknowledged all the same: their tasks are in the
/// queue, and the bus must not wait for them.
pub(super) struct Heeded {
    pub bus: Arc<dyn TaskBus>,
    pub hints: Hints,
    pub heeded: Vec<Hint>,
}

impl Heeded {
    /// Takes up what has come in, and says which tasks that is about.
    pub(super) fn heed(&mut self) -> Vec<TaskId> {
        let hints = self.hints.take();
        let tasks = hints.iter().map(|hint| hint.task).collect();
        self.heeded.extend(hints);
        // What they are about is in the queue, which is looked at after the claim.
        let surplus = self.heeded.len().saturating_sub(HEEDED_MAX);
        self.heeded.drain(..surplus).for_each(|hint| self.bus.acknowledge(hint));
        tasks
    }

    pub(super) fn acknowledge(&mut self) {
        self.heeded.drain(..).for_each(|hint| self.bus.acknowledge(hint));
    }
}

impl Drop for Heeded {
    fn drop(&mut self) {
        self.heed();
        self.acknowledge();
    }
}
