//! The one producer of a node: takes messages without waiting, and tells each sender what became of his.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use super::{
    client::{Context, Detached, Outcome},
    config::KafkaConfig,
};

type Client = Detached<ThreadedProducer<Context>>;

/// How long a sender waits who wants to know that his message has arrived.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Producer {
    settings: ClientConfig,
    context: Context,
    client: RwLock<Arc<Client>>,
}

/// A message to send.
pub struct Message<'a> {
    pub topic: &'a str,
    pub key: Option<&'a str>,
    pub value: &'a [u8],
    pub headers: Option<OwnedHeaders>,
}

impl Producer {
    pub fn open(config: &KafkaConfig, context: Context) -> Result<Self, PortError> {
        let mut settings = config.common()?;
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.kbytes", "32768")
            .set("message.timeout.ms", "300000")
            .set("topic.metadata.propagation.max.ms", "5000");
        let settings = config.overriding(settings);
        let client = RwLock::new(Arc::new(create(&settings, &context)?));
        Ok(Self { settings, context, client })
    }

    /// Enqueues a message; never waits. `outcome` is called once, from here if it cannot be enqueued.
    pub fn send(&self, message: Message<'_>, outcome: Outcome) {
        let Message { topic, key, value, headers } = message;
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(outcome)).payload(value);
        (record.key, record.headers) = (key, headers);
        let client = self.client();
        let Err((error, record)) = client.send(record) else { return };
        let is_lost = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        let refused =
            if is_lost && self.replace(&client) { self.client().send(record).err() } else { Some((error, record)) };
        if let Some((error, record)) = refused {
            self.context.metrics.count("out", topic, "refused");
            (record.delivery_opaque)(Err(error));
        }
    }

    /// Enqueues a message that may get lost.
    pub fn send_and_forget(&self, message: Message<'_>) {
        let topic = message.topic.to_owned();
        let told = move |result: Result<(), KafkaError>| {
            if let Err(error) = result {
                tracing::debug!(topic, %error, "a message was not delivered");
            }
        };
        self.send(message, Box::new(told));
    }

    /// Sends messages and returns when all have arrived.
    pub async fn deliver<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result<(), PortError> {
        let mut arrivals = Vec::new();
        for message in messages {
            let (told, arrival) = oneshot::channel();
            // Who has stopped waiting is not told.
            self.send(message, Box::new(move |result| drop(told.send(result))));
            arrivals.push(arrival);
        }
        let all = async {
            for arrival in arrivals {
                match arrival.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(unavailable(&error)),
                    Err(_) => return Err(PortError::Unavailable("kafka: the producer was closed".to_owned())),
                }
            }
            Ok(())
        };
        let late = |_| PortError::Unavailable(format!("kafka did not take a message within {DELIVERY_TIMEOUT:?}"));
        timeout(DELIVERY_TIMEOUT, all).await.map_err(late)?
    }

    /// Returns when everything that was sent has arrived, or after `deadline`.
    pub async fn flush(&self, deadline: Duration) -> Result<(), PortError> {
        let client = self.client();
        let flushed = spawn_blocking(move || client.flush(deadline)).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(error) => Err(PortError::Unavailable(format!("kafka: {error}"))),
        }
    }

    /// The client itself, for what is asked of brokers.
    pub fn client(&self) -> Arc<Client> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new client in the place of one that has failed for good.
    fn replace(&self, failed: &Arc<Client>) -> bool {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, failed) {
            return true;
        }
        tracing::warn!("the producer of kafka messages has failed for good and is replaced");
        match create(&self.settings, &self.context) {
            Ok(created) => *client = Arc::new(created),
            Err(error) => {
                tracing::warn!(%error, "it cannot be replaced");
                return false;
            }
        }
        true
    }
}

fn create(settings: &ClientConfig, context: &Context) -> Result<Client, PortError> {
    let client = settings.create_with_context(context.clone());
    client.map(Detached::new).map_err(|error| PortError::Rejected(format!("[bus.kafka]: {error}")))
}

pub fn unavailable(error: &KafkaError) -> PortError {
    PortError::Unavailable(format!("kafka: {error}"))
}
