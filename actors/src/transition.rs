//! The task protocol as one pure function.
//!
//! ```text
//!  submit           claim: attempt + 1, owner, nonce, charged
//! ────────▶ PENDING ─────────────────────────────────────▶ RUNNING ──┐ start, save checkpoint,
//!             ▲ │  budget spent at claim                    │ │ │ ◀──┘ lose checkpoint: with the fence
//!             │ ├──────────────▶ FAILED ◀──────────────────┘ │ │
//!             │ │  end attempt (retry, drain), reap            │ └──▶ SUCCEEDED   finish: with the fence
//!             └─┼──────────────────────────────────────────────┘
//!               └──────────────▶ CANCELLED ◀── RUNNING by flag; a finish beats the flag
//! ```
//! The ended states absorb; after them only `announced` changes. Stores compare and set what comes out of here and
//! decide nothing themselves.

use std::time::Duration;

use kubeml_spec::{EpochMetrics, Kept};
use uuid::Uuid;

use crate::{
    event::{EventKind, LogLevel, Seq, TaskEvent},
    task::{
        ArtifactRef, Checkpoint, DatasetUsed, Failure, FailureKind, Fence, Owner, Progress, TaskRecord, TaskResult,
        TaskState,
    },
    timestamp::Timestamp,
};

#[cfg(test)]
mod tests;

/// What may happen to a task. Every write of an owner carries its fence; `n` numbers the owner's first fact of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Claim {
        owner: Owner,
        worker_id: String,
    },
    /// The attempt has its dataset and its checkpoint and begins to train.
    Start {
        fence: Fence,
        dataset: DatasetUsed,
        n: u64,
    },
    /// The checkpoint's bytes are durable; so is `finished_epoch` from now on.
    SaveCheckpoint {
        fence: Fence,
        checkpoint: Checkpoint,
        progress: Progress,
        finished_epoch: Option<EpochMetrics>,
        n: u64,
    },
    /// The newest checkpoint's bytes are damaged or gone: the one before takes its place. Naming it keeps a repetition
    /// from losing that one too.
    LoseCheckpoint {
        fence: Fence,
        lost: ArtifactRef,
        why: String,
        n: u64,
    },
    Finish {
        fence: Fence,
        result: Box<TaskResult>,
    },
    /// The attempt ended without a result, as its owner or its owner's pool says.
    EndAttempt {
        fence: Fence,
        failure: Failure,
        retry_after: Duration,
    },
    /// The attempt's owner is dead, or runs it no longer.
    Reap {
        fence: Fence,
        why: String,
    },
    RequestCancel,
    /// The owner saw the flag and has stopped.
    ConfirmCancel {
        fence: Fence,
    },
    /// The terminal fact is in the log.
    Announce,
}

/// When and under which rules a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Timestamp,
    /// Marks the compare-and-set that carries the decision out.
    pub op_id: Uuid,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After so many attempts in a row without progress, the next one is the last.
    pub no_progress_max: u32,
    /// How long a task may be held up by other people's faults.
    pub blocked_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { no_progress_max: 5, blocked_max: Duration::from_secs(24 * 3600) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    pub record: TaskRecord,
    pub facts: Vec<TaskEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the attempt is not the current one any more")]
    StaleFence,
    #[error("the task has ended")]
    Ended,
    #[error("the task has not ended yet")]
    NotEnded,
    #[error("the task is running")]
    AlreadyRunning,
    #[error("the task is waiting before its next attempt")]
    NotYet,
    #[error("the checkpoint is not newer than the recorded one")]
    NotNewer,
    #[error("nobody asked for the task to be cancelled")]
    NotRequested,
    #[error("it is so already")]
    AlreadySo,
}

