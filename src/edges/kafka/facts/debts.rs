//! The tasks with facts that Kafka has not taken.

use std::{
    collections::HashMap,
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
    owed: Mutex<HashMap<TaskId, Debt>>,
    arrival: Notify,
    metrics: Arc<KafkaMetrics>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Debt {
    /// The first fact that is owed.
    from: Seq,
    /// Facts have joined since the store was read.
    has_grown: bool,
}

impl Debts {
    pub fn new(metrics: Arc<KafkaMetrics>) -> Self {
        Self { owed: Mutex::default(), arrival: Notify::new(), metrics }
    }

    /// The task's facts from `seq` on have to be sent again.
    pub fn owe(&self, task: TaskId, seq: Seq) {
        let mut owed = self.lock();
        if owed.len() >= TASKS_MAX && !owed.contains_key(&task) {
            tracing::warn!(%task, %seq, "live readers miss facts until they ask the store: kafka takes none");
            return;
        }
        let debt = owed.entry(task).or_insert(Debt { from: seq, has_grown: true });
        *debt = Debt { from: debt.from.min(seq), has_grown: true };
        self.count(&owed);
        drop(owed);
        self.arrival.notify_one();
    }

    /// Whether a new fact of the task is owed with the others; if so, it is.
    pub fn joins(&self, task: TaskId) -> bool {
        let mut owed = self.lock();
        let debt = owed.get_mut(&task);
        debt.map(|debt| debt.has_grown = true).is_some()
    }

    pub fn has(&self, task: TaskId) -> bool {
        self.lock().contains_key(&task)
    }

    /// Some task, and its first fact that is owed; waits for one. What joins from now on is not part of it.
    pub async fn next(&self) -> (TaskId, Seq) {
        loop {
            if let Some((task, debt)) = self.lock().iter_mut().next() {
                debt.has_grown = false;
                return (*task, debt.from);
            }
            self.arrival.notified().await;
        }
    }

    /// The task's facts from `from`, as [`Debts::next`] gave it, to before `next` have been sent: all that there were.
    pub fn paid(&self, task: TaskId, from: Seq, next: Seq) {
        let mut owed = self.lock();
        match owed.get_mut(&task) {
            Some(debt) if debt.has_grown => {
                if debt.from >= from {
                    debt.from = next;
                }
            }
            _ => drop(owed.remove(&task)),
        }
        self.count(&owed);
    }

    fn count(&self, owed: &HashMap<TaskId, Debt>) {
        self.metrics.facts_owed.set(i64::try_from(owed.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Debt>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
