//! Makes a connection and looks whether the database is the one that this version of kubeml works with.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use kubeml_actors::ports::PortError;
use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session as Driver,
        session_builder::SessionBuilder,
    },
    deserialize::row::DeserializeRow,
    policies::load_balancing::DefaultPolicy,
    serialize::row::SerializeRow,
    statement::{Consistency, SerialConsistency, Statement},
};

use super::{
    CassandraConfig,
    error::{INIT, of_execution},
    query::Profiles,
    schema::{VERSION, version},
    tolerated_failures,
};

pub(super) struct Connected {
    pub driver: Driver,
    pub profiles: Profiles,
    pub datacenter: String,
    /// The keyspace's copies in that datacenter.
    pub replication_factor: usize,
}

impl Connected {
    pub fn warn_of_intolerance(&self) {
        let factor = self.replication_factor;
        if factor > 1 && tolerated_failures(factor) == 0 {
            tracing::warn!(
                replication_factor = factor,
                "data is safe when one node of the database fails, but nothing can be written until it is back; \
                 a replication factor of 3 tolerates one failure"
            );
        }
    }
}

pub(super) async fn connect(config: &CassandraConfig) -> Result<Connected, PortError> {
    let driver = connect_driver(config).await?;
    check_version(&driver, &config.keyspace).await?;
    let datacenter = datacenter(&driver, config).await?;
    let replication = replication(&driver, &config.keyspace).await?;
    let replication_factor = factor_in(&replication.unwrap_or_default(), &datacenter);
    let profiles = Profiles {
        requests: profile(config.request_timeout, &datacenter),
        chunks: profile(config.chunk_timeout, &datacenter),
    };
    Ok(Connected { driver, profiles, datacenter, replication_factor })
}

pub(super) async fn connect_driver(config: &CassandraConfig) -> Result<Driver, PortError> {
    let mut builder = SessionBuilder::new()
        .known_nodes(config.addresses())
        .connection_timeout(config.connect_timeout)
        .keyspaces_to_fetch([&config.keyspace]);
    if let (Some(username), Some(file)) = (&config.username, &config.password_file) {
        let password = fs::read_to_string(file);
        let unreadable = |error| PortError::Unavailable(format!("cannot read {}: {error}", file.display()));
        builder = builder.user(username, password.map_err(unreadable)?.trim_end());
    }
    builder.build().await.map_err(|error| PortError::Unavailable(error.to_string()))
}

/// The configured datacenter, or that of the node that answers.
pub(super) async fn datacenter(driver: &Driver, config: &CassandraConfig) -> Result<String, PortError> {
    if let Some(datacenter) = &config.local_datacenter {
        let nodes = driver.get_cluster_state();
        let is_there = nodes.get_nodes_info().iter().any(|node| node.datacenter.as_ref() == Some(datacenter));
        let unknown =
            || PortError::Unavailable(format!("no node is in [store.cassandra] local_datacenter {datacenter}"));
        return if is_there { Ok(datacenter.clone()) } else { Err(unknown()) };
    }
    let row = ask::<(String,)>(driver, "SELECT data_center FROM system.local", ()).await?;
    row.map(|(name,)| name).ok_or_else(|| PortError::Unavailable("no node says in which datacenter it is".to_owned()))
}

/// The keyspace's replication options; `None` when it is not there.
pub(super) async fn replication(driver: &Driver, keyspace: &str) -> Result<Option<HashMap<String, String>>, PortError> {
    let cql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    Ok(ask::<(HashMap<String, String>,)>(driver, cql, (keyspace,)).await?.map(|(replication,)| replication))
}

/// Of `SimpleStrategy`, or of one that counts by datacenter.
pub(super) fn factor_in(replication: &HashMap<String, String>, datacenter: &str) -> usize {
    let written = replication.get(datacenter).or_else(|| replication.get("replication_factor"));
    // "3/1" has one transient copy, which does not count for a quorum of full ones.
    written.and_then(|factor| factor.split('/').next()?.parse().ok()).unwrap_or(0)
}

/// One row of a statement outside of the data path.
pub(super) async fn ask<R>(driver: &Driver, cql: &str, values: impl SerializeRow) -> Result<Option<R>, PortError>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    Ok(ask_all(driver, cql, values).await?.into_iter().next())
}

/// All rows, which are few, of a statement outside of the data path.
pub(super) async fn ask_all<R>(driver: &Driver, cql: &str, values: impl SerializeRow) -> Result<Vec<R>, PortError>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    let mut statement = Statement::new(cql);
    statement.set_is_idempotent(true);
    let result = driver.query_unpaged(statement, values).await.map_err(|error| of_execution(&error))?;
    let unreadable = |error: &dyn std::error::Error| PortError::Corrupt(format!("{cql}: {error}"));
    let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
    let rows = rows.rows().map_err(|error| unreadable(&error))?;
    rows.collect::<Result<_, _>>().map_err(|error| unreadable(&error))
}

async fn check_version(driver: &Driver, keyspace: &str) -> Result<(), PortError> {
    match version(driver, keyspace).await? {
        Some(found) if found == VERSION => Ok(()),
        Some(found) if found > VERSION => Err(PortError::Unavailable(format!(
            "the tables are in format {found}, newer than the {VERSION} that this version of kubeml knows; start the \
             version that made them, or a newer one"
        ))),
        Some(found) => {
            Err(PortError::Unavailable(format!("the tables are in format {found}, older than {VERSION}; {INIT}")))
        }
        None => Err(PortError::Unavailable(format!("the tables are not complete; {INIT}"))),
    }
}

fn profile(timeout: Duration, datacenter: &str) -> ExecutionProfileHandle {
    let nodes = DefaultPolicy::builder().prefer_datacenter(datacenter.to_owned()).token_aware(true).build();
    ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(timeout))
        .load_balancing_policy(Arc::clone(&nodes))
        .build()
        .into_handle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_the_datacenter() {
        let options = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let network = options(&[("class", "NetworkTopologyStrategy"), ("west", "3"), ("east", "2/1")]);
        assert_eq!(["west", "east", "north"].map(|name| factor_in(&network, name)), [3, 2, 0]);
        let simple = options(&[("class", "SimpleStrategy"), ("replication_factor", "2")]);
        assert_eq!(factor_in(&simple, "west"), 2);
    }
}
