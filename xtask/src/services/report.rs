//! What is said of services: the table of `status`, and the environment in which KubeML finds them.

use super::{Kind, RedisPlan, Services, Status};

impl Services {
    /// Configures a KubeML node for these services.
    pub fn environment(&self) -> Vec<(String, String)> {
        let plan = self.plan();
        let addresses = |kind, prefix: &str| {
            let addresses = plan.addresses(kind).into_iter().map(|address| format!("{prefix}{address}"));
            addresses.collect::<Vec<_>>().join(",")
        };
        let mut variables = Vec::new();
        let mut set = |name: &str, value: String| variables.push((format!("KUBEML__{name}"), value));
        if plan.cassandra > 0 {
            set("STORE__KIND", "cassandra".to_owned());
            set("STORE__CASSANDRA__CONTACT_POINTS", addresses(Kind::Cassandra, ""));
            set("STORE__CASSANDRA__REPLICATION_FACTOR", plan.cassandra.min(3).to_string());
        }
        if plan.kafka > 0 {
            set("BUS__KIND", "kafka".to_owned());
            set("BUS__KAFKA__BROKERS", addresses(Kind::Kafka, ""));
        }
        let cache = match plan.redis {
            RedisPlan::None => return variables,
            RedisPlan::Single => "redis",
            RedisPlan::Cluster => "redis-cluster",
        };
        set("CACHE__KIND", cache.to_owned());
        set("CACHE__REDIS__URLS", addresses(Kind::Redis, "redis://"));
        variables
    }

    /// For a shell to evaluate.
    pub fn exports(&self) -> String {
        self.environment().into_iter().map(|(name, value)| format!("export {name}={value}\n")).collect()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:<12} {:<16} {:>8}  {}\n", "server", "address", "pid", "state");
        for server in self.servers() {
            let pid = server.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let state = match server.status() {
                Status::Up => "up",
                Status::Paused => "paused",
                Status::Down => "down",
            };
            text.push_str(&format!("{:<12} {:<16} {pid:>8}  {state}\n", server.name, server.address.to_string()));
        }
        text
    }
}
