//! Stands between a node and the database, and does to their frames what a test asks for.

use std::net::TcpListener;

use kubeml::edges::cassandra::CassandraConfig;
use scylla_proxy::{Condition, Node, Proxy, RunningProxy, ShardAwareness};

use super::keyspace::Keyspace;

/// A proxy, and the settings of a node behind it.
pub async fn proxied(keyspace: &Keyspace) -> (RunningProxy, CassandraConfig) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let point = &keyspace.config.addresses()[0];
    let real = tokio::net::lookup_host(point).await.expect("it has an address").next().expect("it has an address");
    let node = Node::builder().real_address(real).proxy_address(address).shard_awareness(ShardAwareness::Unaware);
    let proxy = Proxy::new([node.build()]).run().await.expect("the address is free");
    (proxy, CassandraConfig { contact_points: vec![address.to_string()], ..keyspace.config.clone() })
}

pub fn contains(bytes: &[u8]) -> Condition {
    Condition::BodyContainsCaseSensitive(bytes.into())
}
