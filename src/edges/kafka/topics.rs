//! The topics, and how they are made.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::{Client, DefaultClientContext},
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
    types::RDKafkaRespErr,
};

use super::{
    client::{Context, Detached, ask},
    config::KafkaConfig,
    producer::unavailable,
};

const TIMEOUT: Duration = Duration::from_secs(15);
const LOG_PAUSE: Duration = Duration::from_millis(100);
const REPLICATION_MAX: i32 = 3;
const WEEK_MS: &str = "604800000";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Task,
    TrainingLog,
    LoadData,
    DeadLetters,
    Test,
}

impl Topic {
    pub const ALL: [Self; 5] = [Self::Task, Self::TrainingLog, Self::LoadData, Self::DeadLetters, Self::Test];

    /// Without prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::TrainingLog => "training_log",
            Self::LoadData => "load_data",
            Self::DeadLetters => "task_dead_letter",
            Self::Test => "test-topic",
        }
    }

    fn partitions(self) -> i32 {
        match self {
            Self::Task => 3,
            Self::TrainingLog | Self::LoadData => 2,
            Self::DeadLetters | Self::Test => 1,
        }
    }
}

/// How many partitions a topic has. Blocks.
pub fn partitions(client: &Client<Context>, topic: &str, deadline: Duration) -> Result<usize, PortError> {
    find(client, topic, deadline)?
        .ok_or_else(|| PortError::Unavailable(format!("kafka has no topic {topic}; `kubeml admin init` creates it")))
}

/// Like `partitions`; `None` when brokers say that there is no such topic. Blocks.
pub fn find(client: &Client<Context>, topic: &str, deadline: Duration) -> Result<Option<usize>, PortError> {
    let metadata = client.fetch_metadata(Some(topic), deadline).map_err(|error| unavailable(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map(|found| (found.error(), found.partitions().len())) {
        Some((None, partitions)) if partitions > 0 => Ok(Some(partitions)),
        Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART), _)) => Ok(None),
        _ => Err(PortError::Unavailable(format!("kafka does not say how many partitions topic {topic} has"))),
    }
}

/// Creates the topics that are not there, and says what was done, a line each.
pub async fn init(config: &KafkaConfig, said: &(dyn Fn(String) + Sync)) -> Result<(), PortError> {
    let settings = config.overriding(config.common()?);
    let refused = |error| PortError::Rejected(format!("[bus.kafka]: {error}"));
    let admin: AdminClient<DefaultClientContext> = settings.create().map_err(refused)?;
    let asker: BaseConsumer<Said> = settings.create_with_context(Said::default()).map_err(refused)?;
    let metadata = ask(move || metadata(&Detached::new(asker))).await?;
    let replication = i32::try_from(metadata.brokers().len()).unwrap_or(REPLICATION_MAX).clamp(1, REPLICATION_MAX);
    for topic in Topic::ALL {
        let name = config.prefixed(topic.name());
        let existing = metadata.topics().iter().find(|existing| existing.name() == name);
        said(match existing.filter(|existing| existing.error().is_none()) {
            Some(existing) => kept(topic, &name, existing.partitions().len()),
            None => create(&admin, topic, &name, replication).await?,
        });
    }
    Ok(())
}

/// Blocks. Of a connection that does not come about, librdkafka gives the reason in its log only.
fn metadata(client: &BaseConsumer<Said>) -> Result<Metadata, PortError> {
    let asked = client.fetch_metadata(None, TIMEOUT);
    asked.map_err(|error| {
        // What it logs waits for a poll.
        while client.poll(LOG_PAUSE).is_some() {}
        let said = client.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let said = said.map(|said| format!("; librdkafka says: {said}")).unwrap_or_default();
        PortError::Unavailable(format!("kafka: {error}{said}"))
    })
}

/// The last error that was logged.
#[derive(Default)]
struct Said(Mutex<Option<String>>);

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error};
        tracing::debug!(facility, "librdkafka: {message}");
        if matches!(level, Emerg | Alert | Critical | Error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a client of Kafka met an error");
    }
}

impl ConsumerContext for Said {}

fn kept(topic: Topic, name: &str, partitions: usize) -> String {
    match usize::try_from(topic.partitions()) {
        Ok(wanted) if partitions < wanted => {
            format!("topic {name} exists with {partitions} partitions, fewer than {wanted}; it is left as it is")
        }
        _ => format!("topic {name} exists"),
    }
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    topic: Topic,
    name: &str,
    replication: i32,
) -> Result<String, PortError> {
    let partitions = topic.partitions();
    let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    if replication == REPLICATION_MAX {
        new = new.set("min.insync.replicas", "2");
    }
    if topic == Topic::TrainingLog {
        new = new.set("retention.ms", WEEK_MS);
    }
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let results = admin.create_topics([&new], &options).await.map_err(|error| unavailable(&error))?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(format!("topic {name} exists")),
        Some(Err((_, code))) => Err(PortError::Unavailable(format!("kafka: cannot create topic {name}: {code}"))),
        _ => Ok(format!("topic {name} created with {partitions} partitions and {replication} replicas")),
    }
}
