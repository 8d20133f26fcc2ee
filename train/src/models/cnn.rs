//! The convolutional network: blocks of convolution and pooling, a ReLU layer, dropout, logits.

use std::sync::Arc;

use candle_core::{Error, Result, Tensor};
use candle_nn::ModuleT;

use super::Task;
use crate::lane::Lane;
use crate::ops::{Activation, ConvBlock, Hidden, Linear};
use crate::parameters::VarBuilder;
use crate::spec::ModelSpec;

/// 32 and 64 channels, dense 128 with the reference settings. Maps are channels-last.
pub struct Cnn {
    blocks: Vec<ConvBlock>,
    dense: Hidden,
    output: Linear,
}

impl Cnn {
    pub fn new(channels: &[usize], dense: usize, task: &Task, vb: &VarBuilder<'_>, lane: &Arc<Lane>) -> Result<Self> {
        let sizes = ModelSpec::pooled_sizes(channels.len(), task.height, task.width);
        let last = sizes.and_then(|sizes| sizes.last().copied());
        let (height, width) = last.ok_or_else(|| Error::Msg("the image is too small for the blocks".to_string()))?;
        let mut inputs = 1;
        let mut blocks = Vec::with_capacity(channels.len());
        for (at, &outputs) in channels.iter().enumerate() {
            blocks.push(ConvBlock::new(inputs, outputs, &vb.pp(format!("conv.{at}")), lane)?);
            inputs = outputs;
        }
        Ok(Cnn {
            blocks,
            dense: Hidden::new([height * width * inputs, dense], &vb.pp("dense"), task.dropout, 0, lane)?,
            output: Linear::new(dense, task.classes, Activation::None, &vb.pp("output"), lane)?,
        })
    }
}

impl ModuleT for Cnn {
    /// `[batch, height, width]` to `[batch, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let mut maps = xs.unsqueeze(3)?;
        for block in &self.blocks {
            maps = maps.apply(block)?;
        }
        maps.apply_t(&self.dense, train)?.apply(&self.output)
    }
}
