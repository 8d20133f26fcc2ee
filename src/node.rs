//! The composition root: which adapters, which engine, which tree. Reads from top to bottom.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kubeml_actors::{
    context::{Context, Roles, Settings},
    metrics::Metrics,
    ports::PortError,
    retention::Retention,
    task::Incarnation,
    transition::Limits,
    tree::{NotStarted, Tree},
};
use tokio::time::Instant;

use self::{
    edges::{Cluster, Edges},
    submissions::Submissions,
};
use crate::{
    config::{self, Config, Role, Store},
    edges::{
        data_dir::{DataDir, DataDirError},
        kafka::Bridge,
    },
};

mod address;
mod edges;
mod submissions;

/// After the drain: what closing streams and ending actors may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What of the drain's time is kept for everything after the trainers.
const CLOSING: Duration = Duration::from_secs(8);
/// What finishing writes and sending the last messages may take together.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    DataDir(#[from] DataDirError),
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("{0}")]
    Tree(#[from] NotStarted),
}

/// A running node without its ways in.
pub struct Node {
    pub tree: Tree,
    data_dir: Option<DataDir>,
    cluster: Option<Cluster>,
    bridge: Option<Bridge>,
    drain_timeout: Duration,
}

impl Node {
    /// Opens the stores and starts the actors.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let Edges { ports, data_dir, cluster } = Edges::open(config, &metrics).await?;
        let me = Incarnation::fresh(config.node.id.clone());
        let context = Context::new(me, ports, metrics, settings(config));
        let tree = Tree::start(context).await?;
        let bridge = cluster.as_ref().filter(|_| config.node.has(Role::Api)).map(|cluster| {
            Bridge::start(cluster.kafka.clone(), Arc::new(Submissions(tree.handles.dispatcher.clone())))
        });
        Ok(Self { tree, data_dir, cluster, bridge, drain_timeout: config.node.drain_timeout })
    }

    /// Publishes where the HTTP API listens: to other nodes, and to commands that find the data directory in use.
    pub fn announce(&mut self, bound: SocketAddr) -> Result<(), StartError> {
        self.tree.context.presence.listens_at(address::from_elsewhere(bound));
        match &mut self.data_dir {
            Some(data_dir) => Ok(data_dir.announce(address::from_here(bound))?),
            None => Ok(()),
        }
    }

    /// Has every attempt checkpoint and give its task back, within the configured time.
    pub async fn drain(&self) {
        let limit = self.drain_timeout.saturating_sub(CLOSING).max(self.drain_timeout / 2);
        if let Err(error) = self.tree.drain(limit).await {
            tracing::warn!(%error, "not every task was given back in time; they go on from their last checkpoints");
        }
    }

    /// Ends the actors. The stores close with the last of them.
    pub async fn stop(self) {
        let bridge = async {
            if let Some(bridge) = self.bridge {
                bridge.close(STOP_TIMEOUT).await;
            }
        };
        let (stopped, ()) = tokio::join!(tokio::time::timeout(STOP_TIMEOUT, self.tree.stop()), bridge);
        if stopped.is_err() {
            tracing::warn!("actors did not end in time");
        }
        if let Some(Cluster { kafka, bus, state, .. }) = self.cluster {
            let end = Instant::now() + FLUSH_TIMEOUT;
            if tokio::time::timeout_at(end, state.finish()).await.is_err() {
                tracing::warn!("not everything that was written is in its lists; who reads them next mends them");
            }
            if let Err(error) = kafka.flush(end.saturating_duration_since(Instant::now())).await {
                tracing::warn!(%error, "the last messages may not have arrived; the store has what they say");
            }
            bus.close(STOP_TIMEOUT).await;
        }
    }
}

fn settings(config: &Config) -> Settings {
    let defaults = Settings::default();
    Settings {
        roles: Roles { api: config.node.has(Role::Api), trainer: config.node.has(Role::Trainer) },
        alone: config.store == Store::Embedded,
        limits: Limits {
            no_progress_max: u32::try_from(config.tasks.no_progress_max).unwrap_or(u32::MAX),
            ..defaults.limits
        },
        queue_max: config.tasks.queue_max as u64,
        slots: config.trainer.slots,
        lease: config.tasks.lease,
        heartbeat: config.tasks.heartbeat,
        checkpoint_interval_max: config.trainer.checkpoint_interval_max,
        stall_timeout: config.trainer.stall_timeout,
        retention: Retention { tasks: kept_for(config.tasks.retention), events: kept_for(config.events.retention) },
        ring: config.events.ring,
        ..defaults
    }
}

fn kept_for(retention: config::Retention) -> Option<Duration> {
    match retention {
        config::Retention::For(duration) => Some(duration),
        config::Retention::Forever => None,
    }
}
