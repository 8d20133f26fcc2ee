//! What the contracts store.

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    dataset::{CHUNK_BYTES, RawDataset, RawSplit},
    event::{EventKind, LogLevel, Seq, TaskEvent},
    spec::{Architecture, DatasetChoice, Hyperparameters, ModelKind, Optimizer, Schedule, TaskSpec},
    task::{
        ArtifactKey, ArtifactKind, ArtifactRef, Best, Checkpoint, DatasetUsed, EpochMetrics, Failure, FailureKind,
        Incarnation, Metrics, Owner, Progress, StopReason, Submission, TaskId, TaskRecord, TaskResult, TaskState,
    },
    timestamp::Timestamp,
};

pub fn spec(model: ModelKind) -> TaskSpec {
    let hyperparameters = Hyperparameters {
        epochs: 3,
        batch_size: 128,
        learning_rate: 1e-3,
        optimizer: Optimizer::AdamW { weight_decay: 0.01 },
        schedule: Schedule::Step { every: 2, factor: 0.5 },
        seed: 7,
        dropout: 0.2,
        validation_fraction: 0.1,
        target_accuracy: Some(0.99),
        patience: Some(3),
        max_seconds: Some(600),
        architecture: Architecture::Mlp { hidden: vec![128, 64] },
    };
    TaskSpec { model, dataset: DatasetChoice { name: "mnist".to_owned(), explicit: true }, hyperparameters }
}

/// A pending task of a fresh id.
pub fn record(created_at: u64) -> TaskRecord {
    let submission = Submission {
        id: TaskId::fresh(),
        name: Some("first try".to_owned()),
        tags: vec!["a".to_owned(), "b".to_owned()],
        priority: 0,
        retry_of: None,
        spec: spec(ModelKind::Mlp),
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
    let (progress, metrics) = (progress(), metrics());
    let checkpoint = |step| Checkpoint { artifact: artifact(id, step, ArtifactKind::Checkpoint), progress, metrics };
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
        dataset: Some(dataset),
        checkpoints: vec![checkpoint(900), checkpoint(469)],
        progress,
        metrics,
        result: Some(result(id)),
        failure: Some(Failure::new(FailureKind::Infrastructure, "the store was away")),
        announced: true,
        updated_at: Timestamp(1_700_000_000_000_003),
        started_at: Some(Timestamp(1_700_000_000_000_004)),
        finished_at: Some(Timestamp(1_700_000_000_000_005)),
        ..record(1_700_000_000_000_000)
    }
}

fn result(task: TaskId) -> TaskResult {
    TaskResult {
        attempt: 2,
        progress: progress(),
        metrics: metrics(),
        test_loss: 0.31,
        test_accuracy: 0.97,
        best_test_accuracy: 0.98,
        confusion: vec![vec![980, 2], vec![1, 1030]],
        weights_sha256: "ab".repeat(32),
        kernel_set: "x86-64-v3".to_owned(),
        stop_reason: StopReason::TargetAccuracy,
        model: artifact(task, 1407, ArtifactKind::FinalModel),
        best_model: artifact(task, 938, ArtifactKind::BestModel),
    }
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

fn metrics() -> Metrics {
    let last = EpochMetrics {
        epoch: 2,
        loss: 0.25,
        accuracy: 0.9,
        val_loss: 0.3,
        val_accuracy: 0.91,
        samples_per_second: 4321.0,
    };
    Metrics { last, best: Best { val_accuracy: 0.91, epoch: 2 } }
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
