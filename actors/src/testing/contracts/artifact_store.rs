//! What every [`ArtifactStore`] promises.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Kept, samples::noise};
use crate::{
    ports::{ArtifactStore, PortError},
    task::{ArtifactKey, ArtifactKind, ArtifactRef, TaskId},
};

/// `$open` gives an `async || -> Arc<impl ArtifactStore>`.
#[macro_export]
macro_rules! artifact_store_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            artifact_store,
            $open,
            [
                artifacts_of_all_sizes_read_back,
                a_reference_names_what_was_written,
                an_unknown_artifact_is_not_found,
                the_same_bytes_can_be_written_again,
                other_bytes_are_not_written_over_an_artifact,
                bytes_other_than_the_referenced_are_corrupt,
                concurrent_writers_of_the_same_bytes_all_succeed,
                of_concurrent_writers_of_different_bytes_one_succeeds,
                old_attempts_are_pruned_except_what_is_kept,
                pruning_leaves_newer_attempts_and_other_tasks,
                pruning_nothing_is_no_error,
                a_pruned_artifact_can_be_written_again,
                artifacts_outlive_their_process,
            ]
        );
    };
}

pub async fn artifacts_of_all_sizes_read_back<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    for (step, length) in [0, 1, 5000, (3 << 20) + 7].into_iter().enumerate() {
        let bytes = noise(length, 1);
        let artifact = store.put(key(TaskId::fresh(), 1, step as u64), bytes.clone()).await?;
        assert!(store.get(&artifact).await? == bytes, "{length} bytes");
    }
    Ok(())
}

pub async fn a_reference_names_what_was_written<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let (key, bytes) = (key(TaskId::fresh(), 1, 2), noise(100, 1));
    let hash = *blake3::hash(&bytes).as_bytes();
    assert_eq!(store.put(key, bytes).await?, ArtifactRef { key, hash, bytes: 100 });
    Ok(())
}

pub async fn an_unknown_artifact_is_not_found<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let task = TaskId::fresh();
    let stored = store.put(key(task, 1, 1), noise(10, 1)).await?;
    let others = [key(task, 1, 2), key(task, 2, 1), key(TaskId::fresh(), 1, 1)];
    let best = ArtifactKey { kind: ArtifactKind::BestModel, ..stored.key };
    for key in others.into_iter().chain([best]) {
        let answer = store.get(&ArtifactRef { key, ..stored }).await;
        assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    }
    Ok(())
}

pub async fn the_same_bytes_can_be_written_again<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let (key, bytes) = (key(TaskId::fresh(), 1, 1), noise(100, 1));
    let first = store.put(key, bytes.clone()).await?;
    assert_eq!(store.put(key, bytes.clone()).await?, first);
    assert_eq!(store.get(&first).await?, bytes);
    Ok(())
}

pub async fn other_bytes_are_not_written_over_an_artifact<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let key = key(TaskId::fresh(), 1, 1);
    let first = store.put(key, noise(100, 1)).await?;
    for other in [noise(100, 2), noise(101, 1), noise(0, 1)] {
        let answer = store.put(key, other).await;
        assert!(matches!(answer, Err(PortError::Rejected(_))), "{answer:?}");
    }
    assert_eq!(store.get(&first).await?, noise(100, 1));
    Ok(())
}

pub async fn bytes_other_than_the_referenced_are_corrupt<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let stored = store.put(key(TaskId::fresh(), 1, 1), noise(100, 1)).await?;
    for other in [ArtifactRef { hash: [1; 32], ..stored }, ArtifactRef { bytes: 99, ..stored }] {
        let answer = store.get(&other).await;
        assert!(matches!(answer, Err(PortError::Corrupt(_))), "{answer:?}");
    }
    Ok(())
}

pub async fn concurrent_writers_of_the_same_bytes_all_succeed<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let (key, bytes) = (key(TaskId::fresh(), 1, 1), noise(10_000, 1));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (store, bytes) = (store.clone(), bytes.clone());
        writers.spawn(async move { store.put(key, bytes).await });
    }
    for artifact in writers.join_all().await {
        assert_eq!(store.get(&artifact?).await?, bytes);
    }
    Ok(())
}

pub async fn of_concurrent_writers_of_different_bytes_one_succeeds<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let key = key(TaskId::fresh(), 1, 1);
    let mut writers = JoinSet::new();
    for seed in 0..8 {
        let store = store.clone();
        writers.spawn(async move { (seed, store.put(key, noise(10_000, seed)).await) });
    }
    let answers = writers.join_all().await;
    let written: Vec<_> = answers.into_iter().filter_map(|(seed, answer)| Some((seed, answer.ok()?))).collect();
    let [(seed, artifact)] = written.as_slice() else { panic!("{} of 8 were written", written.len()) };
    assert_eq!(store.get(artifact).await?, noise(10_000, *seed));
    Ok(())
}

pub async fn old_attempts_are_pruned_except_what_is_kept<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let task = TaskId::fresh();
    let mut stored = Vec::new();
    for (attempt, step) in [(1, 10), (1, 20), (2, 20), (2, 30)] {
        for kind in [ArtifactKind::Checkpoint, ArtifactKind::FinalModel, ArtifactKind::BestModel] {
            let key = ArtifactKey { task, attempt, step, kind };
            stored.push(store.put(key, noise(10, 1)).await?);
        }
    }
    let keep = [stored[2].key, stored[9].key];
    store.prune(task, 2, &keep).await?;
    for artifact in stored {
        assert_eq!(store.get(&artifact).await.is_ok(), keep.contains(&artifact.key), "{:?}", artifact.key);
    }
    Ok(())
}

pub async fn pruning_leaves_newer_attempts_and_other_tasks<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let (task, other) = (TaskId::fresh(), TaskId::fresh());
    let pruned = store.put(key(task, 2, 1), noise(10, 1)).await?;
    let newer = store.put(key(task, 3, 1), noise(10, 2)).await?;
    let others = store.put(key(other, 1, 1), noise(10, 3)).await?;
    store.prune(task, 2, &[]).await?;
    assert!(matches!(store.get(&pruned).await, Err(PortError::NotFound(_))));
    assert_eq!(store.get(&newer).await?, noise(10, 2));
    assert_eq!(store.get(&others).await?, noise(10, 3));
    Ok(())
}

pub async fn pruning_nothing_is_no_error<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let task = TaskId::fresh();
    store.prune(task, 9, &[key(task, 1, 1)]).await?;
    store.put(key(task, 1, 1), noise(10, 1)).await?;
    store.prune(task, 9, &[]).await?;
    store.prune(task, 9, &[]).await
}

pub async fn a_pruned_artifact_can_be_written_again<S: ArtifactStore + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let store = open().await;
    let key = key(TaskId::fresh(), 1, 1);
    store.put(key, noise(10, 1)).await?;
    store.prune(key.task, 1, &[]).await?;
    let artifact = store.put(key, noise(10, 2)).await?;
    assert_eq!(store.get(&artifact).await?, noise(10, 2));
    Ok(())
}

pub async fn artifacts_outlive_their_process<S: ArtifactStore + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let store = open().await;
    let artifact = store.put(key(TaskId::fresh(), 1, 1), noise(5000, 1)).await?;
    drop(store);
    assert_eq!(open().await.get(&artifact).await?, noise(5000, 1));
    Ok(())
}

fn key(task: TaskId, attempt: u32, step: u64) -> ArtifactKey {
    ArtifactKey { task, attempt, step, kind: ArtifactKind::Checkpoint }
}
