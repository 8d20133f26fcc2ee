//! Tasks that nobody disturbs, and those that people cancel.

use std::time::Duration;

use kubeml_actors::{
    context::Settings,
    event::{EventKind, Seq},
    in_memory::FixedSource,
    ports::{ListCursor, TaskFilter},
    task::TaskState,
    task_dispatcher::{DispatchError, Submitted},
    testing::{
        faulty::LyingCache,
        scripted_engine::FaultKind,
        test_tree::{TestTree, World, digits, draft, submission},
    },
};
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn a_task_is_trained_and_tells_its_life_in_order() {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    let record = node.expect_success(id).await;
    let mut story = node.world.story(id).await;
    story.retain(|kind| *kind != "checkpoint_saved");
    assert_eq!(story, ["queued", "claimed", "epoch_finished", "epoch_finished", "epoch_finished", "succeeded"]);
    assert_eq!((record.attempt, record.no_progress), (1, 0));
    assert_eq!(record.worker_id.as_deref(), Some("node-1/0"));
    let facts = node.world.history(id).await;
    let own: Vec<u64> = facts.iter().filter(|f| f.seq.attempt() == 1).map(|f| f.seq.n()).collect();
    let without_end = &own[..own.len() - 1];
    assert_eq!(without_end, (0..without_end.len() as u64).collect::<Vec<_>>(), "numbered without holes");
    assert_eq!(facts.last().unwrap().seq, Seq::terminal(1));
}

#[tokio::test(start_paused = true)]
async fn submitting_twice_under_one_id_makes_one_task() {
    let node = TestTree::start().await;
    let dispatcher = &node.tree.handles.dispatcher;
    let first = submission(draft());
    assert!(matches!(dispatcher.submit(first.clone()).await.unwrap(), Submitted::Fresh(_)));
    assert!(matches!(dispatcher.submit(first.clone()).await.unwrap(), Submitted::Again(_)));
    let mut other = first;
    other.priority = 7;
    assert!(matches!(dispatcher.submit(other).await, Err(DispatchError::IdTaken(_))));
}

#[tokio::test(start_paused = true)]
async fn the_highest_priority_goes_first_then_the_oldest() {
    let node = TestTree::start().await;
    let dispatcher = &node.tree.handles.dispatcher;
    let running = node.submit(draft()).await;
    node.wait_for_kind(running, "claimed").await;
    let (low, mut high) = (submission(draft()), submission(draft()));
    high.priority = 5;
    let (low_id, high_id) = (low.id, high.id);
    dispatcher.submit(low).await.unwrap();
    dispatcher.submit(high).await.unwrap();
    let low = node.expect_success(low_id).await;
    let high = node.expect_success(high_id).await;
    assert!(high.started_at < low.started_at);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_is_cancelled_at_once() {
    let node = TestTree::start().await;
    let running = node.submit(draft()).await;
    node.wait_for_kind(running, "claimed").await;
    let waiting = node.submit(draft()).await;
    let record = node.tree.handles.dispatcher.cancel(waiting).await.unwrap();
    assert_eq!(record.state, TaskState::Cancelled);
    node.wait_for_end(waiting).await;
    assert_eq!(node.world.story(waiting).await, ["queued", "cancelled"]);
    let again = node.tree.handles.dispatcher.cancel(waiting).await.unwrap();
    assert_eq!(again.state, TaskState::Cancelled, "asking again is no mistake");
    node.expect_success(running).await;
    let late = node.tree.handles.dispatcher.cancel(running).await;
    assert_eq!(late, Err(DispatchError::Ended(running, TaskState::Succeeded)));
}

#[tokio::test(start_paused = true)]
async fn a_running_task_is_cancelled_at_its_next_step() {
    let node = TestTree::start().await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 12).await;
    let asked = node.world.ports.clock.now();
    node.tree.handles.dispatcher.cancel(id).await.unwrap();
    let record = node.wait_for_end(id).await;
    assert_eq!(record.state, TaskState::Cancelled);
    let taken = record.finished_at.unwrap().since(asked);
    assert!(taken < Duration::from_millis(250), "{taken:?} is more than a step and a bit");
    let story = node.world.story(id).await;
    assert_eq!(&story[story.len() - 2..], ["cancel_requested", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn the_built_in_digits_stand_in_for_an_unnamed_dataset_only_and_say_so() {
    let mut world = World::new();
    world.ports.source = Arc::new(FixedSource::new([digits("mnist-10k")]));
    let node = world.start(Settings::default()).await;
    let unnamed = node.submit(draft()).await;
    let record = node.expect_success(unnamed).await;
    let used = record.dataset.unwrap();
    assert_eq!(used.name, "mnist-10k");
    assert!(used.known.instead_of.unwrap().contains("mnist"));
    assert!(
        node.world
            .history(unnamed)
            .await
            .iter()
            .any(|fact| matches!(&fact.kind, EventKind::Log { message, .. } if message.contains("mnist-10k")))
    );

    let named = node.submit(draft().on("mnist")).await;
    let record = node.wait_for_end(named).await;
    assert_eq!(record.state, TaskState::Failed);
    assert!(record.failure.unwrap().message.contains("mnist"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_lies_and_fails_changes_no_result() {
    let mut world = World::new();
    world.ports.cache = Arc::new(LyingCache);
    let node = world.start(Settings::default()).await;
    let id = node.submit(draft()).await;
    node.expect_success(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_the_engine_refuses_fails_at_once() {
    let node = TestTree::start().await;
    // Before the task is there: its first look at the spec takes no time at all.
    node.add_fault(FaultKind::Invalid, 0, 1, None);
    let id = node.submit(draft()).await;
    let record = node.wait_for_end(id).await;
    assert_eq!((record.state, record.attempt), (TaskState::Failed, 1));
    assert_eq!(node.restarts("trainer"), 0, "the trainer did nothing wrong");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_full_turns_submissions_away() {
    let world = World::new();
    let node = world.start(Settings { queue_max: 2, slots: 1, ..Settings::default() }).await;
    let first = node.submit(draft()).await;
    node.wait_for_kind(first, "claimed").await;
    node.submit(draft()).await;
    node.submit(draft()).await;
    let refused = node.tree.handles.dispatcher.submit(submission(draft())).await;
    assert_eq!(refused, Err(DispatchError::QueueFull(2)));
}

#[tokio::test(start_paused = true)]
async fn tasks_are_listed_newest_first_page_by_page() {
    let node = TestTree::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.submit(draft()).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ids.reverse();
    let (mut listed, mut cursor): (Vec<_>, Option<ListCursor>) = (Vec::new(), None);
    loop {
        let page = node.tree.handles.dispatcher.list(TaskFilter::default(), cursor, 2).await.unwrap();
        listed.extend(page.records.iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ids);
}
