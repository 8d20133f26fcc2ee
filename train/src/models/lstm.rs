//! The recurrent network: an LSTM over the image's rows, dropout, a ReLU layer, dropout, logits.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::Task;
use crate::lane::Lane;
use crate::ops::{Activation, Dropout, Linear, Lstm};
use crate::parameters::VarBuilder;

/// 128 units, dense 128 with the reference settings. A row of the image is a time step, its pixels the features.
pub struct LstmNet {
    lstm: Lstm,
    dense: Linear,
    output: Linear,
    dropouts: [Dropout; 2],
}

impl LstmNet {
    pub fn new(units: usize, dense: usize, task: &Task, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        Ok(LstmNet {
            lstm: Lstm::new(task.width, units, &vb.pp("lstm"), lane)?,
            dense: Linear::new(units, dense, Activation::Relu, &vb.pp("dense"), lane)?,
            output: Linear::new(dense, task.classes, Activation::None, &vb.pp("output"), lane)?,
            dropouts: [0, 1].map(|layer| Dropout::new(task.dropout, layer, lane)),
        })
    }
}

impl ModuleT for LstmNet {
    /// `[batch, height, width]` to `[batch, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let state = xs.apply_t(&self.lstm, train)?.apply_t(&self.dropouts[0], train)?;
        state.apply(&self.dense)?.apply_t(&self.dropouts[1], train)?.apply(&self.output)
    }
}
