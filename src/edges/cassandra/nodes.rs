//! Heartbeats of the cluster's nodes: one partition, since there are hundreds of them at most.
//!
//! Plain writes that expire: safety never depends on them.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

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

const BEAT: Query =
    Query::write("INSERT INTO $.node (cluster, node_id, boot, row) VALUES (?, ?, ?, ?) USING TTL 60 AND TIMESTAMP ?");
const NODES: Query = Query::read("SELECT node_id, boot, row FROM $.node WHERE cluster = ?");
const LEAVE: Query =
    Query::write("DELETE FROM $.node USING TIMESTAMP ? WHERE cluster = ? AND node_id = ? AND boot = ?");

pub struct CassandraNodes {
    session: Session,
    /// Of the last write. Coordinators' clocks differ: by theirs, a later heartbeat could lose against an earlier one.
    written_at: AtomicI64,
}

impl CassandraNodes {
    pub fn new(session: Session) -> Self {
        Self { session, written_at: AtomicI64::new(0) }
    }

    /// Microseconds of the wall clock, and always later than the last time.
    fn timestamp(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let last = self.written_at.fetch_max(now, Ordering::AcqRel);
        if now > last { now } else { self.written_at.fetch_add(1, Ordering::AcqRel) + 1 }
    }
}

#[async_trait]
impl NodeRegistry for CassandraNodes {
    async fn beat(&self, row: &NodeRow) -> Result<(), PortError> {
        let Incarnation { node, boot } = &row.incarnation;
        let bytes = codec::encode(row).map_err(|error| error.at(&format!("node {node}")))?;
        self.session.write(BEAT, (CLUSTER, node, boot, bytes, self.timestamp())).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, PortError> {
        let rows: Vec<(String, Uuid, Option<Vec<u8>>)> = self.session.rows(NODES, (CLUSTER,)).await?;
        let readable = |(node, boot, bytes): (String, Uuid, Option<Vec<u8>>)| {
            let row = codec::decode::<NodeRow>(&bytes.unwrap_or_default());
            // Another version's row is not understood, and hides no other.
            let place = || format!("{}, node {node}", self.session.place());
            let row = row.map_err(|error| error.at(&place()));
            let row = row.inspect_err(|error| tracing::warn!(%error, "a heartbeat is left out")).ok()?;
            (row.incarnation == Incarnation { node, boot }).then_some(row)
        };
        Ok(rows.into_iter().filter_map(readable).collect())
    }

    async fn leave(&self, incarnation: &Incarnation) -> Result<(), PortError> {
        self.session.write(LEAVE, (self.timestamp(), CLUSTER, &incarnation.node, incarnation.boot)).await
    }
}
