//! Hints over the topic `task`, and dead letters: [`TaskBus`].
//!
//! The store's queue is what guarantees that a task is found; hints make it sooner. So what does not fit is dropped, and
//! a group without a place to go on from begins with the oldest hint: that costs a look into the store.

use std::{
    collections::{HashMap, VecDeque},
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kubeml_actors::{
    ports::{DatasetNews, DeadLetter, Hint, PortError, TaskBus},
    task::TaskId,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::{
    Kafka,
    group::{Handler, Incoming, Member, Membership, Verdict},
    ledger::{Ledger, Receipt, UNSETTLED_MAX},
    messages::{self, Dead, TaskMessage},
    metrics::UNREADABLE,
    producer::Message,
    topics::Topic,
};

const GROUP: &str = "task-consumer-group-1";
/// Hints that wait for a receiver.
const WAITING_MAX: usize = 256;
/// Before a dead letter that did not arrive is sent again.
const BURY_PAUSE: Duration = Duration::from_secs(1);

pub struct KafkaBus {
    kafka: Arc<Kafka>,
    /// On nodes that train.
    listening: Option<Listening>,
}

struct Listening {
    hints: AsyncMutex<mpsc::Receiver<Hint>>,
    held: Arc<Held>,
    member: Membership,
}

/// The hints handed out and not acknowledged.
#[derive(Default)]
struct Held {
    ledger: Arc<Ledger>,
    receipts: Mutex<HashMap<TaskId, VecDeque<Receipt>>>,
}

impl KafkaBus {
    /// Only a node that trains listens: hints for others would be lost on it. Must be called on a tokio runtime.
    pub fn start(kafka: Arc<Kafka>, listens: bool) -> Self {
        let listening = listens.then(|| Listening::start(kafka.clone()));
        Self { kafka, listening }
    }

    /// Commits what was acknowledged and leaves the group, if that takes no longer than `deadline`.
    pub async fn close(&self, deadline: Duration) {
        if let Some(listening) = &self.listening {
            listening.member.close(deadline).await;
        }
    }

    fn send(&self, topic: Topic, key: Option<&str>, value: &str) {
        let topic = self.kafka.topic(topic);
        let message = Message { topic: &topic, key, value: value.as_bytes(), headers: None };
        self.kafka.producer.send_and_forget(message);
    }
}

#[async_trait]
impl TaskBus for KafkaBus {
    fn publish(&self, hint: Hint) {
        self.send(Topic::Task, Some(&hint.task.to_string()), &messages::hint(hint));
    }

    async fn receive(&self) -> Result<Hint, PortError> {
        match &self.listening {
            Some(listening) => {
                let hint = listening.hints.lock().await.recv().await;
                hint.ok_or_else(|| PortError::Unavailable("kafka: the bus is closed".to_owned()))
            }
            None => future::pending().await,
        }
    }

    fn acknowledge(&self, hint: Hint) {
        if let Some(listening) = &self.listening {
            listening.held.settle(hint.task);
        }
    }

    fn bury(&self, letter: DeadLetter) {
        tracing::warn!(topic = letter.topic, reason = letter.reason, detail = letter.detail, "a dead letter");
        self.send(Topic::DeadLetters, None, &messages::letter(&letter));
    }

    fn note_dataset(&self, news: DatasetNews) {
        self.send(Topic::LoadData, Some(&news.dataset), &messages::dataset(&news));
    }

    async fn check(&self) -> Result<(), PortError> {
        self.kafka.check().await
    }

    async fn send_test(&self) -> Result<(), PortError> {
        let topic = self.kafka.topic(Topic::Test);
        let value = messages::TEST_MESSAGE.as_bytes();
        self.kafka.producer.deliver([Message { topic: &topic, key: None, value, headers: None }]).await
    }
}

impl Listening {
    fn start(kafka: Arc<Kafka>) -> Self {
        let (handed, hints) = mpsc::channel(WAITING_MAX);
        let held = Arc::new(Held::default());
        let member = Member { kafka: kafka.clone(), client: "hints", group: GROUP, ledger: held.ledger.clone() };
        let member = member.start(Hints { kafka, held: held.clone(), handed });
        Self { hints: AsyncMutex::new(hints), held, member }
    }
}

impl Held {
    fn hold(&self, task: TaskId, receipt: Receipt) {
        let mut receipts = self.lock();
        if receipts.len() >= UNSETTLED_MAX {
            // The ledger has given up the oldest of them by itself.
            receipts.clear();
        }
        let of_task = receipts.entry(task).or_default();
        of_task.retain(|earlier| self.ledger.is_current(*earlier));
        of_task.push_back(receipt);
    }

    fn settle(&self, task: TaskId) {
        let mut receipts = self.lock();
        let Some(of_task) = receipts.get_mut(&task) else { return };
        let receipt = of_task.pop_front();
        if of_task.is_empty() {
            receipts.remove(&task);
        }
        drop(receipts);
        if let Some(receipt) = receipt {
            self.ledger.settle(receipt);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, VecDeque<Receipt>>> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done with messages on `task` where tasks are trained.
struct Hints {
    kafka: Arc<Kafka>,
    held: Arc<Held>,
    handed: mpsc::Sender<Hint>,
}

impl Handler for Hints {
    async fn handle(&mut self, message: Incoming<'_>) -> Verdict {
        let topic = self.kafka.topic(Topic::Task);
        let outcome = match messages::read_task(message.value) {
            TaskMessage::Hint(hint) => return self.hand_out(hint, &topic, message.receipt),
            // The bridge's.
            TaskMessage::Submission(_) => "ignored",
            TaskMessage::Unreadable(detail) => match bury(&self.kafka, &message, UNREADABLE, &detail).await {
                Verdict::Settled => "unreadable",
                again => return again,
            },
        };
        self.kafka.metrics.count("in", &topic, outcome);
        Verdict::Settled
    }
}

impl Hints {
    fn hand_out(&self, hint: Hint, topic: &str, receipt: Receipt) -> Verdict {
        self.held.hold(hint.task, receipt);
        match self.handed.try_send(hint) {
            Ok(()) => {
                self.kafka.metrics.count("in", topic, "ok");
                Verdict::Held
            }
            Err(_) => {
                self.kafka.metrics.count("in", topic, "dropped");
                self.held.settle(hint.task);
                Verdict::Settled
            }
        }
    }
}

/// Puts aside a message on `task` that nobody can act on. It is settled when its letter has arrived.
pub async fn bury(kafka: &Kafka, message: &Incoming<'_>, reason: &'static str, detail: &str) -> Verdict {
    let (topic, letters) = (kafka.topic(Topic::Task), kafka.topic(Topic::DeadLetters));
    let Receipt { partition, offset, .. } = message.receipt;
    let dead = messages::dead(Dead { topic: &topic, partition, offset, reason, detail, value: message.value });
    let key = format!("{topic}/{partition}/{offset}");
    let letter = Message { topic: &letters, key: Some(&key), value: dead.as_bytes(), headers: None };
    if let Err(error) = kafka.producer.deliver([letter]).await {
        tracing::warn!(topic, partition, offset, %error, "a dead letter has to wait, and what follows with it");
        return Verdict::Again(BURY_PAUSE);
    }
    tracing::warn!(topic, partition, offset, reason, detail, "a dead letter");
    kafka.metrics.dead_letters.with_label_values(&[Topic::Task.name(), reason]).inc();
    Verdict::Settled
}
