//! How large a training is before anything is allocated, so that no request takes the machine's memory.

use crate::batches::{EVALUATED, shard_count};
use crate::data::Data;
use crate::spec::{FitSpec, KERNEL, ModelSpec, POOL};

/// Numbers a network may learn: each is held up to some twenty times (gradients of 16 shards, moments, best, snapshot).
pub(crate) const PARAMETERS_MAX: u64 = 16 << 20;
/// Numbers one shard may keep between forward and backward.
pub(crate) const ACTIVATIONS_MAX: u64 = 64 << 20;

/// Counts of numbers, of a spec whose fields are within their bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) parameters: u64,
    /// Of one shard, or of what is evaluated at a time if that is more; about.
    pub(crate) activations: u64,
}

impl Size {
    pub(crate) fn of(spec: &FitSpec, data: &Data) -> Self {
        let rows = spec.batch_size.div_ceil(shard_count(spec.batch_size)).max(EVALUATED) as u64;
        let (height, width, classes) = (data.height() as u64, data.width() as u64, data.classes() as u64);
        let mut size = Size { parameters: 0, activations: rows * height * width };
        match &spec.model {
            ModelSpec::Mlp { hidden } => {
                let inputs =
                    hidden.iter().fold(height * width, |inputs, &units| size.dense(rows, inputs, units as u64));
                size.dense(rows, inputs, classes);
            }
            ModelSpec::Cnn { channels, dense } => {
                let inputs = size.blocks(rows, channels, data);
                let units = size.dense(rows, inputs, *dense as u64);
                size.dense(rows, units, classes);
            }
            ModelSpec::Lstm { units, dense } => {
                let units = *units as u64;
                size.parameters += (width + units + 1) * 4 * units;
                size.activations += rows * height * (width + 7 * units);
                let units = size.dense(rows, units, *dense as u64);
                size.dense(rows, units, classes);
            }
        }
        size
    }

    /// Adds a dense layer; gives its width.
    fn dense(&mut self, rows: u64, inputs: u64, outputs: u64) -> u64 {
        self.parameters += (inputs + 1) * outputs;
        self.activations += rows * outputs;
        outputs
    }

    /// Adds the convolution blocks; gives the numbers of one last map, or 0 if the image is too small.
    fn blocks(&mut self, rows: u64, channels: &[usize], data: &Data) -> u64 {
        let sizes = ModelSpec::pooled_sizes(channels.len(), data.height(), data.width()).unwrap_or_default();
        let (area, window) = ((KERNEL * KERNEL) as u64, (POOL * POOL) as u64);
        let (mut inputs, mut last) = (1, 0);
        for (&outputs, (height, width)) in channels.iter().zip(sizes) {
            let (outputs, pixels) = (outputs as u64, (height * width) as u64);
            self.parameters += (area * inputs + 1) * outputs;
            // The pooled maps and their gradients of every row, and one image unfolded.
            self.activations += 2 * rows * pixels * outputs + window * pixels * (area * inputs + outputs);
            (inputs, last) = (outputs, pixels * outputs);
        }
        last
    }
}
