//! The loop of one training: steps, epochs, early stops and the end, resumable at every batch boundary.
//!
//! All state is in [`Progress`], the parameters, the moments and the best weights; a [`Snapshot`] is a copy of these.

use std::sync::Arc;

use candle_nn::Optimizer as _;
use kubeml_spec::{EpochMetrics, StopReason, TaskSpec};
use rayon::prelude::*;

use crate::batches::{Plan, shard_count, shard_rows};
use crate::checkpoint::{CheckpointError, Progress, Snapshot};
use crate::data::Data;
use crate::error::TrainError;
use crate::fit::Ended;
use crate::hex;
use crate::matmul::kernel_set;
use crate::metrics::Tally;
use crate::models::Stage;
use crate::observer::{Control, Observer, Phase, Started, StepProgress};
use crate::optimizer::{Config, Optimizer, learning_rate};
use crate::parameters::{ParameterShape, Parameters};
use crate::pool::Pool;

mod ending;
mod evaluation;
mod gradients;
mod shard;

use shard::Shard;

/// A training in progress.
pub(crate) struct Session<'a> {
    spec: &'a TaskSpec,
    data: &'a Data,
    plan: Plan,
    parameters: Parameters,
    shapes: Arc<[ParameterShape]>,
    optimizer: Optimizer,
    /// At least as many as a full batch has shards and as there are threads.
    shards: Vec<Shard>,
    progress: Progress,
    best_weights: Option<Arc<Vec<f32>>>,
    /// Of all attempts, see [`crate::Trained`].
    kernel_sets: String,
}

/// What a part of the run came to.
enum Flow<T> {
    Go(T),
    /// The observer said stop.
    Halt,
}

impl<'a> Session<'a> {
    /// Builds the model and its optimizer, fresh or from a snapshot of this spec and this dataset.
    pub(crate) fn open(
        spec: &'a TaskSpec,
        stages: &[Stage],
        data: &'a Data,
        resume: Option<Snapshot>,
        pool: &Pool,
    ) -> Result<Self, TrainError> {
        let h = spec.hyperparameters();
        let parameters = Parameters::new(h.seed);
        let lanes = shard_count(h.batch_size as usize).max(pool.threads());
        let shards = (0..lanes).map(|_| Shard::new(stages, h, &parameters)).collect::<Result<Vec<_>, _>>()?;
        let optimizer = Optimizer::new(parameters.variables(), Config::of(h))?;
        let mut session = Session {
            spec,
            data,
            plan: Plan::new(spec, data),
            shapes: parameters.shapes().into(),
            parameters,
            optimizer,
            shards,
            progress: Progress::default(),
            best_weights: None,
            kernel_sets: kernel_set().to_string(),
        };
        resume.map(|snapshot| session.restore(snapshot)).transpose()?;
        Ok(session)
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), TrainError> {
        if snapshot.shapes != self.shapes {
            let strange = snapshot.shapes.iter().find(|shape| !self.shapes.contains(shape));
            let expected = format!("one of the model's {} parameters", self.shapes.len());
            let (name, found) =
                strange.map_or_else(Default::default, |shape| (shape.name.clone(), format!("{:?}", shape.dims)));
            return Err(CheckpointError::WrongTensor { name, expected, found }.into());
        }
        let step = snapshot.progress.step;
        let steps = self.plan.steps_per_epoch();
        snapshot.progress.check(self.epochs(), steps).map_err(CheckpointError::Malformed)?;
        self.parameters.set(&snapshot.weights)?;
        self.optimizer.restore(step, snapshot.moments)?;
        self.progress = snapshot.progress;
        self.best_weights = snapshot.best_weights;
        if snapshot.kernel_sets.split('+').all(|set| set != kernel_set()) {
            self.kernel_sets = format!("{}+{}", snapshot.kernel_sets, kernel_set());
        } else {
            self.kernel_sets = snapshot.kernel_sets;
        }
        Ok(())
    }

