//! Everything that goes over Kafka: hints, submissions of the older kind, facts, dead letters.
//!
//! Nothing here is the truth: the store is. What Kafka loses or repeats costs time, not tasks.
//!
//! ```text
//! Kafka (one a node: settings, producer)
//!  ├── KafkaBus     hints and dead letters: the port TaskBus        topics task, task_dead_letter, load_data, test-topic
//!  ├── Bridge       messages of the older system become tasks       topic task
//!  └── KafkaFacts   live traffic of facts                           topic training_log
//! ```

mod bridge;
mod bus;
mod client;
mod config;
mod facts;
mod generations;
mod group;
mod ledger;
mod messages;
mod metrics;
mod polled;
mod producer;
mod topics;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use bridge::{Bridge, NotSubmitted, Submit};
pub use bus::KafkaBus;
pub use config::KafkaConfig;
pub use facts::{FactStore, KafkaFacts};
use kubeml_actors::ports::PortError;
pub use metrics::KafkaMetrics;
use rdkafka::{ClientConfig, config::FromClientConfigAndContext as _, consumer::BaseConsumer, producer::Producer as _};
use tokio::sync::Mutex;
pub use topics::init;

use self::{
    client::{Context, Detached, ask},
    producer::{Producer, unavailable},
    topics::Topic,
};

#[cfg(test)]
mod tests;

const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// A check answers for this long.
const CHECK_KEPT: Duration = Duration::from_secs(1);

/// A node's connection to Kafka. Opening it waits for no broker.
pub struct Kafka {
    config: KafkaConfig,
    metrics: Arc<KafkaMetrics>,
    producer: Producer,
    checked: Mutex<Option<(Instant, Result<(), PortError>)>>,
}

impl Kafka {
    /// # Errors
    /// Settings that librdkafka does not take together; a password file that cannot be read.
    pub fn open(config: KafkaConfig, metrics: Arc<KafkaMetrics>) -> Result<Arc<Self>, PortError> {
        let context = Context { client: "producer", metrics: metrics.clone(), revoked: None };
        let producer = Producer::open(&config, context)?;
        Ok(Arc::new(Self { config, metrics, producer, checked: Mutex::new(None) }))
    }

    /// Whether brokers answer, and have our topics.
    pub async fn check(&self) -> Result<(), PortError> {
        let mut checked = self.checked.lock().await;
        if let Some((at, result)) = &*checked
            && at.elapsed() < CHECK_KEPT
        {
            return result.clone();
        }
        let result = self.has(&Topic::ALL).await;
        *checked = Some((Instant::now(), result.clone()));
        result
    }

    /// Whether brokers answer, and have these topics.
    async fn has(&self, topics: &'static [Topic]) -> Result<(), PortError> {
        let (client, names) = (self.producer.client(), topics.iter().map(|topic| self.topic(*topic)));
        let names: Vec<String> = names.collect();
        ask(move || {
            names.iter().try_for_each(|name| topics::partitions(client.client(), name, CHECK_TIMEOUT).map(drop))
        })
        .await
    }

    /// Returns when everything that was sent has arrived, or after `deadline`.
    pub async fn flush(&self, deadline: Duration) -> Result<(), PortError> {
        self.producer.flush(deadline).await
    }

    fn topic(&self, topic: Topic) -> String {
        self.config.prefixed(topic.name())
    }

    fn consumer(
        &self,
        settings: &ClientConfig,
        context: Context,
    ) -> Result<Detached<BaseConsumer<Context>>, PortError> {
        BaseConsumer::from_config_and_context(settings, context).map(Detached::new).map_err(|error| unavailable(&error))
    }
}
