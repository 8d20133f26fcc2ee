//! Who is there: nodes say so again and again, and others see when one stops.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::PortError;
use crate::{
    context::Roles,
    task::{Incarnation, TaskId},
    timestamp::Timestamp,
};

/// What a node says of itself with every heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    pub incarnation: Incarnation,
    /// Grows with every heartbeat; others watch it change, and never compare clocks.
    pub seq: u64,
    pub version: String,
    /// Where others reach its HTTP API; `None` until it listens, and for a node without one.
    pub address: Option<String>,
    pub roles: Roles,
    pub started_at: Timestamp,
    /// By its own clock, for people to read.
    pub at: Timestamp,
    pub actors: Vec<ActorReport>,
    /// One for each of its trainers.
    pub slots: Vec<SlotReport>,
}

impl NodeRow {
    /// Whether it could take a task.
    pub fn has_free_slot(&self) -> bool {
        self.slots.iter().any(|slot| slot.task.is_none())
    }
}

/// How an actor is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorReport {
    /// The name of its file.
    pub actor: String,
    pub alive: bool,
    pub restarts: u64,
    pub last_error: Option<String>,
    /// Messages waiting or in work.
    pub mailbox: u64,
}

/// How a trainer is, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReport {
    pub alive: bool,
    pub restarts: u64,
    pub last_error: Option<String>,
    pub task: Option<TaskId>,
}

/// Where nodes leave their heartbeats. Safety never depends on it.
#[async_trait]
pub trait NodeRegistry: Send + Sync {
    async fn beat(&self, row: &NodeRow) -> Result<(), PortError>;

    /// The last heartbeat of every incarnation that has beaten in the last minute or so, and has not left.
    async fn nodes(&self) -> Result<Vec<NodeRow>, PortError>;

    /// It is going, and holds nothing any more.
    async fn leave(&self, incarnation: &Incarnation) -> Result<(), PortError>;
}