    /// Runs to the end, or to where the observer stops it.
    pub(crate) fn run(mut self, observer: &mut dyn Observer) -> Result<Ended, TrainError> {
        observer.started(&Started {
            from_step: self.progress.step,
            steps_total: self.steps_total(),
            parameters: self.parameters.count(),
            kernel_set: kernel_set(),
        });
        while !self.is_done() {
            if let Flow::Halt = self.train_epoch(observer)? {
                return self.stopped();
            }
            if let Flow::Halt = self.close_epoch(observer)? {
                return self.stopped();
            }
        }
        match self.finish(observer)? {
            Flow::Go(trained) => Ok(Ended::Finished(Box::new(trained))),
            Flow::Halt => self.stopped(),
        }
    }

    fn stopped(&self) -> Result<Ended, TrainError> {
        Ok(Ended::Stopped(Box::new(self.snapshot()?)))
    }

    /// Epochs asked for.
    fn epochs(&self) -> u32 {
        self.spec.hyperparameters().epochs
    }

    fn steps_total(&self) -> u64 {
        self.plan.steps_per_epoch() * u64::from(self.epochs())
    }

    /// Steps done in the open epoch. Only a closed last epoch may be short (`max_seconds`), so this is exact.
    fn steps_in_epoch(&self) -> u64 {
        self.progress.step - u64::from(self.progress.epoch) * self.plan.steps_per_epoch()
    }

    /// No epoch is open, and none will be.
    fn is_done(&self) -> bool {
        let open = self.progress.tally.samples > 0;
        !open && (self.progress.ended.is_some() || self.progress.epoch >= self.epochs())
    }

    /// A copy of all state.
    fn snapshot(&self) -> Result<Snapshot, TrainError> {
        Ok(Snapshot {
            progress: self.progress.clone(),
            shapes: Arc::clone(&self.shapes),
            weights: self.parameters.copy()?,
            moments: self.optimizer.moments().clone(),
            best_weights: self.best_weights.clone(),
            spec_hash: hex(self.spec.hash()),
            dataset_hash: self.data.hash().to_string(),
            kernel_sets: self.kernel_sets.clone(),
        })
    }

    /// Trains the open epoch's remaining steps.
    fn train_epoch(&mut self, observer: &mut dyn Observer) -> Result<Flow<()>, TrainError> {
        if self.progress.ended.is_some() || self.steps_in_epoch() >= self.plan.steps_per_epoch() {
            return Ok(Flow::Go(()));
        }
        let mut mark = observer.now_seconds();
        let order = self.plan.order(self.progress.epoch);
        while self.steps_in_epoch() < self.plan.steps_per_epoch() && self.progress.ended.is_none() {
            let samples = self.plan.batch(&order, self.steps_in_epoch());
            let Progress { step, epoch, .. } = self.progress;
            let place = StepPlace { step, epoch, steps_total: self.steps_total() };
            observer.phase(Phase::Shards);
            let batch = train_shards(&mut self.shards, self.data, samples, &place)?;
            observer.phase(Phase::Update);
            update(&self.shards, &mut self.optimizer, self.spec, samples, &place)?;
            observer.phase(Phase::Between);
            self.progress.step += 1;
            self.progress.tally.add(&batch);
            let now = observer.now_seconds();
            self.progress.epoch_seconds += now - mark;
            self.progress.train_seconds += now - mark;
            mark = now;
            self.check_time();
            let fact = self.step_progress(&batch);
            if observer.step(&fact) == Control::Stop {
                return Ok(Flow::Halt);
            }
            if observer.wants_checkpoint(&fact) {
                observer.checkpoint(self.snapshot()?);
            }
        }
        Ok(Flow::Go(()))
    }

    /// Ends the training once it has taken `max_seconds`, unless this was its last step anyway.
    fn check_time(&mut self) {
        let limit = self.spec.hyperparameters().max_seconds;
        let over = limit.is_some_and(|limit| self.progress.train_seconds >= f64::from(limit));
        if over && self.progress.step < self.steps_total() {
            self.progress.ended = Some(StopReason::MaxSeconds);
        }
    }

    /// An update may overflow after a loss that was none too large: the next evaluation shows it.
    fn check_loss(&self, loss: f64) -> Result<(), TrainError> {
        let Progress { step, epoch, .. } = self.progress;
        let epoch = (epoch + 1).min(self.epochs());
        if loss.is_finite() { Ok(()) } else { Err(TrainError::NotFinite { step, epoch, loss }) }
    }

