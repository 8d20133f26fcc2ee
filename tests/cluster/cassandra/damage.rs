//! Damaged and newer values are told apart, named, and hide no others.

use std::collections::HashSet;

use kubeml::codec;
use kubeml_actors::{
    context::Roles,
    dataset::ChunkHash,
    ports::{ArtifactStore, DatasetStore, NodeRegistry, NodeRow, PortError, TaskFilter, TaskStore},
    task::{ArtifactKey, ArtifactKind, Incarnation, TaskId, TaskRecord, TaskState},
    testing::contracts::{
        Kept,
        samples::{dataset, fact, in_state, next, noise, record},
    },
    timestamp::Timestamp,
};

use super::keyspace::{Keyspace, Node};

#[tokio::test]
async fn a_damaged_record_is_corrupt_and_hides_no_other() -> Kept {
    let keyspace = Keyspace::take().await;
    let (good, bad) = (record(1), record(2));
    let node = keyspace.node();
    node.tasks.insert(&good, &[]).await?;
    node.tasks.insert(&bad, &[]).await?;
    let mut bytes = codec::encode(&bad).expect("it is short");
    bytes[100] ^= 1;
    keyspace.run("UPDATE $.task SET record = ? WHERE task_id = ? IF EXISTS", (bytes, bad.id.0)).await;
    let node = keyspace.node();
    let Err(PortError::Corrupt(text)) = node.tasks.get(bad.id).await else { panic!("it is damaged") };
    assert!(text.starts_with(&format!("{}, task {}: a task record is damaged", keyspace.config.place(), bad.id)));
    let changed = in_state(&bad, TaskState::Running);
    assert!(matches!(node.tasks.compare_and_set(&changed, &[]).await, Err(PortError::Corrupt(_))));
    assert!(matches!(node.tasks.insert(&bad, &[]).await, Err(PortError::Corrupt(_))));
    assert_eq!(node.tasks.list(&TaskFilter::default(), None, 10).await?.records, std::slice::from_ref(&good));
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, [good]);
    Ok(())
}

#[tokio::test]
async fn what_is_no_record_is_corrupt() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let record = record(1);
    node.tasks.insert(&record, &[]).await?;
    // Bytes of another type have another checksum.
    let bytes = codec::encode(&dataset("digits", 1).cut().0).expect("it is short");
    keyspace.run("UPDATE $.task SET record = ? WHERE task_id = ? IF EXISTS", (bytes, record.id.0)).await;
    assert!(matches!(node.tasks.get(record.id).await, Err(PortError::Corrupt(_))));
    keyspace.run("UPDATE $.task SET record = null WHERE task_id = ? IF EXISTS", (record.id.0,)).await;
    assert!(matches!(node.tasks.get(record.id).await, Err(PortError::Corrupt(_))));
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_too_long_is_rejected() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let long = TaskRecord { tags: vec!["x".repeat(65 << 10)], ..record(1) };
    assert!(matches!(node.tasks.insert(&long, &[]).await, Err(PortError::Rejected(_))));
    let first = record(1);
    node.tasks.insert(&first, &[]).await?;
    let long = TaskRecord { tags: long.tags, ..next(&first) };
    assert!(matches!(node.tasks.compare_and_set(&long, &[]).await, Err(PortError::Rejected(_))));
    assert_eq!(node.tasks.get(first.id).await?, Some(first));
    Ok(())
}

#[tokio::test]
async fn a_damaged_fact_is_a_hole() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let task = TaskId::fresh();
    let facts = [0, 1, 2, 3].map(|n| fact(task, 0, n));
    node.events.append(&facts, |_| ()).await?;
    let damage = "UPDATE $.event SET payload = ? WHERE task_id = ? AND bucket = 0 AND seq = ?";
    keyspace.run(damage, (b"no fact".to_vec(), task.0, 1_i64)).await;
    let of_another = codec::encode(&fact(TaskId::fresh(), 0, 2)).expect("it is short");
    keyspace.run(damage, (of_another, task.0, 2_i64)).await;
    for limit in [2, 10] {
        let read = node.events.read_task(task, None, limit).await?;
        assert_eq!(read, [facts[0].clone(), facts[3].clone()], "at most {limit}");
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_chunk_is_corrupt_until_it_is_imported_again() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let chunk = noise(1000, 1);
    let hash = ChunkHash::of(&chunk);
    let packed = codec::pack(&chunk).expect("it is short");
    let mut flipped = packed.clone();
    flipped[500] ^= 1;
    let other = codec::pack(&noise(1000, 2)).expect("it is short");
    for damaged in [flipped, other, packed[..900].to_vec(), Vec::new()] {
        node.datasets.put_chunks(&[(hash, chunk.clone())]).await?;
        let damage = "UPDATE $.dataset_chunk SET bytes = ? WHERE hash = ?";
        keyspace.run(damage, (damaged, hash.0.to_vec())).await;
        let answer = node.datasets.get_chunk(hash).await;
        assert!(matches!(answer, Err(PortError::Corrupt(_))), "{answer:?}");
    }
    node.datasets.put_chunks(&[(hash, chunk.clone())]).await?;
    assert_eq!(node.datasets.get_chunk(hash).await?, chunk);
    Ok(())
}

