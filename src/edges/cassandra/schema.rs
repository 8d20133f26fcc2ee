//! The keyspace and its tables: made by `kubeml admin init`, and only there.
//!
//! | table | partition; rows | value |
//! |---|---|---|
//! | task | id | version, record, its facts: conditional writes only |
//! | task_queue | shard, period; priority (highest first), created, id | advised state |
//! | task_by_day | day, shard; created (newest first), id | model |
//! | task_period | list, shard; period | says that the list has rows there |
//! | event | task, bucket; seq | fact |
//! | event_bucket | task; bucket | what has been trimmed of it |
//! | dataset | name; version | manifest, and which version is the current one |
//! | dataset_import | name | says that somebody imports it: conditional writes only |
//! | dataset_chunk | hash | packed bytes |
//! | artifact | task, attempt, step, kind, number | one piece of its bytes |
//! | artifact_index | task; attempt, step, kind | length, pieces, hash: conditional writes only |
//! | node | cluster; node, boot | heartbeat |
//! | schema_version | 0 | the version of all this |
//!
//! Ids that order rows are blobs: a uuid column would order them by the uuid's version first.

use kubeml_actors::ports::PortError;

use super::{
    CassandraConfig,
    connect::{ask, ask_all, connect_driver, datacenter, factor_in, replication},
    error::{at, of_execution},
    session::RawDriver,
    tolerated_failures,
};

/// Grows with every change of the tables.
pub(super) const VERSION: i32 = 2;
/// Older tables were never released.
const FIRST_RELEASE: i32 = 2;

/// What goes quickly may reappear when a node comes back after this long: it is taken away again, or expires.
const TABLES: [&str; 13] = [
    "schema_version (id int PRIMARY KEY, version int)",
    "task (task_id uuid PRIMARY KEY, version bigint, record blob, facts frozen<list<blob>>)",
    "task_queue (shard int, period bigint, priority int, created_at bigint, task_id blob, state tinyint, \
     PRIMARY KEY ((shard, period), priority, created_at, task_id)) \
     WITH CLUSTERING ORDER BY (priority DESC, created_at ASC, task_id ASC) AND gc_grace_seconds = 3600",
    "task_by_day (day bigint, shard int, created_at bigint, task_id blob, model text, \
     PRIMARY KEY ((day, shard), created_at, task_id)) \
     WITH CLUSTERING ORDER BY (created_at DESC, task_id DESC)",
    "task_period (list text, shard int, period bigint, mark tinyint, PRIMARY KEY ((list, shard), period)) \
     WITH gc_grace_seconds = 3600",
    "event (task_id uuid, bucket bigint, seq bigint, at bigint, payload blob, PRIMARY KEY ((task_id, bucket), seq))",
    "event_bucket (task_id uuid, bucket bigint, begun_at bigint, trimmed bigint, is_empty boolean, \
     PRIMARY KEY (task_id, bucket))",
    "dataset (name text, version text, current text STATIC, manifest blob, PRIMARY KEY (name, version))",
    "dataset_import (name text PRIMARY KEY, since timestamp)",
    "dataset_chunk (hash blob PRIMARY KEY, bytes blob)",
    "artifact (task_id uuid, attempt int, step bigint, kind text, number int, bytes blob, \
     PRIMARY KEY ((task_id, attempt, step, kind, number)))",
    "artifact_index (task_id uuid, attempt int, step bigint, kind text, length bigint, pieces int, hash blob, \
     PRIMARY KEY (task_id, attempt, step, kind))",
    "node (cluster text, node_id text, boot uuid, row blob, PRIMARY KEY (cluster, node_id, boot)) \
     WITH gc_grace_seconds = 3600",
];

/// Makes what is missing and says what was done, a line each. Doing it again changes nothing.
pub async fn init(config: &CassandraConfig, said: &(dyn Fn(String) + Sync)) -> Result<(), PortError> {
    make_all(config, said).await.map_err(|error| at(&config.place(), error))
}

async fn make_all(config: &CassandraConfig, said: &(dyn Fn(String) + Sync)) -> Result<(), PortError> {
    let driver = connect_driver(config).await?;
    let datacenter = datacenter(&driver, config).await?;
    said(make_keyspace(&driver, config, &datacenter).await?);
    let shortage = shortage(&driver, config, &datacenter);
    let tables = make_tables(&driver, &config.keyspace).await;
    said(tables.map_err(|error| explained(error, shortage.as_deref()))?);
    shortage.into_iter().for_each(said);
    Ok(())
}