    fn step_progress(&self, batch: &Tally) -> StepProgress {
        let Progress { step, epoch, tally, .. } = &self.progress;
        StepProgress {
            epoch: epoch + 1,
            step: *step,
            steps_total: self.steps_total(),
            samples: tally.samples,
            batch_samples: batch.samples as usize,
            loss: tally.loss(),
            accuracy: tally.accuracy(),
            batch_loss: batch.loss(),
            learning_rate: self.optimizer.learning_rate(),
        }
    }

    /// Evaluates after the epoch's last step, keeps the best model, and decides whether to go on.
    fn close_epoch(&mut self, observer: &mut dyn Observer) -> Result<Flow<()>, TrainError> {
        let Flow::Go(validation) = self.validate(observer)? else { return Ok(Flow::Halt) };
        self.check_loss(validation.loss())?;
        let progress = &mut self.progress;
        let mut metrics = EpochMetrics {
            epoch: progress.epoch + 1,
            step: progress.step,
            loss: progress.tally.loss(),
            accuracy: progress.tally.accuracy(),
            val_loss: validation.loss(),
            val_accuracy: validation.accuracy(),
            samples: progress.tally.samples,
            train_seconds: progress.epoch_seconds,
            samples_per_second: rate(progress.tally.samples, progress.epoch_seconds),
            is_best: false,
        };
        metrics.is_best = progress.best.is_none_or(|best| metrics.beats(&best));
        if metrics.is_best {
            progress.best = Some(metrics);
            self.best_weights = Some(Arc::new(self.parameters.copy()?));
        }
        progress.epoch += 1;
        progress.tally = Tally::default();
        progress.epoch_seconds = 0.0;
        progress.last = Some(metrics);
        progress.ended = progress.ended.or_else(|| early_stop(self.spec, &metrics, progress.best.as_ref()));
        let control = observer.epoch_finished(&metrics);
        observer.checkpoint(self.snapshot()?);
        Ok(if control == Control::Stop { Flow::Halt } else { Flow::Go(()) })
    }
}

/// Samples per second; 0 where the observer has no clock.
fn rate(samples: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { samples as f64 / seconds } else { 0.0 }
}

/// Whether an epoch's metrics end the training before its last epoch.
fn early_stop(spec: &TaskSpec, metrics: &EpochMetrics, best: Option<&EpochMetrics>) -> Option<StopReason> {
    let waited = metrics.epoch - best.map_or(metrics.epoch, |best| best.epoch);
    let h = spec.hyperparameters();
    if metrics.epoch >= h.epochs {
        None
    } else if h.target_accuracy.is_some_and(|target| metrics.val_accuracy >= target) {
        Some(StopReason::TargetAccuracy)
    } else if h.patience.is_some_and(|patience| waited >= patience) {
        Some(StopReason::Patience)
    } else {
        None
    }
}

/// Where in the training a step is: steps and epochs before it.
struct StepPlace {
    step: u64,
    epoch: u32,
    steps_total: u64,
}

/// Every shard forward and backward on its own.
fn train_shards(shards: &mut [Shard], data: &Data, samples: &[u32], place: &StepPlace) -> Result<Tally, TrainError> {
    let count = shard_count(samples.len());
    let tallies: Vec<_> = shards[..count]
        .par_iter_mut()
        .with_max_len(1)
        .enumerate()
        .map(|(index, shard)| {
            let rows = shard_rows(samples.len(), count, index);
            shard.train(data, &samples[rows.clone()], rows.start, samples.len(), place.step)
        })
        .collect();
    let mut batch = Tally::default();
    for tally in tallies {
        batch.add(&tally?);
    }
    if !batch.loss_sum.is_finite() {
        return Err(TrainError::NotFinite { step: place.step + 1, epoch: place.epoch + 1, loss: batch.loss() });
    }
    Ok(batch)
}

/// One ordered reduction of the shards' gradients, and the update.
fn update(
    shards: &[Shard],
    optimizer: &mut Optimizer,
    spec: &TaskSpec,
    samples: &[u32],
    place: &StepPlace,
) -> Result<(), TrainError> {
    let rate = learning_rate(spec.hyperparameters(), place.step, place.epoch, place.steps_total);
    optimizer.set_learning_rate(rate);
    let slots: Vec<_> = shards[..shard_count(samples.len())].iter().map(Shard::slots).collect();
    Ok(gradients::update(optimizer, &slots)?)
}
