//! Draining: what a node does on SIGTERM.

use std::time::Duration;

use kubeml_actors::{
    context::Settings,
    task::TaskState,
    testing::test_tree::{World, draft},
};

#[tokio::test(start_paused = true)]
async fn a_drained_task_is_checkpointed_released_uncharged_and_goes_on_at_once() {
    let world = World::new();
    let first = world.start(Settings { slots: 2, ..Settings::default() }).await;
    let ids = [first.submit(draft()).await, first.submit(draft()).await];
    for id in ids {
        first.wait_for_step(id, 13).await;
    }
    first.tree.drain(Duration::from_secs(5)).await.unwrap();
    for id in ids {
        let record = world.record(id).await;
        assert_eq!((record.state, record.no_progress), (TaskState::Pending, 0));
        assert!(record.resume_step() >= 13, "checkpointed where it stopped: {}", record.resume_step());
        assert_eq!(record.not_before, None);
    }
    let late = first.submit(draft()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.record(late).await.state, TaskState::Pending, "a draining node claims nothing");
    first.tree.stop().await;

    let second = world.start(Settings { slots: 2, ..Settings::default() }).await;
    for id in ids {
        let record = second.expect_success(id).await;
        assert_eq!(record.attempt, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_drains_at_once() {
    let world = World::new();
    let node = world.start(Settings::default()).await;
    node.tree.drain(Duration::from_millis(100)).await.unwrap();
    node.tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_falls_into_a_claim_gives_the_task_back() {
    for delay in 0..20 {
        let world = World::new();
        let node = world.start(Settings::default()).await;
        let id = node.submit(draft().with("epochs", 1)).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        node.tree.drain(Duration::from_secs(5)).await.unwrap();
        assert_eq!(world.record(id).await.state, TaskState::Pending, "after {delay} ms");
        node.tree.stop().await;
    }
}
