//! The chunk cache of a cluster: Redis or Redis Cluster. What it holds may be anything and may vanish at any time;
//! whoever cannot be served reads the store.
//!
//! ```text
//! {prefix}:chunk:{format}:{hash}   a chunk, wrapped (codec/cached_chunk.rs)
//! {prefix}:kv:{key}                a small JSON value of the older system's clients
//! ```
//! Every key has a time to live. Chunks travel on a connection of their own, so that nothing small waits behind them;
//! no call takes longer than its connection's timeout, and none is made while the breaker is open.

mod breaker;
pub mod config;
mod fault;
mod inventory;
mod keys;
mod link;
mod policy;
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    dataset::ChunkHash,
    metrics::Metrics,
    ports::{CacheStats, ChunkCache, PortError},
    restart_policy::chance,
};
use prometheus::IntCounter;
use redis::{Cmd, RedisResult, cmd};
use serde::de::IgnoredAny;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::{
    config::RedisConfig,
    fault::is_wrong_type,
    keys::Keys,
    link::{Circuit, Link},
    server::{Connection, Server},
};
use crate::codec::cached_chunk::{WRAPPED_BYTES_MAX, unwrap, wrap};

/// For everything small: no training waits for it, but people do.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(1);
/// For a chunk, either way.
const BLOB_TIMEOUT: Duration = Duration::from_secs(5);
/// More would only queue in the one thread that Redis has.
const BLOBS_IN_FLIGHT_MAX: usize = 2;
/// Of a small JSON value.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// What is written together does not end together: a time to live is up to this part shorter or longer.
const TTL_JITTER: f64 = 0.1;

pub struct RedisChunkCache {
    control: Link,
    blobs: Link,
    blob_permits: Semaphore,
    keys: Keys,
    ttl: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
    unreadable: IntCounter,
}

impl RedisChunkCache {
    /// Connects when it is first asked: a node starts without its Redis.
    ///
    /// # Errors
    /// The password's file cannot be read, or the library does not take the addresses.
    pub fn new(config: &RedisConfig, metrics: &Metrics) -> Result<Self, PortError> {
        let password = config.password_file.as_deref().map(server::password_in).transpose()?;
        let circuit = Arc::new(Circuit::new(config.urls.to_string(), metrics.cache_breaker_open.clone()));
        let link = |timeout| {
            let server = Server::new(config, password.as_deref(), timeout)?;
            Ok::<_, PortError>(Link::new(server, circuit.clone(), timeout))
        };
        Ok(Self {
            control: link(CONTROL_TIMEOUT)?,
            blobs: link(BLOB_TIMEOUT)?,
            blob_permits: Semaphore::new(BLOBS_IN_FLIGHT_MAX),
            keys: Keys::new(&config.key_prefix),
            ttl: config.ttl,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            unreadable: metrics.cache_unreadable.clone(),
        })
    }

    /// What to change in the servers' settings, a line for each that needs it.
    pub async fn advice(&self) -> Result<Vec<String>, PortError> {
        policy::advice_on(&self.control).await
    }

    /// Leave to carry a chunk.
    async fn blob_permit(&self) -> Result<SemaphorePermit<'_>, PortError> {
        let closed = |_| PortError::Unavailable("the cache is closed".to_owned());
        self.blob_permits.acquire().await.map_err(closed)
    }

    fn set(&self, key: String, value: &[u8]) -> Cmd {
        let ttl = jittered(self.ttl, chance()).as_millis() as u64;
        cmd("SET").arg(key).arg(value).arg("PX").arg(ttl).take()
    }

    fn note_unreadable(&self, key: &str, reason: &str) {
        self.unreadable.inc();
        tracing::debug!(key, reason, "a value in redis cannot be read; it counts as absent");
    }
}

