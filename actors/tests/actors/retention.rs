//! What is kept, and what goes when it is old.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kubeml_actors::{
    context::Settings,
    in_memory::InMemoryArtifactStore,
    ports::{Position, TaskFilter},
    retention::Retention,
    testing::test_tree::{World, draft},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test(start_paused = true)]
async fn ended_tasks_and_old_facts_go_and_nothing_else_does() {
    let world = World::new();
    let retention = Retention { tasks: Some(7 * DAY), events: Some(7 * DAY) };
    let node = world.start(Settings { retention, ..Settings::default() }).await;
    let old = node.submit(draft()).await;
    let result = node.expect_success(old).await.result.unwrap();
    // Trains for a year or so.
    let running = node.submit(draft().with("epochs", 10_000)).await;
    node.wait_for_kind(running, "claimed").await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(world.ports.tasks.get(old).await.unwrap().is_some(), "kept for a week");

    let begun = world.record(running).await;
    node.tree.stop().await;
    tokio::time::sleep(8 * DAY).await;
    let node = world.start(Settings { retention, slots: 0, ..Settings::default() }).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.ports.tasks.get(old).await.unwrap(), None);
    assert!(world.ports.artifacts.get(&result.model).await.is_err(), "its artifacts are gone as well");
    assert!(world.ports.events.read_task(old, None, 10).await.unwrap().is_empty());
    assert_eq!(world.record(running).await.attempt, begun.attempt, "what has not ended is kept");
    assert!(!world.ports.events.read_task(running, None, 10).await.unwrap().is_empty());
    assert!(world.ports.events.read_all(&Position::default(), 10).await.unwrap().gap);
    assert_eq!(world.ports.tasks.list(&TaskFilter::default(), None, 10).await.unwrap().records.len(), 1);
    node.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_tasks_checkpoints_only_those_stay_that_its_record_names() {
    let artifacts = Arc::new(InMemoryArtifactStore::new());
    let mut world = World::new();
    world.ports.artifacts = artifacts.clone();
    let node = world.start(Settings::default()).await;
    let id = node.submit(draft().with("epochs", 6)).await;
    let record = node.expect_success(id).await;
    let result = record.result.unwrap();
    let named = record.checkpoints.iter().map(|checkpoint| checkpoint.artifact.key);
    let named: BTreeSet<_> = named.chain([result.model.key, result.best_model.key]).collect();
    assert_eq!((named.len(), artifacts.keys().into_iter().collect()), (4, named));
    node.tree.stop().await;
}
