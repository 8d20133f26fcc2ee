//! Loss and accuracy, as sums in a fixed order.

/// Running sums over samples: what a mean loss and an accuracy are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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

/// One finished epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u32,
    /// Steps done of all epochs.
    pub step: u64,
    /// Mean over the epoch's batches as they were trained, with dropout on.
    pub loss: f64,
    pub accuracy: f64,
    /// After the epoch, on the test split or on the held-out share of train.
    pub val_loss: f64,
    pub val_accuracy: f64,
    /// Samples trained on in this epoch.
    pub samples: u64,
    /// Seconds of training in this epoch, without evaluation, over all attempts. By the observer's clock.
    pub train_seconds: f64,
    /// Whether this epoch has the best `val_accuracy` so far (ties: the lower `val_loss`).
    pub is_best: bool,
}

impl EpochMetrics {
    /// Samples trained on per second; 0 where the observer has no clock.
    pub fn samples_per_second(&self) -> f64 {
        if self.train_seconds > 0.0 { self.samples as f64 / self.train_seconds } else { 0.0 }
    }

    /// Whether `self` is a better model than `other`.
    pub(crate) fn beats(&self, other: &EpochMetrics) -> bool {
        self.val_accuracy > other.val_accuracy
            || (self.val_accuracy == other.val_accuracy && self.val_loss < other.val_loss)
    }
}

/// A model's answers on one split.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
    /// `confusion[true class][answered class]` counts samples.
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    pub(crate) fn new(tally: &Tally, answers: &[u16], labels: &[u8], classes: usize) -> Self {
        let mut confusion = vec![vec![0; classes]; classes];
        for (&answer, &label) in answers.iter().zip(labels) {
            confusion[usize::from(label)][usize::from(answer)] += 1;
        }
        Evaluation { loss: tally.loss(), accuracy: tally.accuracy(), confusion }
    }
}
