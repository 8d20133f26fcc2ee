//! Writes and reads messages as other programs do.

use std::time::{Duration, Instant};

use kubeml::edges::kafka::KafkaConfig;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::task::spawn_blocking;

const SOON: Duration = Duration::from_secs(60);

fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", config.brokers.join(",")).set("group.id", "older-client");
    settings
}

pub async fn delete_topic(config: &KafkaConfig, name: &str) {
    let admin: AdminClient<DefaultClientContext> = settings(config).create().expect("the settings are good");
    let topic = format!("{}{name}", config.topic_prefix);
    let deleted = admin.delete_topics(&[&topic], &AdminOptions::new()).await.expect("kafka answers");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// As retention does it in both partitions: what lies before `offset`, or everything.
pub async fn delete_records(config: &KafkaConfig, name: &str, offset: Option<i64>) {
    let admin: AdminClient<DefaultClientContext> = settings(config).create().expect("the settings are good");
    let (topic, mut list) = (format!("{}{name}", config.topic_prefix), TopicPartitionList::new());
    for partition in 0..2 {
        let before = offset.map_or(Offset::End, Offset::Offset);
        list.add_partition_offset(&topic, partition, before).expect("it is new");
    }
    admin.delete_records(&list, &AdminOptions::new()).await.expect("kafka answers");
}

/// Writes values to a topic, all to its partition 0.
pub async fn write(config: &KafkaConfig, topic: &'static str, values: &[&[u8]]) {
    let (config, values) = (config.clone(), values.iter().map(|value| value.to_vec()).collect());
    spawn_blocking(move || write_now(&config, topic, values)).await.expect("it does not panic");
}

fn write_now(config: &KafkaConfig, topic: &str, values: Vec<Vec<u8>>) {
    let producer: BaseProducer = settings(config).create().expect("the settings are good");
    let topic = format!("{}{topic}", config.topic_prefix);
    for value in &values {
        let record = BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(value.as_slice());
        assert!(producer.send(record).is_ok(), "it fits");
    }
    producer.flush(SOON).expect("it is delivered");
}

/// Reads a topic's partition 0 from its beginning until `count` values have come.
pub async fn read(config: &KafkaConfig, topic: &'static str, count: usize) -> Vec<String> {
    let config = config.clone();
    spawn_blocking(move || read_now(&config, topic, count)).await.expect("it does not panic")
}

fn read_now(config: &KafkaConfig, topic: &str, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = settings(config).create().expect("the settings are good");
    let mut list = TopicPartitionList::new();
    let topic = format!("{}{topic}", config.topic_prefix);
    list.add_partition_offset(&topic, 0, Offset::Beginning).expect("it is new");
    consumer.assign(&list).expect("it is assigned");
    let (mut values, since) = (Vec::new(), Instant::now());
    while values.len() < count {
        assert!(since.elapsed() < SOON, "only {values:?} came");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
    }
    values
}

/// The messages of a topic that a group has not committed.
pub async fn unsettled(config: &KafkaConfig, group: &'static str, topic: &'static str) -> i64 {
    let config = config.clone();
    spawn_blocking(move || unsettled_now(&config, group, topic)).await.expect("it does not panic")
}

fn unsettled_now(config: &KafkaConfig, group: &str, topic: &str) -> i64 {
    let (group, topic) = (format!("{}{group}", config.topic_prefix), format!("{}{topic}", config.topic_prefix));
    let consumer: BaseConsumer = settings(config).set("group.id", group).create().expect("the settings are good");
    let metadata = consumer.fetch_metadata(Some(&topic), SOON).expect("Kafka answers");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition(&topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, SOON).expect("Kafka answers");
    let lag = committed.elements().into_iter().map(|element| {
        let (low, high) = consumer.fetch_watermarks(&topic, element.partition(), SOON).expect("Kafka answers");
        let next = if let Offset::Offset(next) = element.offset() { next } else { low };
        high - next
    });
    lag.sum()
}
