//! The words of a training, written once: what a person may ask for, and what a training reports.
//!
//! Two tables carry everything: [`training`] has a row for each hyperparameter, [`model`] one for each kind of model. The
//! reading of request bodies and command lines, their JSON, their documentation and the identity of a task are derived
//! from these rows. [`outcome`] does the same for the metrics of an epoch.
//!
//! Modules, lowest first.

pub mod problem;
pub mod suggest;
pub mod unknown;

pub mod field;
pub mod outcome;

pub mod epochs;
pub mod model;
pub mod training;

pub mod draft;
pub mod task_spec;

pub mod catalogue;

pub use draft::Draft;
pub use epochs::Epochs;
pub use field::{Field, Kind, Setting};
pub use model::{Activation, Layer, ModelKind, Units, UnknownModel};
pub use outcome::{EPOCH_METRICS, EpochMetrics, Evaluation, Metric, Outcome, StopReason};
pub use problem::Problem;
pub use task_spec::{DEFAULT_DATASET, DatasetChoice, FALLBACK_DATASET, SpecError, TaskSpec, valid_dataset_name};
pub use training::{Hyperparameters, OptimizerKind, Schedule};
pub use unknown::{Kept, Unknown};
