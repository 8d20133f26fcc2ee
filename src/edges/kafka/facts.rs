//! Live traffic of facts over the topic `training_log`.
//!
//! The store has each fact before Kafka hears of it. A message is the older system's line, which its clients read, and
//! in a header the fact itself, which our nodes read. Messages may come twice; those that Kafka did not take are sent
//! again from the store, as long as this process lives. Messages wait for brokers in the order of their sending, without
//! limit of time; what the queue has no room for is owed, and joined by whatever follows of its task. Who goes on with a
//! task that another node told owes the newest facts of that one, whose messages may have died with it.

mod debts;
mod heard;
mod history;
mod message;
mod reader;
mod repair;
mod standstill;
mod tail;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kubeml_actors::{
    background::AbortOnDrop,
    event::{Seq, TaskEvent},
    ports::{LogPage, PortError, Position},
    task::{TaskId, TaskRecord},
};
use rdkafka::error::KafkaError;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use self::{
    debts::{Debts, Owed},
    message::FactMessage,
    reader::Reader,
};
use super::{Kafka, generations::Generations, producer::Message, topics::Topic};
use crate::wire::older::Known;

/// Tasks of which something is remembered; half of it at least.
const KNOWN_MAX: usize = 16_384;
const DELIVERED_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLING_POLL: Duration = Duration::from_millis(20);

/// What facts are sent again from.
#[async_trait]
pub trait FactStore: Send + Sync {
    /// A task's facts after `after`, in their order; `limit` is at least 1.
    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError>;

    /// Nothing is added between `after` and `end`, the end of its attempt, although a write of it may be under way. What can
    /// be read there may have been told and stays: `true` if there is something.
    async fn close(&self, task: TaskId, after: Seq, end: Seq) -> Result<bool, PortError>;
}

pub struct KafkaFacts {
    shared: Arc<Shared>,
    /// On nodes that have listeners.
    reader: Option<Reader>,
    _repair: AbortOnDrop,
}

/// The sending half.
struct Shared {
    kafka: Arc<Kafka>,
    topic: String,
    store: Arc<dyn FactStore>,
    known: Mutex<Generations<TaskId, Known>>,
    /// The last place of each task's newest attempt that this node tells: of one that it runs all, of one that it has
    /// inherited what comes before the end.
    tells: Mutex<Generations<TaskId, Seq>>,
    debts: Arc<Debts>,
}

impl KafkaFacts {
    /// `store` is where facts are sent again from; `ring` is how many facts a node with listeners holds in memory, `None`
    /// for a node without. Waits for no broker; must be called on a tokio runtime.
    pub fn start(kafka: Arc<Kafka>, store: Arc<dyn FactStore>, ring: Option<usize>) -> Self {
        let topic = kafka.topic(Topic::TrainingLog);
        let debts = Arc::new(Debts::new(kafka.metrics.clone()));
        let reader = ring.map(|ring| Reader::start(kafka.clone(), topic.clone(), ring));
        let known = Mutex::new(Generations::new(KNOWN_MAX / 2));
        let tells = Mutex::new(Generations::new(KNOWN_MAX / 2));
        let shared = Arc::new(Shared { kafka, topic, store, known, tells, debts });
        let repair = AbortOnDrop(tokio::spawn(repair::run(shared.clone())));
        Self { shared, reader, _repair: repair }
    }

    /// What the older lines of the task's facts say beside the facts. To be called with every record that is written.
    pub fn learn(&self, record: &TaskRecord) {
        self.shared.known().insert(record.id, Known::of(Some(record)));
    }

    /// Sends facts that this node has made and stored. Never waits. Says whether all are on their way; the others are sent
    /// from the store later, and whoever has not written them there yet has to call this again when that is done.
    pub fn publish(&self, events: &[TaskEvent]) -> bool {
        self.shared.note_owned(events);
        self.publish_found(events)
    }

    /// Like `publish`, for facts that some node has made. What came before them may never have been told, or come later
    /// from there: this node then tells all of their attempt.
    pub fn publish_found(&self, events: &[TaskEvent]) -> bool {
        for event in events.iter().filter(|event| self.shared.inherits(event)) {
            self.shared.debts.owe(event.task, Owed::Inherited(event.seq.attempt()));
        }
        self.shared.send(events);
        !events.iter().any(|event| self.shared.debts.has(event.task))
    }

    /// Notes facts whose storing has an unknown outcome: what of them is in the store is sent from there.
    pub fn owe(&self, events: &[TaskEvent]) {
        for event in events {
            self.shared.tells().insert(event.task, last_of_owner(event.seq));
            self.shared.debts.owe(event.task, Owed::From(event.seq));
        }
    }

