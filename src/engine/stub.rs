//! Trains nothing: one step, one epoch, and a result that says so. What is left is the platform itself, to be measured.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    ports::{Engine, EngineError, Fitted, Report, Snapshot, Trained, Work},
    task::Progress,
};
use kubeml_spec::{EpochMetrics, Evaluation, Outcome, StopReason};

#[cfg(test)]
mod tests;

/// Checkpoint and model in one.
const MODEL: &[u8] = b"the stub engine trains nothing";
/// SHA-256 of `MODEL`.
const MODEL_SHA256: &str = "345a1f4230a28ba8436980062731a2afbfb68ef765122a0c475d1be0d9921c30";

/// `[trainer] engine = "stub"`.
pub struct StubEngine;

#[async_trait]
impl Engine for StubEngine {
    async fn fit(&self, work: Work) -> Result<Fitted, EngineError> {
        let is_done = match work.checkpoint.as_deref() {
            Some(MODEL) => true,
            Some(_) => return Err(EngineError::BadCheckpoint("it is not the stub engine's".to_owned())),
            None => false,
        };
        if work.control.is_stopping() {
            return Ok(Fitted::Stopped(if is_done { done() } else { not_begun() }));
        }
        if !is_done {
            let began = Instant::now();
            work.control.set_progress(progress());
            // Nobody listens any more when the attempt was aborted.
            let _ = work.reports.send(Report::FirstStep { began }).await;
            let _ = work.reports.send(Report::EpochFinished(epoch(), done())).await;
        }
        let classes = work.dataset.manifest.classes as usize;
        Ok(Fitted::Finished(Box::new(trained(classes))))
    }
}

fn progress() -> Progress {
    Progress { epoch: 1, epochs: 1, step: 1, steps: 1, ..Progress::default() }
}

fn epoch() -> EpochMetrics {
    EpochMetrics { epoch: 1, step: 1, is_best: true, ..EpochMetrics::default() }
}

fn not_begun() -> Snapshot {
    snapshot(Progress { epochs: 1, steps: 1, ..Progress::default() }, 0)
}

fn done() -> Snapshot {
    snapshot(progress(), 1)
}

fn snapshot(progress: Progress, epochs: u32) -> Snapshot {
    Snapshot { step: progress.step, epochs, progress, encode: Box::new(|| Bytes::from_static(MODEL)) }
}

fn trained(classes: usize) -> Trained {
    let outcome = Outcome {
        stop_reason: StopReason::Completed,
        epochs: 1,
        steps: 1,
        train_seconds: 0.0,
        best_epoch: 1,
        test: Evaluation::default(),
        best_test: Evaluation::default(),
        confusion: vec![vec![0; classes]; classes],
        weights_sha256: MODEL_SHA256.to_owned(),
        best_weights_sha256: MODEL_SHA256.to_owned(),
        kernel_set: "stub".to_owned(),
    };
    Trained { outcome, model: Bytes::from_static(MODEL), best_model: Bytes::from_static(MODEL) }
}