/// The database says what it cannot do, but not what to do about it.
fn explained(error: PortError, shortage: Option<&str>) -> PortError {
    match (error, shortage) {
        (PortError::Unavailable(text), Some(shortage)) => PortError::Unavailable(format!("{text}; {shortage}")),
        (error, _) => error,
    }
}

async fn make_keyspace(driver: &RawDriver, config: &CassandraConfig, datacenter: &str) -> Result<String, PortError> {
    let (name, wanted) = (&config.keyspace, config.replication_factor);
    let options = format!("{{'class': 'NetworkTopologyStrategy', '{}': {wanted}}}", datacenter.replace('\'', "''"));
    let Some(replication) = replication(driver, name).await? else {
        change(driver, &format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {options}")).await?;
        return Ok(format!("keyspace {name} made, {wanted} copies in datacenter {datacenter}"));
    };
    let found = factor_in(&replication, datacenter);
    if found == wanted {
        return Ok(format!("keyspace {name} is there, {wanted} copies in datacenter {datacenter}"));
    }
    Ok(format!(
        "keyspace {name} is there with {found} copies in datacenter {datacenter}, not the configured {wanted}; to \
         change that, run `ALTER KEYSPACE {name} WITH replication = {options}` in cqlsh, then `nodetool repair --full \
         {name}` on every node"
    ))
}

/// Says when there are too few nodes for the copies.
fn shortage(driver: &RawDriver, config: &CassandraConfig, datacenter: &str) -> Option<String> {
    let cluster = driver.get_cluster_state();
    let is_local = |name: &Option<String>| name.as_deref() == Some(datacenter);
    let nodes = cluster.get_nodes_info().iter().filter(|node| is_local(&node.datacenter)).count();
    let copies = config.replication_factor;
    let needed = copies - tolerated_failures(copies);
    (nodes < copies).then(|| {
        let outlook = if nodes < needed { "nothing can be written" } else { "no node may fail" };
        format!("datacenter {datacenter} has {nodes} nodes for {copies} copies: {outlook} until there are more")
    })
}

async fn make_tables(driver: &RawDriver, keyspace: &str) -> Result<String, PortError> {
    let before = match version(driver, keyspace).await {
        Ok(found) => found,
        Err(PortError::Unavailable(text)) if text.ends_with(super::error::INIT) => None,
        Err(error) => return Err(error),
    };
    if let Some(found) = before.filter(|found| *found > VERSION) {
        return Err(PortError::Rejected(format!(
            "the tables are in format {found}, newer than the {VERSION} that this version of kubeml knows"
        )));
    }
    if let Some(found) = before.filter(|found| *found < FIRST_RELEASE) {
        return Err(PortError::Rejected(format!(
            "the tables are in format {found}, of a version of kubeml before the first release, which is not read any \
             more: name another keyspace in [store.cassandra], or drop {keyspace}"
        )));
    }
    // Also of this format one may have been dropped.
    let there = tables_in(driver, keyspace).await?;
    let is_missing = |table: &&str| !there.iter().any(|name| Some(name.as_str()) == table.split(' ').next());
    let missing: Vec<_> = TABLES.into_iter().filter(|table| is_missing(table)).collect();
    for table in &missing {
        change(driver, &format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table}")).await?;
    }
    if before != Some(VERSION) || !missing.is_empty() {
        // Last: who finds it finds all of them.
        change(driver, &format!("INSERT INTO {keyspace}.schema_version (id, version) VALUES (0, {VERSION})")).await?;
    }
    let (made, kept) = (missing.len(), TABLES.len() - missing.len());
    Ok(match (made, kept) {
        (0, _) => format!("tables of format {VERSION} are there"),
        (_, 0) => format!("{made} tables of format {VERSION} made"),
        _ => format!("{made} of {} tables of format {VERSION} were missing, and are made", TABLES.len()),
    })
}

async fn tables_in(driver: &RawDriver, keyspace: &str) -> Result<Vec<String>, PortError> {
    let cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    Ok(ask_all::<(String,)>(driver, cql, (keyspace,)).await?.into_iter().map(|(name,)| name).collect())
}

/// The version of the tables; `None` while they are being made.
pub(super) async fn version(driver: &RawDriver, keyspace: &str) -> Result<Option<i32>, PortError> {
    let cql = format!("SELECT version FROM {keyspace}.schema_version WHERE id = 0");
    let row = ask::<(i32,)>(driver, &cql, ()).await?;
    Ok(row.map(|(version,)| version))
}

/// Returns once all nodes agree on the schema.
async fn change(driver: &RawDriver, cql: &str) -> Result<(), PortError> {
    driver.query_unpaged(cql, ()).await.map(drop).map_err(|error| of_execution(&error))
}
