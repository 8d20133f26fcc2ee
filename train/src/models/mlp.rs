//! The multilayer perceptron: flattened pixels, ReLU layers each with dropout, logits.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::Task;
use crate::lane::Lane;
use crate::ops::{Activation, Hidden, Linear};
use crate::parameters::VarBuilder;

/// 784-128-128-10 with the reference settings.
pub struct Mlp {
    hidden: Vec<Hidden>,
    output: Linear,
}

impl Mlp {
    pub fn new(hidden: &[usize], task: &Task, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        let mut inputs = task.height * task.width;
        let mut layers = Vec::with_capacity(hidden.len());
        for (at, &units) in hidden.iter().enumerate() {
            layers.push(Hidden::new([inputs, units], &vb.pp(format!("hidden.{at}")), task.dropout, at as u32, lane)?);
            inputs = units;
        }
        let output = Linear::new(inputs, task.classes, Activation::None, &vb.pp("output"), lane)?;
        Ok(Mlp { hidden: layers, output })
    }
}

impl ModuleT for Mlp {
    /// `[batch, height, width]` to `[batch, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let mut xs = xs.clone();
        for hidden in &self.hidden {
            xs = xs.apply_t(hidden, train)?;
        }
        xs.apply(&self.output)
    }
}