/// What becomes of `record` when `input` happens: the only place that knows the task protocol.
pub fn transition(record: &TaskRecord, input: &Input, moment: &Moment) -> Result<Next, Refused> {
    use TaskState::{Cancelled, Failed, Pending, Running, Succeeded};
    let step = Step { record, moment };
    match (record.state, input) {
        (Pending, Input::Claim { owner, worker_id }) => step.claim(owner, worker_id),
        (Running, Input::Claim { .. }) => Err(Refused::AlreadyRunning),

        (
            Running,
            Input::Start { fence, .. }
            | Input::SaveCheckpoint { fence, .. }
            | Input::LoseCheckpoint { fence, .. }
            | Input::Finish { fence, .. }
            | Input::EndAttempt { fence, .. }
            | Input::Reap { fence, .. }
            | Input::ConfirmCancel { fence },
        ) if !record.holds(*fence) => Err(Refused::StaleFence),
        (Running, Input::Start { dataset, n, .. }) => step.start(dataset, *n),
        (Running, Input::SaveCheckpoint { checkpoint, progress, finished_epoch, n, .. }) => {
            step.save_checkpoint(checkpoint, progress, finished_epoch.as_ref(), *n)
        }
        (Running, Input::LoseCheckpoint { lost, why, n, .. }) => step.lose_checkpoint(lost, why, *n),
        (Running, Input::Finish { result, .. }) => step.finish(result),
        (Running, Input::EndAttempt { failure, retry_after, .. }) => step.end_attempt(failure, *retry_after),
        (Running, Input::Reap { why, .. }) => {
            step.end_attempt(&Failure::new(FailureKind::Crashed, why.as_str()), Duration::ZERO)
        }
        (Running, Input::ConfirmCancel { .. }) if !record.cancel_requested => Err(Refused::NotRequested),
        (Running, Input::ConfirmCancel { .. }) => step.cancel(),
        (
            Pending,
            Input::Start { .. }
            | Input::SaveCheckpoint { .. }
            | Input::LoseCheckpoint { .. }
            | Input::Finish { .. }
            | Input::EndAttempt { .. }
            | Input::Reap { .. }
            | Input::ConfirmCancel { .. },
        ) => Err(Refused::StaleFence),

        (Pending, Input::RequestCancel) => step.cancel(),
        (Running, Input::RequestCancel) if record.cancel_requested => Err(Refused::AlreadySo),
        (Running, Input::RequestCancel) => step.request_cancel(),
        (Pending | Running, Input::Announce) => Err(Refused::NotEnded),
        (Succeeded | Failed | Cancelled, Input::Announce) if record.announced => Err(Refused::AlreadySo),
        (Succeeded | Failed | Cancelled, Input::Announce) => step.announce(),
        (
            Succeeded | Failed | Cancelled,
            Input::Claim { .. }
            | Input::Start { .. }
            | Input::SaveCheckpoint { .. }
            | Input::LoseCheckpoint { .. }
            | Input::Finish { .. }
            | Input::EndAttempt { .. }
            | Input::Reap { .. }
            | Input::RequestCancel
            | Input::ConfirmCancel { .. },
        ) => Err(Refused::Ended),
    }
}

/// Whether a write whose reply was lost has happened, told from the record as it reads now. Others may have written
/// since: then the input's own effect, which nobody else could have made, gives the answer.
pub fn landed(read: &TaskRecord, op_id: Uuid, input: &Input) -> bool {
    if read.op_id == op_id {
        return true;
    }
    match input {
        Input::Claim { owner, .. } => read.owner.as_ref().is_some_and(|current| current.nonce == owner.nonce),
        Input::SaveCheckpoint { checkpoint, .. } => read.checkpoints.iter().any(|c| c.artifact == checkpoint.artifact),
        Input::LoseCheckpoint { fence, lost, .. } => {
            read.holds(*fence) && read.checkpoints.iter().all(|c| c.artifact != *lost)
        }
        Input::Finish { result, .. } => read.result.as_ref().is_some_and(|recorded| recorded.model == result.model),
        Input::Start { .. }
        | Input::EndAttempt { .. }
        | Input::Reap { .. }
        | Input::RequestCancel
        | Input::ConfirmCancel { .. }
        | Input::Announce => false,
    }
}

struct Step<'a> {
    record: &'a TaskRecord,
    moment: &'a Moment,
}

