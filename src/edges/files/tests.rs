//! What the directory looks like, and what becomes of damaged files.

use kubeml_actors::testing::contracts::samples::noise;
use tempfile::TempDir;

use super::*;

fn opened() -> (TempDir, FileArtifacts) {
    let directory = tempfile::tempdir().expect("there is room");
    let store = FileArtifacts::open(directory.path()).expect("it opens");
    (directory, store)
}

fn key(kind: ArtifactKind) -> ArtifactKey {
    ArtifactKey { task: TaskId::fresh(), attempt: 3, step: 450, kind }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it is readable").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_are_named_by_their_keys() -> Result<(), PortError> {
    let (directory, store) = opened();
    let checkpoint = key(ArtifactKind::Checkpoint);
    let kinds = [ArtifactKind::Checkpoint, ArtifactKind::FinalModel, ArtifactKind::BestModel];
    for kind in kinds {
        store.put(ArtifactKey { kind, ..checkpoint }, noise(10, 1)).await?;
    }
    let task = checkpoint.task.to_string();
    assert_eq!(entries(directory.path()), [&task, "tmp"]);
    assert_eq!(entries(&directory.path().join(&task)), ["3-450.best", "3-450.checkpoint", "3-450.final"]);
    for kind in kinds {
        let key = ArtifactKey { kind, ..checkpoint };
        assert_eq!(key_of(key.task, &file_name(key)), Some(key));
    }
    for foreign in ["3-450", "3.best", "3-450.tmp", "-1.best", "x-1.best", ""] {
        assert_eq!(key_of(checkpoint.task, foreign), None);
    }
    Ok(())
}

#[tokio::test]
async fn damaged_files_are_corrupt() -> Result<(), PortError> {
    let (directory, store) = opened();
    let artifact = store.put(key(ArtifactKind::Checkpoint), noise(1000, 1)).await?;
    let path = directory.path().join(artifact.key.task.to_string()).join("3-450.checkpoint");
    let good = noise(1000, 1).to_vec();
    let mut flipped = good.clone();
    flipped[500] ^= 1;
    for damaged in [&flipped[..], &good[..999], &[], &[good.as_slice(), &[0]].concat()] {
        fs::write(&path, damaged).expect("it is writable");
        let expected = format!("{} has not the 1000 bytes that it is asked for", path.display());
        assert_eq!(store.get(&artifact).await, Err(PortError::Corrupt(expected)));
    }
    Ok(())
}

#[tokio::test]
async fn what_was_not_finished_is_removed_at_the_start() -> Result<(), PortError> {
    let (directory, store) = opened();
    let artifact = store.put(key(ArtifactKind::BestModel), noise(10, 1)).await?;
    fs::write(directory.path().join("tmp/7"), "half").expect("it is writable");
    let store = FileArtifacts::open(directory.path())?;
    assert_eq!(entries(&directory.path().join("tmp")), [""; 0]);
    assert_eq!(store.get(&artifact).await?, noise(10, 1));
    Ok(())
}

#[tokio::test]
async fn nothing_stays_in_tmp() -> Result<(), PortError> {
    let (directory, store) = opened();
    let key = key(ArtifactKind::BestModel);
    for seed in [1, 1, 2] {
        let _ = store.put(key, noise(10, seed)).await;
    }
    assert_eq!(entries(&directory.path().join("tmp")), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_pruned_task_leaves_no_directory() -> Result<(), PortError> {
    let (directory, store) = opened();
    let key = key(ArtifactKind::Checkpoint);
    store.put(key, noise(10, 1)).await?;
    store.prune(key.task, 3, &[]).await?;
    assert_eq!(entries(directory.path()), ["tmp"]);
    Ok(())
}

#[tokio::test]
async fn a_disk_that_refuses_is_named() {
    let (directory, store) = opened();
    let key = key(ArtifactKind::Checkpoint);
    // A file stands where the task's directory should be.
    let path = directory.path().join(key.task.to_string());
    fs::write(&path, "").expect("it is writable");
    let answer = store.put(key, noise(10, 1)).await;
    let Err(PortError::Unavailable(text)) = answer else { panic!("{answer:?}") };
    assert!(text.starts_with(&format!("cannot write {}", path.display())), "{text}");
    assert_eq!(entries(&directory.path().join("tmp")), [""; 0]);
}