    /// Sends what is in the store of a task from `from` on, as far as the node that ran the attempt may not have told it,
    /// and returns when Kafka has it.
    pub async fn relay(&self, task: TaskId, from: Seq) -> Result<(), PortError> {
        self.delivered(&repair::all_untold(&*self.shared.store, task, from).await?).await
    }

    /// Sends facts that are in the store, and returns when Kafka has them.
    pub async fn delivered(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        // Whoever asks again and again during an outage neither waits nor fills the queue with copies.
        self.shared.kafka.has(&[Topic::TrainingLog]).await?;
        if events.iter().any(|event| self.shared.debts.joins(event.task)) {
            self.owe(events);
            return self.settled(events).await;
        }
        self.shared.deliver(events).await
    }

    /// The newest position heard, once the newest messages have been read after the start. Only on nodes with listeners.
    pub fn head(&self) -> watch::Receiver<Position> {
        match &self.reader {
            Some(reader) => reader.head(),
            None => watch::channel(Position::default()).1,
        }
    }

    /// Whether `head` hears of every fact soon.
    pub fn is_connected(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::is_connected)
    }

    /// The facts after a position, in an order of this reader; at most up to the head.
    pub async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        match &self.reader {
            Some(reader) => reader.read_all(after, limit).await,
            None => Ok(LogPage::default()),
        }
    }

    async fn settled(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        let settled = async {
            while events.iter().any(|event| self.shared.debts.has(event.task)) {
                sleep(SETTLING_POLL).await;
            }
        };
        let late = |_| PortError::Unavailable("kafka: earlier facts of this task have not been taken yet".to_owned());
        timeout(DELIVERED_TIMEOUT, settled).await.map_err(late)
    }
}

impl Shared {
    /// Only its owner makes facts of an attempt, except what ends it.
    fn note_owned(&self, events: &[TaskEvent]) {
        for event in events.iter().filter(|event| event.task != TaskId::NONE && !event.seq.is_end()) {
            self.tells().insert(event.task, Seq::terminal(event.seq.attempt()));
        }
    }

    /// Whether it is told by another node: of one attempt at most once for its end, and once before. From now on this node
    /// tells the attempt so far.
    fn inherits(&self, event: &TaskEvent) -> bool {
        let attempt = event.seq.attempt();
        let has_owner = event.task != TaskId::NONE && event.seq != Seq::QUEUED;
        let mut tells = self.tells();
        let tells_it = tells.get(&event.task).is_some_and(|last| last.attempt() == attempt && event.seq <= *last);
        if !has_owner || tells_it {
            return false;
        }
        let last = if event.seq.is_end() { Seq::terminal(attempt) } else { last_of_owner(event.seq) };
        tells.insert(event.task, last);
        true
    }

    /// All are made before the first goes out: they then follow each other so closely that one request takes them along.
    fn send(&self, events: &[TaskEvent]) {
        let made: Vec<_> = events.iter().map(|event| (event, self.message(event))).collect();
        for (event, message) in &made {
            let (task, seq) = (event.task, event.seq);
            // Behind a fact that is owed the order is kept: the repair sends this one, too.
            if self.debts.joins(task) {
                continue;
            }
            match message {
                Ok(message) => {
                    let debts = self.debts.clone();
                    let told = move |result: Result<(), KafkaError>| {
                        if result.is_err() {
                            debts.owe(task, Owed::From(seq));
                        }
                    };
                    self.kafka.producer.send(self.addressed(message), Box::new(told));
                }
                // It is in the store, so it was encoded before.
                Err(error) => tracing::warn!(%task, %seq, %error, "a fact cannot be sent"),
            }
        }
    }

    async fn deliver(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        let messages: Result<Vec<FactMessage>, PortError> = events.iter().map(|event| self.message(event)).collect();
        let messages = messages?;
        self.kafka.producer.deliver(messages.iter().map(|message| self.addressed(message))).await
    }

    fn message(&self, event: &TaskEvent) -> Result<FactMessage, PortError> {
        let mut memory = self.known();
        let known = memory.get(&event.task).cloned().unwrap_or_else(|| Known::of(None)).from(event);
        if event.task != TaskId::NONE {
            memory.insert(event.task, known.clone());
        }
        drop(memory);
        FactMessage::new(event, &known)
    }

    fn addressed<'m>(&'m self, message: &'m FactMessage) -> Message<'m> {
        Message {
            topic: &self.topic,
            key: Some(&message.key),
            value: message.value.as_bytes(),
            headers: Some(message.headers.clone()),
        }
    }

    fn tells(&self) -> MutexGuard<'_, Generations<TaskId, Seq>> {
        self.tells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Generations<TaskId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last place of the attempt before those of its end.
fn last_of_owner(seq: Seq) -> Seq {
    Seq(Seq::attempt_end(seq.attempt()).0 - 1)
}
