//! Reads a topic as a member of a consumer group: polls for ever, hands on each message, and commits what is settled.

use std::{future::Future, sync::Arc, time::Duration};

use kubeml_actors::ports::PortError;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::KafkaError,
};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Kafka,
    client::{Context, Detached, is_fatal},
    ledger::{Ledger, Receipt},
    producer::unavailable,
    topics::Topic,
};

const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What is done with a message.
pub trait Handler: Send + 'static {
    fn handle(&mut self, message: Incoming<'_>) -> impl Future<Output = Verdict> + Send;
}

/// A message, and what settles it.
pub struct Incoming<'a> {
    pub value: Option<&'a [u8]>,
    /// In milliseconds since 1970; 0 if it has none.
    pub timestamp: i64,
    pub receipt: Receipt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It need not come again.
    Settled,
    /// Somebody settles it later.
    Held,
    /// It shall come again after a pause, which must be shorter than a rebalance may take.
    Again(Duration),
}

/// A member of a group.
pub struct Member {
    pub kafka: Arc<Kafka>,
    /// What the group is called in metrics.
    pub client: &'static str,
    /// Without prefix.
    pub group: &'static str,
    pub ledger: Arc<Ledger>,
    pub stop: Arc<Notify>,
}

type Stream = Detached<StreamConsumer<Context>>;

impl Member {
    /// Returns after `stop`.
    pub async fn run(self, mut handler: impl Handler) {
        loop {
            match self.join() {
                Ok(stream) => {
                    if self.follow(&Arc::new(stream), &mut handler).await {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, group = self.group, "cannot read from kafka"),
            }
            self.ledger.forget();
            sleep(RETRY_PAUSE).await;
        }
    }

    fn join(&self) -> Result<Stream, PortError> {
        let ledger = self.ledger.clone();
        let revoked: Arc<dyn Fn() + Send + Sync> = Arc::new(move || ledger.forget());
        let context = Context { client: self.client, metrics: self.kafka.metrics.clone(), revoked: Some(revoked) };
        let stream = self.kafka.stream(&self.kafka.member(self.group)?, context)?;
        stream.subscribe(&[&self.kafka.topic(Topic::Task)]).map_err(|error| unavailable(&error))?;
        Ok(stream)
    }

    /// Whether it was told to stop; otherwise the client has failed for good.
    async fn follow(&self, stream: &Arc<Stream>, handler: &mut impl Handler) -> bool {
        let mut commit_due = interval(COMMIT_INTERVAL);
        commit_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.notified() => {
                    let (stream, commits) = (stream.clone(), self.offsets());
                    // The last acts of a client that is closed anyway.
                    let _ = spawn_blocking(move || commits.map(|list| stream.commit(&list, CommitMode::Sync))).await;
                    return true;
                }
                message = stream.recv() => match message {
                    Ok(message) => self.pass_on(stream, &message, handler).await,
                    Err(error) if is_fatal(&error) => return false,
                    Err(error) => {
                        tracing::debug!(%error, group = self.group, "reading from kafka");
                        sleep(ERROR_PAUSE).await;
                    }
                },
                _ = commit_due.tick() => self.commit(stream),
            }
        }
    }

    async fn pass_on(&self, stream: &Stream, message: &impl Message, handler: &mut impl Handler) {
        let receipt = self.ledger.read(message.partition(), message.offset());
        let timestamp = message.timestamp().to_millis().unwrap_or(0);
        match handler.handle(Incoming { value: message.payload(), timestamp, receipt }).await {
            Verdict::Settled => self.ledger.settle(receipt),
            Verdict::Held => {}
            Verdict::Again(pause) => {
                sleep(pause).await;
                let offset = Offset::Offset(receipt.offset);
                // Without waiting; if the partition is not ours any more, its new owner reads the message.
                if let Err(error) = stream.seek(message.topic(), receipt.partition, offset, Duration::ZERO) {
                    tracing::debug!(%error, group = self.group, "cannot go back to a message");
                }
            }
        }
    }

    fn commit(&self, stream: &Stream) {
        let Some(list) = self.offsets() else { return };
        if let Err(error) = stream.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, group = self.group, "cannot commit");
        }
    }

    fn offsets(&self) -> Option<TopicPartitionList> {
        let commits = self.ledger.commits();
        let topic = self.kafka.topic(Topic::Task);
        let mut list = TopicPartitionList::new();
        let added: Result<(), KafkaError> = commits
            .iter()
            .try_for_each(|(partition, next)| list.add_partition_offset(&topic, *partition, Offset::Offset(*next)));
        (added.is_ok() && list.count() > 0).then_some(list)
    }
}