#[async_trait]
impl ChunkCache for RedisChunkCache {
    /// What cannot be read as this chunk is a miss, so that it is written over.
    async fn get(&self, hash: ChunkHash) -> Result<Option<Bytes>, PortError> {
        let key = self.keys.chunk(hash);
        let permit = self.blob_permit().await?;
        let found = self.blobs.call(|connection| read(connection, key.clone(), WRAPPED_BYTES_MAX)).await?;
        drop(permit);
        let chunk = found.and_then(|found| {
            let chunk = found.and_then(|bytes| unwrap(hash, &Bytes::from(bytes)).map_err(|error| error.to_string()));
            chunk.map_err(|reason| self.note_unreadable(&key, &reason)).ok()
        });
        let counter = if chunk.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(chunk)
    }

    async fn put(&self, hash: ChunkHash, bytes: Bytes) -> Result<(), PortError> {
        let wrapped = wrap(hash, &bytes).map_err(|error| error.at("redis"))?;
        let _permit = self.blob_permit().await?;
        self.blobs.tell(self.set(self.keys.chunk(hash), &wrapped)).await
    }

    async fn remove(&self, hash: ChunkHash) -> Result<(), PortError> {
        self.control.tell(cmd("UNLINK").arg(self.keys.chunk(hash)).take()).await
    }

    /// The chunks of every format; nothing else.
    async fn clear(&self) -> Result<(), PortError> {
        inventory::remove_all(&self.control, &self.keys.any_chunk_pattern()).await
    }

    /// `entries` and `bytes` are the chunks in Redis that this version can read, whoever put them there: a lower bound
    /// if Redis holds very many other keys. `hits` and `misses` are this process's. That it answers is the proof that
    /// every node with keys does.
    async fn stats(&self) -> Result<CacheStats, PortError> {
        let (entries, bytes) = inventory::count(&self.control, &self.keys.chunk_pattern()).await?;
        let (hits, misses) = (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        Ok(CacheStats { entries, bytes, hits, misses })
    }

    async fn get_value(&self, key: &str) -> Result<Option<String>, PortError> {
        let key = self.keys.value(key);
        let found = self.control.call(|connection| read(connection, key.clone(), VALUE_BYTES_MAX)).await?;
        Ok(found.and_then(|found| {
            let json = found.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
            // It is put into an answer as it is.
            let json = json.and_then(|json| match serde_json::from_str::<IgnoredAny>(&json) {
                Ok(_) => Ok(json),
                Err(error) => Err(format!("it is no JSON: {error}")),
            });
            json.map_err(|reason| self.note_unreadable(&key, &reason)).ok()
        }))
    }

    async fn put_value(&self, key: &str, json: String) -> Result<(), PortError> {
        if json.len() > VALUE_BYTES_MAX {
            let bytes = json.len();
            let text = format!("a value of {bytes} bytes is longer than the {VALUE_BYTES_MAX} that can be cached");
            return Err(PortError::Rejected(text));
        }
        self.control.tell(self.set(self.keys.value(key), json.as_bytes())).await
    }
}

/// What lies at `key`: nothing, bytes, or something that cannot be what we put there. However much it is, no more than
/// `bytes_max` is asked for.
async fn read(
    mut connection: Connection,
    key: String,
    bytes_max: usize,
) -> RedisResult<Option<Result<Vec<u8>, String>>> {
    // One byte more tells what is longer.
    let answer: RedisResult<Vec<u8>> = connection.query(cmd("GETRANGE").arg(key).arg(0).arg(bytes_max)).await;
    match answer {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) if bytes.len() > bytes_max => Ok(Some(Err(format!("it is longer than {bytes_max} bytes")))),
        Ok(bytes) => Ok(Some(Ok(bytes))),
        Err(error) if is_wrong_type(&error) => Ok(Some(Err(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// `chance` in `0.0..1.0`.
fn jittered(ttl: Duration, chance: f64) -> Duration {
    ttl.mul_f64(1.0 - TTL_JITTER + 2.0 * TTL_JITTER * chance)
}

#[cfg(test)]
mod tests;