impl Step<'_> {
    fn claim(&self, owner: &Owner, worker_id: &str) -> Result<Next, Refused> {
        let now = self.moment.now;
        if self.record.not_before.is_some_and(|not_before| now < not_before) {
            return Err(Refused::NotYet);
        }
        if self.record.no_progress > self.moment.limits.no_progress_max {
            return self.fail(self.budget_spent());
        }
        let progress = self.record.progress.resumed_at(self.record.resume_step()).into();
        let attempt = self.record.attempt + 1;
        let record = TaskRecord {
            state: TaskState::Running,
            attempt,
            owner: Some(owner.clone()),
            worker_id: Some(worker_id.to_owned()),
            no_progress: self.record.no_progress + 1,
            not_before: None,
            progress,
            ..self.record.clone()
        };
        self.next(record, vec![(Seq::new(attempt, 0), EventKind::Claimed { worker_id: worker_id.to_owned() })])
    }

    fn start(&self, dataset: &DatasetUsed, n: u64) -> Result<Next, Refused> {
        let attempt = self.record.attempt;
        let mut facts = Vec::new();
        let mut fact = |kind| facts.push((Seq::new(attempt, n + facts.len() as u64), kind));
        if attempt > 1 {
            fact(EventKind::Resumed { from_step: self.record.resume_step() });
        }
        if let Some(why) = &dataset.instead_of {
            fact(EventKind::Log { level: LogLevel::Warn, message: format!("training on {}: {why}", dataset.name) });
        }
        let record = TaskRecord {
            dataset: Some(self.record.dataset.clone().unwrap_or_else(|| dataset.clone().into())),
            started_at: Some(self.record.started_at.unwrap_or(self.moment.now)),
            ..self.record.clone()
        };
        self.next(record, facts)
    }

    fn save_checkpoint(
        &self,
        new: &Checkpoint,
        progress: &Progress,
        epoch: Option<&EpochMetrics>,
        n: u64,
    ) -> Result<Next, Refused> {
        let newest = self.record.newest_checkpoint();
        if newest.is_some_and(|newest| new.reached() <= newest.reached()) {
            return Err(Refused::NotNewer);
        }
        let mut checkpoints = vec![Kept::from(*new)];
        checkpoints.extend(self.record.checkpoints.first().cloned());
        let mut epochs = self.record.epochs.clone();
        epoch.into_iter().for_each(|epoch| epochs.push(*epoch));
        let reached = self.record.reached;
        let attempt = self.record.attempt;
        let mut facts = vec![(Seq::new(attempt, n), EventKind::CheckpointSaved { step: new.step() })];
        // An epoch that is trained again, since its checkpoint was lost, has been told.
        let untold = epoch.filter(|epoch| epoch.epoch > reached.epochs);
        facts.extend(untold.map(|epoch| (Seq::new(attempt, n + 1), EventKind::EpochFinished(*epoch))));
        let further = new.reached() > reached;
        let record = TaskRecord {
            checkpoints,
            progress: (*progress).into(),
            epochs,
            reached: reached.max(new.reached()),
            no_progress: if further { 0 } else { self.record.no_progress },
            blocked_since: self.record.blocked_since.filter(|_| !further),
            ..self.record.clone()
        };
        self.next(record, facts)
    }

    fn lose_checkpoint(&self, lost: &ArtifactRef, why: &str, n: u64) -> Result<Next, Refused> {
        let Some((lost, rest)) = self.record.checkpoints.split_first().filter(|(newest, _)| newest.artifact == *lost)
        else {
            return Err(Refused::AlreadySo);
        };
        let message = format!("the checkpoint of step {} is lost: {why}", lost.step());
        let fact = (Seq::new(self.record.attempt, n), EventKind::Log { level: LogLevel::Warn, message });
        let progress = self.record.progress.resumed_at(rest.first().map_or(0, |newest| newest.step())).into();
        let record = TaskRecord { checkpoints: rest.to_vec(), progress, ..self.record.clone() };
        self.next(record, vec![fact])
    }

    fn finish(&self, result: &TaskResult) -> Result<Next, Refused> {
        self.next(
            TaskRecord {
                progress: self.record.progress.ended(&result.outcome, self.record.epochs.last()).into(),
                result: Some(result.clone().into()),
                failure: None,
                no_progress: 0,
                ..self.ended(TaskState::Succeeded)
            },
            Vec::new(),
        )
    }

    fn end_attempt(&self, failure: &Failure, retry_after: Duration) -> Result<Next, Refused> {
        if self.record.cancel_requested {
            return self.cancel();
        }
        let again = self.record.failure.as_ref().is_some_and(|last| last.kind == failure.kind);
        match failure.kind {
            FailureKind::Permanent | FailureKind::NoProgress => self.fail(failure.clone()),
            FailureKind::Diverged if again => self.fail(failure.clone()),
            FailureKind::Crashed | FailureKind::Diverged => self.release(failure, retry_after, true),
            FailureKind::Drained => self.release(failure, retry_after, false),
            FailureKind::Infrastructure if self.blocked_too_long() => self.fail(failure.clone()),
            FailureKind::Infrastructure => self.release(failure, retry_after, false),
        }
    }

    /// Back to PENDING. The claim has charged the attempt; one that is free of charge gets it back.
    fn release(&self, failure: &Failure, retry_after: Duration, charged: bool) -> Result<Next, Refused> {
        let now = self.moment.now;
        let blocked = failure.kind == FailureKind::Infrastructure;
        let record = TaskRecord {
            state: TaskState::Pending,
            owner: None,
            no_progress: self.record.no_progress.saturating_sub(u32::from(!charged)),
            blocked_since: if blocked { self.record.blocked_since.or(Some(now)) } else { self.record.blocked_since },
            not_before: (retry_after > Duration::ZERO).then(|| now.plus(retry_after)),
            failure: Some(failure.clone().into()),
            ..self.record.clone()
        };
        // Progress has paid for it.
        let charged = charged && self.record.no_progress > 0;
        let fact = EventKind::AttemptFailed { failure: failure.clone(), charged };
        self.next(record, vec![(Seq::attempt_end(self.record.attempt), fact)])
    }

    fn request_cancel(&self) -> Result<Next, Refused> {
        self.next(TaskRecord { cancel_requested: true, ..self.record.clone() }, Vec::new())
    }

    fn cancel(&self) -> Result<Next, Refused> {
        self.next(TaskRecord { cancel_requested: true, ..self.ended(TaskState::Cancelled) }, Vec::new())
    }

    fn fail(&self, failure: Failure) -> Result<Next, Refused> {
        self.next(TaskRecord { failure: Some(failure.into()), ..self.ended(TaskState::Failed) }, Vec::new())
    }

    fn announce(&self) -> Result<Next, Refused> {
        self.next(TaskRecord { announced: true, ..self.record.clone() }, Vec::new())
    }

    fn ended(&self, state: TaskState) -> TaskRecord {
        TaskRecord { state, owner: None, not_before: None, finished_at: Some(self.moment.now), ..self.record.clone() }
    }

    fn blocked_too_long(&self) -> bool {
        let blocked = self.record.blocked_since.map_or(Duration::ZERO, |since| self.moment.now.since(since));
        blocked > self.moment.limits.blocked_max
    }

    fn budget_spent(&self) -> Failure {
        let last = self.record.failure.as_ref().map_or("unknown", |failure| failure.message.as_str());
        let message = format!("{} attempts in a row made no progress; the last one: {last}", self.record.no_progress);
        Failure::new(FailureKind::NoProgress, message)
    }

    fn next(&self, record: TaskRecord, facts: Vec<(Seq, EventKind)>) -> Result<Next, Refused> {
        let now = self.moment.now;
        let fact = |(seq, kind)| TaskEvent { task: record.id, seq, at: now, kind };
        let facts = facts.into_iter().map(fact).collect();
        let version = self.record.version + 1;
        Ok(Next { record: TaskRecord { version, op_id: self.moment.op_id, updated_at: now, ..record }, facts })
    }
}
