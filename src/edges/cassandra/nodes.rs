//! Heartbeats of the cluster's nodes: one partition, since there are hundreds of them at most.
//!
//! Plain writes that expire: safety never depends on them.

use async_trait::async_trait;
use kubeml_actors::{
    ports::{NodeRegistry, NodeRow, PortError},
    task::Incarnation,
};
use uuid::Uuid;

use super::{query::Query, session::Session};
use crate::codec;

/// A keyspace is a cluster.
const CLUSTER: &str = "kubeml";

const BEAT: Query = Query::write("INSERT INTO node (cluster, node_id, boot, row) VALUES (?, ?, ?, ?) USING TTL 60");
const NODES: Query = Query::read("SELECT node_id, boot, row FROM node WHERE cluster = ?");
const LEAVE: Query = Query::write("DELETE FROM node WHERE cluster = ? AND node_id = ? AND boot = ?");

pub struct CassandraNodes {
    session: Session,
}

impl CassandraNodes {
    pub fn new(session: Session) -> Self {
        Self { session }
    }
}

#[async_trait]
impl NodeRegistry for CassandraNodes {
    async fn beat(&self, row: &NodeRow) -> Result<(), PortError> {
        let Incarnation { node, boot } = &row.incarnation;
        let bytes = codec::encode(row).map_err(|error| error.at(&format!("node {node}")))?;
        self.session.write(BEAT, (CLUSTER, node, boot, bytes)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, PortError> {
        let rows: Vec<(String, Uuid, Option<Vec<u8>>)> = self.session.rows(NODES, (CLUSTER,)).await?;
        let readable = |(node, boot, bytes): (String, Uuid, Option<Vec<u8>>)| {
            let row = codec::decode::<NodeRow>(&bytes.unwrap_or_default());
            // Another version's row is not understood, and hides no other.
            let row = row.inspect_err(|error| tracing::warn!(%error, node, "a heartbeat is left out")).ok()?;
            (row.incarnation == Incarnation { node, boot }).then_some(row)
        };
        Ok(rows.into_iter().filter_map(readable).collect())
    }

    async fn leave(&self, incarnation: &Incarnation) -> Result<(), PortError> {
        self.session.write(LEAVE, (CLUSTER, &incarnation.node, incarnation.boot)).await
    }
}
