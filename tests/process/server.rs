//! A server process in a data directory of its own, and a client for it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kubeml::edges::data_dir::DataDir;
use kubeml::wire::TaskView;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

pub const DEADLINE: Duration = Duration::from_secs(240);

pub struct Server {
    pub child: Child,
    pub url: String,
    client: reqwest::Client,
}

/// The binary, with an environment of its own: no setting of this machine leaks in, and no network is asked.
pub fn kubeml(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubeml"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBEML__")) {
        command.env_remove(name);
    }
    command
        .env("KUBEML__NODE__DATA_DIR", data_dir)
        .env("XDG_CACHE_HOME", data_dir.join("cache"))
        .env("KUBEML__DATASETS__MNIST__DOWNLOAD", "false")
        .env("KUBEML__HTTP__FAULT_INJECTION", "true")
        .stdin(Stdio::null());
    command
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts, and returns as soon as it says where it listens.
    pub async fn start(data_dir: &Path, port: u16, settings: &[(&str, &str)]) -> Self {
        Self::start_on(data_dir, &format!("127.0.0.1:{port}"), settings).await
    }

    pub async fn start_on(data_dir: &Path, listen: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = kubeml(data_dir);
        command.args(["serve", "--listen", listen]);
        command.envs(settings.iter().copied()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = child.id();
        let ready = async {
            loop {
                let holder = DataDir::holder(data_dir).filter(|holder| holder.pid == pid);
                if let Some(address) = holder.and_then(|holder| holder.address) {
                    return address;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let url = timeout(DEADLINE, ready).await.expect("the server starts");
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { child, url, client: reqwest::Client::new() }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// The exit code, or `None` if the process is still there at the deadline.
    pub async fn exit_code(mut self, deadline: Duration) -> Option<i32> {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        None
    }

    pub async fn submit(&self, body: &Value) -> String {
        let response = self.client.post(format!("{}/api/v1/tasks", self.url)).json(body).send().await.unwrap();
        let (status, view) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 201, "{view}");
        serde_json::from_str::<TaskView>(&view).unwrap().id.to_string()
    }

    pub async fn post(&self, path: &str) -> reqwest::Response {
        self.client.post(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> reqwest::Response {
        self.client.delete(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    pub async fn view(&self, id: &str) -> TaskView {
        serde_json::from_str(&self.text(&format!("/api/v1/tasks/{id}")).await).unwrap()
    }

    /// Waits until the view of a task is as wanted.
    pub async fn wait_until(&self, id: &str, wanted: impl Fn(&TaskView) -> bool) -> TaskView {
        let waiting = async {
            loop {
                let view = self.view(id).await;
                if wanted(&view) {
                    return view;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("the task gets there")
    }

    pub async fn succeeded(&self, id: &str) -> TaskView {
        let view =
            self.wait_until(id, |view| ["succeeded", "failed", "cancelled"].contains(&view.state.as_str())).await;
        assert_eq!(view.state, "succeeded", "{:?}", view.failure);
        view
    }

    /// A task's whole history, as JSON.
    pub async fn history(&self, id: &str) -> Vec<Value> {
        let request = self.client.get(format!("{}/api/v1/tasks/{id}/events?limit=100000", self.url));
        let page: Value = request.header("accept", "application/json").send().await.unwrap().json().await.unwrap();
        page["items"].as_array().unwrap().clone()
    }

    /// The value of one series.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.text("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)).expect("the series exists");
        line.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended, if the test was about its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn task(model: &str, epochs: u32) -> Value {
    json!({"model": model, "dataset": "mnist-10k", "hyperparameters": {"epochs": epochs, "seed": 7}})
}

/// What `kubeml train` without a server makes of the same task.
pub fn trained_alone(model: &str, epochs: u32, threads: u32) -> TaskView {
    let dir = tempfile::tempdir().unwrap();
    let (epochs, threads) = (epochs.to_string(), threads.to_string());
    let args =
        ["train", model, "--epochs", &epochs, "--seed", "7", "--dataset", "mnist-10k", "--threads", &threads, "--json"];
    let output = kubeml(dir.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(summary["kind"], "summary");
    serde_json::from_value(summary["tasks"][0].clone()).unwrap()
}

/// The result is the same, whatever happened on the way: weights and metrics.
pub fn assert_same_result(view: &TaskView, reference: &TaskView) {
    assert_eq!(view.weights_sha256, reference.weights_sha256, "{}", view.spec.model);
    assert!(view.weights_sha256.is_some());
    assert_eq!(view.metrics.clone().without_clock(), reference.metrics.clone().without_clock());
    assert_eq!(view.confusion_matrix, reference.confusion_matrix);
}
