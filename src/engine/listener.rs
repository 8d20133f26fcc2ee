//! Hears a training on its own thread and passes on what the attempt wants to know.

use std::{sync::Arc, time::Instant};

use kubeml_actors::{
    ports::{Control, Report, Snapshot, Trained, Work},
    task::{Best, EpochMetrics, Metrics, Progress},
};
use kubeml_train as train;
use tokio::sync::mpsc;

use super::{encode, stop_reason};

pub struct Listener {
    control: Arc<Control>,
    reports: mpsc::Sender<Report>,
    clock: Instant,
    epochs: u32,
    steps_per_epoch: u64,
    progress: Progress,
    first_step_began: Option<Instant>,
    /// When the attempt's first step was done, and how many samples it has trained since.
    rate: Option<(Instant, u64)>,
    /// An epoch whose snapshot is to come.
    finished: Option<EpochMetrics>,
}

impl Listener {
    pub fn new(work: &Work, clock: Instant) -> Self {
        Self {
            control: work.control.clone(),
            reports: work.reports.clone(),
            clock,
            epochs: work.spec.hyperparameters.epochs,
            steps_per_epoch: 1,
            progress: work.control.progress(),
            first_step_began: None,
            rate: None,
            finished: None,
        }
    }

    pub fn snapshot(&self, snapshot: train::Snapshot) -> Snapshot {
        let step = snapshot.step();
        let metrics = metrics(snapshot.last(), snapshot.best());
        // The step before a stop may not have been told to `step`.
        let progress = Progress { step, ..self.progress };
        Snapshot { step, progress, metrics, encode: Box::new(move || encode(&snapshot)) }
    }

    pub fn trained(&self, trained: train::Trained) -> Trained {
        let metrics = metrics(Some(&trained.last), Some(&trained.best));
        let progress = Progress {
            epoch: trained.epochs_run,
            step: trained.steps,
            samples_per_second: metrics.last.samples_per_second,
            eta_seconds: 0.0,
            loss: metrics.last.loss,
            accuracy: metrics.last.accuracy,
            ..self.progress
        };
        Trained {
            step: trained.steps,
            progress,
            metrics,
            test_loss: trained.test.loss,
            test_accuracy: trained.test.accuracy,
            best_test_accuracy: trained.best_test.accuracy,
            confusion: trained.test.confusion,
            weights_sha256: trained.weights_sha256,
            kernel_set: trained.kernel_sets,
            stop_reason: stop_reason(trained.stop_reason),
            model: trained.model.into(),
            best_model: trained.best_model.into(),
        }
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

    fn note_rate(&mut self, batch_samples: usize) -> f64 {
        let now = Instant::now();
        let (since, samples) = self.rate.get_or_insert((now, 0));
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds > 0.0 {
            *samples += batch_samples as u64;
            *samples as f64 / seconds
        } else {
            0.0
        }
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
        let samples_per_second = self.note_rate(step.batch_samples);
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
        if self.rate.is_none() {
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

    fn epoch_finished(&mut self, metrics: &train::EpochMetrics) -> train::Control {
        let metrics = epoch(metrics);
        self.progress.samples_per_second = metrics.samples_per_second;
        self.finished = Some(metrics);
        self.answer()
    }

    fn evaluating(&mut self, _: &train::EvaluationProgress) -> train::Control {
        self.control.beat();
        self.answer()
    }

    fn now_seconds(&mut self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }
}

fn metrics(last: Option<&train::EpochMetrics>, best: Option<&train::EpochMetrics>) -> Metrics {
    Metrics {
        last: last.map(epoch).unwrap_or_default(),
        best: best.map(|best| Best { val_accuracy: best.val_accuracy, epoch: best.epoch }).unwrap_or_default(),
    }
}

fn epoch(metrics: &train::EpochMetrics) -> EpochMetrics {
    EpochMetrics {
        epoch: metrics.epoch,
        loss: metrics.loss,
        accuracy: metrics.accuracy,
        val_loss: metrics.val_loss,
        val_accuracy: metrics.val_accuracy,
        samples_per_second: metrics.samples_per_second(),
    }
}