#[tokio::test]
async fn a_damaged_manifest_hides_no_other() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    for name in ["good", "bad"] {
        let (manifest, chunks) = dataset(name, 1).cut();
        node.datasets.put_chunks(&chunks).await?;
        node.datasets.put_manifest(&manifest).await?;
    }
    let version = dataset("bad", 1).cut().0.version;
    let damage = "UPDATE $.dataset SET manifest = ? WHERE name = 'bad' AND version = ?";
    keyspace.run(damage, (b"no manifest".to_vec(), version)).await;
    assert!(matches!(node.datasets.manifest("bad").await, Err(PortError::Corrupt(_))));
    assert_eq!(node.datasets.manifests().await?, [dataset("good", 1).cut().0]);
    Ok(())
}

#[tokio::test]
async fn a_damaged_or_missing_piece_is_corrupt() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let key = |step| ArtifactKey { task: TaskId::fresh(), attempt: 1, step, kind: ArtifactKind::Checkpoint };
    let bytes = noise((2 << 20) + 5, 1);
    let row = "task_id = ? AND attempt = 1 AND step = ? AND kind = 'checkpoint' AND number = 1";
    for (step, statement) in [(1, "UPDATE $.artifact SET bytes = 0x00 WHERE"), (2, "DELETE FROM $.artifact WHERE")] {
        let artifact = node.artifacts.put(key(step), bytes.clone()).await?;
        keyspace.run(&format!("{statement} {row}"), (artifact.key.task.0, step as i64)).await;
        let answer = node.artifacts.get(&artifact).await;
        assert!(matches!(answer, Err(PortError::Corrupt(_))), "{answer:?}");
        node.artifacts.put(artifact.key, bytes.clone()).await?;
        assert!(node.artifacts.get(&artifact).await? == bytes);
    }
    Ok(())
}

#[tokio::test]
async fn pruned_artifacts_leave_nothing_behind() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let task = TaskId::fresh();
    for step in 1..=2 {
        let key = ArtifactKey { task, attempt: 1, step, kind: ArtifactKind::Checkpoint };
        node.artifacts.put(key, noise(3 << 20, 1)).await?;
    }
    node.artifacts.prune(task, 1, &[]).await?;
    assert_eq!((keyspace.rows_in("artifact").await, keyspace.rows_in("artifact_index").await), (0, 0));
    Ok(())
}

#[tokio::test]
async fn an_import_keeps_others_off_until_it_ends() -> Kept {
    let keyspace = Keyspace::take().await;
    let (one, other) = (keyspace.node(), keyspace.node());
    assert!(one.datasets.begin_import("mnist").await?);
    assert!(!other.datasets.begin_import("mnist").await?);
    assert!(other.datasets.begin_import("other").await?);
    one.datasets.end_import("mnist").await?;
    one.datasets.end_import("mnist").await?;
    assert!(other.datasets.begin_import("mnist").await?);
    Ok(())
}

/// As when the first of them takes longer than a claim lasts.
#[tokio::test]
async fn two_imports_at_once_make_one_dataset_that_is_always_whole() -> Kept {
    let keyspace = Keyspace::take().await;
    let (one, other, reader) = (keyspace.node(), keyspace.node(), keyspace.node());
    assert!(one.datasets.begin_import("digits").await?);
    keyspace.run("DELETE FROM $.dataset_import WHERE name = 'digits' IF EXISTS", ()).await;
    assert!(other.datasets.begin_import("digits").await?);
    let (manifest, chunks) = dataset("digits", 1).cut();
    let import = async |node: &Node| {
        for chunk in &chunks {
            node.datasets.put_chunks(std::slice::from_ref(chunk)).await?;
        }
        node.datasets.put_manifest(&manifest).await?;
        node.datasets.end_import("digits").await
    };
    let reading = async {
        let mut whole = 0;
        while whole < 5 {
            let Some(found) = reader.datasets.manifest("digits").await? else { continue };
            assert_eq!(found, manifest);
            for (hash, bytes) in &chunks {
                assert!(reader.datasets.get_chunk(*hash).await? == bytes);
            }
            whole += 1;
        }
        Ok(())
    };
    futures::try_join!(import(&one), import(&other), reading)?;
    assert_eq!(reader.datasets.manifests().await?, std::slice::from_ref(&manifest));
    assert_eq!(keyspace.rows_in("dataset_chunk").await, manifest.chunks().collect::<HashSet<_>>().len());
    // And who comes third finds nobody at it.
    assert!(reader.datasets.begin_import("digits").await?);
    Ok(())
}

#[tokio::test]
async fn nodes_see_each_others_last_heartbeats() -> Kept {
    let keyspace = Keyspace::take().await;
    let (one, other) = (keyspace.node(), keyspace.node());
    let row = |node: &str, seq| NodeRow {
        incarnation: Incarnation { node: node.to_owned(), boot: uuid::Uuid::from_u128(7) },
        seq,
        version: "0.1.0".to_owned(),
        address: Some("127.0.0.1:5000".to_owned()),
        roles: Roles { api: true, trainer: false },
        started_at: Timestamp(1),
        at: Timestamp(2),
        actors: Vec::new(),
        slots: Vec::new(),
    };
    for seq in 1..=3 {
        one.nodes.beat(&row("a", seq)).await?;
    }
    other.nodes.beat(&row("b", 9)).await?;
    let damage = "INSERT INTO $.node (cluster, node_id, boot, row) VALUES ('kubeml', 'c', ?, ?)";
    keyspace.run(damage, (uuid::Uuid::from_u128(7), b"no row".to_vec())).await;
    assert_eq!(one.nodes.nodes().await?, [row("a", 3), row("b", 9)]);
    one.nodes.leave(&row("a", 3).incarnation).await?;
    assert_eq!(other.nodes.nodes().await?, [row("b", 9)]);
    Ok(())
}
