//! The topics, and how they are made.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::Client,
    config::RDKafkaLogLevel,
    error::RDKafkaErrorCode,
};
use tokio::task::spawn_blocking;

use super::{client::Context, config::KafkaConfig, producer::unavailable};

const TIMEOUT: Duration = Duration::from_secs(15);
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
    let metadata = client.fetch_metadata(Some(topic), deadline).map_err(|error| unavailable(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    found
        .map(|found| found.partitions().len())
        .filter(|partitions| *partitions > 0)
        .ok_or_else(|| PortError::Unavailable(format!("kafka has no topic {topic}; `kubeml admin init` creates it")))
}

/// Creates the topics that are not there. Returns what was done, a line each.
pub async fn init(config: &KafkaConfig) -> Result<Vec<String>, PortError> {
    let settings = config.overriding(config.common()?);
    let refused = |error| PortError::Rejected(format!("[bus.kafka]: {error}"));
    let said = Said::default();
    let admin: Arc<AdminClient<Said>> = Arc::new(settings.create_with_context(said.clone()).map_err(refused)?);
    let asked = admin.clone();
    let metadata = spawn_blocking(move || asked.inner().fetch_metadata(None, TIMEOUT)).await;
    let metadata = metadata.map_err(|error| PortError::Unavailable(format!("kafka: {error}")))?;
    let metadata = metadata.map_err(|error| said.explaining(unavailable(&error)))?;
    let replication = i32::try_from(metadata.brokers().len()).unwrap_or(REPLICATION_MAX).clamp(1, REPLICATION_MAX);
    let mut done = Vec::new();
    for topic in Topic::ALL {
        let name = config.prefixed(topic.name());
        let existing = metadata.topics().iter().find(|existing| existing.name() == name);
        done.push(match existing.filter(|existing| existing.error().is_none()) {
            Some(existing) => kept(topic, &name, existing.partitions().len()),
            None => create(&admin, topic, &name, replication).await?,
        });
    }
    Ok(done)
}

/// The last error that librdkafka has logged: of a connection that does not come about it gives no other reason.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    fn explaining(&self, error: PortError) -> PortError {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        said.map_or(error.clone(), |said| PortError::Unavailable(format!("{error}; librdkafka says: {said}")))
    }
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error};
        tracing::debug!(facility, "librdkafka: {message}");
        if matches!(level, Emerg | Alert | Critical | Error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
        }
    }
}

fn kept(topic: Topic, name: &str, partitions: usize) -> String {
    match usize::try_from(topic.partitions()) {
        Ok(wanted) if partitions < wanted => {
            format!("topic {name} exists with {partitions} partitions, fewer than {wanted}; it is left as it is")
        }
        _ => format!("topic {name} exists"),
    }
}

async fn create(admin: &AdminClient<Said>, topic: Topic, name: &str, replication: i32) -> Result<String, PortError> {
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
