//! The composition root: which adapters, which engine, which tree. Reads from top to bottom.

use std::{path::Path, sync::Arc, time::Duration};

use kubeml_actors::{
    context::{Context, Roles, Settings},
    in_memory::{InMemoryNodes, InProcessBus, NoCache, SystemClock},
    metrics::Metrics,
    ports::{ChunkCache, EdgeKinds, PortError, Ports},
    retention::Retention,
    task::Incarnation,
    transition::Limits,
    tree::{NotStarted, Tree},
};

use crate::{
    config::{self, Bus, Cache, Config, Role, Store},
    edges::{
        data_dir::{DataDir, DataDirError},
        files::FileArtifacts,
        memory_cache::MokaChunkCache,
        mnist::{MnistSource, cache_dir},
        redb::{RedbDatasets, RedbState},
        redis::RedisChunkCache,
    },
    engine::CandleEngine,
};

/// Hints under way; more are dropped, which costs a quarter of a second.
const HINTS_MAX: usize = 4_096;
/// After the drain: what closing streams and ending actors may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

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
    data_dir: DataDir,
    drain_timeout: Duration,
}

impl Node {
    /// Opens the stores and starts the actors.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let data_dir = DataDir::open(&config.node.data_dir)?;
        let metrics = Arc::new(Metrics::new());
        let ports = embedded_ports(config, data_dir.path(), &metrics)?;
        let me = Incarnation::fresh(config.node.id.clone());
        let context = Context::new(me, ports, metrics, settings(config));
        let tree = Tree::start(context).await?;
        Ok(Self { tree, data_dir, drain_timeout: config.node.drain_timeout })
    }

    /// Tells whoever wants the data directory where to ask instead.
    pub fn announce(&mut self, address: &str) -> Result<(), StartError> {
        Ok(self.data_dir.announce(address)?)
    }

    /// Has every attempt checkpoint and give its task back, within the configured time.
    pub async fn drain(&self) {
        if let Err(error) = self.tree.drain(self.drain_timeout).await {
            tracing::warn!(%error, "not every task was given back in time; they go on from their last checkpoints");
        }
    }

    /// Ends the actors. The stores close with the last of them.
    pub async fn stop(self) {
        if tokio::time::timeout(STOP_TIMEOUT, self.tree.stop()).await.is_err() {
            tracing::warn!("actors did not end in time");
        }
    }
}

fn embedded_ports(config: &Config, data_dir: &Path, metrics: &Metrics) -> Result<Ports, PortError> {
    let (Store::Embedded, Bus::Embedded) = (&config.store, &config.bus) else {
        return Err(PortError::Rejected("this build runs on the embedded store only".to_owned()));
    };
    let state = Arc::new(RedbState::open(&data_dir.join("state.redb"))?);
    let cache: Arc<dyn ChunkCache> = match &config.cache {
        Cache::Memory(memory) => Arc::new(MokaChunkCache::new(memory.bytes_max as u64)),
        Cache::Redis(redis) => Arc::new(RedisChunkCache::new(redis, metrics)?),
        Cache::None => Arc::new(NoCache),
    };
    Ok(Ports {
        tasks: state.clone(),
        events: state,
        bus: Arc::new(InProcessBus::new(HINTS_MAX)),
        datasets: Arc::new(RedbDatasets::open(&data_dir.join("datasets.redb"))?),
        cache,
        source: Arc::new(MnistSource::new(config.datasets.mnist.clone(), cache_dir(data_dir))),
        artifacts: Arc::new(FileArtifacts::open(&data_dir.join("artifacts"))?),
        engine: Arc::new(CandleEngine::new(config.trainer.threads_per_slot)),
        clock: Arc::new(SystemClock),
        nodes: Arc::new(InMemoryNodes::new()),
        kinds: EdgeKinds { store: "embedded", bus: "embedded", cache: config.cache.kind() },
    })
}

fn settings(config: &Config) -> Settings {
    let defaults = Settings::default();
    Settings {
        roles: Roles { api: config.node.has(Role::Api), trainer: config.node.has(Role::Trainer) },
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
