//! A topic of facts that loses its beginning, or everything: who listens hears of a gap, and then what follows.

use async_trait::async_trait;
use kubeml::edges::kafka::{FactStore, KafkaFacts};
use kubeml_actors::{
    event::{Seq, TaskEvent},
    live::Live,
    ports::{EventLog, LogPage, Position},
    subscription::{AllEvents, Delivery, Feed},
    testing::contracts::samples,
    timestamp::Timestamp,
};
use prometheus::IntGauge;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    older_client::{delete_records, delete_topic},
    *,
};

/// A log of which only Kafka's part is there.
struct Log(KafkaFacts);

#[async_trait]
impl EventLog for Log {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        self.0.delivered(events).await
    }

    async fn relay(&self, _: TaskId, _: Seq) -> Result<(), PortError> {
        Ok(())
    }

    async fn read_task(&self, _: TaskId, _: Option<Seq>, _: usize) -> Result<Vec<TaskEvent>, PortError> {
        Ok(Vec::new())
    }

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        self.0.read_all(after, limit).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.0.head()
    }

    fn is_live(&self) -> bool {
        self.0.is_connected()
    }

    async fn trim(&self, _: Timestamp) -> Result<u64, PortError> {
        Ok(0)
    }
}

struct NoStore;

#[async_trait]
impl FactStore for NoStore {
    async fn read_task(&self, _: TaskId, _: Option<Seq>, _: usize) -> Result<Vec<TaskEvent>, PortError> {
        Ok(Vec::new())
    }

    async fn close(&self, _: TaskId, _: Seq, _: Seq) -> Result<bool, PortError> {
        Ok(false)
    }
}

/// Connected, with so many facts in memory.
async fn log(config: &KafkaConfig, ring: usize) -> Arc<Log> {
    let log = Arc::new(Log(KafkaFacts::start(open(config), Arc::new(NoStore), Some(ring))));
    eventually("the reader is connected", async || log.is_live()).await;
    log
}

fn listen(log: &Arc<Log>, after: Option<Position>) -> AllEvents {
    let live = Arc::new(Live::new(log.head().borrow().clone(), 16));
    let open = IntGauge::new("open", "open").expect("a good name");
    AllEvents::new(Feed { events: log.clone(), live, open }.open(), after)
}

async fn next(events: &mut AllEvents) -> Delivery {
    timeout(SOON, events.next()).await.expect("it is not silent").expect("kafka answers")
}

/// Reads until so many facts are heard; they, and how many gaps.
async fn hear(events: &mut AllEvents, count: usize) -> (Vec<TaskEvent>, usize) {
    let (mut heard, mut gaps): (Vec<TaskEvent>, usize) = (Vec::new(), 0);
    while heard.len() < count {
        let delivery = next(events).await;
        gaps += usize::from(matches!(delivery, Delivery::Gap(_)));
        let (Delivery::Entries(entries) | Delivery::Gap(entries)) = delivery;
        heard.extend(entries.into_iter().map(|entry| entry.event));
    }
    (heard, gaps)
}

/// With keys that lie in both partitions.
fn tasks() -> Vec<TaskId> {
    (1..=6).map(|n| TaskId(Uuid::from_u128(n))).collect()
}

fn facts(task: TaskId, numbers: std::ops::Range<u64>) -> Vec<TaskEvent> {
    numbers.map(|n| samples::fact(task, 1, n)).collect()
}

#[tokio::test]
async fn a_topic_that_was_replaced_is_a_gap_and_then_facts_flow_again() {
    let config = system().await;
    let log = log(&config, 100).await;
    let tasks = tasks();
    let mut listeners = [listen(&log, None), listen(&log, Some(Position(vec![0, 0])))];
    for task in &tasks {
        taken(&log.0, &facts(*task, 0..10)).await;
    }
    for listener in &mut listeners {
        assert_eq!(hear(listener, 60).await.1, 0, "nothing is lost yet");
    }
    delete_topic(&config, "training_log").await;
    eventually("it is missed", async || !log.is_live()).await;
    init(&config, &drop).await.expect("topics are created");
    for listener in &mut listeners {
        assert_eq!(next(listener).await, Delivery::Gap(Vec::new()));
    }
    eventually("the reader is connected again", async || log.is_live()).await;
    let told = facts(tasks[0], 20..30);
    taken(&log.0, &told).await;
    for listener in &mut listeners {
        assert_eq!(hear(listener, 10).await, (told.clone(), 0));
    }
}

#[tokio::test]
async fn a_topic_that_was_replaced_and_has_got_further_is_a_gap_too() {
    let config = system().await;
    let log = log(&config, 100).await;
    let task = tasks()[0];
    let mut listener = listen(&log, None);
    taken(&log.0, &facts(task, 0..2)).await;
    assert_eq!(hear(&mut listener, 2).await.1, 0, "nothing is lost yet");
    delete_topic(&config, "training_log").await;
    eventually("it is missed", async || !log.is_live()).await;
    init(&config, &drop).await.expect("topics are created");
    let other = KafkaFacts::start(open(&config), Arc::new(NoStore), None);
    taken(&other, &facts(task, 2..60)).await;
    while !matches!(next(&mut listener).await, Delivery::Gap(_)) {}
    eventually("the reader is connected again", async || log.is_live()).await;
    taken(&log.0, &facts(task, 60..62)).await;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|fact: &TaskEvent| fact.seq < Seq::new(1, 61)) {
        heard.extend(hear(&mut listener, 1).await.0);
    }
}

#[tokio::test]
async fn what_retention_removed_is_a_gap_and_the_rest_follows() {
    let config = system().await;
    let log = log(&config, 4).await;
    let tasks = tasks();
    for task in &tasks {
        taken(&log.0, &facts(*task, 0..10)).await;
    }
    let (_, gaps) = hear(&mut listen(&log, Some(Position(vec![0, 0]))), 60).await;
    assert_eq!(gaps, 0);
    assert!(log.head().borrow().0.iter().all(|counter| *counter >= 10), "both partitions have some");

    delete_records(&config, "training_log", Some(5)).await;
    let mut behind = listen(&log, Some(Position(vec![1, 2])));
    assert_eq!(hear(&mut behind, 50).await.1, 1);

    delete_records(&config, "training_log", None).await;
    let mut behind = listen(&log, Some(Position(vec![1, 2])));
    assert_eq!(next(&mut behind).await, Delivery::Gap(Vec::new()));
    let told = facts(tasks[0], 10..12);
    taken(&log.0, &told).await;
    assert_eq!(hear(&mut behind, 2).await, (told, 0));
}

#[tokio::test]
async fn a_topic_that_is_missing_is_named_with_what_to_do() {
    let config = system().await;
    let kafka = open(&config);
    eventually("all are known to the broker", async || kafka.check().await.is_ok()).await;
    delete_topic(&config, "load_data").await;
    let missing = format!("kafka has no topic {}load_data; `kubeml admin init` creates it", config.topic_prefix);
    eventually("it is told", async || kafka.check().await == Err(PortError::Unavailable(missing.clone()))).await;
    init(&config, &drop).await.expect("topics are created");
    eventually("all is well", async || kafka.check().await.is_ok()).await;
}
