//! A cache that forgets its oldest entries, and one that keeps nothing.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::lock;
use crate::{
    dataset::ChunkHash,
    ports::{CacheStats, ChunkCache, PortError},
};

/// What the values of the older system's clients may take together, keys included.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// Holds at most `bytes_max` of chunks; the oldest make room.
#[derive(Debug)]
pub struct InMemoryCache {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    chunks: Bounded<ChunkHash, Bytes>,
    values: Bounded<String, String>,
    hits: u64,
    misses: u64,
}

impl InMemoryCache {
    pub fn new(bytes_max: u64) -> Self {
        let (chunks, values) = (Bounded::new(bytes_max), Bounded::new(VALUE_BYTES_MAX));
        Self { inner: Mutex::new(Inner { chunks, values, hits: 0, misses: 0 }) }
    }
}

#[async_trait]
impl ChunkCache for InMemoryCache {
    async fn get(&self, hash: ChunkHash) -> Result<Option<Bytes>, PortError> {
        let mut inner = lock(&self.inner);
        let found = inner.chunks.get(&hash).cloned();
        match found {
            Some(_) => inner.hits += 1,
            None => inner.misses += 1,
        }
        Ok(found)
    }

    async fn put(&self, hash: ChunkHash, bytes: Bytes) -> Result<(), PortError> {
        // A copy: a slice would keep the whole buffer that it was cut from.
        let own = Bytes::copy_from_slice(&bytes);
        lock(&self.inner).chunks.put(hash, own, bytes.len() as u64);
        Ok(())
    }

    async fn remove(&self, hash: ChunkHash) -> Result<(), PortError> {
        lock(&self.inner).chunks.remove(&hash);
        Ok(())
    }

    async fn clear(&self) -> Result<(), PortError> {
        lock(&self.inner).chunks.clear();
        Ok(())
    }

    async fn stats(&self) -> Result<CacheStats, PortError> {
        let inner = lock(&self.inner);
        let (entries, bytes) = (inner.chunks.len(), inner.chunks.bytes);
        Ok(CacheStats { entries, bytes, hits: inner.hits, misses: inner.misses })
    }

    async fn get_value(&self, key: &str) -> Result<Option<String>, PortError> {
        Ok(lock(&self.inner).values.get(key).cloned())
    }

    async fn put_value(&self, key: &str, json: String) -> Result<(), PortError> {
        let bytes = (key.len() + json.len()) as u64;
        lock(&self.inner).values.put(key.to_owned(), json, bytes);
        Ok(())
    }
}

/// First in, first out, bounded by the sum of the entries' sizes.
#[derive(Debug)]
struct Bounded<K, V> {
    bytes_max: u64,
    bytes: u64,
    entries: HashMap<K, (V, u64)>,
    order: VecDeque<K>,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, entries: HashMap::new(), order: VecDeque::new() }
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// An entry larger than everything allowed is not kept, nor is what it would have replaced.
    fn put(&mut self, key: K, value: V, bytes: u64) {
        self.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max
            && let Some(oldest) = self.order.front().cloned()
        {
            self.remove(&oldest);
        }
        self.bytes += bytes;
        self.order.push_back(key.clone());
        self.entries.insert(key, (value, bytes));
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, bytes)) = self.entries.remove(key) {
            self.bytes -= bytes;
            self.order.retain(|other| other != key);
        }
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.entries.clear();
        self.order.clear();
    }
}

/// Keeps nothing: `[cache] kind = "none"`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

#[async_trait]
impl ChunkCache for NoCache {
    async fn get(&self, _hash: ChunkHash) -> Result<Option<Bytes>, PortError> {
        Ok(None)
    }

    async fn put(&self, _hash: ChunkHash, _bytes: Bytes) -> Result<(), PortError> {
        Ok(())
    }

    async fn remove(&self, _hash: ChunkHash) -> Result<(), PortError> {
        Ok(())
    }

    async fn clear(&self) -> Result<(), PortError> {
        Ok(())
    }

    async fn stats(&self) -> Result<CacheStats, PortError> {
        Ok(CacheStats::default())
    }

    async fn get_value(&self, _key: &str) -> Result<Option<String>, PortError> {
        Ok(None)
    }

    async fn put_value(&self, _key: &str, _json: String) -> Result<(), PortError> {
        Ok(())
    }
}
