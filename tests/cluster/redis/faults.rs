//! Servers that are killed, hang, forget, or are full: the cache answers all the same, and recovers by itself.

use ::redis::cmd;
use kubeml_actors::{
    dataset::ChunkHash,
    ports::{ChunkCache, PortError},
    testing::contracts::{Kept, samples::noise},
};
use tokio::time::{Instant, sleep, timeout};

use super::{super::redis_server::DEADLINE, *};

/// Puts a chunk and reads it back; an answer comes, whatever the server does.
async fn round_trip(cache: &RedisChunkCache, seed: u8) -> Result<(), PortError> {
    let chunk = noise(100_000, seed);
    let hash = ChunkHash::of(&chunk);
    let answer = async {
        cache.put(hash, chunk.clone()).await?;
        cache.get(hash).await
    };
    let read = timeout(DEADLINE, answer).await.expect("it answers")?;
    assert_eq!(read, Some(chunk));
    Ok(())
}

async fn recovers(cache: &RedisChunkCache) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = round_trip(cache, 1).await {
        assert!(error.is_transient(), "{error}");
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn fails_until_left_alone(cache: &RedisChunkCache, metrics: &Metrics) {
    for _ in 0..3 {
        let refused = timeout(DEADLINE, cache.stats()).await.expect("it answers").expect_err("nobody answers");
        assert!(refused.is_transient(), "{refused}");
    }
    assert_eq!(metrics.cache_breaker_open.get(), 1);
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again() -> Kept {
    let mut server = RedisServer::start(&[]).await;
    let (cache, metrics) = cache(&single(&server));
    round_trip(&cache, 1).await?;
    server.kill();
    fails_until_left_alone(&cache, &metrics).await;
    let refused = cache.get(ChunkHash([1; 32])).await.expect_err("nobody answers");
    assert!(refused.is_transient(), "{refused}");
    server.start_again().await;
    recovers(&cache).await;
    assert_eq!(metrics.cache_breaker_open.get(), 0);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_started_again_between_two_calls_is_not_noticed() -> Kept {
    let mut server = RedisServer::start(&[]).await;
    let (cache, _) = cache(&single(&server));
    round_trip(&cache, 1).await?;
    cache.stats().await?;
    server.kill();
    server.start_again().await;
    cache.stats().await?;
    round_trip(&cache, 2).await
}

#[tokio::test]
async fn a_server_that_hangs() -> Kept {
    let server = RedisServer::start(&[]).await;
    let (cache, metrics) = cache(&single(&server));
    round_trip(&cache, 1).await?;
    server.pause();
    fails_until_left_alone(&cache, &metrics).await;
    let refused = round_trip(&cache, 2).await.expect_err("nobody answers");
    assert!(refused.is_transient(), "{refused}");
    server.resume();
    recovers(&cache).await;
    assert_eq!(metrics.cache_breaker_open.get(), 0);
    Ok(())
}

#[tokio::test]
async fn a_chunk_that_a_hanging_server_holds_is_waited_for_no_longer_than_its_timeout() -> Kept {
    let server = RedisServer::start(&[]).await;
    let (cache, _) = cache(&single(&server));
    round_trip(&cache, 1).await?;
    server.pause();
    let refused = round_trip(&cache, 2).await.expect_err("nobody answers");
    assert!(matches!(&refused, PortError::Unavailable(text) if text.contains("no answer within 5s")), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_forgets_everything() -> Kept {
    let server = RedisServer::start(&[]).await;
    let (cache, _) = cache(&single(&server));
    for seed in 0..10 {
        round_trip(&cache, seed).await?;
        server.ask::<()>(&cmd("FLUSHALL")).await;
        assert_eq!(cache.get(ChunkHash::of(&noise(100_000, seed))).await?, None);
        assert_eq!(cache.stats().await?.entries, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_full_takes_nothing_and_is_not_left_alone_for_it() -> Kept {
    let server = RedisServer::start(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]).await;
    let (cache, metrics) = cache(&single(&server));
    let mut refused = 0;
    for seed in 0..20 {
        let chunk = noise(1 << 20, seed);
        match cache.put(ChunkHash::of(&chunk), chunk).await {
            Err(PortError::Unavailable(text)) if text.contains("allkeys-lru") => refused += 1,
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        cache.get(ChunkHash([seed; 32])).await?;
        cache.stats().await?;
    }
    assert!(refused >= 18, "{refused}");
    assert_eq!(metrics.cache_breaker_open.get(), 0);
    server.ask::<()>(cmd("CONFIG").arg("SET").arg("maxmemory").arg("0")).await;
    round_trip(&cache, 1).await
}

#[tokio::test]
async fn a_server_that_makes_room_is_never_full() -> Kept {
    let server = RedisServer::start(&["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let (cache, _) = cache(&single(&server));
    for seed in 0..20 {
        let chunk = noise(1 << 20, seed);
        cache.put(ChunkHash::of(&chunk), chunk).await?;
    }
    assert!((1..20).contains(&cache.stats().await?.entries));
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_loses_a_master_is_whole_again_with_its_replica() -> Kept {
    let mut cluster = RedisCluster::start().await;
    let (cache, _) = cache(&clustered(&cluster));
    for seed in 0..20 {
        round_trip(&cache, seed).await?;
    }
    // The first of the addresses that the cache knows is gone, too.
    cluster.nodes[0].kill();
    let deadline = Instant::now() + DEADLINE;
    let mut seed = 0;
    // Every chunk, wherever its key belongs.
    while seed < 20 {
        match round_trip(&cache, seed).await {
            Ok(()) => seed += 1,
            Err(error) => {
                assert!(Instant::now() < deadline, "{error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert_eq!(cache.stats().await?.entries, 20);
    Ok(())
}

#[tokio::test]
async fn a_cluster_with_a_master_that_hangs_is_whole_again_with_its_replica() -> Kept {
    let cluster = RedisCluster::start().await;
    let (cache, _) = cache(&clustered(&cluster));
    round_trip(&cache, 0).await?;
    cluster.nodes[0].pause();
    for seed in 0..5 {
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = round_trip(&cache, seed).await {
            assert!(Instant::now() < deadline, "{error}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
