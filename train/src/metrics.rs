//! Loss and accuracy, as sums in a fixed order.
//!
//! What a metric counts of each sample is counted here, in [`Tally::count`].

use serde::{Deserialize, Serialize};

/// Running sums over samples: what a mean loss and an accuracy are made of. A checkpoint of an older version lacks the sums
/// that came later, which are 0 then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub loss_sum: f64,
    pub correct: u64,
    pub samples: u64,
}

impl Tally {
    /// Adds `other`; the order of calls is part of the result's last bits.
    pub fn add(&mut self, other: &Tally) {
        // Names every field, so that none is forgotten.
        let Tally { loss_sum, correct, samples } = *other;
        self.loss_sum += loss_sum;
        self.correct += correct;
        self.samples += samples;
    }

    /// Counts a sample by its logits and its true class, without its loss. Gives the model's answer.
    pub fn count(&mut self, logits: &[f32], label: u8) -> usize {
        let answer = arg_max(logits);
        self.correct += u64::from(answer == usize::from(label));
        self.samples += 1;
        answer
    }

    /// Mean loss in nats; 0 of no samples.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.samples.max(1) as f64
    }

    /// Share of right answers, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }
}

/// `confusion[true class][answered class]` counts samples.
pub(crate) fn confusion(answers: &[u16], labels: &[u8], classes: usize) -> Vec<Vec<u64>> {
    let mut confusion = vec![vec![0; classes]; classes];
    for (&answer, &label) in answers.iter().zip(labels) {
        confusion[usize::from(label)][usize::from(answer)] += 1;
    }
    confusion
}

/// The first of the largest values.
fn arg_max(row: &[f32]) -> usize {
    let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (1..row.len()).fold(0, better)
}
