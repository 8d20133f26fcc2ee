//! What the contracts store.

use bytes::Bytes;
use kubeml_spec::{Draft, EpochMetrics, Epochs, Evaluation, Outcome, StopReason, TaskSpec};
use uuid::Uuid;

use crate::{
    dataset::{CHUNK_BYTES, RawDataset, RawSplit},
    event::{EventKind, LogLevel, Seq, TaskEvent},
    task::{
        ArtifactKey, ArtifactKind, ArtifactRef, Checkpoint, DatasetUsed, Failure, FailureKind, Incarnation, Owner,
        Progress, Reached, Submission, TaskId, TaskRecord, TaskResult, TaskState,
    },
    timestamp::Timestamp,
};

/// A draft in which every field that an mlp has in the first release is set.
pub fn draft() -> Draft {
    Draft::new("mlp")
        .on("mnist")
        .with("epochs", 3)
        .with("optimizer", "adamw")
        .with("weight_decay", 0.01)
        .with("schedule", "step")
        .with("schedule_every", 2)
        .with("seed", 7)
        .with("validation_fraction", 0.1)
        .with("target_accuracy", 0.99)
        .with("patience", 3)
        .with("max_seconds", 600)
        .with("hidden", vec![128, 64])
}

/// The reference settings of a model.
pub fn spec(model: &str) -> TaskSpec {
    Draft::new(model).build().expect("it is a model")
}

/// A pending task of a fresh id.
pub fn record(created_at: u64) -> TaskRecord {
    let submission = Submission {
        id: TaskId::fresh(),
        name: Some("first try".to_owned()),
        tags: vec!["a".to_owned(), "b".to_owned()],
        priority: 0,
        retry_of: None,
        spec: draft().build().expect("it is a good draft"),
    };
    TaskRecord::submitted(submission, Uuid::new_v4(), Timestamp(created_at))
}

/// The version after `record`.
pub fn next(record: &TaskRecord) -> TaskRecord {
    TaskRecord { version: record.version + 1, op_id: Uuid::new_v4(), ..record.clone() }
}

pub fn in_state(record: &TaskRecord, state: TaskState) -> TaskRecord {
    TaskRecord { state, ..next(record) }
}

pub fn announced(record: &TaskRecord) -> TaskRecord {
    TaskRecord { announced: true, ..next(record) }
}

/// A record with something in every field, the same every time.
pub fn full_record() -> TaskRecord {
    let id = TaskId(Uuid::from_u128(0x0123_4567_89ab_7cde_8f01_2345_6789_abcd));
    let checkpoint =
        |step, epochs| Checkpoint { artifact: artifact(id, step, ArtifactKind::Checkpoint), epochs }.into();
    let dataset = DatasetUsed {
        name: "mnist-10k".to_owned(),
        version: "0123456789ab".to_owned(),
        sha256: "cd".repeat(32),
        train_samples: 8000,
        test_samples: 2000,
        instead_of: Some("mnist cannot be had".to_owned()),
    };
    let incarnation = Incarnation { node: "node-1".to_owned(), boot: Uuid::from_u128(0xfeed_face) };
    TaskRecord {
        id,
        op_id: Uuid::from_u128(0x0b5),
        priority: -5,
        retry_of: Some(TaskId(Uuid::from_u128(77))),
        state: TaskState::Succeeded,
        version: 300,
        attempt: 2,
        owner: Some(Owner { incarnation, nonce: Uuid::from_u128(5) }),
        worker_id: Some("node-1/0".to_owned()),
        no_progress: 1,
        blocked_since: Some(Timestamp(1_700_000_000_000_001)),
        not_before: Some(Timestamp(1_700_000_000_000_002)),
        cancel_requested: true,
        dataset: Some(dataset.into()),
        reached: Reached { step: 900, epochs: 2 },
        checkpoints: vec![checkpoint(900, 1), checkpoint(469, 1)],
        progress: progress().into(),
        epochs: epochs(),
        result: Some(result(id).into()),
        failure: Some(Failure::new(FailureKind::Infrastructure, "the store was away").into()),
        announced: true,
        updated_at: Timestamp(1_700_000_000_000_003),
        started_at: Some(Timestamp(1_700_000_000_000_004)),
        finished_at: Some(Timestamp(1_700_000_000_000_005)),
        ..record(1_700_000_000_000_000)
    }
}

