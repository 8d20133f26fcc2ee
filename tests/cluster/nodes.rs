//! A cluster of real processes over the suite's servers, in a keyspace, topics and keys of its own.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kubeml::{edges::kafka::KafkaConfig, wire::TaskView};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use xtask::services::Services;

use super::{
    kafka::{config_of, older_client},
    stream::Listener,
};

mod at_rest;

pub const DEADLINE: Duration = Duration::from_secs(240);
const LOG_LINES: usize = 30;
/// After the answer that something cannot be had just now, on a machine that is too busy for it.
const AGAIN: Duration = Duration::from_millis(200);

/// The servers that the suite has started.
pub fn services() -> Services {
    let directory = std::env::var_os("KUBEML_TEST_SERVICES")
        .expect("KUBEML_TEST_SERVICES is set: run this by `cargo xtask test --suite cluster`");
    Services::open(Path::new(&directory)).expect("the suite's servers are there")
}

pub struct Cluster {
    name: String,
    pub services: Services,
    pub apis: Vec<Node>,
    pub workers: Vec<Node>,
    environment: Vec<(String, String)>,
    directory: TempDir,
    client: reqwest::Client,
}

/// One process.
pub struct Node {
    pub id: String,
    pub url: String,
    role: &'static str,
    child: Child,
}

impl Cluster {
    /// One API node, and so many workers with a slot each.
    pub async fn start(workers: usize) -> Self {
        Self::start_with(1, workers, &[]).await
    }

    /// Like `start`, of nodes that are not taken for dead on a machine that is too busy for their heartbeats.
    pub async fn start_patient(workers: usize) -> Self {
        Self::start_with(1, workers, &[("KUBEML__TASKS__LEASE", "30s")]).await
    }

    pub async fn start_with(apis: usize, workers: usize, settings: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let services = services();
        let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        let directory = tempfile::tempdir().expect("a directory");
        let mut environment = services.environment();
        let mut set = |key: &str, value: &str| environment.push((key.to_owned(), value.to_owned()));
        set("KUBEML__STORE__CASSANDRA__KEYSPACE", &name);
        set("KUBEML__BUS__KAFKA__TOPIC_PREFIX", &format!("{name}."));
        set("KUBEML__CACHE__REDIS__KEY_PREFIX", &name);
        set("KUBEML__DATASETS__MNIST__DOWNLOAD", "false");
        set("KUBEML__HTTP__FAULT_INJECTION", "true");
        set("KUBEML__TRAINER__SLOTS", "1");
        set("KUBEML__TRAINER__THREADS_PER_SLOT", "1");
        settings.iter().for_each(|(key, value)| set(key, value));
        let (client, apis_wanted) = (reqwest::Client::new(), apis);
        let (apis, nodes) = (Vec::new(), Vec::new());
        let mut cluster = Self { name, services, apis, workers: nodes, environment, directory, client };
        cluster.init();
        for number in 1..=apis_wanted {
            cluster.apis.push(cluster.node(&format!("api-{number}"), "api"));
        }
        for number in 1..=workers {
            cluster.workers.push(cluster.node(&format!("worker-{number}"), "trainer"));
        }
        for node in cluster.apis.iter().chain(&cluster.workers) {
            cluster.until_ready(node).await;
        }
        cluster
    }

    /// One more worker, which is ready.
    pub async fn join(&mut self, id: &str) {
        self.join_with(id, &[]).await;
    }

    /// Like `join`, of a worker with settings of its own.
    pub async fn join_with(&mut self, id: &str, settings: &[(&str, &str)]) {
        let common = self.environment.clone();
        self.environment.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let node = self.node(id, "trainer");
        self.environment = common;
        self.until_ready(&node).await;
        self.workers.push(node);
    }

