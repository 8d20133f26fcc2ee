//! A task and what may happen to it.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    task::{
        ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, DatasetUsed, Failure, FailureKind, Fence, Incarnation,
        Owner, Progress, TaskId, TaskRecord, TaskResult,
    },
    testing::contracts::samples,
    testing::test_tree::{draft, submission},
    timestamp::Timestamp,
    transition::Input,
};

pub fn submitted(now: Timestamp) -> TaskRecord {
    TaskRecord::submitted(submission(draft()), Uuid::new_v4(), now)
}

pub fn claim(nonce: u128) -> Input {
    let incarnation = Incarnation { node: "node-1".to_owned(), boot: Uuid::nil() };
    Input::Claim { worker_id: incarnation.worker_id(0), owner: Owner { incarnation, nonce: Uuid::from_u128(nonce) } }
}

pub fn start(fence: Fence) -> Input {
    let dataset = DatasetUsed {
        name: "mnist".to_owned(),
        version: "1".to_owned(),
        sha256: "ab".to_owned(),
        train_samples: 20,
        test_samples: 4,
        instead_of: Some("another cannot be had".to_owned()),
    };
    Input::Start { fence, dataset, n: 1 }
}

pub fn save(task: TaskId, fence: Fence, step: u64) -> Input {
    let artifact = artifact(task, fence, step, ArtifactKind::Checkpoint);
    let progress = Progress { step, ..Progress::default() };
    let checkpoint = Checkpoint { artifact, epochs: 0 };
    Input::SaveCheckpoint { fence, checkpoint, progress, finished_epoch: None, n: 100 + step }
}

pub fn lose(fence: Fence, newest: &Checkpoint) -> Input {
    Input::LoseCheckpoint { fence, lost: newest.artifact, why: "its hash differs".to_owned(), n: 200 }
}

pub fn finish(task: TaskId, fence: Fence) -> Input {
    let (model, best_model) =
        (artifact(task, fence, 30, ArtifactKind::FinalModel), artifact(task, fence, 30, ArtifactKind::BestModel));
    let result = TaskResult { attempt: fence.attempt, model, best_model, ..samples::result(TaskId::NONE) };
    Input::Finish { fence, result: Box::new(result) }
}

pub fn end(fence: Fence) -> Input {
    let failure = Failure::new(FailureKind::Drained, "it was drained");
    Input::EndAttempt { fence, failure, retry_after: Duration::ZERO }
}

pub fn reap(fence: Fence) -> Input {
    Input::Reap { fence, why: "node-1 is gone".to_owned() }
}

fn artifact(task: TaskId, fence: Fence, step: u64, kind: ArtifactKind) -> ArtifactRef {
    ArtifactRef { key: ArtifactKey { task, attempt: fence.attempt, step, kind }, hash: [step as u8; 32], bytes: 1_000 }
}
