//! Deterministic training of small image classifiers on CPUs.
//!
//! [`fit()`] is a pure function of (`TaskSpec`, [`Data`]): the weights it returns do not depend on the number of threads,
//! on crashes and resumes, or on who watches. It knows no clock, no network and no file; an [`Observer`] hears facts,
//! may ask for a [`Snapshot`] at every batch boundary and may stop the run there. A snapshot's bytes read back by
//! [`Checkpoint::decode`] resume the run bit for bit, metrics included.
//!
//! Reading order: `data` (what is given), `models` (the network), `fit` and `session` (the loop), `lane` (one shard's
//! forward and backward), `ops` (the kernels, as candle custom ops), `parameters`, `optimizer`, `checkpoint`.
//!
//! The ops train under candle's own autograd as well, on variables that come from anywhere:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use candle_nn::{Module, ModuleT, Optimizer, SGD, VarBuilder, VarMap};
//! use kubeml_train::lane::Lane;
//! use kubeml_train::ops::{Activation, Dropout, Linear, Lstm, SoftmaxCrossEntropy};
//!
//! let variables = VarMap::new();
//! let vb = VarBuilder::from_varmap(&variables, candle_core::DType::F32, &Device::Cpu);
//! let small = candle_nn::Init::Uniform { lo: -0.2, up: 0.2 };
//! let weights = |shape: &[usize], name: &str| vb.get_with_hints(shape, name, small);
//! let lstm = Lstm::from_tensors(weights(&[4, 32], "kernel")?, weights(&[8, 32], "recurrent")?, weights(&[32], "bias")?)?;
//! let output = Linear::from_tensors(weights(&[8, 3], "weight")?, weights(&[3], "output.bias")?, Activation::None)?;
//! // Keys dropout's masks by (seed, step, row).
//! let lane = Lane::plain(7);
//! let dropout = Dropout::new(0.1, 0, &lane);
//!
//! let sequences = Tensor::randn(0.0_f32, 1.0, (16, 5, 4), &Device::Cpu)?;
//! let labels: Vec<u8> = (0..16).map(|row| row % 3).collect();
//! let mut optimizer = SGD::new(variables.all_vars(), 0.5)?;
//! let mut losses = Vec::new();
//! for step in 0..50 {
//!     lane.begin(step, 0);
//!     let state = lstm.forward_t(&sequences, true)?;
//!     let logits = output.forward(&dropout.forward_t(&state, true)?)?;
//!     let loss = SoftmaxCrossEntropy::new(labels.clone(), 1.0 / 16.0).of(&logits, &lane)?;
//!     optimizer.backward_step(&loss)?;
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[49] < losses[0]);
//! # Ok::<(), candle_core::Error>(())
//! ```
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

mod batches;
mod initialisers;
pub mod lane;
mod matmul;
mod pool;
mod session;
mod simd;
mod size;

/// What a kernel refuses its input with.
pub use candle_core::Error as KernelError;
pub use checkpoint::{Checkpoint, CheckpointError, Snapshot};
pub use data::{Data, DataParts, Split};
pub use error::TrainError;
pub use fit::{Ended, Threads, Trained, fit};
pub use matmul::kernel_set;
pub use observer::{Control, EvaluationProgress, Observer, Phase, Silent, Started, StepProgress};

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
