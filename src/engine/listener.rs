//! Hears a training on its own thread and passes on what the attempt wants to know.

use std::{sync::Arc, time::Instant};

use kubeml_actors::{
    ports::{Control, Report, Snapshot, Work},
    task::Progress,
};
use kubeml_spec::EpochMetrics;
use kubeml_train as train;
use tokio::sync::mpsc;

use super::encode;

pub struct Listener {
    control: Arc<Control>,
    reports: mpsc::Sender<Report>,
    clock: Instant,
    epochs: u32,
    steps_per_epoch: u64,
    progress: Progress,
    first_step_began: Option<Instant>,
    rate: Rate,
    /// An epoch whose snapshot is to come.
    finished: Option<EpochMetrics>,
}

impl Listener {
    pub fn new(work: &Work, clock: Instant) -> Self {
        Self {
            control: work.control.clone(),
            reports: work.reports.clone(),
            clock,
            epochs: work.spec.hyperparameters().epochs,
            steps_per_epoch: 1,
            progress: work.control.progress(),
            first_step_began: None,
            rate: Rate::default(),
            finished: None,
        }
    }

    pub fn snapshot(&self, snapshot: train::Snapshot) -> Snapshot {
        let step = snapshot.step();
        // The step before a stop may not have been told to `step`.
        let progress = Progress { step, ..self.progress };
        Snapshot { step, epochs: snapshot.epoch(), progress, encode: Box::new(move || encode(&snapshot)) }
    }

    /// Waits when the attempt is behind with its stores. Nobody listens any more once it was aborted.
    fn report(&self, report: Report) {
        if self.reports.blocking_send(report).is_err() {
            self.control.stop();
        }
    }

    fn answer(&self) -> train::Control {
        if self.control.is_stopping() { train::Control::Stop } else { train::Control::Continue }
    }
}

/// Samples per second since the attempt's first step, without evaluation: as an epoch's metrics count it.
#[derive(Default)]
struct Rate {
    /// When the last step or evaluation was done.
    resumed: Option<Instant>,
    seconds: f64,
    samples: u64,
}

impl Rate {
    /// The rate after a step.
    fn step_done(&mut self, samples: usize, now: Instant) -> f64 {
        if let Some(resumed) = self.resumed.replace(now) {
            self.seconds += now.duration_since(resumed).as_secs_f64();
            self.samples += samples as u64;
        }
        if self.seconds > 0.0 { self.samples as f64 / self.seconds } else { 0.0 }
    }

    fn evaluated(&mut self, now: Instant) {
        self.resumed = self.resumed.map(|_| now);
    }
}

impl train::Observer for Listener {
    fn started(&mut self, started: &train::Started) {
        self.steps_per_epoch = (started.steps_total / u64::from(self.epochs.max(1))).max(1);
        self.progress.steps = started.steps_total;
        self.progress.step = started.from_step;
        self.control.set_progress(self.progress);
    }

    fn step(&mut self, step: &train::StepProgress) -> train::Control {
        let first = self.first_step_began.take();
        let samples_per_second = self.rate.step_done(step.batch_samples, Instant::now());
        let left = (step.steps_total - step.step) as f64 * step.batch_samples as f64;
        self.progress = Progress {
            epoch: step.epoch,
            epochs: self.epochs,
            step: step.step,
            steps: step.steps_total,
            samples_per_second,
            eta_seconds: if samples_per_second > 0.0 { left / samples_per_second } else { 0.0 },
            loss: step.loss,
            accuracy: step.accuracy,
        };
        self.control.set_progress(self.progress);
        if let Some(began) = first {
            self.report(Report::FirstStep { began });
        }
        self.answer()
    }

    fn phase(&mut self, _: train::Phase) {
        if self.rate.resumed.is_none() {
            self.first_step_began.get_or_insert_with(Instant::now);
        }
    }

    /// Not at an epoch's last batch: the epoch's own snapshot comes at once after it.
    fn wants_checkpoint(&mut self, step: &train::StepProgress) -> bool {
        !step.step.is_multiple_of(self.steps_per_epoch) && self.control.take_checkpoint_wanted()
    }

    fn checkpoint(&mut self, snapshot: train::Snapshot) {
        let snapshot = self.snapshot(snapshot);
        let report = match self.finished.take() {
            Some(metrics) => Report::EpochFinished(metrics, snapshot),
            None => Report::Checkpoint(snapshot),
        };
        self.report(report);
    }

    fn epoch_finished(&mut self, metrics: &EpochMetrics) -> train::Control {
        let metrics = *metrics;
        self.progress.samples_per_second = metrics.samples_per_second;
        self.finished = Some(metrics);
        self.answer()
    }

    fn evaluating(&mut self, _: &train::EvaluationProgress) -> train::Control {
        self.control.beat();
        self.rate.evaluated(Instant::now());
        self.answer()
    }

    fn now_seconds(&mut self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }
}
