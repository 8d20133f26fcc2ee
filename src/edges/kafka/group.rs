//! Reads a topic as a member of a consumer group: polls for ever, hands on each message, and commits what is settled.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{Message, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Kafka,
    client::Context,
    ledger::{Ledger, Receipt},
    polled::Polled,
    producer::unavailable,
    topics::Topic,
};

const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// Nobody says whether a commit has failed.
const COMMIT_AGAIN_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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
}

/// A member at work, until it is closed or dropped.
pub struct Membership {
    stop: Arc<Notify>,
    member: Mutex<Option<JoinHandle<()>>>,
}

/// A message as it was read.
struct Read {
    partition: i32,
    offset: i64,
    timestamp: i64,
    value: Option<Vec<u8>>,
}

impl Member {
    /// Must be called on a tokio runtime.
    pub fn start(self, handler: impl Handler) -> Membership {
        self.kafka.metrics.rebalances.with_label_values(&[self.client]);
        let stop = Arc::new(Notify::new());
        let member = tokio::spawn(self.run(handler, stop.clone()));
        Membership { stop, member: Mutex::new(Some(member)) }
    }

    async fn run(self, mut handler: impl Handler, stop: Arc<Notify>) {
        loop {
            match self.join() {
                Ok(mut stream) => {
                    if self.follow(&mut stream, &mut handler, &stop).await {
                        return stream.end(self.offsets()).await;
                    }
                }
                Err(error) => tracing::warn!(%error, group = self.group, "cannot read from kafka"),
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    fn join(&self) -> Result<Polled<Read>, PortError> {
        let (ledger, lease) = (self.ledger.clone(), self.ledger.lend());
        let revoked: Arc<dyn Fn() + Send + Sync> = Arc::new(move || ledger.revoked(lease));
        let context = Context { client: self.client, metrics: self.kafka.metrics.clone(), revoked: Some(revoked) };
        let consumer = self.kafka.consumer(&self.kafka.config.member(self.group)?, context)?;
        consumer.subscribe(&[&self.kafka.topic(Topic::Task)]).map_err(|error| unavailable(&error))?;
        // One at a time: what goes back would come after what was read ahead.
        Polled::start(consumer, 1, |message| Read {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(0),
            value: message.payload().map(<[u8]>::to_vec),
        })
    }

    /// Whether it was told to stop; otherwise the client is of no use any more.
    async fn follow(&self, stream: &mut Polled<Read>, handler: &mut impl Handler, stop: &Notify) -> bool {
        let (mut commit_due, mut commit_again_due) = (interval(COMMIT_INTERVAL), interval(COMMIT_AGAIN_INTERVAL));
        commit_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        commit_again_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.notified() => return true,
                read = stream.next() => match read {
                    Some(read) => self.pass_on(stream, read, handler).await,
                    None => return false,
                },
                _ = commit_again_due.tick() => self.ledger.tell_again(),
                _ = commit_due.tick() => {
                    if let Some(offsets) = self.offsets() {
                        stream.commit(offsets);
                    }
                }
            }
        }
    }

    async fn pass_on(&self, stream: &mut Polled<Read>, read: Read, handler: &mut impl Handler) {
        let receipt = self.ledger.read(read.partition, read.offset);
        let message = Incoming { value: read.value.as_deref(), timestamp: read.timestamp, receipt };
        match handler.handle(message).await {
            Verdict::Settled => self.ledger.settle(receipt),
            Verdict::Held => {}
            Verdict::Again(pause) => {
                sleep(pause).await;
                stream.go_back(self.kafka.topic(Topic::Task), receipt.partition, receipt.offset);
            }
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

impl Membership {
    /// Commits what was settled and leaves the group to others, if that takes no longer than `deadline`.
    pub async fn close(&self, deadline: Duration) {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut member) = member {
            self.stop.notify_one();
            if timeout(deadline, &mut member).await.is_err() {
                // What it did not commit is read again, and does nothing then.
                member.abort();
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = self.member.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = member {
            member.abort();
        }
    }
}
