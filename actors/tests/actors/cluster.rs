//! Several nodes over the same stores: they find each other dead, take over, and keep each other's zombies out.

use std::{sync::Arc, time::Duration};

use kubeml_actors::{
    context::{Roles, Settings},
    task::{TaskId, TaskState},
    testing::{
        faulty::MuteableNodes,
        scripted_engine::FaultKind,
        test_tree::{TestTree, World, draft, submission},
    },
};
use tokio::time::{Instant, sleep};

fn api() -> Settings {
    Settings { roles: Roles { api: true, trainer: false }, alone: false, ..Settings::default() }
}

fn worker() -> Settings {
    Settings { roles: Roles { api: false, trainer: true }, alone: false, ..Settings::default() }
}

/// A worker that can be cut off from the registry.
async fn cut_off_worker(world: &World, node: &str) -> (TestTree, Arc<MuteableNodes>) {
    let nodes = Arc::new(MuteableNodes::new(world.ports.nodes.clone()));
    let mut own = world.clone();
    own.ports.nodes = nodes.clone();
    (own.start_as(node, worker()).await, nodes)
}

async fn until_owned_by(world: &World, id: TaskId, worker_id: &str) -> Duration {
    let begun = Instant::now();
    while world.record(id).await.worker_id.as_deref() != Some(worker_id) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody took it over");
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_task_survives_its_worker_and_is_taken_over_within_five_seconds() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let (first, nodes) = cut_off_worker(&world, "worker-1").await;
    let id = front.submit(draft()).await;
    front.wait_for_step(id, 12).await;
    nodes.mute(true);
    first.tree.stop().await;
    let second = world.start_as("worker-2", worker()).await;
    // Stopping gives nothing back here: that is what `drain` is for.
    assert!(until_owned_by(&world, id, "worker-2/0").await <= Duration::from_secs(5));
    let record = front.expect_success(id).await;
    assert_eq!(record.attempt, 2);
    assert_eq!(world.story(id).await.iter().filter(|kind| **kind == "epoch_finished").count(), 3);
    second.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_is_not_waited_for() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let (first, second) = (world.start_as("worker-1", worker()).await, world.start_as("worker-2", worker()).await);
    let id = front.submit(draft()).await;
    front.wait_for_step(id, 12).await;
    let holder = world.record(id).await.worker_id.expect("it runs");
    let (leaver, other) = if holder == "worker-1/0" { (first, "worker-2/0") } else { (second, "worker-1/0") };
    leaver.tree.drain(Duration::from_secs(20)).await.expect("it drains");
    leaver.tree.stop().await;
    assert!(until_owned_by(&world, id, other).await < Duration::from_secs(1));
    let record = front.expect_success(id).await;
    assert_eq!((record.attempt, record.no_progress), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_zombie_changes_nothing_and_falls_silent() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let (zombie, nodes) = cut_off_worker(&world, "worker-1").await;
    // Far longer than it takes to find the worker dead.
    let id = front.submit(draft().with("epochs", 20)).await;
    front.wait_for_step(id, 5).await;
    nodes.mute(true);
    let second = world.start_as("worker-2", worker()).await;
    until_owned_by(&world, id, "worker-2/0").await;
    let record = front.expect_success(id).await;
    assert_eq!(record.result.as_ref().map(|result| result.attempt), Some(2));
    let facts = world.history(id).await;
    assert!(facts.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(facts.iter().filter(|fact| fact.kind.is_terminal()).count(), 1);
    nodes.mute(false);
    let next = front.submit(draft()).await;
    front.expect_success(next).await;
    zombie.tree.stop().await;
    second.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_nobody_hears_of_claims_nothing() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let (worker, nodes) = cut_off_worker(&world, "worker-1").await;
    nodes.mute(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = front.submit(draft()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.record(id).await.attempt, 0);
    nodes.mute(false);
    assert_eq!(front.expect_success(id).await.attempt, 1);
    worker.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_of_a_dead_worker_is_cancelled() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let (first, nodes) = cut_off_worker(&world, "worker-1").await;
    let id = front.submit(draft()).await;
    front.wait_for_step(id, 5).await;
    nodes.mute(true);
    first.tree.stop().await;
    front.tree.handles.dispatcher.cancel(id).await.expect("it is noted");
    assert_eq!(front.wait_for_end(id).await.state, TaskState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_kills_its_workers_is_given_up_and_its_neighbours_finish() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let _workers = [world.start_as("worker-1", worker()).await, world.start_as("worker-2", worker()).await];
    let task = submission(draft());
    let bad = task.id;
    front.add_fault(FaultKind::Panic, 0, 100, Some(bad));
    front.tree.handles.dispatcher.submit(task).await.expect("it is taken");
    let good = [front.submit(draft()).await, front.submit(draft()).await, front.submit(draft()).await];
    let record = front.wait_for_end(bad).await;
    assert_eq!((record.state, record.attempt), (TaskState::Failed, 6));
    for id in good {
        front.expect_success(id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_tasks_are_shared_out_and_each_runs_once() {
    let world = World::new();
    let front = world.start_as("api-1", api()).await;
    let _workers = [
        world.start_as("worker-1", worker()).await,
        world.start_as("worker-2", worker()).await,
        world.start_as("worker-3", worker()).await,
    ];
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(front.submit(draft()).await);
    }
    let mut by_worker = std::collections::HashMap::<String, usize>::new();
    for id in ids {
        let record = front.expect_success(id).await;
        assert_eq!(record.attempt, 1);
        *by_worker.entry(record.worker_id.expect("it ran")).or_default() += 1;
    }
    assert!(by_worker.len() == 3 && by_worker.values().all(|tasks| *tasks >= 3), "{by_worker:?}");
}
