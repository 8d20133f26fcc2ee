//! How many queued tasks there are in each state, without counting them every time.
//!
//! Counted from the queue at most once a second; in between, what this process does is added.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kubeml_actors::{ports::PortError, task::TaskState};
use tokio::{sync::Mutex as Turns, time::Instant};

use super::queue::{Queue, Wanted};

const FRESH_FOR: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Counts {
    /// Held while somebody counts: others wait for the result.
    turns: Turns<()>,
    known: Mutex<Option<Known>>,
}

struct Known {
    at: Instant,
    counts: HashMap<TaskState, u64>,
}

impl Counts {
    pub async fn get(&self, queue: &Queue) -> Result<HashMap<TaskState, u64>, PortError> {
        let _turn = self.turns.lock().await;
        if let Some(known) = self.lock().as_ref().filter(|known| known.at.elapsed() < FRESH_FOR) {
            return Ok(known.counts.clone());
        }
        let at = Instant::now();
        let (rows, _) = queue.rows(Wanted { pending: true, others: true }, usize::MAX).await?;
        let mut counts: HashMap<_, _> = TaskState::ALL.map(|state| (state, 0)).into();
        // What is not advised is hardly ever there, and is mended by the next scan.
        for state in rows.iter().filter_map(|row| row.state) {
            *counts.entry(state).or_default() += 1;
        }
        *self.lock() = Some(Known { at, counts: counts.clone() });
        Ok(counts)
    }

    /// A task has left one state for another; it is not queued where there is none.
    pub fn moved(&self, from: Option<TaskState>, to: Option<TaskState>) {
        let mut known = self.lock();
        let Some(known) = known.as_mut() else { return };
        if let Some(count) = from.and_then(|from| known.counts.get_mut(&from)) {
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *known.counts.entry(to).or_default() += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
