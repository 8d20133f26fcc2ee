//! Hints, submissions and facts on a real broker. Every test has topics of its own.

mod bridge;
mod facts;
mod hints;
pub mod older_client;
mod replaced;

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use kubeml::{
    config::{Bus, Sources, load},
    edges::kafka::{Kafka, KafkaConfig, KafkaFacts, KafkaMetrics, init},
};
use kubeml_actors::{event::TaskEvent, metrics::Metrics, ports::PortError, task::TaskId};
use tokio::time::{sleep, timeout};

use super::nodes::services;

const SOON: Duration = Duration::from_secs(60);
const BROKERS: &str = "KUBEML__BUS__KAFKA__BROKERS";

/// Of a fresh system on the broker that the tests are given.
fn config() -> KafkaConfig {
    config_of(&format!("test-{}-", TaskId::fresh()))
}

/// Of the system whose topics begin with `prefix`.
pub fn config_of(prefix: &str) -> KafkaConfig {
    let environment = services().environment();
    let brokers = environment.into_iter().find(|(name, _)| name == BROKERS).expect("the suite has a broker").1;
    let sources = Sources::default()
        .variable("HOME", "/nowhere")
        .variable("KUBEML__STORE__KIND", "cassandra")
        .variable("KUBEML__BUS__KIND", "kafka")
        .variable(BROKERS, brokers)
        .variable("KUBEML__BUS__KAFKA__TOPIC_PREFIX", prefix);
    match load(&sources).expect("it is good").bus {
        Bus::Kafka(kafka) => kafka,
        other => panic!("{other:?} was not chosen"),
    }
}

fn open(config: &KafkaConfig) -> Arc<Kafka> {
    let metrics = KafkaMetrics::new(&Metrics::new()).expect("the registry is empty");
    Kafka::open(config.clone(), Arc::new(metrics)).expect("the settings are good")
}

/// With topics.
async fn system() -> KafkaConfig {
    let config = config();
    init(&config, &drop).await.expect("topics are created");
    config
}

/// Says so again while a busy broker is too late for whoever asks: what is told twice is heard once.
async fn taken(facts: &KafkaFacts, events: &[TaskEvent]) {
    eventually("kafka takes them", async || facts.delivered(events).await.is_ok()).await;
}

/// Waits for a fact of the world, which must come true.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

#[tokio::test]
async fn topics_are_created_once() {
    let config = config();
    let lines = Mutex::new(Vec::new());
    let say = |line| lines.lock().expect("nobody panics").push(line);
    init(&config, &say).await.expect("topics are created");
    let first = mem::take(&mut *lines.lock().expect("nobody panics"));
    assert_eq!(first.len(), 5);
    assert!(first.iter().all(|line| line.contains(" created with ")), "{first:?}");
    init(&config, &say).await.expect("nothing is left to do");
    let again = lines.lock().expect("nobody panics");
    assert_eq!(again.len(), 5);
    assert!(again.iter().all(|line| line.ends_with(" exists")), "{again:?}");
}

#[tokio::test]
async fn a_broker_that_answers_is_reachable_and_a_dead_one_is_not() {
    let alive = system().await;
    let kafka = open(&alive);
    eventually("it is reachable", async || kafka.check().await.is_ok()).await;
    let nobody = KafkaConfig { brokers: vec!["127.0.0.1:1".to_owned()], ..alive };
    let dead = open(&nobody);
    assert!(matches!(dead.check().await, Err(PortError::Unavailable(_))));
    assert!(matches!(init(&nobody, &drop).await, Err(PortError::Unavailable(_))));
}
