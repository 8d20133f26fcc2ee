//! The contract suites on Redis and on a Redis Cluster, and what becomes of the cache when they fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kubeml::edges::redis::{
    RedisChunkCache,
    config::{RedisConfig, RedisUrl, RedisUrls, Topology},
};
use kubeml_actors::{metrics::Metrics, testing::contracts};
use tokio::sync::OnceCell;

use super::redis_server::{RedisCluster, RedisServer};

#[path = "redis/contents.rs"]
mod contents;
#[path = "redis/faults.rs"]
mod faults;

/// For tests that leave it alive and keep to their own keys.
static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();

async fn shared_server() -> &'static RedisServer {
    SERVER.get_or_init(|| RedisServer::start(&[])).await
}

async fn shared_cluster() -> &'static RedisCluster {
    CLUSTER.get_or_init(RedisCluster::start).await
}

fn config<'s>(topology: Topology, servers: impl IntoIterator<Item = &'s RedisServer>) -> RedisConfig {
    static PREFIXES: AtomicUsize = AtomicUsize::new(0);
    let url = |server: &RedisServer| RedisUrl { host: "127.0.0.1".to_owned(), port: server.port, database: 0 };
    RedisConfig {
        topology,
        urls: RedisUrls(servers.into_iter().map(url).collect()),
        ttl: Duration::from_hours(1),
        username: None,
        password_file: None,
        key_prefix: format!("test-{}", PREFIXES.fetch_add(1, Ordering::Relaxed)),
    }
}

fn single(server: &RedisServer) -> RedisConfig {
    config(Topology::Single, [server])
}

fn clustered(cluster: &RedisCluster) -> RedisConfig {
    config(Topology::Cluster, &cluster.nodes[..2])
}

fn cache(config: &RedisConfig) -> (RedisChunkCache, Metrics) {
    let metrics = Metrics::new();
    (RedisChunkCache::new(config, &metrics).expect("the configuration is good"), metrics)
}

mod on_one_server {
    use super::*;

    contracts::chunk_cache!(async || Arc::new(cache(&single(shared_server().await)).0));
    contracts::remembering_chunk_cache!(async || Arc::new(cache(&single(shared_server().await)).0));
}

mod on_a_cluster {
    use super::*;

    contracts::chunk_cache!(async || Arc::new(cache(&clustered(shared_cluster().await)).0));
    contracts::remembering_chunk_cache!(async || Arc::new(cache(&clustered(shared_cluster().await)).0));
}
