//! The suite's servers: killed, started again, and whole before each test.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use ::redis::{Cmd, cmd};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    statement::{Consistency, Statement},
};
use tokio::time::{Instant, sleep, timeout};
use xtask::services::{Kind, Server, Services};

use super::super::nodes::{DEADLINE, services};

pub struct Fleet(Services);

impl Fleet {
    /// Starts what an earlier test left dead, and waits until the servers know each other again.
    pub async fn whole() -> Self {
        let services = services();
        let several = [Kind::Kafka, Kind::Cassandra].into_iter().all(|kind| services.plan().count(kind) == 3);
        assert!(several, "run this by `cargo xtask test --suite cluster-ha`");
        thread::scope(|scope| {
            let start = |server| scope.spawn(move || Server::start(server).expect("it starts again"));
            services.servers().iter().map(start).for_each(drop);
        });
        let fleet = Self(services);
        fleet.until("all of Cassandra is up for each of its nodes", Self::cassandra_is_whole).await;
        fleet.until("every slot of Redis has a master and a replica", Self::redis_is_whole).await;
        fleet
    }

    async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(self).await {
            assert!(Instant::now() < end, "in time: {what}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn kill(&self, name: &str) {
        self.server(name).kill().expect("it runs");
    }

    /// Returns when it answers clients.
    pub fn start(&self, name: &str) {
        self.server(name).start().expect("it starts again");
    }

    fn server(&self, name: &str) -> &Server {
        self.0.server(name).expect("it is one of the suite's")
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Server> {
        self.0.servers().iter().filter(move |server| server.kind == kind)
    }

    /// The name of one.
    pub async fn redis_master(&self) -> String {
        for server in self.of(Kind::Redis) {
            if replication(server).await.contains("role:master") {
                return server.name.clone();
            }
        }
        panic!("the Redis Cluster has no master");
    }

    async fn redis_is_whole(&self) -> bool {
        let (mut masters, mut replicas) = (0, 0);
        for server in self.of(Kind::Redis) {
            let replication = replication(server).await;
            masters += usize::from(replication.contains("connected_slaves:1"));
            replicas += usize::from(replication.contains("master_link_status:up"));
        }
        (masters, replicas) == (3, 3)
    }

    async fn cassandra_is_whole(&self) -> bool {
        for server in self.of(Kind::Cassandra) {
            let reading = timeout(Duration::from_secs(10), reads_all_copies(server.address.into()));
            if !matches!(reading.await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}

/// Through one node, all three copies of something.
async fn reads_all_copies(node: SocketAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::NodeAddress(node), None);
    let profile = ExecutionProfile::builder().load_balancing_policy(only as Arc<_>).build().into_handle();
    let builder = SessionBuilder::new().known_node_addr(node).default_execution_profile_handle(profile);
    let session: Session = builder.build().await?;
    let mut read = Statement::new("SELECT host_id FROM system_distributed.view_build_status");
    read.set_consistency(Consistency::All);
    session.query_unpaged(read, ()).await?;
    Ok(())
}

/// What a Redis server says of its part; nothing when it does not answer.
async fn replication(server: &Server) -> String {
    let ask = async |command: &Cmd| {
        let client = ::redis::Client::open(format!("redis://{}", server.address))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        command.query_async::<String>(&mut connection).await
    };
    ask(cmd("INFO").arg("replication")).await.unwrap_or_default()
}
