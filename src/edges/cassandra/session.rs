//! The one connection to the database that all adapters of a node share.
//!
//! It is made beside the callers, and tried again until it is there: while the database is down they are told so at
//! once. Afterwards the driver keeps it. Statements are prepared on their first use.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use kubeml_actors::{
    ports::PortError,
    restart_policy::{Backoff, chance},
};
use scylla::{
    client::session::Session as Driver,
    deserialize::row::DeserializeRow,
    response::{PagingState, query_result::QueryRowsResult},
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row},
};
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
};

use super::{
    CassandraConfig,
    connect::{Connected, connect},
    error::{at, of_execution, of_prepare},
    query::{Kind, Query},
};

const RETRY: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(5) };

/// Cheap to clone.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    place: String,
    keyspace: String,
    request_timeout: Duration,
    link: watch::Receiver<Link>,
    prepared: RwLock<HashMap<(&'static str, Kind), PreparedStatement>>,
    /// Held by who prepares. Cassandra forgets a statement for a moment when it is prepared twice at once.
    preparing: Mutex<()>,
    connecting: AbortHandle,
}

#[derive(Clone)]
enum Link {
    Connecting,
    Failed(PortError),
    Ready(Arc<Connected>),
}

impl Session {
    /// Begins to connect. Needs a tokio runtime.
    pub fn open(config: CassandraConfig) -> Self {
        let (place, keyspace, request_timeout) = (config.place(), config.keyspace.clone(), config.request_timeout);
        let (telling, link) = watch::channel(Link::Connecting);
        let connecting = tokio::spawn(keep_connecting(config, telling)).abort_handle();
        let (prepared, preparing) = (RwLock::default(), Mutex::default());
        Self { shared: Arc::new(Shared { place, keyspace, request_timeout, link, prepared, preparing, connecting }) }
    }

    /// What errors call the database.
    pub(super) fn place(&self) -> &str {
        &self.shared.place
    }

    /// The keyspace's copies in the local datacenter; an error says why the database cannot be used just now.
    pub async fn replication_factor(&self) -> Result<usize, PortError> {
        Ok(self.connected().await?.replication_factor)
    }

    pub(super) async fn write(&self, query: Query, values: impl SerializeRow + Sync) -> Result<(), PortError> {
        self.execute(query, &values).await.map(drop)
    }

