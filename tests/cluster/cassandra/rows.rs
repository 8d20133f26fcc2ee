//! Rows of tasks in the database, as another program reads and writes them.

use scylla::client::{session::Session as Driver, session_builder::SessionBuilder};
use uuid::Uuid;

use super::keyspace::config;

/// The table `task` of a keyspace.
pub struct TaskRows {
    keyspace: String,
    driver: Driver,
}

impl TaskRows {
    pub async fn of(keyspace: &str) -> Self {
        let builder = SessionBuilder::new().known_nodes(config(keyspace).addresses()).fetch_schema_metadata(false);
        Self { keyspace: keyspace.to_owned(), driver: builder.build().await.expect("the database answers") }
    }

    /// The bytes of a task's record.
    pub async fn record(&self, task: Uuid) -> Vec<u8> {
        let select = format!("SELECT record FROM {}.task WHERE task_id = ?", self.keyspace);
        let rows = self.driver.query_unpaged(select, (task,)).await.expect("the statement is right");
        let (record,) = rows.into_rows_result().expect("a select has rows").single_row().expect("it is there");
        record
    }

    /// Replaces the bytes of a task's record, and nothing else of its row.
    pub async fn replace(&self, task: Uuid, record: &[u8]) {
        let update = format!("UPDATE {}.task SET record = ? WHERE task_id = ? IF EXISTS", self.keyspace);
        self.driver.query_unpaged(update, (record, task)).await.expect("the statement is right");
    }
}
