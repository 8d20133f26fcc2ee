//! The cluster's adapters and whole clusters, on real Kafka, Cassandra and Redis.
//!
//! `cargo xtask test --suite cluster` starts the servers and says in `KUBEML_TEST_SERVICES` where they are.

#[path = "cluster/cassandra.rs"]
mod cassandra;
#[path = "cluster/kafka.rs"]
mod kafka;
#[path = "cluster/redis.rs"]
mod redis;
