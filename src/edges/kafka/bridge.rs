//! Messages of the older system on the topic `task` become tasks: those without a task id.
//!
//! A message may be read more than once; its place gives its task's id, so it is submitted once. Its offset is committed
//! when the store has the task, or when nobody ever can have it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kubeml_actors::task::{Submission, TaskId};
use rdkafka::producer::Producer as _;
use serde_json::{Map, Value};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Kafka,
    bus::bury,
    client::ask,
    group::{Handler, Incoming, Member, Membership, Verdict},
    messages::{self, TaskMessage},
    metrics::INVALID_TASK,
    topics::Topic,
};

const GROUP: &str = "kubeml-bridge";
/// Of ids made from places of messages; never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b75_6265_6d6c_5b72_9d67_6527_7461_736b);
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
const CLUSTER_ID_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Whoever takes submissions.
#[async_trait]
pub trait Submit: Send + Sync {
    async fn submit(&self, submission: Submission) -> Result<(), NotSubmitted>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSubmitted {
    /// It will be asked again, with the same id.
    Later(String),
    Never(String),
}

/// Runs until it is closed or dropped.
pub struct Bridge {
    member: Membership,
}

impl Bridge {
    /// Must be called on a tokio runtime.
    pub fn start(kafka: Arc<Kafka>, submit: Arc<dyn Submit>) -> Self {
        let member = Member { kafka: kafka.clone(), client: "bridge", group: GROUP, ledger: Arc::default() };
        let submissions = Submissions { kafka, submit, cluster: None, backoff: BACKOFF_FIRST };
        Self { member: member.start(submissions) }
    }

    /// Commits what was submitted and leaves the group to others, if that takes no longer than `deadline`.
    pub async fn close(&self, deadline: Duration) {
        self.member.close(deadline).await;
    }
}

struct Submissions {
    kafka: Arc<Kafka>,
    submit: Arc<dyn Submit>,
    /// The id of the cluster of brokers, once it is known.
    cluster: Option<String>,
    backoff: Duration,
}

impl Handler for Submissions {
    async fn handle(&mut self, message: Incoming<'_>) -> Verdict {
        match messages::read_task(message.value) {
            TaskMessage::Submission(fields) => self.take(&fields, &message).await,
            // Hints are for trainers, who put aside what is unreadable as well: once is enough.
            TaskMessage::Hint(_) | TaskMessage::Unreadable(_) => Verdict::Settled,
        }
    }
}

impl Submissions {
    async fn take(&mut self, fields: &Map<String, Value>, message: &Incoming<'_>) -> Verdict {
        let topic = self.kafka.topic(Topic::Task);
        let outcome = match self.submitted(fields, message, &topic).await {
            Ok(()) => "submitted",
            Err(NotSubmitted::Later(error)) => {
                tracing::debug!(error, "a submission has to wait");
                let pause = self.backoff;
                self.backoff = (pause * 2).min(BACKOFF_MAX);
                return Verdict::Again(pause);
            }
            Err(NotSubmitted::Never(problem)) => match bury(&self.kafka, message, INVALID_TASK, &problem).await {
                Verdict::Settled => "invalid",
                again => return again,
            },
        };
        self.backoff = BACKOFF_FIRST;
        self.kafka.metrics.count("in", &topic, outcome);
        Verdict::Settled
    }

    async fn submitted(
        &mut self,
        fields: &Map<String, Value>,
        message: &Incoming<'_>,
        topic: &str,
    ) -> Result<(), NotSubmitted> {
        let spec = messages::spec(fields).map_err(NotSubmitted::Never)?;
        let cluster = self.cluster().await?;
        let (partition, offset) = (message.receipt.partition, message.receipt.offset);
        let id = id(&cluster, topic, partition, offset, message.timestamp);
        let submission = Submission { id, name: None, tags: Vec::new(), priority: 0, retry_of: None, spec };
        let late = |_| NotSubmitted::Later(format!("no answer within {SUBMIT_TIMEOUT:?}"));
        timeout(SUBMIT_TIMEOUT, self.submit.submit(submission)).await.map_err(late)?
    }

    async fn cluster(&mut self) -> Result<String, NotSubmitted> {
        if self.cluster.is_none() {
            let client = self.kafka.producer.client();
            let asked = ask(move || Ok(client.client().fetch_cluster_id(CLUSTER_ID_TIMEOUT))).await;
            self.cluster = asked.ok().flatten();
        }
        self.cluster.clone().ok_or_else(|| NotSubmitted::Later("kafka did not tell its cluster's id".to_owned()))
    }
}

fn id(cluster: &str, topic: &str, partition: i32, offset: i64, timestamp: i64) -> TaskId {
    let place = format!("{cluster}/{topic}/{partition}/{offset}/{timestamp}");
    TaskId(Uuid::new_v5(&NAMESPACE, place.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn a_place_has_an_id_of_its_own_for_ever() {
        let first = id("c", "task", 0, 1, 5);
        assert_eq!(first.to_string(), "6b479cdc-55b0-5f17-8019-9af0a5311de2");
        let others = [id("d", "task", 0, 1, 5), id("c", "t", 0, 1, 5), id("c", "task", 1, 1, 5)];
        assert!(others.iter().all(|other| *other != first));
        assert!(id("c", "task", 0, 2, 5) != first && id("c", "task", 0, 1, 6) != first);
    }
}
