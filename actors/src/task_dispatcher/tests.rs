//! The way in: what is promised to people when stores, logs, buses and the dispatcher itself fail.

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::{
    context::{Roles, Settings},
    dataset::ChunkHash,
    ports::{CacheStats, DatasetNews, DeadLetter, TaskBus},
    testing::{
        faulty::{FaultyLog, FaultyTasks},
        test_tree::{TestTree, World, draft, submission},
    },
};

/// Loses every hint.
struct DeafBus;

#[async_trait]
impl TaskBus for DeafBus {
    fn publish(&self, _: Hint) {}

    async fn receive(&self) -> Result<Hint, PortError> {
        std::future::pending().await
    }

    fn acknowledge(&self, _: Hint) {}

    fn bury(&self, _: DeadLetter) {}

    fn note_dataset(&self, _: DatasetNews) {}

    async fn check(&self) -> Result<(), PortError> {
        Ok(())
    }

    async fn send_test(&self) -> Result<(), PortError> {
        Ok(())
    }
}

struct Faulty {
    tasks: Arc<FaultyTasks>,
    log: Arc<FaultyLog>,
    node: TestTree,
}

async fn faulty(settings: Settings) -> Faulty {
    let mut world = World::new();
    let tasks = Arc::new(FaultyTasks::new(world.ports.tasks.clone()));
    let log = Arc::new(FaultyLog::new(world.ports.events.clone()));
    (world.ports.tasks, world.ports.events) = (tasks.clone(), log.clone());
    Faulty { tasks, log, node: world.start(settings).await }
}

fn api_only() -> Settings {
    Settings { roles: Roles { api: true, trainer: false }, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_log_did_not_take_is_announced_by_the_reconciler() {
    let Faulty { log, node, .. } = faulty(api_only()).await;
    let id = node.submit(draft()).await;
    log.unwritten.set(u32::MAX);
    let record = node.tree.handles.dispatcher.cancel(id).await.expect("the task is cancelled whatever the log does");
    assert_eq!(record.state, TaskState::Cancelled);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!node.world.record(id).await.announced);
    log.unwritten.set(0);
    assert!(node.wait_for_end(id).await.announced);
    assert_eq!(node.world.story(id).await, ["queued", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn who_cancels_is_answered_without_waiting_for_the_log() {
    let Faulty { log, node, .. } = faulty(api_only()).await;
    let id = node.submit(draft()).await;
    log.unwritten.set(u32::MAX);
    let asked = Instant::now();
    node.tree.handles.dispatcher.cancel(id).await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_hint_is_lost_is_found_by_the_scan() {
    let mut world = World::new();
    world.ports.bus = Arc::new(DeafBus);
    let node = world.start(Settings::default()).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let id = node.submit(draft()).await;
    node.wait_for_kind(id, "claimed").await;
    let record = node.expect_success(id).await;
    let waited = record.started_at.unwrap().since(record.created_at);
    assert!(waited <= Settings::default().scan_interval + Duration::from_millis(10), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hint_makes_it_sooner_than_any_scan() {
    let world = World::new();
    let node = world.start(Settings { scan_interval: Duration::from_secs(3_600), ..Settings::default() }).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let id = node.submit(draft()).await;
    let record = node.expect_success(id).await;
    let waited = record.started_at.unwrap().since(record.created_at);
    assert!(waited < Duration::from_millis(10), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_submission_in_the_hands_of_a_dying_dispatcher_is_made_again_and_makes_one_task() {
    let node = TestTree::start().await;
    for _ in 0..4 {
        let submission = submission(draft().with("epochs", 1));
        let id = submission.id;
        node.tree.handles.dispatcher.crash().await.unwrap();
        let submitted = node.tree.handles.dispatcher.submit(submission).await.expect("the successor takes it");
        assert_eq!(submitted.record().id, id);
        node.expect_success(id).await;
    }
    assert_eq!(node.restarts("task_dispatcher"), 4);
}

#[tokio::test(start_paused = true)]
async fn questions_about_no_task_name_it() {
    let node = TestTree::start().await;
    let (dispatcher, id) = (&node.tree.handles.dispatcher, TaskId::fresh());
    assert_eq!(dispatcher.get(id).await, Err(DispatchError::NoSuchTask(id)));
    assert_eq!(dispatcher.cancel(id).await, Err(DispatchError::NoSuchTask(id)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_told_at_once_and_breaks_nothing() {
    let Faulty { tasks, node, .. } = faulty(api_only()).await;
    let id = node.submit(draft()).await;
    tasks.unread.set(u32::MAX);
    let dispatcher = &node.tree.handles.dispatcher;
    assert!(matches!(dispatcher.get(id).await, Err(DispatchError::Store(PortError::Unavailable(_)))));
    assert!(matches!(dispatcher.submit(submission(draft())).await, Err(DispatchError::Store(_))));
    tasks.unread.set(0);
    assert_eq!(dispatcher.get(id).await.map(|record| record.id), Ok(id));
    assert_eq!(node.restarts("task_dispatcher"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_still_knows_what_it_has_taken() {
    let world = World::new();
    let node = world.start(Settings { queue_max: 1, ..api_only() }).await;
    let dispatcher = &node.tree.handles.dispatcher;
    let first = submission(draft());
    dispatcher.submit(first.clone()).await.unwrap();
    assert_eq!(dispatcher.submit(submission(draft())).await, Err(DispatchError::QueueFull(1)));
    assert!(matches!(dispatcher.submit(first).await, Ok(Submitted::Again(_))), "a repetition is no new task");
}

#[tokio::test(start_paused = true)]
async fn a_running_task_of_another_node_is_flagged_and_its_owner_stops() {
    let world = World::new();
    let owner = world.start(Settings::default()).await;
    let id = owner.submit(draft()).await;
    owner.wait_for_step(id, 3).await;
    // The owner's own dispatcher would tell its pool: this one has none to tell.
    let desk = Desk { context: owner.tree.context.clone(), warmer: owner.tree.handles.warmer.clone(), pool: None };
    let record = desk.cancel(id).await.unwrap();
    assert_eq!((record.state, record.cancel_requested), (TaskState::Running, true));
    let again = desk.cancel(id).await.unwrap();
    assert!(again.cancel_requested, "asking twice is no error");
    let ended = owner.wait_for_end(id).await;
    assert_eq!(ended.state, TaskState::Cancelled);
    let taken = ended.finished_at.unwrap().since(record.updated_at);
    assert!(taken <= Settings::default().heartbeat + Duration::from_millis(200), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_task_will_need_is_warmed_ahead_if_it_was_named() {
    for (draft, warmed) in [(draft(), false), (draft().on("mnist-10k"), true)] {
        let node = World::new().start(api_only()).await;
        let cache = &node.world.ports.cache;
        node.submit(draft).await;
        let filled = async {
            while cache.stats().await.unwrap() == CacheStats::default() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), filled).await.is_ok(), warmed);
        for manifest in node.world.ports.datasets.manifests().await.unwrap() {
            let chunks: Vec<ChunkHash> = manifest.chunks().collect();
            assert!(!chunks.is_empty());
            for chunk in chunks {
                assert!(cache.get(chunk).await.unwrap().is_some());
            }
        }
    }
}
