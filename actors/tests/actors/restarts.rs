//! A node's process that dies and comes back over the same stores; stores that fail for a while.

use std::{sync::Arc, time::Duration};

use kubeml_actors::{
    context::Settings,
    task::{Submission, TaskState},
    testing::{
        faulty::FaultyTasks,
        test_tree::{TestTree, World, draft, submission},
    },
};

#[tokio::test(start_paused = true)]
async fn a_task_survives_its_node() {
    let world = World::new();
    let first = world.start(Settings::default()).await;
    let id = first.submit(draft()).await;
    first.wait_for_step(id, 12).await;
    first.tree.stop().await;
    let second = world.start(Settings::default()).await;
    let record = second.expect_success(id).await;
    assert_eq!(record.attempt, 2);
    assert_eq!(world.story(id).await.iter().filter(|kind| **kind == "epoch_finished").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn tasks_survive_a_node_that_keeps_dying() {
    let world = World::new();
    let mut ids = Vec::new();
    let mut node = world.start(Settings { slots: 3, ..Settings::default() }).await;
    for seed in 1..=3 {
        ids.push(node.submit(draft().with("seed", seed).with("epochs", 20)).await);
    }
    for life in 0..20_u64 {
        tokio::time::sleep(Duration::from_millis(300 + life * 110)).await;
        node.tree.stop().await;
        node = world.start(Settings { slots: 3, ..Settings::default() }).await;
    }
    for id in ids {
        let record = node.expect_success(id).await;
        assert!(record.attempt > 1);
        let facts = world.history(id).await;
        assert_eq!(facts.iter().filter(|fact| fact.kind.is_terminal()).count(), 1);
        assert!(facts.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        assert_eq!(facts.iter().filter(|fact| fact.kind.as_str() == "epoch_finished").count(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_whose_owner_died_is_cancelled_by_the_reaper() {
    let world = World::new();
    let node = world.start(Settings::default()).await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 12).await;
    node.tree.stop().await;
    let api = world.start(Settings { slots: 0, ..Settings::default() }).await;
    let _ = api.tree.handles.dispatcher.cancel(id).await;
    assert_eq!(api.wait_for_end(id).await.state, TaskState::Cancelled);
}

async fn over_faulty_store() -> (Arc<FaultyTasks>, TestTree) {
    let mut world = World::new();
    let faulty = Arc::new(FaultyTasks::new(world.ports.tasks.clone()));
    world.ports.tasks = faulty.clone();
    (faulty, world.start(Settings::default()).await)
}

#[tokio::test(start_paused = true)]
async fn lost_replies_neither_repeat_nor_lose_a_write() {
    let (faulty, node) = over_faulty_store().await;
    for _ in 0..10 {
        faulty.lost_replies.set(1);
        let id = node.submit(draft()).await;
        node.wait_for_step(id, 3).await;
        faulty.lost_replies.set(1);
        node.wait_for_step(id, 13).await;
        faulty.lost_replies.set(2);
        let record = node.expect_success(id).await;
        assert_eq!(record.attempt, 1, "no attempt was given up for a lost reply");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_costs_time_and_nothing_else() {
    let (faulty, node) = over_faulty_store().await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 3).await;
    faulty.refused.set(8);
    faulty.unread.set(8);
    let record = node.expect_success(id).await;
    assert_eq!(record.no_progress, 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_written_any_more_holds_up_nobody() {
    let (faulty, node) = over_faulty_store().await;
    let running = node.submit(draft()).await;
    node.wait_for_step(running, 3).await;
    // More than a claim looks at first, all of them before the good one.
    let mut damaged = Vec::new();
    for _ in 0..6 {
        let urgent = Submission { priority: 9, ..submission(draft()) };
        faulty.damage(urgent.id);
        damaged.push(urgent.id);
        node.tree.handles.dispatcher.submit(urgent).await.unwrap();
    }
    let good = node.submit(draft()).await;
    node.expect_success(good).await;
    for id in damaged {
        assert_eq!(node.world.record(id).await.state, TaskState::Pending);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_task_that_cannot_be_written_any_more_holds_up_nobody() {
    let mut world = World::new();
    let faulty = Arc::new(FaultyTasks::new(world.ports.tasks.clone()));
    world.ports.tasks = faulty.clone();
    let first = world.start(Settings { slots: 2, ..Settings::default() }).await;
    let ids = [first.submit(draft()).await, first.submit(draft()).await];
    for id in ids {
        first.wait_for_step(id, 3).await;
    }
    first.tree.stop().await;
    faulty.damage(ids[0]);
    let second = world.start(Settings { slots: 2, ..Settings::default() }).await;
    second.expect_success(ids[1]).await;
    assert_eq!(world.record(ids[0]).await.state, TaskState::Running);
}
