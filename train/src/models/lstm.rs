//! The recurrent network: an LSTM over the image's rows, dropout, a ReLU layer, dropout, logits.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::Task;
use crate::lane::Lane;
use crate::ops::{Activation, Dropout, Hidden, Linear, Lstm};
use crate::parameters::VarBuilder;

/// 128 units, dense 128 with the reference settings. A row of the image is a time step, its pixels the features.
pub struct LstmNet {
    lstm: Lstm,
    dropout: Dropout,
    dense: Hidden,
    output: Linear,
}

impl LstmNet {
    pub fn new(units: usize, dense: usize, task: &Task, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        Ok(LstmNet {
            lstm: Lstm::new(task.width, units, &vb.pp("lstm"), lane)?,
            dropout: Dropout::new(task.dropout, 0, lane),
            dense: Hidden::new([units, dense], &vb.pp("dense"), task.dropout, 1, lane)?,
            output: Linear::new(dense, task.classes, Activation::None, &vb.pp("output"), lane)?,
        })
    }
}

impl ModuleT for LstmNet {
    /// `[batch, height, width]` to `[batch, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let state = xs.apply_t(&self.lstm, train)?.apply_t(&self.dropout, train)?;
        state.apply_t(&self.dense, train)?.apply(&self.output)
    }
}
