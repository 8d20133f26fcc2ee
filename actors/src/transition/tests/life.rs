//! A task's life, lived input by input.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    event::{EventKind, TaskEvent},
    task::{
        ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, DatasetUsed, Failure, FailureKind, Fence, Incarnation,
        Owner, Progress, Submission, TaskId, TaskRecord, TaskResult,
    },
    testing::contracts::samples,
    timestamp::Timestamp,
    transition::{Input, Limits, Moment, Next, Refused, transition},
};
use kubeml_spec::Draft;
use kubeml_spec::{EpochMetrics, Outcome};

pub const EPOCHS: u32 = 3;
pub const STEPS_PER_EPOCH: u64 = 10;
pub const STEPS: u64 = EPOCHS as u64 * STEPS_PER_EPOCH;

/// A record, the facts that its inputs have brought, and the time.
pub struct Life {
    pub record: TaskRecord,
    pub facts: Vec<TaskEvent>,
    pub now: Timestamp,
    pub limits: Limits,
    inputs: u128,
}

impl Life {
    pub fn submitted() -> Self {
        let record = TaskRecord::submitted(submission(TaskId(Uuid::from_u128(1))), Uuid::nil(), Timestamp(0));
        Self { record, facts: Vec::new(), now: Timestamp(0), limits: Limits::default(), inputs: 0 }
    }

    /// Claimed for the first time.
    pub fn running() -> Self {
        let mut life = Self::submitted();
        life.claim();
        life
    }

    pub fn decide(&mut self, input: &Input) -> Result<Next, Refused> {
        self.inputs += 1;
        let moment = Moment { now: self.now, op_id: Uuid::from_u128(self.inputs), limits: self.limits };
        transition(&self.record, input, &moment)
    }

    /// Makes the input happen, if it may.
    pub fn take(&mut self, input: &Input) -> Result<(), Refused> {
        let next = self.decide(input)?;
        self.record = next.record;
        self.facts.extend(next.facts);
        Ok(())
    }

    #[track_caller]
    pub fn must(&mut self, input: &Input) {
        assert_eq!(self.take(input), Ok(()), "{input:?}");
    }

