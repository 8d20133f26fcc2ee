//! The task store and the log of a cluster: Cassandra keeps, and whatever it keeps Kafka tells.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{Cas, EventLog, Inserted, ListCursor, LogPage, PortError, Position, TaskFilter, TaskPage, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};
use tokio::sync::watch;

use super::{
    cassandra::{Appended, CassandraEvents, CassandraTasks, RowFacts},
    kafka::{FactStore, KafkaFacts},
};

pub struct ClusterState {
    tasks: CassandraTasks,
    events: Arc<CassandraEvents>,
    facts: Arc<KafkaFacts>,
}

/// What Kafka's side sends facts again from.
pub struct StoredFacts(pub Arc<CassandraEvents>);

#[async_trait]
impl FactStore for StoredFacts {
    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.0.read_task(task, after, limit).await
    }

    async fn close(&self, task: TaskId, after: Seq, end: Seq) -> Result<bool, PortError> {
        self.0.close(task, after, end).await
    }
}

impl ClusterState {
    pub fn new(tasks: CassandraTasks, events: Arc<CassandraEvents>, facts: KafkaFacts) -> Self {
        let facts = Arc::new(facts);
        // Weak, since Kafka's side reads the events.
        let telling = Arc::downgrade(&facts);
        events.on_facts(move |record, RowFacts { found, made }| {
            let Some(facts) = telling.upgrade() else { return true };
            facts.learn(record);
            let are_sent = facts.publish_found(found);
            facts.publish(made) && are_sent
        });
        Self { tasks, events, facts }
    }

    /// Returns when what follows from the writes up to now is done.
    pub async fn finish(&self) {
        self.tasks.finish().await;
    }
}

#[async_trait]
impl TaskStore for ClusterState {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        self.tasks.insert(record, facts).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        self.tasks.compare_and_set(next, facts).await
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.tasks.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.tasks.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        self.tasks.list(filter, after, limit).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        self.tasks.queue(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.tasks.counts().await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        self.tasks.delete(id).await
    }
}

#[async_trait]
impl EventLog for ClusterState {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        let facts = self.facts.clone();
        let tell = move |appended: Appended<'_>| match appended {
            Appended::Written(events) => drop(facts.publish(&told_at_once(events))),
            Appended::Unknown(events) => facts.owe(&told_at_once(events)),
        };
        self.events.append(events, tell).await
    }

    async fn relay(&self, task: TaskId, from: Seq) -> Result<(), PortError> {
        self.events.settle(task).await?;
        self.facts.relay(task, from).await
    }

    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.events.read_task(task, after, limit).await
    }

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        self.facts.read_all(after, limit).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.facts.head()
    }

    fn is_live(&self) -> bool {
        self.facts.is_connected()
    }

    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        self.events.trim(horizon).await
    }
}

/// A task's last fact is told by `relay`, which sees to it that it is heard.
fn told_at_once(events: &[TaskEvent]) -> Vec<TaskEvent> {
    events.iter().filter(|event| !event.kind.is_terminal()).cloned().collect()
}
