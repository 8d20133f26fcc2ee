//! Loss and accuracy, as sums in a fixed order.

use serde::{Deserialize, Serialize};

/// Running sums over samples: what a mean loss and an accuracy are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub loss_sum: f64,
    pub correct: u64,
    pub samples: u64,
}

impl Tally {
    /// Adds `other`; the order of calls is part of the result's last bits.
    pub fn add(&mut self, other: &Tally) {
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
        self.samples += other.samples;
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
