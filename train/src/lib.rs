//! Deterministic training of small image classifiers on CPUs.
//!
//! [`fit()`] is a pure function of ([`FitSpec`], [`Data`]): the weights it returns do not depend on the number of threads,
//! on crashes and resumes, or on who watches. It knows no clock, no network and no file; an [`Observer`] hears facts,
//! may ask for a [`Snapshot`] at every batch boundary and may stop the run there. A snapshot's bytes read back by
//! [`Checkpoint::decode`] resume the run bit for bit, metrics included.
//!
//! Reading order: `spec` and `data` (what is asked), `fit` and `session` (the loop), `lane` and `models` (one shard's
//! forward and backward), `ops` (the kernels, as candle custom ops), `parameters`, `optimizer`, `checkpoint`.
//!
//! Why the bits are the same with any thread count: a batch is cut into `clamp(batch / 32, 1, 16)` shards, each shard
//! runs on one thread into its own gradients, the gradients are summed in a fixed order, and every random number is a
//! function of (seed, purpose, step, row, unit) with no generator state ([`rng`]).

pub mod checkpoint;
pub mod data;
pub mod error;
pub mod fit;
pub mod metrics;
pub mod models;
pub mod observer;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod rng;
pub mod spec;

mod batches;
mod initialisers;
pub mod lane;
mod matmul;
mod pool;
mod session;
mod simd;
mod size;

pub use checkpoint::{Checkpoint, CheckpointError, Snapshot};
pub use data::{Data, DataParts, Split};
pub use error::{TrainError, Verdict};
pub use fit::{Outcome, StopReason, Threads, Trained, fit};
pub use matmul::kernel_set;
pub use metrics::{EpochMetrics, Evaluation};
pub use observer::{Control, EvaluationProgress, Observer, Phase, Silent, Started, StepProgress};
pub use spec::{FitSpec, ModelSpec, OptimizerKind, Schedule, SpecProblem};

#[cfg(test)]
mod tests;
