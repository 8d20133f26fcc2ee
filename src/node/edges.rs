//! What the configuration chose, opened: embedded in the data directory, or a cluster's servers.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use kubeml_actors::{
    background::AbortOnDrop,
    in_memory::{InMemoryNodes, InProcessBus, NoCache, SystemClock},
    metrics::Metrics,
    ports::{ChunkCache, EdgeKinds, Engine, PortError, Ports, TaskStore},
};
use prometheus::IntGauge;
use tokio::time::{sleep, timeout};

use super::StartError;
use crate::{
    config::{self, Bus, Cache, Config, Role, Store},
    edges::{
        cassandra::{
            CassandraArtifacts, CassandraConfig, CassandraDatasets, CassandraEvents, CassandraNodes, CassandraTasks,
            ChunkPermits, Session, tolerated_failures,
        },
        cluster::{ClusterState, StoredFacts},
        data_dir::DataDir,
        files::FileArtifacts,
        history::HistoricTasks,
        kafka::{Kafka, KafkaBus, KafkaConfig, KafkaFacts, KafkaMetrics},
        memory_cache::MokaChunkCache,
        mnist::{MnistSource, cache_dir},
        redb::{RedbDatasets, RedbState},
        redis::RedisChunkCache,
    },
    engine::{CandleEngine, StubEngine},
};

/// Hints under way; more are dropped, which costs a quarter of a second.
const HINTS_MAX: usize = 4_096;
/// How long a node that starts waits to hear where the log ends. It starts without as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// Until a cache that was away is asked again how it is set up.
const ADVICE_PAUSE: Duration = Duration::from_secs(10);
/// Until the database has said how many copies it keeps.
const UNKNOWN_TOLERANCE: i64 = -1;

pub struct Edges {
    pub ports: Ports,
    /// Of an embedded node, which holds its lock.
    pub data_dir: Option<DataDir>,
    pub cluster: Option<Cluster>,
}

/// What a cluster's node has to close.
pub struct Cluster {
    pub kafka: Arc<Kafka>,
    pub bus: Arc<KafkaBus>,
    pub state: Arc<ClusterState>,
    _tolerance: AbortOnDrop,
}

impl Edges {
    pub async fn open(config: &Config, metrics: &Metrics) -> Result<Self, StartError> {
        let mut edges = match (&config.store, &config.bus) {
            (Store::Cassandra(store), Bus::Kafka(bus)) => cluster(config, store, bus, metrics).await?,
            // Any other pair is refused when the configuration is read.
            (Store::Embedded | Store::Cassandra(_), _) => embedded(config, metrics)?,
        };
        if let Some(history) = &config.telemetry.history {
            let historic = HistoricTasks::open(edges.ports.tasks.clone(), &config.node.id, history)?;
            edges.ports.tasks = Arc::new(historic) as Arc<dyn TaskStore>;
        }
        Ok(edges)
    }
}

fn embedded(config: &Config, metrics: &Metrics) -> Result<Edges, StartError> {
    let data_dir = DataDir::open(&config.node.data_dir)?;
    let path = data_dir.path();
    let state = Arc::new(RedbState::open(&path.join("state.redb"))?);
    let ports = Ports {
        tasks: state.clone(),
        events: state,
        bus: Arc::new(InProcessBus::new(HINTS_MAX)),
        datasets: Arc::new(RedbDatasets::open(&path.join("datasets.redb"))?),
        cache: cache(config, metrics)?,
        source: source(config, path),
        artifacts: Arc::new(FileArtifacts::open(&path.join("artifacts"))?),
        engine: engine(config),
        clock: Arc::new(SystemClock),
        nodes: Arc::new(InMemoryNodes::new()),
        kinds: EdgeKinds { store: "embedded", bus: "embedded", cache: config.cache.kind() },
    };
    Ok(Edges { ports, data_dir: Some(data_dir), cluster: None })
}

