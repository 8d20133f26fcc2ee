//! The tasks with facts that Kafka has not taken.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kubeml_actors::{event::Seq, task::TaskId};
use tokio::sync::Notify;

use super::super::metrics::KafkaMetrics;

#[cfg(test)]
mod tests;

/// Far more than tasks may wait; an entry takes some 40 bytes.
const TASKS_MAX: usize = 262_144;

pub struct Debts {
    books: Mutex<Books>,
    arrival: Notify,
    metrics: Arc<KafkaMetrics>,
}

/// What of a task has to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Everything from this fact on: Kafka did not take it from this node.
    From(Seq),
    /// The newest facts of this attempt, and what follows: another node told it, and may have died before Kafka heard.
    Inherited(u32),
}

impl Owed {
    /// The first fact that is owed.
    pub fn from(self) -> Seq {
        match self {
            Self::From(seq) => seq,
            Self::Inherited(attempt) => Seq::new(attempt, 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Debt {
    owed: Owed,
    /// Facts have joined since the store was read.
    has_grown: bool,
}

#[derive(Default)]
struct Books {
    owed: BTreeMap<TaskId, Debt>,
    /// Whose turn was last: one whose facts cannot be read holds up the others for no longer than its turn.
    turn: Option<TaskId>,
}

impl Debts {
    pub fn new(metrics: Arc<KafkaMetrics>) -> Self {
        Self { books: Mutex::default(), arrival: Notify::new(), metrics }
    }

    /// The earliest of what is owed counts.
    pub fn owe(&self, task: TaskId, what: Owed) {
        let Books { owed, .. } = &mut *self.lock();
        if owed.len() >= TASKS_MAX && !owed.contains_key(&task) {
            tracing::warn!(%task, from = %what.from(), "live readers miss facts until they ask the store: kafka takes none");
            return;
        }
        let debt = owed.entry(task).or_insert(Debt { owed: what, has_grown: true });
        let earliest = if what.from() < debt.owed.from() { what } else { debt.owed };
        *debt = Debt { owed: earliest, has_grown: true };
        self.count(owed);
        self.arrival.notify_one();
    }

    /// Whether a new fact of the task is owed with the others; if so, it is.
    pub fn joins(&self, task: TaskId) -> bool {
        let mut books = self.lock();
        let debt = books.owed.get_mut(&task);
        debt.map(|debt| debt.has_grown = true).is_some()
    }

    pub fn has(&self, task: TaskId) -> bool {
        self.lock().owed.contains_key(&task)
    }

    /// The next task in turn, and what is owed of it; waits for one. What joins from now on is not part of it.
    pub async fn next(&self) -> (TaskId, Owed) {
        loop {
            if let Some(next) = self.lock().next() {
                return next;
            }
            self.arrival.notified().await;
        }
    }

    /// What [`Debts::next`] gave has been sent, up to before `next`: all that there was.
    pub fn paid(&self, task: TaskId, what: Owed, next: Seq) {
        let Books { owed, .. } = &mut *self.lock();
        match owed.get_mut(&task) {
            Some(debt) if debt.has_grown => {
                if debt.owed.from() >= what.from() {
                    debt.owed = Owed::From(next);
                }
            }
            _ => drop(owed.remove(&task)),
        }
        self.count(owed);
    }

    fn count(&self, owed: &BTreeMap<TaskId, Debt>) {
        self.metrics.facts_owed.set(i64::try_from(owed.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn next(&mut self) -> Option<(TaskId, Owed)> {
        let after = self.owed.range((self.turn.map_or(Unbounded, Excluded), Unbounded)).next();
        let task = *after.or_else(|| self.owed.first_key_value())?.0;
        self.turn = Some(task);
        let debt = self.owed.get_mut(&task)?;
        debt.has_grown = false;
        Some((task, debt.owed))
    }
}
