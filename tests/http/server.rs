//! A server to ask, and what asking it is like.

use std::{sync::Arc, time::Duration};

use kubeml::{
    config,
    http::{Api, Phase, serve},
};
use kubeml_actors::{
    context::{Context, Settings},
    in_memory::SystemClock,
    metrics::Metrics,
    task::Incarnation,
    testing::{scripted_engine::ScriptedEngine, test_tree::World},
    tree::Tree,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const OLD_PAGE: &str = "http://localhost:3001";

pub struct Server {
    pub url: String,
    pub address: std::net::SocketAddr,
    pub phase: Phase,
    pub world: World,
    pub tree: Tree,
    pub serving: JoinHandle<()>,
    client: Client,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a whole body") }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }
}

impl Server {
    /// An epoch of four steps takes 20 ms.
    pub async fn start() -> Self {
        Self::start_with(4, Duration::from_millis(5), true).await
    }

    /// Tasks run until they are cancelled, for all that a test will wait.
    pub async fn start_slow() -> Self {
        Self::start_with(1_000, Duration::from_millis(20), true).await
    }

    pub async fn start_with(steps_per_epoch: u64, step_time: Duration, fault_injection: bool) -> Self {
        let mut world = World::new();
        world.engine = Arc::new(ScriptedEngine::new(steps_per_epoch, step_time));
        world.ports.engine = world.engine.clone();
        Self::over(world, fault_injection).await
    }

    /// A server in a world that has a past.
    pub async fn over(mut world: World, fault_injection: bool) -> Self {
        world.ports.clock = Arc::new(SystemClock);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let http = config::Http {
            listen: address,
            cors_origins: vec![OLD_PAGE.to_owned()],
            body_bytes_max: 4_096,
            ui_dir: None,
            fault_injection,
        };
        let me = Incarnation::fresh("node-1");
        let millis = Duration::from_millis;
        let settings =
            Settings { scan_interval: millis(10), heartbeat: millis(20), queue_max: 50, ..Settings::default() };
        let context = Context::new(me, world.ports.clone(), Arc::new(Metrics::new()), settings);
        let tree = Tree::start(context).await.expect("the tree starts");
        let phase = Phase::serving();
        let serving = tokio::spawn(serve(Api::new(&tree, http, phase.clone()), listener));
        // An error means that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().build().expect("a client");
        Self { url: format!("http://{address}"), address, phase, world, tree, serving, client }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().expect("a method");
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = timeout(PATIENCE, request.send()).await.expect("an answer in time").expect("an answer");
        timeout(PATIENCE, Answer::read(response)).await.expect("the body in time")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request("POST", path).json(body)).await
    }

    /// The id of a new task of one epoch, or as many as asked.
    pub async fn submit(&self, epochs: u32) -> String {
        let body = json!({"model": "mlp", "hyperparameters": {"epochs": epochs}});
        let answer = self.post("/api/v1/tasks", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until the task is in `state`, and returns its view.
    pub async fn wait_for(&self, id: &str, state: &str) -> Value {
        let waiting = async {
            loop {
                let view = self.get(&format!("/api/v1/tasks/{id}")).await.json();
                if view["state"] == state {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("task {id} never was {state}"))
    }
}
