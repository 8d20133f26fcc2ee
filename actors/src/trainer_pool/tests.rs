//! Slots are used, shared out fairly, given back, and never wedged by what fails around them.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    context::Settings,
    event::{EventKind, TaskEvent},
    ports::{Cas, Inserted, ListCursor, PortError, TaskFilter, TaskPage, TaskStore},
    task::{FailureKind, TaskState},
    testing::{
        scripted_engine::FaultKind,
        test_tree::{TestTree, World, draft, submission},
    },
    timestamp::Timestamp,
};

const SECOND: Duration = Duration::from_secs(1);

/// A task store that takes its time over writes, and panics when it is told to.
struct Moody {
    inner: Arc<dyn TaskStore>,
    write_ms: AtomicU64,
    panics: AtomicU32,
}

#[async_trait]
impl TaskStore for Moody {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        self.inner.insert(record, facts).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        sleep(Duration::from_millis(self.write_ms.load(Ordering::SeqCst))).await;
        self.inner.compare_and_set(next, facts).await
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.inner.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.inner.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        self.inner.list(filter, after, limit).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        let for_the_pool = states.len() == 1;
        let left = self.panics.load(Ordering::SeqCst);
        if for_the_pool && left > 0 {
            self.panics.store(left - 1, Ordering::SeqCst);
            panic!("scripted panic of the store");
        }
        self.inner.queue(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.inner.counts().await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        self.inner.delete(id).await
    }
}

async fn over_moody_store(slots: usize) -> (Arc<Moody>, TestTree) {
    let mut world = World::new();
    let inner = world.ports.tasks.clone();
    let store = Arc::new(Moody { inner, write_ms: AtomicU64::new(0), panics: AtomicU32::new(0) });
    world.ports.tasks = store.clone();
    (store, world.start(Settings { slots, ..Settings::default() }).await)
}

fn gauge(node: &TestTree, state: &str) -> i64 {
    node.tree.context.metrics.trainer_slots.with_label_values(&[state]).get()
}

