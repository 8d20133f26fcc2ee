//! Softmax and cross-entropy in one op: the loss from logits, its gradient `softmax - target`, and what is counted.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::{ensure, floats, read};
use crate::lane::Lane;
use crate::metrics::Tally;
use crate::simd::{exp, multiversion};

/// `scale` times the sum over rows of `-ln softmax(logits)[label]`, a scalar. With `scale = 1 / batch` it is the
/// batch's mean loss, and shards of a batch add up.
pub struct SoftmaxCrossEntropy {
    /// The true class of each row, below the number of classes.
    pub labels: Vec<u8>,
    pub scale: f32,
}

impl SoftmaxCrossEntropy {
    /// Applies the loss to logits `[rows, classes]` of a network in this lane.
    pub fn of(self, logits: &Tensor, lane: &Lane) -> Result<Tensor> {
        lane.apply1(logits, self)
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
        let loss = sum_losses(floats(logits, layout)?, &self.labels, classes).loss_sum;
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

/// What [`SoftmaxCrossEntropy`] and its way back give, and the right answers, in one pass over the logits: the gradient is
/// that of `scale` times the sum of losses.
pub fn loss_and_gradient(logits: &Tensor, labels: &[u8], scale: f32) -> Result<(Tally, Tensor)> {
    let (rows, classes) = logits.dims2()?;
    check(labels, rows, classes)?;
    let mut found = vec![Row::default(); rows];
    let (values, correct) = read(logits, |logits| {
        let mut values = logits.to_vec();
        differentiate(&mut values, labels, scale, &mut found);
        let answers = logits.chunks_exact(classes).map(arg_max);
        let correct = answers.zip(labels).filter(|(answer, label)| *answer == usize::from(**label)).count();
        Ok((values, correct))
    })?;
    let loss_sum = found.iter().map(Row::loss).sum();
    let tally = Tally { loss_sum, correct: correct as u64, samples: rows as u64 };
    Ok((tally, Tensor::from_vec(values, (rows, classes), &Device::Cpu)?))
}

/// Sums of loss and of right answers over logits `[rows, classes]`, rows in order; `answers` gets each row's arg-max.
pub fn tally(logits: &Tensor, labels: &[u8], answers: &mut Vec<u16>) -> Result<Tally> {
    let (rows, classes) = logits.dims2()?;
    check(labels, rows, classes)?;
    read(logits, |logits| {
        let mut tally = sum_losses(logits, labels, classes);
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let answer = arg_max(row);
            tally.correct += u64::from(answer == usize::from(label));
            answers.push(answer as u16);
        }
        Ok(tally)
    })
}

fn sum_losses(logits: &[f32], labels: &[u8], classes: usize) -> Tally {
    let mut scratch = vec![0.0; classes];
    let mut loss_sum = 0.0;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        scratch.copy_from_slice(row);
        let (max, sum) = exponentials(&mut scratch);
        loss_sum += Row { max, sum, own: row[usize::from(label)] }.loss();
    }
    Tally { loss_sum, correct: 0, samples: labels.len() as u64 }
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

/// The first of the largest values.
fn arg_max(row: &[f32]) -> usize {
    let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (1..row.len()).fold(0, better)
}
