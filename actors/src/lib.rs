//! KubeML's application: durable tasks, carried out by supervised actors.
//!
//! ```text
//! Supervisor            one-for-one; too many restarts of one child end the process
//! ├── TaskDispatcher    submit, cancel, get, list
//! ├── Reconciler        what fell between: dead owners, unannounced ends
//! ├── DatasetLoader     import into the store; load for a trainer, verified
//! ├── CacheWarmer       fills the cache ahead of need
//! ├── LogRelay          replay and live fan-out of facts
//! └── TrainerPool       claims when a slot is free; one-for-one over its trainers, with backoff
//!     └── Trainer n     one attempt at a time: load, run the engine, checkpoint, publish
//! ```
//! Commands go down as typed messages, facts come up as events in the task's log, and nothing else crosses. The package
//! names no edge technology: stores, buses, caches and engines are [`ports`].

pub mod timestamp;

pub mod dataset;
pub mod event;
pub mod task;
pub mod transition;

pub mod ports;

pub mod in_memory;

pub mod assign;
pub mod checkpoint_policy;
pub mod observer;
pub mod restart_policy;

pub mod background;
pub mod commit;
pub mod context;
pub mod handle;
pub mod metrics;
pub mod patience;
pub mod presence;

pub mod supervisor;
pub mod tree;

pub mod cache_warmer;
pub mod dataset_loader;
pub mod reconciler;
pub mod retention;
pub mod task_dispatcher;

pub mod live;
pub mod log_relay;
pub mod subscription;

pub mod attempt;
pub mod trainer;
pub mod trainer_pool;

#[cfg(feature = "testing")]
pub mod testing;