/// A result with something in every field, the same every time.
pub fn result(task: TaskId) -> TaskResult {
    let outcome = Outcome {
        stop_reason: StopReason::TargetAccuracy,
        epochs: 3,
        steps: 1407,
        train_seconds: 4.25,
        best_epoch: 2,
        test: Evaluation { loss: 0.31, accuracy: 0.97 },
        best_test: Evaluation { loss: 0.3, accuracy: 0.98 },
        confusion: vec![vec![980, 2], vec![1, 1030]],
        weights_sha256: "ab".repeat(32),
        best_weights_sha256: "cd".repeat(32),
        kernel_set: "x86-64-v3".to_owned(),
    };
    let (model, best_model) =
        (artifact(task, 1407, ArtifactKind::FinalModel), artifact(task, 938, ArtifactKind::BestModel));
    TaskResult { attempt: 2, outcome: outcome.into(), model, best_model }
}

fn artifact(task: TaskId, step: u64, kind: ArtifactKind) -> ArtifactRef {
    ArtifactRef { key: ArtifactKey { task, attempt: 2, step, kind }, hash: [step as u8; 32], bytes: 100_000 }
}

fn progress() -> Progress {
    Progress {
        epoch: 2,
        epochs: 3,
        step: 900,
        steps: 1407,
        samples_per_second: 1234.5,
        eta_seconds: 9.75,
        loss: 0.5,
        accuracy: 0.875,
    }
}

/// Two epochs, the second the best.
pub fn epochs() -> Epochs {
    let mut epochs = Epochs::default();
    epochs.push(epoch(1));
    epochs.push(epoch(2));
    epochs
}

/// An epoch with something in every field of the first release. Golden files hold its bytes, so a metric that comes later is 0.
#[allow(clippy::needless_update, reason = "it is needed as soon as there is a later metric")]
pub fn epoch(epoch: u32) -> EpochMetrics {
    EpochMetrics {
        epoch,
        step: u64::from(epoch) * 469,
        samples: 54_000,
        train_seconds: 1.5,
        is_best: true,
        loss: 0.5 / f64::from(epoch),
        accuracy: 0.9,
        val_loss: 0.3,
        val_accuracy: 0.91,
        samples_per_second: 36_000.0,
        ..EpochMetrics::default()
    }
}

/// A fact at `attempt`, `n`, which says so.
pub fn fact(task: TaskId, attempt: u32, n: u64) -> TaskEvent {
    fact_at(task, Seq::new(attempt, n), 1_000)
}

pub fn fact_at(task: TaskId, seq: Seq, at: u64) -> TaskEvent {
    let kind = EventKind::Log { level: LogLevel::Info, message: format!("fact {seq}") };
    TaskEvent { task, seq, at: Timestamp(at), kind }
}

/// A dataset of several chunks, its bytes given by `seed`.
pub fn dataset(name: &str, seed: u8) -> RawDataset {
    let bytes = |length: usize| -> Bytes { (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect() };
    let labels = |samples: usize| -> Bytes { (0..samples).map(|i| (i % 10) as u8).collect() };
    let split = |samples: usize| RawSplit { images: bytes(samples * 28 * 28), labels: labels(samples) };
    let train = 2 * CHUNK_BYTES / (28 * 28) + 1;
    RawDataset { name: name.to_owned(), classes: 10, height: 28, width: 28, train: split(train), test: split(10) }
}

/// Bytes that do not compress, given by `seed`.
pub fn noise(length: usize, seed: u8) -> Bytes {
    let mut noise = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
    noise.into()
}
