//! Trainers and other actors that fail, panic, stall or are killed.

use std::time::Duration;

use kubeml_actors::{
    context::Settings,
    event::EventKind,
    handle::Crash,
    task::{FailureKind, TaskState},
    testing::{
        scripted_engine::FaultKind,
        test_tree::{TestTree, World, draft},
    },
};

async fn survives(kind: FaultKind) {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    node.add_fault(kind, 15, 1, Some(id));
    let record = node.expect_success(id).await;
    assert_eq!(record.attempt, 2);
    assert_eq!(node.restarts("trainer"), 1);
    let story = node.world.story(id).await;
    let failed = story.iter().position(|kind| *kind == "attempt_failed").unwrap();
    assert_eq!(&story[failed..failed + 3], ["attempt_failed", "claimed", "resumed"]);
    assert_eq!(story.iter().filter(|kind| **kind == "epoch_finished").count(), 3, "no epoch is told twice");
}

#[tokio::test(start_paused = true)]
async fn a_task_survives_an_engine_that_fails() {
    survives(FaultKind::Fail).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_survives_an_engine_that_panics() {
    survives(FaultKind::Panic).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_survives_an_engine_that_stalls() {
    survives(FaultKind::Stall).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_survives_its_trainer_and_resumes_from_its_checkpoint() {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 15).await;
    assert_eq!(node.tree.handles.pool.crash_trainer(0).await, Ok(Crash::Sent));
    node.expect_success(id).await;
    assert_eq!(node.restarts("trainer"), 1);
    let resumed = node.wait_for_kind(id, "resumed").await;
    assert!(matches!(resumed.kind, EventKind::Resumed { from_step } if from_step >= 10), "{resumed:?}");
}

#[tokio::test(start_paused = true)]
async fn each_other_actor_is_restarted_and_nothing_is_lost() {
    for actor in ["task_dispatcher", "reconciler", "dataset_loader", "cache_warmer", "log_relay", "trainer_pool"] {
        let node = TestTree::start().await;
        let id = node.submit(draft()).await;
        let mut facts = node.tree.handles.relay.task(id, None).await.unwrap();
        node.wait_for_step(id, 15).await;
        assert_eq!(node.tree.handles.crash(actor).await, Ok(Crash::Sent), "{actor}");
        let mut heard = Vec::new();
        while let Some(page) = facts.next().await.unwrap() {
            heard.extend(page);
        }
        node.expect_success(id).await;
        assert_eq!(heard, node.world.history(id).await, "{actor}: the stream goes on without loss");
        assert_eq!(node.restarts(actor), 1, "{actor}");
        let after = node.submit(draft()).await;
        node.expect_success(after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_always_crashes_is_given_up_while_others_finish() {
    let world = World::new();
    let node = world.start(Settings { slots: 2, ..Settings::default() }).await;
    let poison = node.submit(draft()).await;
    node.add_fault(FaultKind::Panic, 1, u32::MAX, Some(poison));
    let good = [node.submit(draft()).await, node.submit(draft()).await];
    for id in good {
        node.expect_success(id).await;
    }
    let record = node.wait_for_end(poison).await;
    assert_eq!(record.state, TaskState::Failed);
    assert_eq!(record.failure.as_ref().map(|failure| failure.kind), Some(FailureKind::NoProgress));
    assert_eq!(record.attempt, 6, "tried six times in a row");
    assert_eq!(node.tree.context.metrics.dead_letters.with_label_values(&["task", "no_progress"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_has_no_neighbours_until_it_makes_progress() {
    let world = World::new();
    let node = world.start(Settings { slots: 2, ..Settings::default() }).await;
    let suspect = node.submit(draft()).await;
    node.add_fault(FaultKind::Panic, 1, 2, Some(suspect));
    let other = node.submit(draft().with("epochs", 1)).await;
    let suspect = node.expect_success(suspect).await;
    let other = node.expect_success(other).await;
    assert_eq!((suspect.attempt, other.attempt), (3, 1), "the neighbour is not charged");
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_is_no_number_twice_fails_the_task() {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    node.add_fault(FaultKind::Diverge, 15, 2, Some(id));
    let record = node.wait_for_end(id).await;
    assert_eq!(record.state, TaskState::Failed);
    assert_eq!(record.failure.map(|failure| failure.kind), Some(FailureKind::Diverged));
    assert_eq!(record.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 25).await;
    node.add_fault(FaultKind::BadCheckpoint, 0, 1, Some(id));
    node.tree.handles.pool.crash_trainer(0).await.unwrap();
    node.expect_success(id).await;
    let facts = node.world.history(id).await;
    let lost = |kind: &EventKind| matches!(kind, EventKind::Log { message, .. } if message.contains("is lost"));
    assert!(facts.iter().any(|fact| lost(&fact.kind)));
}

#[tokio::test(start_paused = true)]
async fn a_restart_storm_ends_the_tree() {
    let node = TestTree::start().await;
    for _ in 0..6 {
        node.tree.handles.crash("reconciler").await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let why = tokio::time::timeout(Duration::from_secs(60), node.tree.failed()).await.unwrap();
    assert!(why.contains("reconciler"), "{why}");
    assert_eq!(node.tree.context.metrics.supervisor_intensity_exceeded.get(), 1);
}
