//! What lies in Redis: ours with its time to live, others' untouched, and whatever else may be there.

use std::io::Write as _;

use ::redis::{Cmd, cmd};
use bytes::Bytes;
use kubeml::codec::cached_chunk::{FORMAT, WRAPPED_BYTES_MAX, wrap};
use kubeml_actors::{
    dataset::{CHUNK_BYTES, ChunkHash},
    ports::{ChunkCache, PortError},
    testing::contracts::{Kept, samples::noise},
};

use super::{super::redis_server::RedisServer, *};

/// Longer than Redis answers for one scan.
const MANY: u32 = 2_500;

fn chunk_key(config: &RedisConfig, hash: ChunkHash) -> String {
    format!("{}:chunk:1:{hash}", config.key_prefix)
}

fn set(key: impl AsRef<str>, value: impl AsRef<[u8]>) -> Cmd {
    cmd("SET").arg(key.as_ref()).arg(value.as_ref()).take()
}

fn chunk(length: usize) -> (ChunkHash, Bytes) {
    let chunk = noise(length, 7);
    (ChunkHash::of(&chunk), chunk)
}

#[tokio::test]
async fn whatever_lies_in_a_chunks_place_is_a_miss_that_is_counted_and_written_over() -> Kept {
    let server = shared_server().await;
    let config = single(server);
    let (cache, metrics) = cache(&config);
    let (hash, chunk) = chunk(1000);
    let (key, good) = (chunk_key(&config, hash), wrap(hash, &chunk).expect("it is short"));
    let mut newer = good.clone();
    newer[1] = FORMAT + 1;
    let other = noise(1000, 8);
    let corrupt: Vec<Cmd> = vec![
        set(&key, "garbage"),
        set(&key, &good[..1]),
        set(&key, &good[..30]),
        set(&key, &good[..good.len() - 1]),
        set(&key, [&good[..], &[0]].concat()),
        set(&key, newer),
        set(&key, wrap(ChunkHash::of(&other), &other).expect("it is short")),
        set(&key, vec![0xff; 20 << 20]),
        set(&key, vec![1; WRAPPED_BYTES_MAX + 1]),
        cmd("RPUSH").arg(&key).arg("a").arg("list").take(),
        cmd("HSET").arg(&key).arg("a").arg("hash").take(),
    ];
    for (nth, corrupt) in (1_u64..).zip(&corrupt) {
        server.ask::<()>(cmd("DEL").arg(&key)).await;
        server.ask::<()>(corrupt).await;
        assert_eq!(cache.get(hash).await?, None, "value {nth}");
        let counts = (metrics.cache_unreadable.get(), cache.stats().await?.misses, cache.stats().await?.hits);
        assert_eq!(counts, (nth, nth, nth - 1));
        cache.put(hash, chunk.clone()).await?;
        assert_eq!(cache.get(hash).await?.as_ref(), Some(&chunk), "after value {nth}");
    }
    assert_eq!(metrics.cache_breaker_open.get(), 0);
    Ok(())
}

