//! The `Engine` port over `kubeml-train`: its threads, their priority, and what its errors mean for a task.
//!
//! Training blocks, so it has an OS thread of its own per attempt; dropping the future of `fit` has that thread stop at
//! its next batch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    dataset::Dataset,
    ports::{Control, Engine, EngineError, Fitted, Trained, Work},
    task::FailureKind,
};
use kubeml_train as train;
use tokio::sync::oneshot;

use self::listener::Listener;
pub use self::stub::StubEngine;

mod listener;
mod stub;
mod translate;

#[cfg(test)]
mod tests;

/// Prepared datasets that are kept for the next attempt.
const PREPARED_MAX: usize = 2;
/// How much the training threads give way to the rest of the process, as nice(2) counts.
const NICENESS: i32 = 10;

pub struct CandleEngine {
    threads_per_slot: usize,
    prepared: Mutex<Vec<train::Data>>,
}

impl CandleEngine {
    pub fn new(threads_per_slot: usize) -> Self {
        Self { threads_per_slot, prepared: Mutex::new(Vec::new()) }
    }

    /// The dataset as training takes it; made once, not once an attempt.
    fn prepare(&self, dataset: &Dataset) -> Result<train::Data, EngineError> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = prepared.iter().find(|data| data.hash() == dataset.manifest.sha256) {
            return Ok(data.clone());
        }
        let data = translate::data(dataset)?;
        prepared.insert(0, data.clone());
        prepared.truncate(PREPARED_MAX);
        Ok(data)
    }
}

#[async_trait]
impl Engine for CandleEngine {
    async fn fit(&self, work: Work) -> Result<Fitted, EngineError> {
        let mut stop = StopOnDrop(Some(work.control.clone()));
        let data = self.prepare(&work.dataset)?;
        let threads = train::Threads { count: self.threads_per_slot, on_start: Some(Arc::new(give_way)) };
        let (sender, outcome) = oneshot::channel();
        let name = format!("kubeml-fit-{}", work.slot);
        let spawned = thread::Builder::new().name(name).spawn(move || {
            give_way();
            // Nobody listens any more when the attempt was aborted.
            let _ = sender.send(fit(&work, &data, &threads));
        });
        spawned.map_err(|error| {
            EngineError::failed(FailureKind::Infrastructure, format!("cannot start a training thread: {error}"))
        })?;
        let outcome = outcome.await;
        stop.0 = None;
        outcome.unwrap_or_else(|_| Err(EngineError::failed(FailureKind::Crashed, "the training thread panicked")))
    }
}

/// Whoever loses interest in a training has it stop.
struct StopOnDrop(Option<Arc<Control>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.stop();
        }
    }
}

/// Lowers the calling thread's priority, so that a machine with all cores in training still answers at once.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "training thread keeps its priority");
    }
}

fn fit(work: &Work, data: &train::Data, threads: &train::Threads) -> Result<Fitted, EngineError> {
    let resume = work.checkpoint.as_deref().map(train::Checkpoint::decode).transpose();
    let resume = resume.map_err(|error| EngineError::BadCheckpoint(error.to_string()))?;
    let mut listener = Listener::new(work, Instant::now());
    let outcome = train::fit(&work.spec, data, resume, threads, &mut listener).map_err(translate::error)?;
    Ok(match outcome {
        train::Ended::Finished(trained) => Fitted::Finished(Box::new(trained_by(*trained))),
        train::Ended::Stopped(snapshot) => Fitted::Stopped(listener.snapshot(*snapshot)),
    })
}

fn trained_by(trained: train::Trained) -> Trained {
    let train::Trained { outcome, model, best_model, .. } = trained;
    Trained { outcome, model: model.into(), best_model: best_model.into() }
}

fn encode(snapshot: &train::Snapshot) -> Bytes {
    snapshot.encode().into()
}
