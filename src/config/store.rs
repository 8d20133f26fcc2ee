//! `[store]`: which adapter keeps tasks, events, datasets and artifacts.

use super::reader::{Kind, Table};
use crate::edges::cassandra::CassandraConfig;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Files in the node's data directory.
    Embedded,
    /// Apache Cassandra or ScyllaDB, shared by the nodes of a cluster.
    Cassandra(CassandraConfig),
}

const KINDS: &[Kind<Store>] = &[
    Kind { name: "embedded", table: "embedded", read: |_| Store::Embedded },
    Kind { name: "cassandra", table: "cassandra", read: |table| Store::Cassandra(CassandraConfig::read(table)) },
];

impl Store {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        table.kind(KINDS)
    }
}
