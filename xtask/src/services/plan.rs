//! Which servers there are to be and where they listen: chosen here, and nowhere else.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// One Cassandra node per address: they share their ports.
pub const NODES_MAX: u16 = 3;
pub const REDIS_CLUSTER_NODES: u16 = 6;
/// Of a Redis cluster, its second port: fixed by Redis.
const REDIS_BUS_OFFSET: u16 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Brokers: 0, 1 or 3.
    pub kafka: u16,
    /// Nodes: 0, 1 or 3.
    pub cassandra: u16,
    pub redis: RedisPlan,
    pub ports: Ports,
    #[serde(default)]
    pub commit_log: CommitLog,
}

/// When Cassandra's commit log goes to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitLog {
    /// Before an answer: what was acknowledged survives the death of a node that is alone.
    #[default]
    Batch,
    /// Every ten seconds, as Cassandra itself has it: other nodes remember what one that dies forgets.
    Periodic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisPlan {
    None,
    Single,
    /// Three masters and a replica of each.
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Of the first broker; the next ones listen 100 further on, and controllers one above their broker.
    kafka: u16,
    /// Of every node; nodes talk among themselves on the next port.
    cassandra: u16,
    redis: u16,
    /// Of the first node; the next ones follow. Below 55536, for the cluster's bus is 10000 above.
    redis_cluster: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Kafka,
    Cassandra,
    Redis,
}

impl Ports {
    /// Where these servers usually are, and where `config/cluster.toml` looks for them.
    pub const fn standard() -> Self {
        Self { kafka: 9092, cassandra: 9042, redis: 6379, redis_cluster: 7000 }
    }

    /// Elsewhere, so that tests do not meet what a developer has running.
    pub const fn for_tests() -> Self {
        Self::test_block(0)
    }

    /// All of them below 32768, from where the kernel takes the ports of outgoing connections.
    const fn test_block(block: u16) -> Self {
        let base = 20_000 + 500 * block;
        Self { kafka: base + 92, cassandra: base + 42, redis: base + 379, redis_cluster: base + 400 }
    }

    const TEST_BLOCKS: u16 = 5;
}

impl Plan {
    /// One of each.
    pub const fn single(ports: Ports) -> Self {
        Self { kafka: 1, cassandra: 1, redis: RedisPlan::Single, ports, commit_log: CommitLog::Batch }
    }

    /// As many as it takes to lose one of each and go on.
    pub const fn highly_available(ports: Ports) -> Self {
        Self { kafka: 3, cassandra: 3, redis: RedisPlan::Cluster, ports, commit_log: CommitLog::Batch }
    }

    /// The same servers on the first test ports that nobody listens on, so that two checkouts may test at once.
    pub fn on_free_test_ports(self) -> anyhow::Result<Self> {
        let blocks = (0..Ports::TEST_BLOCKS).map(|block| Self { ports: Ports::test_block(block), ..self });
        let mut free = blocks.filter(|plan| plan.listening().into_iter().all(is_free));
        free.next().context("all ports for tests are taken: look for what an earlier run left (ss -ltnp)")
    }

    pub fn check(&self) -> anyhow::Result<()> {
        let Self { kafka, cassandra, .. } = self;
        ensure!(matches!(kafka, 0 | 1 | 3), "{kafka} Kafka brokers are not supported: 0, 1 or 3");
        ensure!(matches!(cassandra, 0 | 1 | 3), "{cassandra} Cassandra nodes are not supported: 0, 1 or 3");
        Ok(())
    }

    /// How many servers of a kind there are.
    pub fn count(&self, kind: Kind) -> u16 {
        match (kind, self.redis) {
            (Kind::Kafka, _) => self.kafka,
            (Kind::Cassandra, _) => self.cassandra,
            (Kind::Redis, RedisPlan::None) => 0,
            (Kind::Redis, RedisPlan::Single) => 1,
            (Kind::Redis, RedisPlan::Cluster) => REDIS_CLUSTER_NODES,
        }
    }

    /// Where clients find server `number` of a kind, counted from 0.
    pub fn address(&self, kind: Kind, number: u16) -> SocketAddrV4 {
        let Ports { kafka, cassandra, redis, redis_cluster } = self.ports;
        match (kind, self.redis) {
            (Kind::Kafka, _) => loopback(0, kafka + 100 * number),
            (Kind::Cassandra, _) => loopback(number, cassandra),
            (Kind::Redis, RedisPlan::Cluster) => loopback(0, redis_cluster + number),
            (Kind::Redis, _) => loopback(0, redis),
        }
    }

    pub fn addresses(&self, kind: Kind) -> Vec<SocketAddrV4> {
        (0..self.count(kind)).map(|number| self.address(kind, number)).collect()
    }

    /// Where a server hears others of its kind, if it does.
    pub fn peer_address(&self, kind: Kind, number: u16) -> Option<SocketAddrV4> {
        let address = self.address(kind, number);
        let port = match (kind, self.redis) {
            (Kind::Kafka | Kind::Cassandra, _) => address.port() + 1,
            (Kind::Redis, RedisPlan::Cluster) => address.port() + REDIS_BUS_OFFSET,
            (Kind::Redis, _) => return None,
        };
        Some(SocketAddrV4::new(*address.ip(), port))
    }

    pub fn listening(&self) -> Vec<SocketAddrV4> {
        let all = Kind::ALL.into_iter().flat_map(|kind| (0..self.count(kind)).map(move |number| (kind, number)));
        all.flat_map(|(kind, number)| [Some(self.address(kind, number)), self.peer_address(kind, number)])
            .flatten()
            .collect()
    }

    /// In words, as the command line takes it.
    pub fn describe(&self) -> String {
        let redis = match self.redis {
            RedisPlan::None => "none",
            RedisPlan::Single => "single",
            RedisPlan::Cluster => "cluster",
        };
        format!("--kafka {} --cassandra {} --redis {redis}", self.kafka, self.cassandra)
    }
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Cassandra, Self::Redis];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Redis => "redis",
        }
    }
}

/// `127.0.0.1` is host 0.
fn loopback(host: u16, port: u16) -> SocketAddrV4 {
    debug_assert!(host < NODES_MAX);
    SocketAddrV4::new(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + u32::from(host)), port)
}

/// Whether nobody listens there.
pub fn is_free(address: SocketAddrV4) -> bool {
    TcpListener::bind(address).is_ok()
}