    #[track_caller]
    pub fn refused(&mut self, input: &Input) -> Refused {
        self.decide(input).expect_err("the input is taken")
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub fn fence(&self) -> Fence {
        self.record.fence().expect("the task is running")
    }

    /// The number that the running attempt's next fact must have.
    pub fn next_n(&self) -> u64 {
        let attempt = self.record.attempt;
        let of_attempt =
            |fact: &&TaskEvent| fact.seq.attempt() == attempt && !matches!(fact.kind, EventKind::AttemptFailed { .. });
        self.facts.iter().filter(of_attempt).map(|fact| fact.seq.n() + 1).max().unwrap_or(0)
    }

    #[track_caller]
    pub fn claim(&mut self) {
        self.must(&claim(self.inputs + 1));
    }

    #[track_caller]
    pub fn start(&mut self) {
        self.must(&start(self.fence(), self.next_n()));
    }

    #[track_caller]
    pub fn save(&mut self, step: u64) {
        self.must(&save(self.fence(), step, self.next_n()));
    }

    /// Saves the checkpoint that closes an epoch.
    #[track_caller]
    pub fn close_epoch(&mut self, epoch: u32) {
        self.must(&close_epoch(self.fence(), epoch, self.next_n()));
    }

    #[track_caller]
    pub fn lose_checkpoint(&mut self) {
        let lost = self.record.newest_checkpoint().expect("there is one").artifact;
        self.must(&lose(self.fence(), lost, self.next_n()));
    }

    #[track_caller]
    pub fn finish(&mut self) {
        self.must(&finish(self.fence()));
    }

    #[track_caller]
    pub fn end(&mut self, kind: FailureKind) {
        self.must(&end(self.fence(), kind, Duration::ZERO));
    }

    #[track_caller]
    pub fn reap(&mut self) {
        self.must(&reap(self.fence()));
    }
}

pub fn submission(id: TaskId) -> Submission {
    let draft = Draft::new("mlp").with("epochs", EPOCHS);
    let spec = draft.build().expect("the draft is good");
    Submission { id, name: None, tags: Vec::new(), priority: 0, retry_of: None, spec }
}

pub fn claim(nonce: u128) -> Input {
    let incarnation = Incarnation { node: "node-1".to_owned(), boot: Uuid::nil() };
    Input::Claim { worker_id: incarnation.worker_id(0), owner: Owner { incarnation, nonce: Uuid::from_u128(nonce) } }
}

pub fn dataset(name: &str) -> DatasetUsed {
    DatasetUsed {
        name: name.to_owned(),
        version: "1".to_owned(),
        sha256: "ab".to_owned(),
        train_samples: 8_000,
        test_samples: 2_000,
        instead_of: None,
    }
}

pub fn start(fence: Fence, n: u64) -> Input {
    Input::Start { fence, dataset: dataset("mnist"), n }
}

pub fn save(fence: Fence, step: u64, n: u64) -> Input {
    let closed = (step / STEPS_PER_EPOCH) as u32 - u32::from(step.is_multiple_of(STEPS_PER_EPOCH) && step > 0);
    let (checkpoint, progress) = (checkpoint(fence, step, closed), progress(step));
    Input::SaveCheckpoint { fence, checkpoint, progress, finished_epoch: None, n }
}

pub fn close_epoch(fence: Fence, epoch: u32, n: u64) -> Input {
    let step = u64::from(epoch) * STEPS_PER_EPOCH;
    let finished_epoch = Some(epoch_metrics(epoch));
    let (checkpoint, progress) = (checkpoint(fence, step, epoch), progress(step));
    Input::SaveCheckpoint { fence, checkpoint, progress, finished_epoch, n }
}

pub fn checkpoint(fence: Fence, step: u64, epochs_closed: u32) -> Checkpoint {
    let artifact = artifact(fence, step, ArtifactKind::Checkpoint);
    Checkpoint { artifact, epochs: epochs_closed }
}

pub fn lose(fence: Fence, lost: ArtifactRef, n: u64) -> Input {
    Input::LoseCheckpoint { fence, lost, why: "its hash differs".to_owned(), n }
}

pub fn finish(fence: Fence) -> Input {
    let all = samples::result(TaskId::NONE);
    let outcome = Outcome { epochs: EPOCHS, steps: STEPS, ..all.outcome.known };
    let model = artifact(fence, STEPS, ArtifactKind::FinalModel);
    let best_model = artifact(fence, STEPS, ArtifactKind::BestModel);
    let result = TaskResult { attempt: fence.attempt, outcome: outcome.into(), model, best_model };
    Input::Finish { fence, result: Box::new(result) }
}

pub fn end(fence: Fence, kind: FailureKind, retry_after: Duration) -> Input {
    Input::EndAttempt { fence, failure: Failure::new(kind, "it went wrong"), retry_after }
}

pub fn reap(fence: Fence) -> Input {
    Input::Reap { fence, why: "node-1 is silent".to_owned() }
}

fn artifact(fence: Fence, step: u64, kind: ArtifactKind) -> ArtifactRef {
    let key = ArtifactKey { task: TaskId(Uuid::from_u128(1)), attempt: fence.attempt, step, kind };
    ArtifactRef { key, hash: [0; 32], bytes: 1_000 }
}

fn progress(step: u64) -> Progress {
    let epoch = (step / STEPS_PER_EPOCH) as u32;
    Progress { epoch, epochs: EPOCHS, step, steps: STEPS, ..Progress::default() }
}

fn epoch_metrics(epoch: u32) -> EpochMetrics {
    EpochMetrics { epoch, ..EpochMetrics::default() }
}
