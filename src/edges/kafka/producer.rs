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
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    client::{Context, Detached, Outcome, ask},
    config::KafkaConfig,
};

type Client = Detached<ThreadedProducer<Context>>;

/// How long a sender waits who wants to know that his message has arrived.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// To tell the senders of purged messages.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

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
        let settings = config.sender()?;
        let client = RwLock::new(Arc::new(create(&settings, &context)?));
        Ok(Self { settings, context, client })
    }

    /// Enqueues a message; never waits. `outcome` is called once, from here if it cannot be enqueued: then `false`.
    pub fn send(&self, message: Message<'_>, outcome: Outcome) -> bool {
        let Message { topic, key, value, headers } = message;
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(outcome)).payload(value);
        (record.key, record.headers) = (key, headers);
        let client = self.client();
        let Err((error, record)) = client.send(record) else { return true };
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.replace(&client);
        }
        self.context.metrics.count("out", topic, "refused");
        (record.delivery_opaque)(Err(error));
        false
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

    /// Sends messages in their order and returns when all have arrived.
    pub async fn deliver<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result<(), PortError> {
        let mut arrivals = Vec::new();
        for message in messages {
            let (told, arrival) = oneshot::channel();
            // Who has stopped waiting is not told.
            let is_sent = self.send(message, Box::new(move |result| drop(told.send(result))));
            arrivals.push(arrival);
            if !is_sent {
                // There may be room again: what follows must not overtake it.
                break;
            }
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
        let flushed = ask(move || client.flush(deadline).map_err(|error| unavailable(&error)));
        let late = |_| PortError::Unavailable("kafka: its client does not come back from a flush".to_owned());
        timeout(deadline + PURGE_TIMEOUT, flushed).await.map_err(late)?
    }

    /// The client itself, for what is asked of brokers.
    pub fn client(&self) -> Arc<Client> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new client in the place of one that has failed for good. Whoever waits for the old one is told first, so
    /// that nothing newer overtakes what he sends again.
    fn replace(&self, failed: &Arc<Client>) {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, failed) {
            return;
        }
        tracing::warn!("the producer of kafka messages has failed for good and is replaced");
        failed.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = failed.flush(PURGE_TIMEOUT) {
            tracing::warn!(%error, "not everybody was told in time that his message was given up");
        }
        match create(&self.settings, &self.context) {
            Ok(created) => *client = Arc::new(created),
            Err(error) => tracing::warn!(%error, "it cannot be replaced"),
        }
    }
}

fn create(settings: &ClientConfig, context: &Context) -> Result<Client, PortError> {
    let client = settings.create_with_context(context.clone());
    client.map(Detached::new).map_err(|error| PortError::Rejected(format!("[bus.kafka]: {error}")))
}

pub fn unavailable(error: &KafkaError) -> PortError {
    PortError::Unavailable(format!("kafka: {error}"))
}
