//! One shard's worker: a model over the shared parameters, with a lane of its own.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::ModuleT;
use kubeml_spec::Hyperparameters;

use crate::batches::{gather_images, gather_labels};
use crate::data::{Data, Split};
use crate::lane::{Lane, Slot};
use crate::metrics::Tally;
use crate::models::{Network, Stage};
use crate::ops::{SoftmaxCrossEntropy, tally};
use crate::parameters::Parameters;

pub(super) struct Shard {
    network: Network,
    lane: Arc<Lane>,
    slots: Vec<Slot>,
}

impl Shard {
    pub(super) fn new(stages: &[Stage], h: &Hyperparameters, parameters: &Parameters) -> Result<Self> {
        let lane = Lane::collecting(h.seed);
        let network = Network::new(stages, &parameters.builder(), &lane)?;
        let slots = lane.slots();
        Ok(Shard { network, lane, slots })
    }

    /// The gradients of the last `train`, one slot per parameter in the order of names.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Forward and backward over `samples`, which are rows `first_row..` of a batch of `batch` rows.
    pub(super) fn train(
        &mut self,
        data: &Data,
        samples: &[u32],
        first_row: usize,
        batch: usize,
        step: u64,
    ) -> Result<Tally> {
        self.lane.begin(step as u32, first_row as u32);
        let labels = gather_labels(data.train(), samples);
        let logits = self.network.forward_t(&images(data, data.train(), samples)?, true)?;
        let (tally, gradient) = SoftmaxCrossEntropy::new(labels, 1.0 / batch as f32).with_gradient(&logits)?;
        self.lane.backward(gradient)?;
        Ok(tally)
    }

    /// Forward only, without dropout; appends each sample's answer.
    pub(super) fn evaluate(
        &mut self,
        data: &Data,
        split: &Split,
        samples: &[u32],
        answers: &mut Vec<u16>,
    ) -> Result<Tally> {
        let logits = self.network.forward_t(&images(data, split, samples)?, false)?;
        tally(&logits, &gather_labels(split, samples), answers)
    }
}

/// `[samples, height, width]`, 0 to 1.
fn images(data: &Data, split: &Split, samples: &[u32]) -> Result<Tensor> {
    let images = gather_images(split, data.pixels(), samples);
    Tensor::from_vec(images, (samples.len(), data.height(), data.width()), &Device::Cpu)
}
