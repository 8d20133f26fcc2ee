//! What each outcome of a claim says about the queue.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    context::Settings,
    metrics::Metrics,
    ports::Inserted,
    task::Incarnation,
    testing::{
        faulty::FaultyTasks,
        test_tree::{World, draft, submission},
    },
    timestamp::Timestamp,
};

struct Bench {
    context: Arc<Context>,
    store: Arc<FaultyTasks>,
}

impl Bench {
    fn new() -> Self {
        let mut world = World::new();
        let store = Arc::new(FaultyTasks::new(world.ports.tasks.clone()));
        world.ports.tasks = store.clone();
        let me = Incarnation::fresh("node-1");
        let context = Context::new(me, world.ports, Arc::new(Metrics::new()), Settings::default());
        Self { context, store }
    }

    async fn insert(&self, change: impl FnOnce(&mut TaskRecord)) -> TaskId {
        let mut record = TaskRecord::submitted(submission(draft()), Uuid::new_v4(), Timestamp(1));
        change(&mut record);
        assert_eq!(self.context.ports.tasks.insert(&record, &[]).await, Ok(Inserted::Fresh));
        record.id
    }

    /// The outcome's name, and the claimed task.
    async fn claim(&self, busy: &[bool], hinted: &[TaskId]) -> (&'static str, Option<TaskId>) {
        let seat = Seat { slot: 0, nonce: Uuid::new_v4(), busy: busy.to_vec() };
        match claim(&self.context, &seat, hinted).await {
            Claim::Claimed(claimed) => ("claimed", Some(claimed.record.id)),
            Claim::Empty => ("empty", None),
            Claim::Held => ("held", None),
            Claim::Unknown => ("unknown", None),
        }
    }

    async fn state(&self, task: TaskId) -> TaskState {
        self.context.ports.tasks.get(task).await.unwrap().unwrap().state
    }
}

fn suspect(record: &mut TaskRecord) {
    record.no_progress = 1;
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_empty_when_no_task_in_it_is_due() {
    let bench = Bench::new();
    assert_eq!(bench.claim(&[], &[]).await, ("empty", None));
    let later = bench.context.ports.clock.now().plus(Duration::from_secs(60));
    bench.insert(|record| record.not_before = Some(later)).await;
    assert_eq!(bench.claim(&[true], &[]).await, ("empty", None));
}

#[tokio::test(start_paused = true)]
async fn a_due_task_that_may_not_run_beside_the_others_is_held_and_leaves_the_queue_not_empty() {
    let bench = Bench::new();
    let fresh = bench.insert(|_| {}).await;
    assert_eq!(bench.claim(&[true], &[]).await, ("held", None));
    assert_eq!(bench.claim(&[true], &[fresh]).await, ("held", None));
    assert_eq!(bench.claim(&[false], &[]).await, ("claimed", Some(fresh)));
    let suspect = bench.insert(suspect).await;
    assert_eq!(bench.claim(&[false], &[]).await, ("held", None));
    assert_eq!(bench.claim(&[], &[]).await, ("claimed", Some(suspect)));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_unknown() {
    let bench = Bench::new();
    let task = bench.insert(|_| {}).await;
    bench.store.unread.set(1);
    assert_eq!(bench.claim(&[], &[]).await, ("unknown", None));
    assert_eq!(bench.claim(&[], &[]).await, ("claimed", Some(task)));
}

#[tokio::test(start_paused = true)]
async fn no_second_task_is_claimed_under_the_nonce_of_a_claim_that_may_have_happened() {
    for is_hinted in [true, false] {
        let bench = Bench::new();
        let first = bench.insert(|record| record.priority = 1).await;
        let second = bench.insert(|_| {}).await;
        // The claim is written, but neither its reply nor any read for its outcome arrives.
        bench.store.lost_replies.set(1);
        bench.store.unsettled.set(u32::MAX);
        let hinted = if is_hinted { vec![first] } else { Vec::new() };
        assert_eq!(bench.claim(&[], &hinted).await, ("unknown", None), "hinted: {is_hinted}");
        assert_eq!(bench.state(first).await, TaskState::Running);
        assert_eq!(bench.state(second).await, TaskState::Pending);
    }
}

#[tokio::test(start_paused = true)]
async fn damaged_and_spent_tasks_hold_up_no_other() {
    for is_hinted in [true, false] {
        let bench = Bench::new();
        let damaged = bench.insert(|record| record.priority = 2).await;
        bench.store.damage(damaged);
        let spent = bench.insert(|record| (record.priority, record.no_progress) = (1, 100)).await;
        let good = bench.insert(|_| {}).await;
        let hinted = if is_hinted { vec![damaged, spent] } else { Vec::new() };
        assert_eq!(bench.claim(&[], &hinted).await, ("claimed", Some(good)), "hinted: {is_hinted}");
        assert_eq!(bench.state(spent).await, TaskState::Failed);
        assert_eq!(bench.claim(&[], &[]).await, ("empty", None));
    }
}
