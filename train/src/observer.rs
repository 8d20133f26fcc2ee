//! Who watches a training: hears facts, may ask for a snapshot, may stop it, and lends it a clock.

use kubeml_spec::EpochMetrics;

use crate::checkpoint::Snapshot;

/// Hears what happens in [`crate::fit()`], on one of its threads, in order. Every method has a default.
///
/// Nothing an observer answers changes the weights of a step; `Stop` only ends the run at that boundary.
pub trait Observer: Send {
    /// Once, before the first step.
    fn started(&mut self, started: &Started) {
        let _ = started;
    }

    /// After every step. `Stop` ends the run here with [`crate::Ended::Stopped`].
    fn step(&mut self, step: &StepProgress) -> Control {
        let _ = step;
        Control::Continue
    }

    /// Asked after every step that was answered `Continue`: is a snapshot wanted at this boundary?
    fn wants_checkpoint(&mut self, step: &StepProgress) -> bool {
        let _ = step;
        false
    }

    /// A snapshot that was asked for, or the one of an epoch's end (after `epoch_finished`). Taking it was a copy in
    /// memory; encode it on another thread.
    fn checkpoint(&mut self, snapshot: Snapshot) {
        let _ = snapshot;
    }

    /// After an epoch's evaluation. On `Stop` the snapshot of the epoch's end is still handed over.
    fn epoch_finished(&mut self, metrics: &EpochMetrics) -> Control {
        let _ = metrics;
        Control::Continue
    }

    /// Several times during an evaluation. `Stop` ends the run; a resumed one evaluates again from the start.
    fn evaluating(&mut self, progress: &EvaluationProgress) -> Control {
        let _ = progress;
        Control::Continue
    }

    /// Three times a step, as each part of it begins: for those who measure where the time goes.
    fn phase(&mut self, phase: Phase) {
        let _ = phase;
    }

    /// Seconds on any monotonic clock. The default stands still: `max_seconds` is never reached and
    /// `train_seconds` stays 0.
    fn now_seconds(&mut self) -> f64 {
        0.0
    }
}

/// An observer that wants nothing.
pub struct Silent;

impl Observer for Silent {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    Continue,
    Stop,
}

/// The parts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images are gathered, and go forward and back through the network, shard by shard.
    Shards,
    /// Gradients are summed, parameters updated.
    Update,
    /// What is between: counting, telling, snapshots. Evaluation follows an epoch's last.
    Between,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// 0, or the step of the checkpoint it resumed from.
    pub from_step: u64,
    /// Steps of all epochs.
    pub steps_total: u64,
    /// Numbers the network learns.
    pub parameters: usize,
    /// What computes it, see [`crate::kernel_set`].
    pub kernel_set: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepProgress {
    /// The open epoch, from 1.
    pub epoch: u32,
    /// Steps done of all epochs.
    pub step: u64,
    pub steps_total: u64,
    /// Samples seen in the open epoch.
    pub samples: u64,
    /// Samples of this step's batch.
    pub batch_samples: usize,
    /// Mean loss over the open epoch so far.
    pub loss: f64,
    /// Share of right answers over the open epoch so far, with dropout on, as in Keras.
    pub accuracy: f64,
    /// Mean loss of this step's batch.
    pub batch_loss: f64,
    pub learning_rate: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationProgress {
    pub samples_done: usize,
    pub samples_total: usize,
}
