//! The promises of the ports, each a test that every adapter passes.
//!
//! A suite is called with an expression that is evaluated once a test and gives an async closure. What that opens is empty
//! the first time; every further call opens the same storage again, once the one before has been dropped.
//!
//! ```text
//! mod in_memory_state {
//!     contracts::task_store!({
//!         let state = Arc::new(InMemoryState::new());
//!         async move || State::of(state.clone())
//!     });
//! }
//! ```

pub mod artifact_store;
pub mod chunk_cache;
pub mod dataset_source;
pub mod dataset_store;
pub mod event_log;
pub mod log_trim;
pub mod samples;
pub mod task_bus;
pub mod task_lists;
pub mod task_store;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::ports::{EventLog, PortError, TaskStore};
pub use crate::{
    artifact_store_contract as artifact_store, chunk_cache_contract as chunk_cache,
    dataset_source_contract as dataset_source, dataset_store_contract as dataset_store,
    event_log_contract as event_log, remembering_chunk_cache_contract as remembering_chunk_cache,
    task_bus_contract as task_bus, task_store_contract as task_store,
};

/// How a promise ends; one that is broken panics.
pub type Kept = Result<(), PortError>;

/// A task store and the log that its facts go to.
#[derive(Clone)]
pub struct State {
    pub tasks: Arc<dyn TaskStore>,
    pub events: Arc<dyn EventLog>,
}

impl State {
    /// Of an adapter that is both.
    pub fn of(both: Arc<impl TaskStore + EventLog + 'static>) -> Self {
        Self { tasks: both.clone(), events: both }
    }
}

/// One test for each of a suite's promises.
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $open:expr, [$($promise:ident),* $(,)?]) => {
        $(
            #[tokio::test]
            async fn $promise() -> $crate::testing::contracts::Kept {
                $crate::testing::contracts::$suite::$promise($open).await
            }
        )*
    };
}
