//! Storage shared by the nodes of a cluster, in Apache Cassandra 5 or ScyllaDB.
//!
//! A conditional write on the task's own row is the only truth about a task; everything else follows from it, is
//! written before it or after it, and is mended by whoever finds it wrong. See `schema` for the tables.

mod artifacts;
mod chunks;
mod config;
mod connect;
mod counts;
mod datasets;
mod days;
mod error;
mod events;
mod facts;
mod memory;
mod nodes;
mod periods;
mod places;
mod query;
mod queue;
mod records;
mod schema;
mod session;
mod tasks;

pub use self::{
    artifacts::CassandraArtifacts,
    chunks::ChunkPermits,
    config::CassandraConfig,
    datasets::CassandraDatasets,
    events::{Appended, CassandraEvents},
    nodes::CassandraNodes,
    records::RowFacts,
    schema::init,
    session::Session,
    tasks::CassandraTasks,
};

/// How many of the nodes that hold a copy may fail while a quorum of them is still there.
pub fn tolerated_failures(replication_factor: usize) -> usize {
    replication_factor.saturating_sub(replication_factor / 2 + 1)
}
