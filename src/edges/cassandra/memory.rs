//! What a process remembers of tasks, so that it need not ask. Forgetting costs a read and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kubeml_actors::task::TaskId;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// More tasks than one process works on at a time; a few hundred bytes each.
const TASKS_MAX: usize = 10_000;
const STRIPES: usize = 256;

pub(super) struct Memory<V> {
    values: Mutex<HashMap<TaskId, V>>,
}

impl<V: Clone> Memory<V> {
    pub fn new() -> Self {
        Self { values: Mutex::default() }
    }

    pub fn get(&self, task: TaskId) -> Option<V> {
        self.lock().get(&task).cloned()
    }

    pub fn put(&self, task: TaskId, value: V) {
        let mut values = self.lock();
        if values.len() >= TASKS_MAX && !values.contains_key(&task) {
            values.clear();
        }
        values.insert(task, value);
    }

    pub fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, V>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets one at a time do something to a task; others of the same stripe wait as well.
pub(super) struct Stripes {
    turns: Vec<Arc<Turns<()>>>,
}

impl Stripes {
    pub fn new() -> Self {
        Self { turns: (0..STRIPES).map(|_| Arc::default()).collect() }
    }

    pub async fn turn(&self, task: TaskId) -> OwnedMutexGuard<()> {
        // The last bits of an id are random.
        let stripe = (task.0.as_u128() % STRIPES as u128) as usize;
        self.turns[stripe].clone().lock_owned().await
    }

    /// Waits for everybody who has a turn now.
    pub async fn all(&self) {
        for turn in &self.turns {
            drop(turn.lock().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_memory_begins_anew() {
        let memory = Memory::new();
        let tasks: Vec<TaskId> = (0..=TASKS_MAX).map(|_| TaskId::fresh()).collect();
        tasks[..TASKS_MAX].iter().for_each(|task| memory.put(*task, 1));
        memory.put(tasks[0], 2);
        assert_eq!((memory.get(tasks[0]), memory.get(tasks[1])), (Some(2), Some(1)));
        memory.put(tasks[TASKS_MAX], 3);
        assert_eq!((memory.get(tasks[0]), memory.get(tasks[TASKS_MAX])), (None, Some(3)));
    }
}