#[tokio::test]
async fn whatever_lies_in_a_values_place_is_nothing() -> Kept {
    let server = shared_server().await;
    let config = single(server);
    let (cache, metrics) = cache(&config);
    let key = format!("{}:kv:k", config.key_prefix);
    let corrupt = [
        set(&key, [0xff, 0xfe]),
        set(&key, vec![b'x'; (1 << 20) + 1]),
        set(&key, "lies"),
        set(&key, r#"1,"status":"x""#),
        cmd("RPUSH").arg(&key).arg("a").take(),
    ];
    for corrupt in &corrupt {
        server.ask::<()>(cmd("DEL").arg(&key)).await;
        server.ask::<()>(corrupt).await;
        assert_eq!(cache.get_value("k").await?, None);
        cache.put_value("k", "{}".to_owned()).await?;
        assert_eq!(cache.get_value("k").await?.as_deref(), Some("{}"));
    }
    assert_eq!(metrics.cache_unreadable.get(), corrupt.len() as u64);
    Ok(())
}

#[tokio::test]
async fn a_server_that_makes_no_room_is_told_of() -> Kept {
    for (policy, lines) in [("noeviction", 1), ("allkeys-lru", 0)] {
        let server = RedisServer::start(&["--maxmemory-policy", policy]).await;
        let advice = cache(&single(&server)).0.advice().await?;
        assert_eq!(advice.len(), lines, "{policy}: {advice:?}");
        assert!(advice.iter().all(|line| line.contains("allkeys-lru")), "{advice:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_written_ends() -> Kept {
    let server = shared_server().await;
    let config = single(server);
    let (cache, _) = cache(&config);
    let (hash, chunk) = chunk(CHUNK_BYTES);
    cache.put(hash, chunk).await?;
    cache.put_value("k", "{}".to_owned()).await?;
    for key in [chunk_key(&config, hash), format!("{}:kv:k", config.key_prefix)] {
        let left: u64 = server.ask(cmd("TTL").arg(&key)).await;
        let ttl = config.ttl.as_secs();
        assert!((ttl * 8 / 10..=ttl * 11 / 10).contains(&left), "{key}: {left} s of {ttl} s");
    }
    Ok(())
}

#[tokio::test]
async fn clearing_removes_all_of_our_chunks_and_nothing_else() -> Kept {
    let server = RedisServer::start(&[]).await;
    let config = RedisConfig { key_prefix: "kubeml".to_owned(), ..single(&server) };
    let (cache, _) = cache(&config);
    let mut fill = ::redis::pipe();
    for n in 0..MANY {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        fill.set(chunk_key(&config, ChunkHash(hash)), "x").ignore().set(format!("other:{n}"), "x").ignore();
    }
    let theirs = ["kubeml:kv:chunk:1:0", "kubeml2:chunk:1:0", "chunk:1:0", "a:kubeml:chunk:1:0", "kubeml:chunks"];
    for key in theirs.iter().chain(&["kubeml:chunk:0:of-an-older-format"]) {
        fill.set(*key, "x").ignore();
    }
    server.pipe(&fill).await;
    let (hash, chunk) = chunk(1000);
    cache.put(hash, chunk).await?;
    assert_eq!((cache.stats().await?.entries, cache.stats().await?.bytes), (1, 1000), "what is readable counts");
    cache.clear().await?;
    assert_eq!(cache.get(hash).await?, None);
    let left: usize = server.ask(&cmd("DBSIZE")).await;
    assert_eq!(left, MANY as usize + theirs.len());
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_cleared_and_counted_on_every_master() -> Kept {
    let cluster = shared_cluster().await;
    let config = clustered(cluster);
    let (cache, _) = cache(&config);
    let mut bytes = 0;
    for length in 1..=200 {
        let (hash, chunk) = chunk(length);
        cache.put(hash, chunk).await?;
        bytes += length as u64;
    }
    cache.put_value("k", "{}".to_owned()).await?;
    let stats = cache.stats().await?;
    assert_eq!((stats.entries, stats.bytes), (200, bytes));
    let pattern = format!("{}:chunk:*", config.key_prefix);
    let mut nodes_with_chunks = 0;
    for node in &cluster.nodes {
        let keys: Vec<String> = node.ask(cmd("KEYS").arg(&pattern)).await;
        nodes_with_chunks += usize::from(!keys.is_empty());
    }
    assert!(nodes_with_chunks >= 3, "every master has its share");
    cache.clear().await?;
    assert_eq!(cache.stats().await?.entries, 0);
    assert_eq!(cache.get_value("k").await?.as_deref(), Some("{}"));
    Ok(())
}

#[tokio::test]
async fn logging_in_takes_the_password_from_its_file_and_repeats_it_nowhere() -> Kept {
    let server = RedisServer::start(&["--user", "ada", "on", ">hunter2", "~kubeml:*", "+@all", "-config"]).await;
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(b"hunter2\n").expect("it is writable");
    let (username, password_file) = (Some("ada".to_owned()), Some(file.path().to_owned()));
    let config = RedisConfig { key_prefix: "kubeml".to_owned(), username, password_file, ..single(&server) };
    let (welcome, _) = cache(&config);
    let (hash, chunk) = chunk(10);
    welcome.put(hash, chunk.clone()).await?;
    assert_eq!(welcome.get(hash).await?, Some(chunk), "CONFIG is forbidden to her, which is no harm");
    let (elsewhere, _) = cache(&RedisConfig { key_prefix: "elsewhere".to_owned(), ..config.clone() });
    let refused = elsewhere.get(hash).await.expect_err("these keys are not hers");
    assert!(matches!(&refused, PortError::Rejected(text) if text.contains("acl list")), "{refused}");
    file.write_all(b"3").expect("it is writable");
    let (stranger, _) = cache(&config);
    let refused = stranger.get(hash).await.expect_err("it is the wrong password").to_string();
    assert!(!refused.contains("hunter2"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_node_of_a_cluster_taken_for_a_server_says_so() {
    let (cache, _) = cache(&single(&shared_cluster().await.nodes[0]));
    let mut refusals = Vec::new();
    for n in 0..=u8::MAX {
        refusals.extend(cache.get(ChunkHash([n; 32])).await.err());
    }
    let says_so = |refused: &PortError| refused.to_string().contains("redis-cluster");
    assert!(!refusals.is_empty() && refusals.iter().all(says_so), "{refusals:?}");
}
