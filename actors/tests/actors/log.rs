//! What the log's outages and losses mean for those who read and write it.

use std::{sync::Arc, time::Duration};

use kubeml_actors::{
    context::{Roles, Settings},
    event::LogLevel,
    ports::Position,
    subscription::Delivery,
    task::{Submission, TaskState},
    testing::{
        faulty::FaultyLog,
        test_tree::{TestTree, World, draft, submission},
    },
    timestamp::Timestamp,
};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

async fn over_faulty_log() -> (Arc<FaultyLog>, TestTree) {
    let mut world = World::new();
    let log = Arc::new(FaultyLog::new(world.ports.events.clone()));
    world.ports.events = log.clone();
    let roles = Roles { api: true, trainer: false };
    (log, world.start(Settings { roles, ..Settings::default() }).await)
}

async fn lines(node: &TestTree, count: usize) {
    for line in 0..count {
        sleep(Duration::from_millis(1)).await;
        node.tree.context.log_line(LogLevel::Info, format!("line {line}")).await.unwrap();
    }
}

async fn trim(node: &TestTree) {
    assert!(node.world.ports.events.trim(Timestamp(u64::MAX)).await.unwrap() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_the_relay_meets_with_is_told_to_whoever_stands_before_it() {
    let (log, node) = over_faulty_log().await;
    let mut all = node.tree.handles.relay.all(None).await.unwrap();
    lines(&node, 3).await;
    assert!(matches!(all.next().await, Ok(Delivery::Entries(_))));
    sleep(SECOND).await;
    let mut behind = node.tree.handles.relay.all(Some(Position::single(3))).await.unwrap();

    log.unread.set(u32::MAX);
    lines(&node, 2).await;
    trim(&node).await;
    lines(&node, 2).await;
    log.unread.set(0);
    sleep(5 * SECOND).await;
    let after = behind.next().await.unwrap();
    assert!(matches!(&after, Delivery::Gap(entries) if entries.len() == 2), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_newest_facts_are_gone_does_not_keep_the_relay_busy() {
    let (log, node) = over_faulty_log().await;
    lines(&node, 2).await;
    sleep(SECOND).await;
    log.unread.set(u32::MAX);
    lines(&node, 2).await;
    sleep(SECOND).await;
    trim(&node).await;
    log.unread.set(0);
    // Virtual time passes only while everybody waits.
    sleep(5 * SECOND).await;
    assert_eq!(node.tree.live.newest().borrow().counter(0), 4);
    let mut all = node.tree.handles.relay.all(None).await.unwrap();
    lines(&node, 1).await;
    let heard = timeout(SECOND, all.next()).await.expect("it is heard").unwrap();
    assert!(matches!(heard, Delivery::Entries(entries) if entries.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_log_holds_up_the_reconciler_once_a_scan_and_not_once_a_task() {
    let mut world = World::new();
    let owner = world.start(Settings::default()).await;
    let orphan = owner.submit(draft()).await;
    owner.wait_for_step(orphan, 3).await;
    owner.tree.stop().await;
    let log = Arc::new(FaultyLog::new(world.ports.events.clone()));
    world.ports.events = log.clone();
    let lone = Settings { roles: Roles { api: true, trainer: false }, ..Settings::default() };
    log.unwritten.set(u32::MAX);
    let dispatcher = world.start(lone.clone()).await;
    for _ in 0..20 {
        // They stand before the orphan in the queue.
        let urgent = Submission { priority: 5, ..submission(draft()) };
        let desk = &dispatcher.tree.handles.dispatcher;
        let id = desk.submit(urgent).await.unwrap().record().id;
        assert_eq!(desk.cancel(id).await.unwrap().state, TaskState::Cancelled);
    }
    dispatcher.tree.stop().await;
    let _successor = world.start(lone).await;
    sleep(30 * SECOND).await;
    assert_eq!(world.record(orphan).await.state, TaskState::Pending, "the dead node's task is released");
}
