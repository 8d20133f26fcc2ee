//! An engine that follows a script: no threads and no arithmetic, so that a test may pause the clock.
//!
//! Its "weights" are a running hash over (seed, step): a resume from the wrong step, or from another attempt's bytes,
//! ends with another hash.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_spec::{EpochMetrics, Evaluation, Outcome, StopReason};
use tokio::time::sleep;

use crate::{
    dataset::hex,
    ports::{Engine, EngineError, Fitted, Report, Snapshot, Trained, Work},
    task::{FailureKind, Progress, TaskId},
};

/// Samples that an epoch is said to have trained on.
pub const SAMPLES_PER_EPOCH: u64 = 1_000;

/// What goes wrong once training reaches a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Fail,
    Panic,
    /// Goes on for ever without a step, and hears nothing.
    Stall,
    Diverge,
    /// Finds the checkpoint that it was given unreadable.
    BadCheckpoint,
    Invalid,
}

#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    pub at_step: u64,
    /// How many attempts it hits.
    pub times: u32,
    /// `None` hits whoever comes first.
    pub task: Option<TaskId>,
}

pub struct ScriptedEngine {
    pub steps_per_epoch: u64,
    pub step_time: Duration,
    faults: Mutex<Vec<Fault>>,
}

impl ScriptedEngine {
    pub fn new(steps_per_epoch: u64, step_time: Duration) -> Self {
        Self { steps_per_epoch, step_time, faults: Mutex::default() }
    }

    pub fn add_fault(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// What an undisturbed task of this seed and length ends with.
    pub fn expected_weights(&self, seed: u64, epochs: u32) -> String {
        let steps = self.steps_per_epoch * u64::from(epochs);
        hex(&(1..=steps).fold([0; 32], |weights, step| mix(&weights, seed, step)))
    }

    fn take_fault(&self, task: TaskId, step: u64) -> Option<FaultKind> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = |fault: &Fault| fault.at_step == step && fault.times > 0 && fault.task.is_none_or(|id| id == task);
        let fault = faults.iter_mut().find(|fault| hits(fault))?;
        fault.times -= 1;
        Some(fault.kind)
    }

    async fn misbehave(&self, kind: FaultKind, step: u64) -> EngineError {
        match kind {
            FaultKind::Fail => EngineError::failed(FailureKind::Crashed, format!("scripted failure at step {step}")),
            FaultKind::Panic => panic!("scripted panic at step {step}"),
            FaultKind::Stall => std::future::pending().await,
            FaultKind::Diverge => EngineError::failed(FailureKind::Diverged, format!("the loss is NaN at step {step}")),
            FaultKind::BadCheckpoint => EngineError::BadCheckpoint("scripted damage".to_owned()),
            FaultKind::Invalid => EngineError::failed(FailureKind::Permanent, "scripted refusal"),
        }
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    async fn fit(&self, work: Work) -> Result<Fitted, EngineError> {
        let mut run = Run::open(self, &work)?;
        if let Some(kind) = self.take_fault(work.task, 0) {
            return Err(self.misbehave(kind, 0).await);
        }
        let first = run.step + 1;
        let began = Instant::now();
        for step in first..=run.steps {
            sleep(self.step_time).await;
            if let Some(kind) = self.take_fault(work.task, step) {
                return Err(self.misbehave(kind, step).await);
            }
            run.advance(step);
            work.control.set_progress(run.progress());
            if step == first {
                run.report(Report::FirstStep { began }).await;
            }
            if step % self.steps_per_epoch == 0 {
                run.close_epoch();
                run.report(Report::EpochFinished(run.last, run.snapshot())).await;
            } else if work.control.take_checkpoint_wanted() {
                run.report(Report::Checkpoint(run.snapshot())).await;
            }
            if work.control.is_stopping() {
                return Ok(Fitted::Stopped(run.snapshot()));
            }
        }
        Ok(Fitted::Finished(Box::new(run.trained())))
    }
}

struct Run<'a> {
    work: &'a Work,
    seed: u64,
    steps: u64,
    steps_per_epoch: u64,
    step: u64,
    weights: [u8; 32],
    last: EpochMetrics,
}

impl<'a> Run<'a> {
    fn open(engine: &ScriptedEngine, work: &'a Work) -> Result<Self, EngineError> {
        let (step, weights) = match work.checkpoint.as_deref() {
            None => (0, [0; 32]),
            Some(bytes) => read(bytes).ok_or_else(|| EngineError::BadCheckpoint(format!("{} bytes", bytes.len())))?,
        };
        let h = work.spec.hyperparameters();
        let (seed, steps) = (h.seed, engine.steps_per_epoch * u64::from(h.epochs));
        let mut run = Self {
            work,
            seed,
            steps,
            steps_per_epoch: engine.steps_per_epoch,
            step,
            weights,
            last: EpochMetrics::default(),
        };
        if step >= run.steps_per_epoch {
            run.close_epoch();
        }
        Ok(run)
    }

    fn advance(&mut self, step: u64) {
        self.weights = mix(&self.weights, self.seed, step);
        self.step = step;
    }

    fn close_epoch(&mut self) {
        let epoch = (self.step / self.steps_per_epoch) as u32;
        let accuracy = 1.0 - 0.5_f64.powi(epoch as i32);
        let (step, samples) = (self.step, SAMPLES_PER_EPOCH);
        let better = EpochMetrics { epoch, step, samples, is_best: true, ..EpochMetrics::default() };
        self.last = EpochMetrics { val_accuracy: accuracy, accuracy, ..better };
    }

    fn progress(&self) -> Progress {
        Progress {
            epoch: (self.step.saturating_sub(1) / self.steps_per_epoch) as u32 + 1,
            epochs: self.work.spec.hyperparameters().epochs,
            step: self.step,
            steps: self.steps,
            ..Progress::default()
        }
    }

    fn snapshot(&self) -> Snapshot {
        let bytes: Bytes = [self.step.to_le_bytes().as_slice(), &self.weights].concat().into();
        let (step, progress, epochs) = (self.step, self.progress(), self.last.epoch);
        Snapshot { step, epochs, progress, encode: Box::new(move || bytes) }
    }

    async fn report(&self, report: Report) {
        if self.work.reports.send(report).await.is_err() {
            self.work.control.stop();
        }
    }

    fn trained(&self) -> Trained {
        let test = Evaluation { loss: 0.1, accuracy: self.last.val_accuracy };
        let outcome = Outcome {
            stop_reason: StopReason::Completed,
            epochs: self.last.epoch,
            steps: self.step,
            train_seconds: 0.0,
            best_epoch: self.last.epoch,
            test,
            best_test: test,
            confusion: vec![vec![1, 0], vec![0, 1]],
            weights_sha256: hex(&self.weights),
            best_weights_sha256: hex(&self.weights),
            kernel_set: "scripted".to_owned(),
        };
        Trained { outcome, model: self.weights.to_vec().into(), best_model: self.weights.to_vec().into() }
    }
}

fn read(bytes: &[u8]) -> Option<(u64, [u8; 32])> {
    let (step, weights) = bytes.split_at_checked(8)?;
    Some((u64::from_le_bytes(step.try_into().ok()?), weights.try_into().ok()?))
}

fn mix(weights: &[u8; 32], seed: u64, step: u64) -> [u8; 32] {
    *blake3::hash(&[weights.as_slice(), &seed.to_le_bytes(), &step.to_le_bytes()].concat()).as_bytes()
}
