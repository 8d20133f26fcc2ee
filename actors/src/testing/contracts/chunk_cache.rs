//! What every [`ChunkCache`] promises: little, since it may forget. Those that mean to remember promise more.

use std::sync::Arc;

use super::{Kept, samples::noise};
use crate::{
    dataset::ChunkHash,
    ports::{CacheStats, ChunkCache, PortError},
};

/// `$open` gives an `async || -> Arc<impl ChunkCache>`.
#[macro_export]
macro_rules! chunk_cache_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            chunk_cache,
            $open,
            [
                a_chunk_reads_back_or_is_forgotten,
                an_unknown_chunk_is_a_miss,
                a_removed_chunk_is_gone,
                a_cleared_cache_is_empty,
                a_value_reads_back_or_is_forgotten,
                a_value_never_touches_a_chunk,
            ]
        );
    };
}

/// For caches that keep a few MiB for a while; `$open` as above.
#[macro_export]
macro_rules! remembering_chunk_cache_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            chunk_cache,
            $open,
            [
                a_fresh_chunk_is_remembered,
                a_fresh_value_is_remembered,
                a_new_value_takes_the_place_of_the_old,
                entries_and_bytes_are_counted,
                hits_and_misses_are_counted,
            ]
        );
    };
}

pub async fn a_chunk_reads_back_or_is_forgotten<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    for length in [0, 1, 1 << 20] {
        let chunk = noise(length, 1);
        let hash = ChunkHash::of(&chunk);
        cache.put(hash, chunk.clone()).await?;
        cache.put(hash, chunk.clone()).await?;
        assert!(cache.get(hash).await?.is_none_or(|read| read == chunk));
    }
    Ok(())
}

pub async fn an_unknown_chunk_is_a_miss<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    put(&*cache, 1).await?;
    assert_eq!(cache.get(ChunkHash([1; 32])).await?, None);
    Ok(())
}

pub async fn a_removed_chunk_is_gone<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    let hash = put(&*cache, 1).await?;
    cache.remove(hash).await?;
    cache.remove(hash).await?;
    assert_eq!(cache.get(hash).await?, None);
    Ok(())
}

pub async fn a_cleared_cache_is_empty<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    let hashes = [put(&*cache, 1).await?, put(&*cache, 2).await?];
    cache.clear().await?;
    for hash in hashes {
        assert_eq!(cache.get(hash).await?, None);
    }
    let CacheStats { entries, bytes, .. } = cache.stats().await?;
    assert_eq!((entries, bytes), (0, 0));
    Ok(())
}

pub async fn a_value_reads_back_or_is_forgotten<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    cache.put_value("key", r#"{"a":1}"#.to_owned()).await?;
    assert!(cache.get_value("key").await?.is_none_or(|read| read == r#"{"a":1}"#));
    assert_eq!(cache.get_value("other").await?, None);
    Ok(())
}

pub async fn a_value_never_touches_a_chunk<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    let chunk = noise(1000, 1);
    let hash = put(&*cache, 1).await?;
    let bytes = cache.stats().await?.bytes;
    for key in [hash.to_string(), format!("chunk:{hash}"), String::new()] {
        cache.put_value(&key, "{}".to_owned()).await?;
        assert!(cache.get(hash).await?.is_none_or(|read| read == chunk));
        assert_eq!(cache.stats().await?.bytes, bytes);
    }
    Ok(())
}

pub async fn a_fresh_chunk_is_remembered<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    let hash = put(&*cache, 1).await?;
    assert_eq!(cache.get(hash).await?, Some(noise(1000, 1)));
    Ok(())
}

pub async fn a_fresh_value_is_remembered<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    cache.put_value("key", "{}".to_owned()).await?;
    assert_eq!(cache.get_value("key").await?.as_deref(), Some("{}"));
    Ok(())
}

pub async fn a_new_value_takes_the_place_of_the_old<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    cache.put_value("key", "1".to_owned()).await?;
    cache.put_value("key", "2".to_owned()).await?;
    assert_eq!(cache.get_value("key").await?.as_deref(), Some("2"));
    Ok(())
}

pub async fn entries_and_bytes_are_counted<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    for seed in [1, 2, 2] {
        put(&*cache, seed).await?;
    }
    let CacheStats { entries, bytes, .. } = cache.stats().await?;
    assert_eq!((entries, bytes), (2, 2000));
    Ok(())
}

pub async fn hits_and_misses_are_counted<S: ChunkCache + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let cache = open().await;
    let before = cache.stats().await?;
    let hash = put(&*cache, 1).await?;
    for hash in [hash, hash, ChunkHash([1; 32])] {
        cache.get(hash).await?;
    }
    let after = cache.stats().await?;
    assert_eq!((after.hits - before.hits, after.misses - before.misses), (2, 1));
    Ok(())
}

/// A cache made for `bytes_max` stays below, and still takes what is new. For those who know their bound.
pub async fn holds_at_most(cache: &dyn ChunkCache, bytes_max: u64) -> Kept {
    for seed in 0..=u8::MAX {
        put(cache, seed).await?;
        assert!(cache.stats().await?.bytes <= bytes_max);
    }
    let too_large = noise(usize::try_from(bytes_max).expect("a small bound") + 1, 1);
    cache.put(ChunkHash::of(&too_large), too_large.clone()).await?;
    assert!(cache.stats().await?.bytes <= bytes_max);
    assert_eq!(cache.get(ChunkHash::of(&too_large)).await?, None);
    Ok(())
}

/// Puts a chunk of 1000 bytes.
async fn put(cache: &dyn ChunkCache, seed: u8) -> Result<ChunkHash, PortError> {
    let chunk = noise(1000, seed);
    let hash = ChunkHash::of(&chunk);
    cache.put(hash, chunk).await?;
    Ok(hash)
}
