//! What the holder of an attempt asks for.

use kubeml_actors::{
    task::{ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, DatasetUsed, Progress, TaskId, TaskRecord, TaskResult},
    testing::contracts::samples,
    transition::Input,
};
use kubeml_spec::EpochMetrics;

use crate::world::{Attempt, STEPS};

pub fn start(attempt: &Attempt) -> Input {
    let dataset = DatasetUsed {
        name: String::new(),
        version: String::new(),
        sha256: String::new(),
        train_samples: STEPS,
        test_samples: 1,
        instead_of: Some(String::new()),
    };
    Input::Start { fence: attempt.fence, dataset, n: attempt.n }
}

/// A checkpoint within the epoch.
pub fn save(record: &TaskRecord, attempt: &Attempt) -> Input {
    let checkpoint = checkpoint(record, attempt, 0);
    let progress = progress(attempt);
    Input::SaveCheckpoint { fence: attempt.fence, checkpoint, progress, finished_epoch: None, n: attempt.n }
}

/// The checkpoint that closes the epoch.
pub fn close_epoch(record: &TaskRecord, attempt: &Attempt) -> Input {
    let epoch = EpochMetrics { epoch: 1, ..EpochMetrics::default() };
    let checkpoint = checkpoint(record, attempt, 1);
    let progress = progress(attempt);
    Input::SaveCheckpoint { fence: attempt.fence, checkpoint, progress, finished_epoch: Some(epoch), n: attempt.n }
}

pub fn lose_checkpoint(attempt: &Attempt, damaged: &Checkpoint) -> Input {
    Input::LoseCheckpoint { fence: attempt.fence, lost: damaged.artifact, why: String::new(), n: attempt.n }
}

pub fn finish(record: &TaskRecord, attempt: &Attempt) -> Input {
    let (model, best_model) =
        (artifact(record, attempt, ArtifactKind::FinalModel), artifact(record, attempt, ArtifactKind::BestModel));
    let result = TaskResult { attempt: attempt.fence.attempt, model, best_model, ..samples::result(TaskId::NONE) };
    Input::Finish { fence: attempt.fence, result: Box::new(result) }
}

fn checkpoint(record: &TaskRecord, attempt: &Attempt, epochs: u32) -> Checkpoint {
    let artifact = artifact(record, attempt, ArtifactKind::Checkpoint);
    Checkpoint { artifact, epochs }
}

fn progress(attempt: &Attempt) -> Progress {
    Progress { epoch: 1, epochs: 1, step: attempt.step, steps: STEPS, ..Progress::default() }
}

fn artifact(record: &TaskRecord, attempt: &Attempt, kind: ArtifactKind) -> ArtifactRef {
    let key = ArtifactKey { task: record.id, attempt: attempt.fence.attempt, step: attempt.step, kind };
    ArtifactRef { key, hash: [0; 32], bytes: 0 }
}
