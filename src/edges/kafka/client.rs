//! What every client of librdkafka shares: its callbacks, and an end that holds up nobody.

use std::{ops::Deref, sync::Arc, thread, time::Duration};

use kubeml_actors::ports::PortError;
use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::ProducerContext,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use super::metrics::KafkaMetrics;

/// Far beyond what a question's own timeouts allow.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);
/// Questions under way: far more than there are askers.
static ASKING: Semaphore = Semaphore::const_new(128);

/// What becomes of a message that was sent: called once.
pub type Outcome = Box<dyn FnOnce(Result<(), KafkaError>) + Send + Sync>;

#[derive(Clone)]
pub struct Context {
    /// What the client is for, as a label.
    pub client: &'static str,
    pub metrics: Arc<KafkaMetrics>,
    /// Called when partitions are taken away, which must not take long.
    pub revoked: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(client = self.client, facility, "librdkafka: {message}");
            }
            // Brokers that are away are told of by whoever misses them.
            _ => tracing::debug!(client = self.client, facility, "librdkafka: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.take(self.client, &statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
        self.metrics.errors.with_label_values(&[self.client, &code]).inc();
        if is_fatal(&error) {
            tracing::warn!(client = self.client, %error, reason, "a client of Kafka has failed for good");
        } else if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) {
            tracing::warn!(client = self.client, reason, "Kafka does not let this client in: see [bus.kafka]");
        } else {
            tracing::debug!(client = self.client, %error, reason, "a client of Kafka met an error");
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(_) => self.metrics.rebalances.with_label_values(&[self.client]).inc(),
            Rebalance::Revoke(_) | Rebalance::Error(_) => {
                if let Some(revoked) = &self.revoked {
                    revoked();
                }
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Outcome>;

    fn delivery(&self, result: &DeliveryResult<'_>, outcome: Box<Outcome>) {
        use rdkafka::Message as _;
        let (topic, result) = match result {
            Ok(message) => (message.topic(), Ok(())),
            Err((error, message)) => (message.topic(), Err(error.clone())),
        };
        self.metrics.count("out", topic, if result.is_ok() { "ok" } else { "failed" });
        outcome(result);
    }
}

pub fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
}

/// Asks librdkafka, which blocks, on a thread of its own: it may not come back at all (see [`super::polled`]), and has no
/// thread that others need then.
pub async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let unavailable = |why: String| PortError::Unavailable(format!("kafka: {why}"));
    let late = |_| unavailable(format!("its client has not come back from a call for {ASK_TIMEOUT:?}"));
    let answered = async {
        let place = ASKING.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let ask = move || {
            // Who has asked may have gone away.
            let _ = answer.send(question());
            drop(place);
        };
        let started = thread::Builder::new().name("kafka-ask".to_owned()).spawn(ask);
        started.map_err(|error| unavailable(format!("cannot start a thread: {error}")))?;
        answered.await.map_err(|_| unavailable("a question to its client panicked".to_owned()))?
    };
    timeout(ASK_TIMEOUT, answered).await.map_err(late)?
}

/// A client, whose end can take long or for ever, and therefore takes place on a thread that nobody waits for.
pub struct Detached<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Detached<T> {
    pub fn new(client: T) -> Self {
        Self(Some(client))
    }

    /// Waits for its end.
    pub fn close(mut self) {
        drop(self.0.take());
    }
}

impl<T: Send + 'static> Deref for Detached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only its end takes it")
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        let Some(client) = self.0.take() else { return };
        // Without a thread it ends here, as it would have without this type.
        let _ = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client));
    }
}
