//! The contracts of the ports.

use std::sync::Arc;

use async_trait::async_trait;
use kubeml::edges::cassandra::{CassandraArtifacts, CassandraDatasets, CassandraEvents};
use kubeml_actors::{
    contract_tests,
    event::{Seq, TaskEvent},
    ports::{EventLog, LogPage, PortError, Position},
    task::TaskId,
    testing::contracts::{self, State},
    timestamp::Timestamp,
};
use tokio::sync::{OnceCell, watch};

use super::keyspace::{Keyspace, Node};

/// The part of a log that is the database's: no positions.
pub struct Stored(pub CassandraEvents);

#[async_trait]
impl EventLog for Stored {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        self.0.append(events, |_| ()).await
    }

    async fn relay(&self, _: TaskId, _: Seq) -> Result<(), PortError> {
        Ok(())
    }

    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.0.read_task(task, after, limit).await
    }

    async fn read_all(&self, _: &Position, _: usize) -> Result<LogPage, PortError> {
        Ok(LogPage::default())
    }

    fn head(&self) -> watch::Receiver<Position> {
        watch::channel(Position::default()).1
    }

    fn is_live(&self) -> bool {
        false
    }

    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        self.0.trim(horizon).await
    }
}

/// Nodes one after the other on one keyspace, which is empty for the first.
fn opened<T>(part: impl Fn(Node) -> T) -> impl AsyncFn() -> T {
    let keyspace = OnceCell::new();
    async move || part(keyspace.get_or_init(Keyspace::take).await.node())
}

fn state(node: Node) -> State {
    State { tasks: node.tasks, events: Arc::new(Stored(node.events)) }
}

mod tasks {
    use super::*;

    contracts::task_store!(opened(state));
}

mod events {
    use super::*;

    contract_tests!(
        event_log,
        opened(state),
        [
            facts_of_a_task_come_in_the_order_of_seq,
            facts_of_a_task_can_be_read_in_pages,
            an_unknown_task_has_no_facts,
            a_fact_older_than_the_newest_is_not_taken,
            another_fact_in_a_taken_place_is_not_taken,
        ]
    );
    contract_tests!(
        log_trim,
        opened(state),
        [
            old_facts_of_ended_tasks_are_trimmed,
            facts_of_tasks_that_have_not_ended_are_kept,
            facts_of_no_task_are_trimmed,
            many_facts_are_trimmed_at_once,
            a_trimmed_fact_is_not_taken_although_the_clock_stepped_back,
            an_ended_task_that_was_trimmed_is_still_announced,
        ]
    );
}

mod datasets {
    use super::*;

    contracts::dataset_store!(opened(|node| -> Arc<CassandraDatasets> { node.datasets }));
}

mod artifacts {
    use super::*;

    contracts::artifact_store!(opened(|node| -> Arc<CassandraArtifacts> { node.artifacts }));
}