    /// Of a query that has at most one.
    pub(super) async fn row<R>(&self, query: Query, values: impl SerializeRow + Sync) -> Result<Option<R>, PortError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        match self.execute(query, &values).await? {
            Some(rows) => Ok(self.typed(&rows)?.into_iter().next()),
            None => Ok(None),
        }
    }

    /// All rows, fetched page by page.
    pub(super) async fn rows<R>(&self, query: Query, values: impl SerializeRow + Sync) -> Result<Vec<R>, PortError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let (mut rows, mut next) = (Vec::new(), Some(PagingState::start()));
        while let Some(state) = next {
            let page;
            (page, next) = self.page(query, &values, state).await?;
            rows.extend(page);
        }
        Ok(rows)
    }

    /// One page, and where the next begins.
    pub(super) async fn page<R>(
        &self,
        query: Query,
        values: impl SerializeRow + Sync,
        state: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), PortError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let (rows, next) = self.fetch(query, &values, state).await?;
        Ok((self.typed(&rows)?, next))
    }

    /// For rows and values of any type, so that the driver is compiled once and not for every query.
    async fn fetch(
        &self,
        query: Query,
        values: &(dyn SerializeRow + Sync),
        state: PagingState,
    ) -> Result<(QueryRowsResult, Option<PagingState>), PortError> {
        let (connected, statement) = self.prepared(query).await?;
        let fetched = connected.driver.execute_single_page(&statement, values, state).await;
        let (result, next) = fetched.map_err(|error| self.located(of_execution(&error)))?;
        let rows = result.into_rows_result().map_err(|error| self.unreadable(&error))?;
        Ok((rows, next.into_paging_control_flow().continue_value()))
    }

    /// Whether the conditional write was applied. Its reply has other columns when it was not, so it is read by name.
    pub(super) async fn applied(&self, query: Query, values: impl SerializeRow + Sync) -> Result<bool, PortError> {
        let rows = self.execute(query, &values).await?.ok_or_else(|| self.unreadable(&"no [applied] in the reply"))?;
        let column = rows.column_specs().get_by_name("[applied]").map(|(column, _)| column);
        let row = self.typed::<Row>(&rows)?.into_iter().next();
        let value = column.zip(row).and_then(|(column, mut row)| row.columns.get_mut(column)?.take());
        match value {
            Some(CqlValue::Boolean(applied)) => Ok(applied),
            _ => Err(self.unreadable(&"no [applied] in the reply")),
        }
    }

    /// Writes rows of one partition as one mutation: all of them or none, in no state between.
    pub(super) async fn write_together(
        &self,
        query: Query,
        mut rows: Vec<impl SerializeRow + Sync>,
    ) -> Result<(), PortError> {
        // Alone it is less work as what it is.
        if rows.len() <= 1 {
            return match rows.pop() {
                Some(row) => self.write(query, row).await,
                None => Ok(()),
            };
        }
        let (connected, statement) = self.prepared(query).await?;
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(statement.get_is_idempotent());
        batch.set_execution_profile_handle(statement.get_execution_profile_handle().cloned());
        for _ in &rows {
            batch.append_statement(statement.clone());
        }
        let written = connected.driver.batch(&batch, rows).await;
        written.map(drop).map_err(|error| self.located(of_execution(&error)))
    }

    /// `None` for a statement that answers with nothing. For values of any type, as [`fetch`](Self::fetch).
    async fn execute(
        &self,
        query: Query,
        values: &(dyn SerializeRow + Sync),
    ) -> Result<Option<QueryRowsResult>, PortError> {
        let (connected, statement) = self.prepared(query).await?;
        let result = connected.driver.execute_unpaged(&statement, values).await;
        let result = result.map_err(|error| self.located(of_execution(&error)))?;
        if !result.is_rows() {
            return Ok(None);
        }
        result.into_rows_result().map(Some).map_err(|error| self.unreadable(&error))
    }

    fn typed<R>(&self, rows: &QueryRowsResult) -> Result<Vec<R>, PortError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let typed = rows.rows::<R>().map_err(|error| self.unreadable(&error))?;
        typed.collect::<Result<_, _>>().map_err(|error| self.unreadable(&error))
    }

    async fn prepared(&self, query: Query) -> Result<(Arc<Connected>, PreparedStatement), PortError> {
        let connected = self.connected().await?;
        let key = (query.cql, query.kind);
        let known = || self.shared.prepared.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(statement) = known() {
            return Ok((connected, statement));
        }
        let _preparing = self.shared.preparing.lock().await;
        if let Some(statement) = known() {
            return Ok((connected, statement));
        }
        let prepared = connected.driver.prepare(query.cql.replace('$', &self.shared.keyspace)).await;
        let mut statement = prepared.map_err(|error| self.located(of_prepare(&error)))?;
        query.kind.set_up(&mut statement, &connected.profiles);
        self.shared.prepared.write().unwrap_or_else(PoisonError::into_inner).insert(key, statement.clone());
        Ok((connected, statement))
    }

    /// Waits for the first outcome of connecting, never for another try.
    async fn connected(&self) -> Result<Arc<Connected>, PortError> {
        let mut link = self.shared.link.clone();
        let first = link.wait_for(|link| !matches!(link, Link::Connecting));
        let link = match tokio::time::timeout(self.shared.request_timeout, first).await {
            Ok(Ok(link)) => link.clone(),
            Ok(Err(_)) | Err(_) => Link::Connecting,
        };
        match link {
            Link::Ready(connected) => Ok(connected),
            Link::Failed(error) => Err(error),
            Link::Connecting => Err(self.located(PortError::Unavailable("not connected yet".to_owned()))),
        }
    }

    fn located(&self, error: PortError) -> PortError {
        at(&self.shared.place, error)
    }

    fn unreadable(&self, error: &impl ToString) -> PortError {
        self.located(PortError::Corrupt(format!("an answer cannot be read: {}", error.to_string())))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

async fn keep_connecting(config: CassandraConfig, telling: watch::Sender<Link>) {
    for failures in 1.. {
        match connect(&config).await {
            Ok(connected) => {
                tracing::info!(place = config.place(), datacenter = connected.datacenter, "connected");
                connected.warn_of_intolerance();
                telling.send_replace(Link::Ready(Arc::new(connected)));
                // The sender stays, or who waits would take it for an end.
                return telling.closed().await;
            }
            Err(error) => {
                let error = at(&config.place(), error);
                tracing::warn!(%error, "cannot use the database yet");
                telling.send_replace(Link::Failed(error));
            }
        }
        tokio::time::sleep(RETRY.delay(failures, chance())).await;
    }
}

/// A driver that is connected, for what happens outside of the data path.
pub(super) type RawDriver = Driver;
