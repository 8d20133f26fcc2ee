//! Which samples make which batch, shard and validation set: functions of the seed, the epoch and the sizes alone.

use std::ops::Range;

use kubeml_spec::TaskSpec;

use crate::data::{Data, Split};
use crate::rng::{Purpose, Stream};
use crate::simd::{multiversion, prefetch};

/// Fewest samples that are worth a shard of their own.
const SHARD_SAMPLES: usize = 32;
/// Most shards of a batch; the reduction keeps one partial sum for each.
pub(crate) const SHARDS_MAX: usize = 16;

/// The training's division into samples to learn from, samples to validate on, and steps.
pub(crate) struct Plan {
    seed: u64,
    batch_size: usize,
    /// Indices into the train split that are learned from, ascending.
    learned: Vec<u32>,
    /// Indices into the train split that are held out; empty where validation is on the test split.
    pub(crate) held_out: Vec<u32>,
}

impl Plan {
    pub(crate) fn new(spec: &TaskSpec, data: &Data) -> Self {
        let h = spec.hyperparameters();
        let samples = data.train().len() as u32;
        let held_out = held_out(spec, data.train().len());
        let order = Stream::new(h.seed, Purpose::HoldOut, 0).permutation(0, if held_out > 0 { samples } else { 0 });
        let mut is_held_out = vec![false; samples as usize];
        order.iter().take(held_out).for_each(|&sample| is_held_out[sample as usize] = true);
        let (held_out, learned) = (0..samples).partition(|&sample| is_held_out[sample as usize]);
        Plan { seed: h.seed, batch_size: h.batch_size as usize, learned, held_out }
    }

    /// Steps of one epoch; the last may have fewer samples than the others.
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.learned.len().div_ceil(self.batch_size) as u64
    }

    /// The samples of an epoch (from 0) in the order they are learned.
    pub(crate) fn order(&self, epoch: u32) -> Vec<u32> {
        let count = self.learned.len() as u32;
        let permutation = Stream::new(self.seed, Purpose::Shuffle, 0).permutation(epoch, count);
        permutation.iter().map(|&at| self.learned[at as usize]).collect()
    }

    /// The part of an epoch's order that is its step `index`.
    pub(crate) fn batch<'a>(&self, order: &'a [u32], index: u64) -> &'a [u32] {
        let from = index as usize * self.batch_size;
        &order[from..order.len().min(from + self.batch_size)]
    }
}

/// Training samples held out for validation, of `samples`.
pub(crate) fn held_out(spec: &TaskSpec, samples: usize) -> usize {
    (samples as f64 * spec.hyperparameters().validation_fraction).round() as usize
}

/// Shards of a batch: part of the result's meaning, so a function of the batch alone.
pub(crate) fn shard_count(batch: usize) -> usize {
    (batch / SHARD_SAMPLES).clamp(1, SHARDS_MAX)
}

/// Samples of one forward pass of an evaluation.
pub(crate) const EVALUATED: usize = 64;

/// Rows of shard `index`: consecutive, and of nearly equal number.
pub(crate) fn shard_rows(batch: usize, shards: usize, index: usize) -> Range<usize> {
    batch * index / shards..batch * (index + 1) / shards
}

/// Images that are asked for before they are converted: they lie anywhere in the dataset, which no cache holds.
const AHEAD: usize = 4;

/// Images of `samples` as numbers from 0 to 1, one after the other.
pub(crate) fn gather_images(split: &Split, pixels: usize, samples: &[u32]) -> Vec<f32> {
    let image = |sample: u32| &split.images[sample as usize * pixels..][..pixels];
    let mut shades = Vec::with_capacity(samples.len() * pixels);
    for (at, sample) in samples.iter().enumerate() {
        samples.get(at + AHEAD).into_iter().for_each(|later| prefetch(image(*later)));
        shades_of(image(*sample), &mut shades);
    }
    shades
}

multiversion! {
    fn shades_of(pixels: &[u8], shades: &mut Vec<f32>) {
        shades.extend(pixels.iter().map(|pixel| f32::from(*pixel) / 255.0));
    }
}

/// Labels of `samples`.
pub(crate) fn gather_labels(split: &Split, samples: &[u32]) -> Vec<u8> {
    samples.iter().map(|&sample| split.labels[sample as usize]).collect()
}