/// Nothing here waits for a server: one that is away at first is found when it comes.
async fn cluster(
    config: &Config,
    store: &CassandraConfig,
    bus: &KafkaConfig,
    metrics: &Metrics,
) -> Result<Edges, StartError> {
    let session = Session::open(store.clone());
    let chunks = ChunkPermits::new(store);
    let events = Arc::new(CassandraEvents::new(session.clone()));
    let kafka_metrics = KafkaMetrics::new(metrics);
    let kafka_metrics = kafka_metrics.map_err(|error| PortError::Rejected(format!("metrics of kafka: {error}")))?;
    let kafka = Kafka::open(bus.clone(), Arc::new(kafka_metrics))?;
    let ring = config.node.has(Role::Api).then_some(config.events.ring);
    let facts = KafkaFacts::start(kafka.clone(), Arc::new(StoredFacts(events.clone())), ring);
    if ring.is_some() {
        let mut head = facts.head();
        let known = timeout(HEAD_TIMEOUT, head.wait_for(|head| !head.is_unknown())).await;
        if known.is_err() {
            tracing::warn!("kafka does not answer yet: live events begin when it does");
        }
    }
    let state = Arc::new(ClusterState::new(CassandraTasks::new(session.clone(), &events), events, facts));
    let tolerated = metrics.store_tolerated_failures.clone();
    let _tolerance = AbortOnDrop(tokio::spawn(note_tolerance(session.clone(), tolerated)));
    let bus = Arc::new(KafkaBus::start(kafka.clone(), config.node.has(Role::Trainer)));
    let ports = Ports {
        tasks: state.clone(),
        events: state.clone(),
        bus: bus.clone(),
        datasets: Arc::new(CassandraDatasets::new(session.clone(), chunks.clone())),
        cache: cache(config, metrics)?,
        source: source(config, &config.node.data_dir),
        artifacts: Arc::new(CassandraArtifacts::new(session.clone(), chunks)),
        engine: engine(config),
        clock: Arc::new(SystemClock),
        nodes: Arc::new(CassandraNodes::new(session)),
        kinds: EdgeKinds { store: "cassandra", bus: "kafka", cache: config.cache.kind() },
    };
    Ok(Edges { ports, data_dir: None, cluster: Some(Cluster { kafka, bus, state, _tolerance }) })
}

/// As soon as the database says how many copies it keeps.
async fn note_tolerance(session: Session, gauge: IntGauge) {
    gauge.set(UNKNOWN_TOLERANCE);
    loop {
        if let Ok(factor) = session.replication_factor().await {
            gauge.set(tolerated_failures(factor) as i64);
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn engine(config: &Config) -> Arc<dyn Engine> {
    match config.trainer.engine {
        config::Engine::Candle => Arc::new(CandleEngine::new(config.trainer.threads_per_slot)),
        config::Engine::Stub => {
            tracing::warn!("[trainer] engine is \"stub\": nothing is trained, and models are worth nothing");
            Arc::new(StubEngine)
        }
    }
}

fn cache(config: &Config, metrics: &Metrics) -> Result<Arc<dyn ChunkCache>, PortError> {
    Ok(match &config.cache {
        Cache::Memory(memory) => Arc::new(MokaChunkCache::new(memory.bytes_max as u64)),
        Cache::Redis(redis) => {
            let cache = Arc::new(RedisChunkCache::new(redis, metrics)?);
            tokio::spawn(tell_advice(Arc::downgrade(&cache)));
            cache
        }
        Cache::None => Arc::new(NoCache),
    })
}

/// Once the cache answers, as long as there is one.
async fn tell_advice(cache: Weak<RedisChunkCache>) {
    while let Some(cache) = cache.upgrade() {
        match cache.advice().await {
            Ok(advice) => return advice.iter().for_each(|line| tracing::warn!("{line}")),
            Err(error) => tracing::debug!(%error, "cannot see redis' maxmemory-policy yet"),
        }
        drop(cache);
        sleep(ADVICE_PAUSE).await;
    }
}

fn source(config: &Config, data_dir: &Path) -> Arc<MnistSource> {
    Arc::new(MnistSource::new(config.datasets.mnist.clone(), cache_dir(data_dir)))
}