    /// Of its keyspace, and in front of the names of its topics and keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn init(&self) {
        let output = self.kubeml("init").args(["admin", "init"]).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The binary, with the cluster's settings and none of this machine's.
    fn kubeml(&self, id: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubeml"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBEML__")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("XDG_CACHE_HOME", self.directory.path().join("cache")).stdin(Stdio::null());
        command.env("KUBEML__TELEMETRY__HISTORY", self.directory.path().join(format!("{id}.history")));
        command
    }

    fn node(&self, id: &str, role: &'static str) -> Node {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        self.node_at(id, role, &address.to_string())
    }

    fn node_at(&self, id: &str, role: &'static str, address: &str) -> Node {
        let log = self.directory.path().join(format!("{id}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = self.kubeml(id);
        command.env("KUBEML__NODE__ID", id).env("KUBEML__NODE__ROLES", role);
        command.args(["serve", "--listen", address]).stderr(log);
        Node { id: id.to_owned(), url: format!("http://{address}"), role, child: command.spawn().expect("it starts") }
    }

    pub async fn until_ready(&self, node: &Node) {
        let ready = async {
            while !self.is_ready(node).await {
                if node.has_ended() {
                    return false;
                }
                sleep(Duration::from_millis(50)).await;
            }
            true
        };
        if timeout(DEADLINE, ready).await != Ok(true) {
            panic!("{} is not ready; its log ends with\n{}", node.id, self.log(&node.id));
        }
    }

    pub async fn is_ready(&self, node: &Node) -> bool {
        let answer = self.client.get(format!("{}/readyz", node.url)).timeout(Duration::from_secs(5)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The end of a node's log.
    pub fn log(&self, id: &str) -> String {
        let log = std::fs::read_to_string(self.directory.path().join(format!("{id}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// A new process of the same node in place of one that has ended.
    pub async fn restart(&mut self, id: &str) {
        let place = self.apis.iter().chain(&self.workers).find(|node| node.id == id).expect("there is such a node");
        let node = self.node(id, place.role);
        self.until_ready(&node).await;
        *self.node_mut(id) = node;
    }

    /// Like `restart`, and it listens where its predecessor did.
    pub async fn restart_at(&mut self, id: &str, url: &str) {
        let role = self.node_mut(id).role;
        let node = self.node_at(id, role, url.trim_start_matches("http://"));
        self.until_ready(&node).await;
        *self.node_mut(id) = node;
    }

    /// Writes to a topic as other programs do.
    pub async fn write_to_bus(&self, topic: &'static str, values: &[&[u8]]) {
        older_client::write(&self.topics(), topic, values).await;
    }

    /// What other programs have to know of the cluster's topics.
    pub fn topics(&self) -> KafkaConfig {
        config_of(&format!("{}.", self.name))
    }

    pub fn node_mut(&mut self, id: &str) -> &mut Node {
        self.apis.iter_mut().chain(&mut self.workers).find(|node| node.id == id).expect("there is such a node")
    }

    pub fn listen(&self) -> Listener {
        Listener::start(&self.apis[0].url)
    }

    pub async fn submit(&self, model: &str, epochs: u32) -> String {
        let body = json!({"model": model, "dataset": "mnist-10k", "hyperparameters": {"epochs": epochs, "seed": 7}});
        self.taken(&body, &Uuid::new_v4().to_string()).await
    }

    /// Submits under a key, again as long as the answer is that it cannot be taken just now.
    pub async fn taken(&self, body: &Value, key: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let (status, answer) = self.ask_to_take(body, key).await.expect("the API answers");
            if let Some(id) = answer["id"].as_str() {
                return id.to_owned();
            }
            assert!(status == 503 && Instant::now() < end, "{status}: {answer}");
            sleep(AGAIN).await;
        }
    }

    /// Submits under a key, so that asking again is safe.
    pub async fn try_submit(&self, body: &Value, key: &str) -> reqwest::Result<Value> {
        self.ask_to_take(body, key).await.map(|(_, answer)| answer)
    }

    /// Submits under a key; the status of the answer, and what it says.
    pub async fn ask_to_take(&self, body: &Value, key: &str) -> reqwest::Result<(u16, Value)> {
        let request = self.client.post(format!("{}/api/v1/tasks", self.apis[0].url)).header("idempotency-key", key);
        let answer = request.json(body).timeout(Duration::from_secs(20)).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    pub async fn post(&self, path: &str) -> (u16, String) {
        self.ask(&self.apis[0], "POST", path, "").await
    }

    pub async fn get(&self, node: &Node, path: &str) -> (u16, String) {
        self.ask(node, "GET", path, "").await
    }

    /// The status of the answer, and its body.
    pub async fn ask(&self, node: &Node, method: &str, path: &str, body: &'static str) -> (u16, String) {
        let method = method.parse().expect("it is one");
        let request = self.client.request(method, format!("{}{path}", node.url)).body(body);
        let answer = request.send().await.expect("the node answers");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// What the API says of a task; or what it says instead.
    pub async fn view(&self, id: &str) -> Result<TaskView, String> {
        let request = self.client.get(format!("{}/api/v1/tasks/{id}", self.apis[0].url));
        let answer = request.timeout(Duration::from_secs(5)).send().await.map_err(|error| format!("{error:?}"))?;
        let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
    }

    /// Waits until the view of a task is as wanted; meanwhile the API may be away.
    pub async fn wait_until(&self, id: &str, wanted: impl Fn(&TaskView) -> bool) -> TaskView {
        let end = Instant::now() + DEADLINE;
        let mut last = Err(String::new());
        while Instant::now() < end {
            last = self.view(id).await;
            if let Ok(view) = &last
                && wanted(view)
            {
                return view.clone();
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("it did not get there: {last:?}\n{}\n{}", self.log("api-1"), self.log("worker-1"));
    }

    pub async fn wait_for_step(&self, id: &str, step: u64) -> TaskView {
        self.wait_until(id, |view| view.state == "running" && view.progress.step >= step).await
    }

    pub async fn succeeded(&self, id: &str) -> TaskView {
        let ended = |view: &TaskView| ["succeeded", "failed", "cancelled"].contains(&view.state.as_str());
        let view = self.wait_until(id, ended).await;
        assert_eq!(view.state, "succeeded", "{:?}", view.failure);
        view
    }

    /// A task's whole history, as JSON.
    pub async fn history(&self, id: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/tasks/{id}/events?limit=100000", self.apis[0].url);
        let end = Instant::now() + DEADLINE;
        loop {
            let request = self.client.get(&url).header("accept", "application/json");
            let answer = request.send().await.expect("the API answers");
            let (status, page) = (answer.status().as_u16(), answer.json::<Value>().await.expect("a page"));
            if let Some(items) = page["items"].as_array() {
                return items.clone();
            }
            assert!(status == 503 && Instant::now() < end, "{status}: {page}");
            sleep(AGAIN).await;
        }
    }

    /// The value of one series of a node.
    pub async fn metric(&self, node: &Node, series: &str) -> f64 {
        self.found_metric(node, series).await.expect("the series exists")
    }

    /// Of a series that is there from its first event on.
    pub async fn metric_or_zero(&self, node: &Node, series: &str) -> f64 {
        self.found_metric(node, series).await.unwrap_or_default()
    }

    async fn found_metric(&self, node: &Node, series: &str) -> Option<f64> {
        let (_, metrics) = self.get(node, "/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
        Some(line.trim().parse().expect("a number"))
    }
}

impl Node {
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(Some(_)))
    }

    /// The exit code after a SIGTERM.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let end = Instant::now() + Duration::from_secs(40);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code();
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already ended, if the test was about its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
