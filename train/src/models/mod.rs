//! The three networks, as `candle_nn::ModuleT`: the training flag in the call switches dropout.

pub mod cnn;
pub mod lstm;
pub mod mlp;

use std::sync::Arc;

use candle_core::Result;
use candle_nn::ModuleT;

use crate::lane::Lane;
use crate::parameters::VarBuilder;
use crate::spec::ModelSpec;

/// A network for one lane: images `[batch, height, width]` in 0 to 1 to logits `[batch, classes]`.
pub type Model = Box<dyn ModuleT + Send + Sync>;

/// What a model's shape depends on beside its spec.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    pub height: usize,
    pub width: usize,
    pub classes: usize,
    pub dropout: f64,
}

/// Builds the network with parameters from `vb`, writing its gradients and drawing its masks in `lane`.
pub fn build(spec: &ModelSpec, task: &Task, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Model> {
    Ok(match spec {
        ModelSpec::Mlp { hidden } => Box::new(mlp::Mlp::new(hidden, task, vb, lane)?),
        ModelSpec::Cnn { channels, dense } => Box::new(cnn::Cnn::new(channels, *dense, task, vb, lane)?),
        ModelSpec::Lstm { units, dense } => Box::new(lstm::LstmNet::new(*units, *dense, task, vb, lane)?),
    })
}
