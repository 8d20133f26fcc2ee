//! The nodes of one measurement: an API node and workers, and what is asked of them.

use std::{
    iter::Sum,
    net::{Ipv4Addr, SocketAddrV4},
    str::FromStr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Deserialize;
use xtask::services::is_free;

use super::{
    cost::Cost,
    http::{Heard, Listener, ask},
};
use crate::{
    chores::cluster::{
        Cluster, Role, Setup,
        node::{self, Node},
    },
    runner,
};

/// Below those that the kernel gives to connections.
const FIRST_PORT: u16 = 19_100;
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const TASK_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Keeps what one measurement stores from another's.
#[derive(Clone, Copy)]
pub struct Space(pub &'static str);

pub const MAIN: Space = Space("bench");

impl Space {
    pub fn environment(self) -> Vec<(&'static str, String)> {
        vec![
            ("KUBEML__STORE__CASSANDRA__KEYSPACE", self.0.to_owned()),
            ("KUBEML__CACHE__REDIS__KEY_PREFIX", self.0.to_owned()),
            ("KUBEML__TRAINER__SLOTS", "1".to_owned()),
            ("KUBEML__TRAINER__THREADS_PER_SLOT", "1".to_owned()),
        ]
    }
}

pub struct Site<'a> {
    cluster: &'a Cluster<'a>,
    environment: Vec<(&'static str, String)>,
    /// The API node, then the workers; or the one that is both.
    nodes: Vec<Node>,
}

/// A task that was submitted.
pub struct Sent {
    pub id: String,
    pub at: Instant,
    /// From sending the request to having its answer.
    pub answered: Duration,
}

#[derive(Deserialize)]
struct Submitted {
    #[serde(alias = "task_id")]
    id: String,
}

/// Runs `act` with an API node and so many workers, or without services with one embedded node, and stops them whatever
/// comes of it.
pub fn with_nodes<T>(
    cluster: &Cluster<'_>,
    environment: Vec<(&'static str, String)>,
    workers: usize,
    act: impl FnOnce(&mut Site<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut site = Site { cluster, environment, nodes: Vec::new() };
    let outcome = site.open(workers).and_then(|()| act(&mut site));
    let stopped = node::stop(site.nodes);
    let value = outcome?;
    stopped.map(|()| value)
}

impl Site<'_> {
    fn open(&mut self, workers: usize) -> anyhow::Result<()> {
        let ports = (FIRST_PORT..).map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let workers = if self.cluster.services.is_none() { 0 } else { workers };
        for (number, address) in (0..=workers).zip(ports.filter(|&address| is_free(address))) {
            self.nodes.push(self.start(number, address)?);
        }
        self.nodes.iter_mut().try_for_each(Node::wait_until_ready)
    }

    fn start(&self, number: usize, address: SocketAddrV4) -> anyhow::Result<Node> {
        let (name, role) = match number {
            0 if self.cluster.services.is_none() => ("node-1".to_owned(), Role::Embedded),
            0 => ("api-1".to_owned(), Role::Api),
            number => (format!("worker-{number}"), Role::Worker),
        };
        self.cluster.start(&Setup { name: &name, address, role, environment: &self.environment })
    }

    fn api(&self) -> SocketAddrV4 {
        self.nodes[0].address
    }

    fn trainers(&self) -> &[Node] {
        if self.cluster.services.is_none() { &self.nodes } else { &self.nodes[1..] }
    }

    /// To all facts from now on.
    pub fn listen(&self) -> anyhow::Result<Listener> {
        Listener::open(self.api(), "/api/v1/events")
    }

    /// To all facts of one task, from its first.
    pub fn listen_to(&self, task: &str) -> anyhow::Result<Listener> {
        Listener::open(self.api(), &format!("/api/v1/tasks/{task}/events"))
    }

    pub fn ask(&self, method: &str, path: &str, limit: Duration) -> anyhow::Result<String> {
        ask(self.api(), method, path, "", limit)
    }

    pub fn submit(&self, body: &str) -> anyhow::Result<Sent> {
        self.submit_to("/api/v1/tasks", body)
    }

    pub fn submit_to(&self, path: &str, body: &str) -> anyhow::Result<Sent> {
        let at = Instant::now();
        let answer = ask(self.api(), "POST", path, body, ANSWER_LIMIT)?;
        let answered = at.elapsed();
        let submitted: Submitted = serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))?;
        Ok(Sent { id: submitted.id, at, answered })
    }

    /// Has every worker train a little on the built-in digits, so that they have them in memory, and the servers and
    /// programs have done everything once; after some hundred `rounds`, the servers' virtual machines have compiled it too.
    pub fn warm_up(&self, rounds: usize) -> anyhow::Result<()> {
        for _ in 0..rounds {
            let facts = self.listen()?;
            let tasks: Vec<_> = self.trainers().iter().map(|_| self.submit(TINY)).collect::<Result<_, _>>()?;
            let mut left: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
            facts.wait(TASK_LIMIT, |heard| {
                left.retain(|id| !heard.is_end_of(id));
                left.is_empty()
            })?;
            self.wait_until_idle()?;
        }
        Ok(())
    }

    /// Until no worker holds a task.
    pub fn wait_until_idle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + IDLE_LIMIT;
        while self.count("kubeml_trainer_slots{state=\"busy\"}")? > 0 {
            runner::check_not_interrupted()?;
            ensure!(Instant::now() < deadline, "workers are still busy after {IDLE_LIMIT:?}");
            sleep(POLL);
        }
        Ok(())
    }

    /// A counter or gauge, summed over all nodes.
    pub fn count(&self, series: &str) -> anyhow::Result<u64> {
        self.metrics()?.total(series)
    }

    /// Of all nodes, as they are now.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        let texts = self.nodes.iter().map(|node| ask(node.address, "GET", "/metrics", "", ANSWER_LIMIT));
        Ok(Metrics(texts.collect::<Result<_, _>>()?))
    }

    /// Of servers by their kind, and of nodes by their role.
    pub fn cost(&self) -> Cost {
        let servers = self.cluster.services.iter().flat_map(|services| services.servers());
        let servers = servers.filter_map(|server| Some((server.kind.name().to_owned(), server.pid()?)));
        let role = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
        let nodes = self.nodes.iter().filter_map(|node| Some((role(&node.name), node.pid()?)));
        Cost::now(servers.chain(nodes))
    }

    /// Ends the worker of a slot like `worker-1/0` at once, and returns its number.
    pub fn kill_worker(&mut self, slot: &str) -> anyhow::Result<usize> {
        let name = slot.split('/').next().unwrap_or_default();
        let number = self.nodes.iter().position(|node| node.name == name).with_context(|| format!("no node {name}"))?;
        self.kill(number)?;
        Ok(number)
    }

    pub fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes[number].kill()
    }

    /// Starts a node that was killed again.
    pub fn revive(&mut self, number: usize) -> anyhow::Result<()> {
        self.nodes[number] = self.start(number, self.nodes[number].address)?;
        self.nodes[number].wait_until_ready()
    }

    pub fn cancel(&self, facts: &Listener, task: &str) -> anyhow::Result<Heard> {
        self.ask("POST", &format!("/api/v1/tasks/{task}/cancel"), ANSWER_LIMIT)?;
        facts.wait(TASK_LIMIT, |heard| heard.is_end_of(task))
    }
}

/// Until Java's compiler has done its work: from here on times hardly fall.
pub const WARM_UP: usize = 700;

/// As small a task as there is.
pub const TINY: &str =
    r#"{"model":"mlp","dataset":"mnist-10k","hyperparameters":{"epochs":1,"hidden":[1],"batch_size":256}}"#;

/// What each node says of itself, at one time.
pub struct Metrics(Vec<String>);

impl Metrics {
    /// What a histogram of seconds adds up to.
    pub fn seconds(&self, histogram: &str) -> anyhow::Result<Duration> {
        Ok(Duration::from_secs_f64(self.total(&format!("{histogram}_sum"))?))
    }

    /// Over all nodes.
    pub fn total<T>(&self, series: &str) -> anyhow::Result<T>
    where
        T: Sum + FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let values = self.0.iter().map(|text| {
            let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            let value = value.with_context(|| format!("a node has no metric {series}"))?;
            value.trim().parse::<T>().with_context(|| format!("{series}: {value}"))
        });
        values.sum()
    }
}