#[tokio::test(start_paused = true)]
async fn as_many_tasks_run_at_a_time_as_there_are_slots() {
    let node = World::new().start(Settings { slots: 3, ..Settings::default() }).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(node.submit(draft()).await);
    }
    sleep(SECOND).await;
    let mut workers = Vec::new();
    for id in &ids {
        workers.push(node.world.record(*id).await.worker_id);
    }
    workers.sort();
    let expected = [None, Some("node-1/0"), Some("node-1/1"), Some("node-1/2")];
    assert_eq!(workers, expected.map(|worker| worker.map(str::to_owned)));
    assert_eq!((gauge(&node, "busy"), gauge(&node, "idle")), (3, 0));
    for id in ids {
        node.expect_success(id).await;
    }
    sleep(SECOND).await;
    assert_eq!((gauge(&node, "busy"), gauge(&node, "idle")), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_for_later_hide_nobody_however_many_they_are() {
    let world = World::new();
    let later = world.ports.clock.now().plus(3_600 * SECOND);
    for _ in 0..200 {
        let mut record = TaskRecord::submitted(submission(draft()), Uuid::new_v4(), Timestamp(1));
        record.not_before = Some(later);
        assert_eq!(world.ports.tasks.insert(&record, &[]).await, Ok(Inserted::Fresh));
    }
    let node = world.start(Settings::default()).await;
    let id = node.submit(draft()).await;
    let record = node.expect_success(id).await;
    assert!(record.started_at.unwrap().since(record.created_at) < SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_idle_pool_takes_what_it_is_hinted_at_without_looking_through_the_queue() {
    let (store, node) = over_moody_store(1).await;
    // Between two scans: the last one found the queue empty.
    sleep(SECOND + SECOND / 10).await;
    store.panics.store(u32::MAX, Ordering::SeqCst);
    let id = node.submit(draft()).await;
    node.expect_success(id).await;
}

/// Puts a task into the store without a hint.
async fn insert(node: &TestTree, change: impl FnOnce(&mut TaskRecord)) -> TaskId {
    let mut record = TaskRecord::submitted(submission(draft()), Uuid::new_v4(), Timestamp(1));
    change(&mut record);
    assert_eq!(node.world.ports.tasks.insert(&record, &[]).await, Ok(Inserted::Fresh));
    record.id
}

#[tokio::test(start_paused = true)]
async fn no_hinted_task_overtakes_a_suspect_that_waits_to_be_alone() {
    let node = World::new().start(Settings { slots: 2, ..Settings::default() }).await;
    let long = node.submit(draft().with("epochs", 10)).await;
    node.wait_for_step(long, 1).await;
    let suspect = insert(&node, |record| record.no_progress = 1).await;
    sleep(SECOND).await;
    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(node.submit(draft().with("epochs", 1)).await);
        sleep(SECOND).await;
    }
    let long_ended = node.wait_for(long, EventKind::is_terminal).await.at;
    let suspect_started = node.expect_success(suspect).await.started_at.unwrap();
    assert!(suspect_started >= long_ended, "it runs alone");
    for id in later {
        assert!(node.expect_success(id).await.started_at.unwrap() > suspect_started, "it was overtaken");
    }
}

#[tokio::test(start_paused = true)]
async fn no_hinted_task_overtakes_those_of_a_queue_that_could_not_be_read() {
    let (store, node) = over_moody_store(1).await;
    sleep(SECOND).await;
    store.panics.store(u32::MAX, Ordering::SeqCst);
    sleep(SECOND).await;
    let urgent = insert(&node, |record| record.priority = 1).await;
    let hinted = node.submit(draft()).await;
    sleep(SECOND).await;
    assert_eq!(node.world.record(hinted).await.state, TaskState::Pending);
    store.panics.store(0, Ordering::SeqCst);
    let urgent = node.expect_success(urgent).await;
    let hinted = node.expect_success(hinted).await;
    assert!(urgent.started_at < hinted.started_at);
}

#[tokio::test(start_paused = true)]
async fn after_a_claim_that_panics_the_pool_looks_for_work_again() {
    let (store, node) = over_moody_store(1).await;
    sleep(SECOND).await;
    store.panics.store(5, Ordering::SeqCst);
    sleep(2 * SECOND).await;
    let id = node.submit(draft().with("epochs", 1)).await;
    timeout(60 * SECOND, node.expect_success(id)).await.expect("the pool looks for work again");
    node.tree.drain(SECOND).await.expect("nothing is held for ever");
}

#[tokio::test(start_paused = true)]
async fn orphans_are_looked_for_again_after_a_look_that_panicked() {
    let (store, node) = over_moody_store(1).await;
    store.panics.store(20, Ordering::SeqCst);
    sleep(10 * SECOND).await;
    store.panics.store(0, Ordering::SeqCst);
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 3).await;
    // Nobody runs it under this nonce: as if its slot had lost it.
    let record = node.world.record(id).await;
    let orphan = TaskRecord {
        version: record.version + 1,
        owner: record.owner.clone().map(|owner| crate::task::Owner { nonce: Uuid::new_v4(), ..owner }),
        ..record
    };
    node.world.ports.tasks.compare_and_set(&orphan, &[]).await.unwrap();
    timeout(60 * SECOND, node.expect_success(id)).await.expect("the orphan is released");
}

#[tokio::test(start_paused = true)]
async fn a_drain_returns_when_what_was_held_is_written_as_given_back() {
    for delay in (0..600).step_by(20) {
        let (store, node) = over_moody_store(1).await;
        store.write_ms.store(200, Ordering::SeqCst);
        let id = node.submit(draft()).await;
        sleep(Duration::from_millis(delay)).await;
        node.tree.drain(20 * SECOND).await.unwrap();
        let record = node.world.record(id).await;
        assert_eq!((record.state, record.no_progress), (TaskState::Pending, 0), "after {delay} ms");
        node.tree.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_task_of_a_trainer_that_just_died() {
    let (store, node) = over_moody_store(1).await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 3).await;
    store.write_ms.store(200, Ordering::SeqCst);
    node.tree.handles.pool.crash_trainer(0).await.unwrap();
    node.tree.drain(20 * SECOND).await.unwrap();
    assert_eq!(node.world.record(id).await.state, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_orphans_that_could_not_be_looked_for_yet() {
    let (store, node) = over_moody_store(1).await;
    let id = node.submit(draft()).await;
    node.wait_for_step(id, 3).await;
    store.panics.store(u32::MAX, Ordering::SeqCst);
    node.tree.handles.crash("trainer_pool").await.unwrap();
    sleep(SECOND).await;
    let recovery = async {
        sleep(5 * SECOND).await;
        store.panics.store(0, Ordering::SeqCst);
    };
    let (drained, ()) = tokio::join!(node.tree.drain(20 * SECOND), recovery);
    drained.unwrap();
    assert_eq!(node.world.record(id).await.state, TaskState::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_dies_leaves_its_trainers_dead_and_its_tasks_to_its_successor() {
    let node = World::new().start(Settings { slots: 2, ..Settings::default() }).await;
    let ids = [node.submit(draft()).await, node.submit(draft()).await];
    for id in ids {
        node.wait_for_step(id, 12).await;
    }
    node.tree.handles.crash("trainer_pool").await.unwrap();
    for id in ids {
        assert_eq!(node.expect_success(id).await.attempt, 2);
    }
    let alive = node.tree.context.metrics.actor_alive.with_label_values(&["trainer"]).get();
    assert_eq!(alive, 2, "the dead are not counted");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_stalls_is_ended_after_its_time_and_not_before() {
    let node = World::new().start(Settings { stall_timeout: 20 * SECOND, ..Settings::default() }).await;
    let id = node.submit(draft()).await;
    node.add_fault(FaultKind::Stall, 15, 1, Some(id));
    let failed = node.wait_for_kind(id, "attempt_failed").await;
    let record = node.expect_success(id).await;
    let waited = failed.at.since(record.started_at.unwrap());
    assert!(waited >= 20 * SECOND && waited < 32 * SECOND, "{waited:?}");
    assert_eq!(node.tree.context.metrics.trainer_stalls.get(), 1);
    assert_eq!(record.failure.map(|failure| failure.kind), None, "a success forgets");
}

#[tokio::test(start_paused = true)]
async fn how_a_trainer_ended_is_counted_by_its_reason() {
    let node = TestTree::start().await;
    let stopped = |reason: &str| {
        let metrics = &node.tree.context.metrics;
        metrics.actor_stopped.with_label_values(&["trainer", reason]).get()
    };
    let id = node.submit(draft().with("epochs", 20)).await;
    node.add_fault(FaultKind::Fail, 15, 1, Some(id));
    node.add_fault(FaultKind::Panic, 25, 1, Some(id));
    node.wait_for_step(id, 30).await;
    assert_eq!((stopped("error"), stopped("panic")), (1, 1));
    node.tree.handles.pool.crash_trainer(0).await.unwrap();
    node.expect_success(id).await;
    assert_eq!((stopped("error"), stopped("panic"), stopped("killed")), (1, 2, 0));
    let failures: Vec<FailureKind> = node.world.history(id).await.iter().filter_map(failure_of).collect();
    assert_eq!(failures, [FailureKind::Crashed; 3]);
}

fn failure_of(fact: &TaskEvent) -> Option<FailureKind> {
    match &fact.kind {
        EventKind::AttemptFailed { failure, .. } => Some(failure.kind),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_slot_to_crash_beyond_the_last() {
    let node = TestTree::start().await;
    sleep(SECOND).await;
    assert_eq!(node.tree.handles.pool.crash_trainer(1).await, Ok(Crash::Unknown));
    assert_eq!(node.tree.handles.pool.crash_trainer(0).await, Ok(Crash::Sent));
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_is_being_replaced_is_not_taken_for_one_that_does_not_exist() {
    let node = TestTree::start().await;
    sleep(SECOND).await;
    // Each crash makes the pause before the next trainer longer.
    for _ in 0..100 {
        match node.tree.handles.crash("trainer").await.unwrap() {
            Crash::Sent => sleep(Duration::from_millis(1)).await,
            Crash::Restarting => return,
            Crash::Unknown => panic!("there is a slot 0"),
        }
    }
    panic!("its trainer was never seen to be down");
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_on_after_the_tree_has_stopped() {
    for delay in (0..3_000).step_by(100) {
        let node = World::new().start(Settings { slots: 2, ..Settings::default() }).await;
        for _ in 0..3 {
            node.submit(draft().with("epochs", 1)).await;
        }
        sleep(Duration::from_millis(delay)).await;
        let TestTree { tree, world } = node;
        let head = world.ports.events.head();
        tree.stop().await;
        // A write that was under way may still arrive.
        sleep(SECOND / 20).await;
        let stopped = head.borrow().clone();
        sleep(60 * SECOND).await;
        assert_eq!(*head.borrow(), stopped, "stopped after {delay} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_outlives_the_pool_that_heard_of_it_first() {
    let node = TestTree::start().await;
    node.tree.handles.crash("trainer_pool").await.unwrap();
    node.tree.drain(20 * SECOND).await.expect("the successor is asked");
    let id = node.submit(draft()).await;
    sleep(60 * SECOND).await;
    assert_eq!(node.world.record(id).await.state, TaskState::Pending, "a draining node claims nothing");
}
