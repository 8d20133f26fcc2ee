//! Every port in memory: what embedded nodes use where nothing has to outlive them, what tests run on, and the reference
//! of the contract suites.

mod artifacts;
mod bus;
mod cache;
mod datasets;
mod facts;
mod nodes;
mod source;
mod state;

#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

pub use self::{
    artifacts::InMemoryArtifactStore,
    bus::InProcessBus,
    cache::{InMemoryCache, NoCache},
    datasets::InMemoryDatasetStore,
    nodes::InMemoryNodes,
    source::FixedSource,
    state::InMemoryState,
};
use crate::{ports::Clock, timestamp::Timestamp};

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// Nothing here panics while it holds a lock, so a poisoned one guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
