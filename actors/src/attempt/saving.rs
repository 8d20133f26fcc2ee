//! An attempt's checkpoints and models: bytes first, then the pointer to them.

use bytes::Bytes;
use kubeml_spec::EpochMetrics;
use tokio::{task::spawn_blocking, time::Instant};

use super::{Attempt, Halt, port_failure};
use crate::{
    ports::{PortError, Snapshot, Trained},
    task::{ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, Failure, TaskResult},
    transition::Input,
};

impl Attempt {
    /// The newest checkpoint whose bytes are whole; `None` when there is none, to start from the beginning.
    pub(super) async fn read_checkpoint(&mut self) -> Result<Option<Bytes>, Halt> {
        while let Some(newest) = self.record.newest_checkpoint().copied() {
            let _timer = self.context.metrics.checkpoint_seconds.with_label_values(&["read"]).start_timer();
            match self.context.ports.artifacts.get(&newest.artifact).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error @ PortError::Unavailable(_)) => return Err(Halt::Ended(port_failure(&error))),
                Err(error) => self.lose_checkpoint(newest.artifact, error.to_string()).await?,
            }
        }
        Ok(None)
    }

    pub(super) async fn lose_checkpoint(&mut self, lost: ArtifactRef, why: String) -> Result<(), Halt> {
        tracing::warn!(task = %self.record.id, why, "checkpoint lost");
        self.context.metrics.checkpoint_failures.inc();
        let n = self.teller.next_n();
        self.commit(Input::LoseCheckpoint { fence: self.fence, lost, why, n }).await
    }

    /// Makes a snapshot durable, and with it the epoch that it closes.
    pub(super) async fn save(&mut self, snapshot: Snapshot, epoch: Option<EpochMetrics>) -> Result<(), Halt> {
        let started = Instant::now();
        self.prune().await;
        let Snapshot { step, epochs, progress, encode } = snapshot;
        let encoding = spawn_blocking(encode).await;
        let bytes = encoding.map_err(|error| Halt::Crashed(Failure::crashed(format!("checkpoint: {error}"))))?;
        let artifact = self.put(ArtifactKind::Checkpoint, step, bytes).await?;
        let checkpoint = Checkpoint { artifact, epochs };
        let n = self.teller.next_n();
        let fence = self.fence;
        self.commit(Input::SaveCheckpoint { fence, checkpoint, progress, finished_epoch: epoch, n }).await?;
        self.control.beat();
        if self.record.no_progress == 0 {
            (self.progressed)();
        }
        let cost = started.elapsed();
        self.checkpoint_cost = Some(cost);
        self.context.metrics.checkpoint_seconds.with_label_values(&["write"]).observe(cost.as_secs_f64());
        self.context.metrics.checkpoint_bytes.set(artifact.bytes as f64);
        if let Some(epoch) = epoch {
            self.observe_epoch(&epoch);
        }
        Ok(())
    }

    /// Makes the models durable, then says that the task has succeeded with them.
    pub(super) async fn finish(&mut self, trained: Trained) -> Result<(), Halt> {
        self.prune().await;
        let Trained { outcome, model, best_model } = trained;
        let model = self.put(ArtifactKind::FinalModel, outcome.steps, model).await?;
        let best_model = self.put(ArtifactKind::BestModel, outcome.steps, best_model).await?;
        let result = TaskResult { attempt: self.fence.attempt, outcome: outcome.into(), model, best_model };
        self.commit(Input::Finish { fence: self.fence, result: Box::new(result) }).await?;
        self.announce().await;
        Ok(())
    }

    async fn put(&self, kind: ArtifactKind, step: u64, bytes: Bytes) -> Result<ArtifactRef, Halt> {
        self.context.ports.artifacts.put(self.key(kind, step), bytes).await.map_err(|error| {
            self.context.metrics.checkpoint_failures.inc();
            Halt::Ended(port_failure(&error))
        })
    }

    /// Removes what no pointer names any more. Not right after the pointer has moved: the facts of that are on their way.
    async fn prune(&mut self) {
        if !self.has_leftovers {
            return;
        }
        let keep: Vec<_> = self.record.checkpoints.iter().map(|checkpoint| checkpoint.artifact.key).collect();
        let pruned = self.context.ports.artifacts.prune(self.record.id, self.fence.attempt, &keep).await;
        match pruned {
            Ok(()) => self.has_leftovers = false,
            Err(error) => tracing::debug!(task = %self.record.id, %error, "old checkpoints not removed"),
        }
    }

    fn key(&self, kind: ArtifactKind, step: u64) -> ArtifactKey {
        ArtifactKey { task: self.record.id, attempt: self.fence.attempt, step, kind }
    }

    fn observe_epoch(&self, epoch: &EpochMetrics) {
        let model = self.record.spec.model().as_str();
        self.context.metrics.train_samples.with_label_values(&[model]).inc_by(epoch.samples);
        self.context.metrics.train_samples_per_second.with_label_values(&[model]).set(epoch.samples_per_second);
    }
}
