//! Empty keyspaces for tests, a few of them used over and over: making one takes the database seconds.

use std::{
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kubeml::{
    config::{Sources, Store, load},
    edges::cassandra::{
        CassandraArtifacts, CassandraConfig, CassandraDatasets, CassandraEvents, CassandraNodes, CassandraTasks,
        ChunkPermits, Session, init,
    },
};
use scylla::{
    client::{session::Session as Driver, session_builder::SessionBuilder},
    response::query_result::QueryResult,
    serialize::row::SerializeRow,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::cluster::nodes::{DEADLINE, services};

const CONTACT_POINTS: &str = "KUBEML__STORE__CASSANDRA__CONTACT_POINTS";

/// Keyspaces with tables that nobody uses just now; they may hold what was left in them.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A keyspace that is one test's alone.
pub struct Keyspace {
    pub config: CassandraConfig,
    /// For what no adapter does.
    driver: Driver,
}

/// The adapters of one node, on a connection of their own.
pub struct Node {
    pub session: Session,
    pub tasks: Arc<CassandraTasks>,
    pub events: CassandraEvents,
    pub datasets: Arc<CassandraDatasets>,
    pub artifacts: Arc<CassandraArtifacts>,
    pub nodes: Arc<CassandraNodes>,
}

impl Keyspace {
    /// Empty, with tables.
    pub async fn take() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match free {
            Some(name) => {
                let keyspace = Self::of(config(&name)).await;
                keyspace.empty().await;
                keyspace
            }
            None => {
                let keyspace = Self::bare().await;
                init(&keyspace.config, &drop).await.expect("the tables are made");
                keyspace
            }
        }
    }

    /// Without tables.
    pub async fn bare() -> Self {
        let keyspace = Self::of(config(&format!("test_{}", Uuid::new_v4().simple()))).await;
        let options = "replication = {'class': 'SimpleStrategy', 'replication_factor': 1} AND durable_writes = false";
        keyspace.run(&format!("CREATE KEYSPACE {} WITH {options}", keyspace.config.keyspace), ()).await;
        keyspace
    }

    async fn of(config: CassandraConfig) -> Self {
        let builder = SessionBuilder::new().known_nodes(config.addresses()).fetch_schema_metadata(false);
        let driver = builder.build().await.expect("the database answers");
        Self { config, driver }
    }

    pub fn node(&self) -> Node {
        Node::over(self.config.clone())
    }

    /// Runs a statement; `$` stands for the keyspace.
    pub async fn run(&self, cql: &str, values: impl SerializeRow) -> QueryResult {
        let cql = cql.replace('$', &self.config.keyspace);
        self.driver.query_unpaged(cql, values).await.expect("the statement is right")
    }

    /// By which the database knows a statement, whoever prepares it.
    pub async fn prepared_id(&self, cql: &str) -> Vec<u8> {
        self.driver.prepare(cql).await.expect("the statement is right").get_id().to_vec()
    }

    pub async fn rows_in(&self, table: &str) -> usize {
        let result = self.run(&format!("SELECT * FROM $.{table}"), ()).await;
        result.into_rows_result().expect("a select has rows").rows_num()
    }

    async fn empty(&self) {
        let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let tables = self.run(tables, (&self.config.keyspace,)).await.into_rows_result().expect("a select has rows");
        for table in tables.rows::<(String,)>().expect("it is a text").map(|row| row.expect("it is a text").0) {
            if table != "schema_version" && self.rows_in(&table).await > 0 {
                self.run(&format!("TRUNCATE $.{table}"), ()).await;
            }
        }
    }
}

impl Node {
    pub fn over(config: CassandraConfig) -> Self {
        let session = Session::open(config.clone());
        let permits = ChunkPermits::new(&config);
        let events = CassandraEvents::new(session.clone());
        Self {
            tasks: Arc::new(CassandraTasks::new(session.clone(), &events)),
            datasets: Arc::new(CassandraDatasets::new(session.clone(), permits.clone())),
            artifacts: Arc::new(CassandraArtifacts::new(session.clone(), permits)),
            nodes: Arc::new(CassandraNodes::new(session.clone())),
            events,
            session,
        }
    }

    /// For who waits shorter for an answer than it takes to connect.
    pub async fn until_connected(&self) {
        let connected = async {
            while self.session.replication_factor().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, connected).await.expect("it connects");
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        // Without tables it is of no use to others.
        if !std::thread::panicking() {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.config.keyspace.clone());
        }
    }
}

/// Of the servers that the tests are run with: the suite's, or others that the environment names. They may be slow where
/// the machine is, which no test is about.
pub fn config(keyspace: &str) -> CassandraConfig {
    let points = match env::var(CONTACT_POINTS) {
        Ok(points) => points,
        Err(_) => services().environment().into_iter().find(|(name, _)| name == CONTACT_POINTS).expect("it is set").1,
    };
    let sources = Sources::default()
        .variable("HOME", "/nowhere")
        .variable("KUBEML__STORE__CASSANDRA__KEYSPACE", keyspace)
        .variable("KUBEML__STORE__CASSANDRA__REPLICATION_FACTOR", "1")
        .variable("KUBEML__STORE__CASSANDRA__REQUEST_TIMEOUT", "30s")
        .variable("KUBEML__STORE__KIND", "cassandra")
        .variable("KUBEML__BUS__KIND", "kafka")
        .variable(CONTACT_POINTS, points);
    match load(&sources).expect("it is right").store {
        Store::Cassandra(config) => config,
        Store::Embedded => panic!("another was asked for"),
    }
}
