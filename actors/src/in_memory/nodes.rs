//! Heartbeats between the nodes of one process.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;

use super::lock;
use crate::{
    ports::{NodeRegistry, NodeRow, PortError},
    task::Incarnation,
};

#[derive(Debug, Default)]
pub struct InMemoryNodes {
    rows: Mutex<HashMap<Incarnation, NodeRow>>,
}

impl InMemoryNodes {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl NodeRegistry for InMemoryNodes {
    async fn beat(&self, row: &NodeRow) -> Result<(), PortError> {
        lock(&self.rows).insert(row.incarnation.clone(), row.clone());
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, PortError> {
        Ok(lock(&self.rows).values().cloned().collect())
    }

    async fn leave(&self, incarnation: &Incarnation) -> Result<(), PortError> {
        lock(&self.rows).remove(incarnation);
        Ok(())
    }
}
