//! The cluster's adapters and whole clusters, on real Kafka, Cassandra and Redis.
//!
//! `cargo xtask test --suite cluster` starts one of each and says in `KUBEML_TEST_SERVICES` where they are; then
//! everything but `ha` can run. `cargo xtask test --suite cluster-ha` starts several of each, and runs `ha`.

#![allow(clippy::unwrap_used)]

mod cluster {
    mod cassandra;
    mod ha;
    mod kafka;
    mod nodes;
    mod redis;
    mod redis_server;
    mod scenarios;
    #[path = "../process/stream.rs"]
    mod stream;
}
