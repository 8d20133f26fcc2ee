//! What needs no server: one that is not there, times to live, and passwords in files.

use std::io::Write as _;

use kubeml_actors::testing::contracts::samples::noise;

use super::{config::*, *};

fn config(port: u16) -> RedisConfig {
    RedisConfig {
        topology: Topology::Single,
        urls: RedisUrls(vec![RedisUrl { host: "127.0.0.1".to_owned(), port, database: 0 }]),
        ttl: Duration::from_hours(1),
        username: None,
        password_file: None,
        key_prefix: "kubeml".to_owned(),
    }
}

#[test]
fn a_time_to_live_is_up_to_a_tenth_shorter_or_longer() {
    let ttl = Duration::from_secs(1_000);
    let jittered = [0.0, 0.25, 0.5, 1.0].map(|chance| jittered(ttl, chance).as_secs_f64().round());
    assert_eq!(jittered, [900.0, 950.0, 1_000.0, 1_100.0]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_left_alone_after_three_calls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    for topology in [Topology::Single, Topology::Cluster] {
        let metrics = Metrics::new();
        let cache = RedisChunkCache::new(&RedisConfig { topology, ..config(port) }, &metrics).expect("it starts");
        for _ in 0..3 {
            let refused = cache.get(ChunkHash([1; 32])).await.expect_err("nobody is there");
            assert!(refused.is_transient() && refused.to_string().contains("127.0.0.1"), "{refused}");
        }
        assert_eq!(metrics.cache_breaker_open.get(), 1);
        let chunk = noise(10, 1);
        let refused = cache.put(ChunkHash::of(&chunk), chunk).await;
        assert!(
            matches!(&refused, Err(PortError::Unavailable(text)) if text.contains("is not asked for")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_before_anybody_is_asked() {
    let cache = RedisChunkCache::new(&config(1), &Metrics::new()).expect("it starts");
    let json = "x".repeat(VALUE_BYTES_MAX + 1);
    assert!(matches!(cache.put_value("k", json).await, Err(PortError::Rejected(_))));
    let chunk = noise(2 << 20, 1);
    assert!(matches!(cache.put(ChunkHash::of(&chunk), chunk).await, Err(PortError::Rejected(_))));
}

#[test]
fn a_password_is_read_without_its_line_break_and_a_missing_one_is_named() {
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    assert!(server::password_in(file.path()).is_err_and(|error| error.to_string().contains("it is empty")));
    file.write_all(b"hunter 2 \r\n").expect("it is writable");
    assert_eq!(server::password_in(file.path()), Ok("hunter 2 ".to_owned()));
    let gone = RedisConfig { password_file: Some("gone/password".into()), ..config(1) };
    let refused = RedisChunkCache::new(&gone, &Metrics::new()).err().expect("there is no such file");
    assert!(refused.to_string().starts_with("[cache.redis] password_file: gone/password: "), "{refused}");
}
