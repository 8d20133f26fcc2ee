//! The chunk cache of an embedded node, on moka: bounded by bytes, the least used make room.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    dataset::ChunkHash,
    ports::{CacheStats, ChunkCache, PortError},
};
use moka::future::Cache;

#[cfg(test)]
mod tests;

/// What the values of the older system's clients may take together, keys included.
const VALUE_BYTES_MAX: u64 = 1 << 20;

pub struct MokaChunkCache {
    chunks: Cache<ChunkHash, Bytes>,
    values: Cache<String, String>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl MokaChunkCache {
    /// `bytes_max` bounds the chunks; the small JSON values have a bound of their own.
    pub fn new(bytes_max: u64) -> Self {
        let chunks = Cache::builder().max_capacity(bytes_max).weigher(|_, bytes: &Bytes| weight(bytes.len()));
        let values = Cache::builder()
            .max_capacity(VALUE_BYTES_MAX)
            .weigher(|key: &String, json: &String| weight(key.len() + json.len()));
        Self { chunks: chunks.build(), values: values.build(), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

#[async_trait]
impl ChunkCache for MokaChunkCache {
    async fn get(&self, hash: ChunkHash) -> Result<Option<Bytes>, PortError> {
        let found = self.chunks.get(&hash).await;
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(found)
    }

    async fn put(&self, hash: ChunkHash, bytes: Bytes) -> Result<(), PortError> {
        self.chunks.insert(hash, bytes).await;
        Ok(())
    }

    async fn remove(&self, hash: ChunkHash) -> Result<(), PortError> {
        self.chunks.invalidate(&hash).await;
        Ok(())
    }

    async fn clear(&self) -> Result<(), PortError> {
        self.chunks.invalidate_all();
        self.chunks.run_pending_tasks().await;
        Ok(())
    }

    async fn stats(&self) -> Result<CacheStats, PortError> {
        // moka puts off its evictions and counts.
        self.chunks.run_pending_tasks().await;
        Ok(CacheStats {
            entries: self.chunks.entry_count(),
            bytes: self.chunks.weighted_size(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        })
    }

    async fn get_value(&self, key: &str) -> Result<Option<String>, PortError> {
        Ok(self.values.get(key).await)
    }

    async fn put_value(&self, key: &str, json: String) -> Result<(), PortError> {
        self.values.insert(key.to_owned(), json).await;
        Ok(())
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
