//! `[cache]`: which adapter holds dataset chunks close to the trainers.

use super::reader::{Kind, Table};
use crate::edges::redis::config::{RedisConfig, Topology};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In this process, up to a size.
    Memory(MemoryCache),
    /// In one Redis, or in a Redis Cluster.
    Redis(RedisConfig),
    /// Every chunk is read from the store.
    None,
}

/// `[cache.memory]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryCache {
    /// Bytes of chunks, decompressed; what was used least goes first.
    pub bytes_max: usize,
}

const KINDS: &[Kind<Cache>] = &[
    Kind { name: "memory", table: "memory", read: |table| Cache::Memory(MemoryCache::read(table)) },
    Kind { name: "redis", table: "redis", read: |table| Cache::Redis(RedisConfig::read(table, Topology::Single)) },
    Kind {
        name: "redis-cluster",
        table: "redis",
        read: |table| Cache::Redis(RedisConfig::read(table, Topology::Cluster)),
    },
    Kind { name: "none", table: "none", read: |_| Cache::None },
];

impl Cache {
    /// Its name in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(redis) => redis.kind(),
            Self::None => "none",
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let cache = table.kind(KINDS);
        if let Self::Redis(redis) = &cache
            && let Some(wrong) = redis.contradiction()
        {
            table.require(&["kind", "redis.urls"], false, wrong);
        }
        cache
    }
}

impl MemoryCache {
    fn read(table: &mut Table<'_>) -> Self {
        Self { bytes_max: table.key("bytes_max").within(1 << 20..=1 << 40).get() }
    }
}
