//! Carries a decision of [`transition`] out: read, decide, compare and set, and again until it is done or refused.
//!
//! A write whose reply is lost counts neither as done nor as failed: the record is read settled, and shows which.

use std::sync::Arc;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    event::TaskEvent,
    metrics::Metrics,
    patience::{PATIENCE, patiently, pause},
    ports::{Cas, Clock, EventLog, PortError, Ports, TaskStore},
    task::{FailureKind, TaskId, TaskRecord, TaskState},
    transition::{Input, Limits, Moment, Next, Refused, landed, transition},
};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("there is no task {0}")]
    NoSuchTask(TaskId),
    #[error("{0}")]
    Port(#[from] PortError),
}

#[derive(Clone)]
pub struct Committer {
    tasks: Arc<dyn TaskStore>,
    events: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Committer {
    pub fn new(ports: &Ports, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self { tasks: ports.tasks.clone(), events: ports.events.clone(), clock: ports.clock.clone(), limits, metrics }
    }

    /// Makes `input` happen to the task as it stands. Returns the record and the facts that came out.
    pub async fn commit(&self, id: TaskId, input: &Input) -> Result<Next, CommitError> {
        let record = self.read(id, Instant::now() + PATIENCE).await?;
        self.carry_out(record, true, input).await
    }

    /// Like `commit`, for who knows the record already; an outdated one costs a second try.
    pub async fn commit_from(&self, record: TaskRecord, input: &Input) -> Result<Next, CommitError> {
        self.carry_out(record, false, input).await
    }

    /// `fresh` says that `record` was just read: only then is a refusal final.
    async fn carry_out(&self, mut record: TaskRecord, mut fresh: bool, input: &Input) -> Result<Next, CommitError> {
        // One moment for all tries: a write that landed without a reply made these very facts.
        let moment = Moment { now: self.clock.now(), op_id: Uuid::new_v4(), limits: self.limits };
        let deadline = Instant::now() + PATIENCE;
        let mut failures = 0;
        loop {
            let next = match transition(&record, input, &moment) {
                Ok(next) => next,
                Err(refused) if fresh => return Err(self.refused(refused, input).into()),
                Err(_) => {
                    record = self.read(record.id, deadline).await?;
                    fresh = true;
                    continue;
                }
            };
            fresh = true;
            record = match self.tasks.compare_and_set(&next.record, &next.facts).await {
                Ok(Cas::Applied) => {
                    self.observe(&record, &next.record);
                    return Ok(next);
                }
                // An earlier try, of ours or of the store's, came through after all.
                Ok(Cas::Conflict(current))
                    if current.op_id == moment.op_id || (failures > 0 && landed(&current, moment.op_id, input)) =>
                {
                    self.observe(&record, &next.record);
                    self.tell_again(&next.facts).await;
                    return Ok(Next { record: *current, ..next });
                }
                Ok(Cas::Conflict(current)) => {
                    self.metrics.cas_conflicts.inc();
                    *current
                }
                Err(error) if error.is_transient() => {
                    failures += 1;
                    let read = self.settle(record.id, error, failures, deadline).await?;
                    if landed(&read, moment.op_id, input) {
                        self.observe(&record, &next.record);
                        self.tell_again(&next.facts).await;
                        return Ok(Next { record: read, ..next });
                    }
                    read
                }
                Err(PortError::NotFound(_)) => return Err(CommitError::NoSuchTask(record.id)),
                Err(error) => return Err(error.into()),
            };
        }
    }

    /// Writes the ended task's last fact, sees to it that it is heard, then notes that. Doing it twice changes nothing.
    pub async fn announce(&self, record: &TaskRecord) -> Result<(), CommitError> {
        let Some(fact) = record.terminal_fact() else { return Err(Refused::NotEnded.into()) };
        let seq = fact.seq;
        self.append(&[fact]).await?;
        self.events.relay(record.id, seq).await?;
        match self.commit_from(record.clone(), &Input::Announce).await {
            Ok(_) | Err(CommitError::Refused(Refused::AlreadySo)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Appends to the log, with patience. Appending again is harmless.
    pub async fn append(&self, facts: &[TaskEvent]) -> Result<(), PortError> {
        patiently(PATIENCE, || self.events.append(facts)).await
    }

    /// The store holds the facts of a write that landed; whether it got to telling them is not known.
    async fn tell_again(&self, facts: &[TaskEvent]) {
        if let Err(error) = self.events.append(facts).await {
            tracing::debug!(%error, "facts of a write whose reply was lost are told later");
        }
    }

    async fn read(&self, id: TaskId, deadline: Instant) -> Result<TaskRecord, CommitError> {
        let read = patiently(deadline - Instant::now(), || self.tasks.get(id)).await?;
        read.ok_or(CommitError::NoSuchTask(id))
    }

    async fn settle(
        &self,
        id: TaskId,
        mut error: PortError,
        mut failures: u32,
        deadline: Instant,
    ) -> Result<TaskRecord, CommitError> {
        loop {
            if Instant::now() >= deadline {
                return Err(error.into());
            }
            sleep(pause(failures)).await;
            match self.tasks.get_settled(id).await {
                Ok(Some(read)) => return Ok(read),
                Ok(None) => return Err(CommitError::NoSuchTask(id)),
                Err(again) if again.is_transient() => (error, failures) = (again, failures + 1),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Counts what a fence has kept out.
    fn refused(&self, refused: Refused, input: &Input) -> Refused {
        let operation = match input {
            Input::Start { .. } => "start",
            Input::SaveCheckpoint { .. } | Input::LoseCheckpoint { .. } => "checkpoint",
            Input::Finish { .. } => "finish",
            Input::EndAttempt { .. } => "end_attempt",
            Input::ConfirmCancel { .. } => "cancel",
            Input::Claim { .. } | Input::Reap { .. } | Input::RequestCancel | Input::Announce => return refused,
        };
        if matches!(refused, Refused::StaleFence | Refused::Ended) {
            self.metrics.fenced.with_label_values(&[operation]).inc();
        }
        refused
    }

    fn observe(&self, before: &TaskRecord, after: &TaskRecord) {
        if before.state == after.state {
            return;
        }
        let labels = [before.state.as_str(), after.state.as_str()];
        self.metrics.task_transitions.with_label_values(&labels).inc();
        match after.state {
            TaskState::Running if after.attempt == 1 => {
                self.metrics.task_queue_seconds.observe(after.updated_at.since(after.created_at).as_secs_f64());
            }
            TaskState::Pending => {
                let cause = after.failure.as_ref().map_or(FailureKind::Crashed, |failure| failure.kind);
                self.metrics.task_retries.with_label_values(&[cause.as_str()]).inc();
            }
            state if state.is_terminal() => {
                let since = after.started_at.unwrap_or(after.updated_at);
                let labels = [after.spec.model().as_str(), state.as_str()];
                let taken = after.updated_at.since(since).as_secs_f64();
                self.metrics.task_duration_seconds.with_label_values(&labels).observe(taken);
            }
            _ => {}
        }
    }
}
