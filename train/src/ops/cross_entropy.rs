//! Softmax and cross-entropy in one op: the loss from logits, its gradient `softmax - target`, and what is counted.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::{ensure, floats, read};
use crate::lane::Lane;
use crate::metrics::Tally;
use crate::simd::{exp, multiversion};

/// `scale` times the sum over rows of `-ln softmax(logits)[label]`, a scalar. With `scale = 1 / batch` it is the
/// batch's mean loss, and shards of a batch add up.
pub struct SoftmaxCrossEntropy {
    labels: Vec<u8>,
    scale: f32,
}

impl SoftmaxCrossEntropy {
    /// `labels` has the true class of each row, below the number of classes.
    pub fn new(labels: Vec<u8>, scale: f32) -> Self {
        Self { labels, scale }
    }

    /// Applies the loss to logits `[rows, classes]` of a network in this lane.
    pub fn of(self, logits: &Tensor, lane: &Lane) -> Result<Tensor> {
        lane.apply1(logits, self)
    }

    /// What [`of`](Self::of) and its way back give, and the right answers, in one pass over the logits: the gradient is
    /// that of `scale` times the sum of losses.
    pub fn with_gradient(&self, logits: &Tensor) -> Result<(Tally, Tensor)> {
        let (rows, classes) = logits.dims2()?;
        check(&self.labels, rows, classes)?;
        let mut found = vec![Row::default(); rows];
        let mut tally = Tally::default();
        let values = read(logits, |logits| {
            let mut values = logits.to_vec();
            differentiate(&mut values, &self.labels, self.scale, &mut found);
            for (row, &label) in logits.chunks_exact(classes).zip(&self.labels) {
                tally.count(row, label);
            }
            Ok(values)
        })?;
        tally.loss_sum = found.iter().map(Row::loss).sum();
        Ok((tally, Tensor::from_vec(values, (rows, classes), &Device::Cpu)?))
    }
}

fn check(labels: &[u8], rows: usize, classes: usize) -> Result<()> {
    let known = classes > 0 && labels.iter().all(|&label| usize::from(label) < classes);
    ensure(labels.len() == rows && known, || format!("{} labels for logits [{rows}, {classes}]", labels.len()))
}

impl CustomOp1 for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, classes) = layout.shape().dims2()?;
        check(&self.labels, rows, classes)?;
        let loss = sum_losses(floats(logits, layout)?, &self.labels, classes);
        Ok((CpuStorage::F32(vec![(loss * f64::from(self.scale)) as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, classes) = logits.dims2()?;
        let scale = read(grad, |grad| Ok(grad[0]))? * self.scale;
        let mut values = read(logits, |logits| Ok(logits.to_vec()))?;
        differentiate(&mut values, &self.labels, scale, &mut vec![Row::default(); rows]);
        Tensor::from_vec(values, (rows, classes), &Device::Cpu).map(Some)
    }
}

/// What an evaluation counts over logits `[rows, classes]`, rows in order; `answers` gets each row's answer.
pub fn tally(logits: &Tensor, labels: &[u8], answers: &mut Vec<u16>) -> Result<Tally> {
    let (rows, classes) = logits.dims2()?;
    check(labels, rows, classes)?;
    read(logits, |logits| {
        let mut tally = Tally { loss_sum: sum_losses(logits, labels, classes), ..Tally::default() };
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            answers.push(tally.count(row, label) as u16);
        }
        Ok(tally)
    })
}

fn sum_losses(logits: &[f32], labels: &[u8], classes: usize) -> f64 {
    let mut scratch = vec![0.0; classes];
    let mut loss_sum = 0.0;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        scratch.copy_from_slice(row);
        let (max, sum) = exponentials(&mut scratch);
        loss_sum += Row { max, sum, own: row[usize::from(label)] }.loss();
    }
    loss_sum
}

/// What a row's loss is made of: its largest logit, the sum of e^(x - max), and the true class's logit.
#[derive(Clone, Copy, Default)]
struct Row {
    max: f32,
    sum: f32,
    own: f32,
}

impl Row {
    /// `-ln softmax(logits)[label]`, in nats.
    fn loss(&self) -> f64 {
        libm::log(f64::from(self.sum)) + f64::from(self.max) - f64::from(self.own)
    }
}

multiversion! {
    /// Turns logits into `scale` times `softmax - target`.
    fn differentiate(values: &mut [f32], labels: &[u8], scale: f32, found: &mut [Row]) {
        let classes = values.len() / labels.len().max(1);
        for ((row, label), found) in values.chunks_exact_mut(classes.max(1)).zip(labels).zip(found) {
            let own = row[usize::from(*label)];
            let (max, sum) = exponentials(row);
            row.iter_mut().for_each(|value| *value *= scale / sum);
            row[usize::from(*label)] -= scale;
            *found = Row { max, sum, own };
        }
    }
}

/// Replaces a row by e^(x - max); gives the maximum and the sum. A NaN anywhere makes the sum NaN.
#[inline(always)]
fn exponentials(row: &mut [f32]) -> (f32, f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = exp(*value - max));
    (max, row.iter().sum())
}
