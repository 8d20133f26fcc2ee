//! Brokers that fail, in this process: no server needed.

use std::{collections::BTreeMap, future::Future, sync::Mutex as StdMutex};

use async_trait::async_trait;
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{Hint, Position, TaskBus as _},
    task::TaskId,
    testing::contracts::samples,
};
use prometheus::Registry;
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use tokio::time::{sleep, timeout};

use super::*;

const SOON: Duration = Duration::from_secs(60);
const GIVEN_AGAIN: Duration = Duration::from_secs(2);

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers() -> (Brokers, Arc<Kafka>) {
    let brokers = MockCluster::new(1).expect("it starts");
    for topic in Topic::ALL {
        brokers.create_topic(topic.name(), 2, 1).expect("it is new");
    }
    let config = KafkaConfig {
        brokers: brokers.bootstrap_servers().split(',').map(str::to_owned).collect(),
        topic_prefix: String::new(),
        username: None,
        password_file: None,
        client: BTreeMap::from([("message.timeout.ms".to_owned(), "500".to_owned())]),
    };
    let metrics = KafkaMetrics::new(&Registry::new()).expect("the registry is empty");
    (brokers, Kafka::open(config, Arc::new(metrics)).expect("the settings are good"))
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// One task's facts.
#[derive(Default)]
struct Store(StdMutex<Vec<TaskEvent>>);

#[async_trait]
impl ReadFacts for Store {
    async fn read_task(&self, _: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        let stored = self.0.lock().expect("nobody panics");
        let newer = stored.iter().filter(|event| after.is_none_or(|after| event.seq > after));
        Ok(newer.take(limit).cloned().collect())
    }
}

async fn heard(facts: &KafkaFacts) -> Vec<TaskEvent> {
    let page = facts.read_all(&Position::default(), 1_000).await;
    page.map(|page| page.entries.into_iter().map(|entry| entry.event).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_of_an_outage_are_heard_after_it_in_order() {
    let (brokers, kafka) = brokers();
    let (store, task) = (Arc::new(Store::default()), TaskId::fresh());
    let facts = KafkaFacts::start(kafka.clone(), store.clone(), Some(1_000));
    let write = |range: std::ops::Range<u64>| {
        let events: Vec<TaskEvent> = range.map(|n| samples::fact(task, 1, n)).collect();
        store.0.lock().expect("nobody panics").extend(events.clone());
        facts.publish(&events);
    };
    eventually("it is connected", async || facts.is_connected()).await;
    write(0..10);
    eventually("the first are heard", async || heard(&facts).await.len() == 10).await;
    brokers.broker_down(1).expect("it was up");
    eventually("the outage is seen", async || !facts.is_connected()).await;
    write(10..60);
    eventually("they are owed", async || kafka.metrics.facts_owed.get() == 1).await;
    assert!(facts.delivered(&[samples::fact(task, 1, 59)]).await.is_err(), "nobody takes them");
    write(60..70);
    brokers.broker_up(1).expect("it was down");
    eventually("nothing is owed", async || kafka.metrics.facts_owed.get() == 0).await;
    eventually("all are heard", async || heard(&facts).await.len() == 70).await;
    assert_eq!(heard(&facts).await, *store.0.lock().expect("nobody panics"));
    eventually("it is connected again", async || facts.is_connected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_flow_again_after_an_outage() {
    let (brokers, kafka) = brokers();
    let bus = KafkaBus::start(kafka, true);
    // A hint may be lost, so it is given until it is received.
    let received = async |hint: Hint| loop {
        bus.publish(hint);
        if let Ok(received) = timeout(GIVEN_AGAIN, bus.receive()).await {
            let received = received.expect("it is open");
            bus.acknowledge(received);
            // An earlier one may have been given twice.
            if received == hint {
                return;
            }
        }
    };
    let hint = || Hint { task: TaskId::fresh(), model: None };
    timeout(SOON, received(hint())).await.expect("it arrives");
    brokers.broker_down(1).expect("it was up");
    eventually("the outage is seen", async || bus.check().await.is_err()).await;
    brokers.broker_up(1).expect("it was down");
    eventually("the end of it too", async || bus.check().await.is_ok()).await;
    timeout(SOON, received(hint())).await.expect("it arrives");
    bus.close(SOON).await;
}
