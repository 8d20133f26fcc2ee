//! For whoever runs a node: is it alive, is it ready, what does it count; and breaking it on purpose.

use std::time::Duration;

use kubeml_actors::{context::Context, handle::Crash, metrics::ActorKind, ports::PortError, task::TaskId};
use prometheus::TextEncoder;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    call::{Answer, Call, Text, json as answer},
    error::{Code, Problem},
};

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /livez`: this answer is the proof. A node whose root supervisor gave up ends its process.
pub async fn livez(_: Call) -> Answer {
    answer(StatusCode::OK, &json!({ "status": "alive" }))
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    version: &'static str,
    node: String,
    checks: Checks,
}

/// What is wrong with each, or `ok`.
#[derive(Serialize)]
pub struct Checks {
    pub store: String,
    pub bus: String,
    pub cache: String,
    phase: &'static str,
    /// Nothing is wrong yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

const NO_TOLERANCE: &str = "no node of the database may fail: while one is away nothing can be written";

const OK: &str = "ok";

impl Checks {
    pub async fn make(call: &Call) -> Self {
        let ports = &call.api.context.ports;
        let (store, bus, cache) =
            tokio::join!(told(ports.tasks.get(TaskId::NONE)), told(ports.bus.check()), told(ports.cache.stats()));
        let phase = if call.api.phase.is_draining() { "draining" } else { OK };
        let Context { ports, metrics, .. } = &*call.api.context;
        let intolerant = ports.kinds.store == "cassandra" && metrics.store_tolerated_failures.get() == 0;
        Self { store, bus, cache, phase, warnings: intolerant.then_some(NO_TOLERANCE).into_iter().collect() }
    }

    /// By the role that each plays for the node.
    pub fn edges(&self) -> [(&'static str, &str); 3] {
        [("store", &self.store), ("bus", &self.bus), ("cache", &self.cache)]
    }
}

pub fn is_ok(check: &str) -> bool {
    check == OK
}

async fn told<T>(check: impl Future<Output = Result<T, PortError>>) -> String {
    match timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(_)) => OK.to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(tokio::time::error::Elapsed { .. }) => format!("no answer for {} s", CHECK_TIMEOUT.as_secs()),
    }
}

/// `GET /readyz`: a node without its cache or its bus is slower, not unready.
pub async fn readyz(call: Call) -> Answer {
    let checks = Checks::make(&call).await;
    let ready = is_ok(&checks.store) && is_ok(checks.phase);
    let (status, code) = match (ready, checks.phase) {
        (true, _) => ("ready", StatusCode::OK),
        (false, "draining") => ("draining", StatusCode::SERVICE_UNAVAILABLE),
        (false, _) => ("not ready", StatusCode::SERVICE_UNAVAILABLE),
    };
    let node = call.api.context.me.node.clone();
    answer(code, &Ready { status, version: env!("CARGO_PKG_VERSION"), node, checks })
}

/// `GET /metrics`
pub async fn metrics(call: Call) -> Answer {
    let families = call.api.context.metrics.registry.gather();
    let text = TextEncoder::new().encode_to_string(&families);
    let text = text.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let mut response = Response::new(text.into());
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// `POST /api/v1/system/trainers/{slot}/crash`
pub async fn crash_trainer(slot: Text, call: Call) -> Answer {
    let slots = call.api.context.settings.slots;
    let crash = match slot.to_string().parse() {
        Ok(slot) => call.api.handles.pool.crash_trainer(slot).await?,
        Err(_) => Crash::Unknown,
    };
    crashed(crash, &format!("trainer/{slot}"), || {
        format!("there is no trainer {slot}: this node's slots are 0 to {}", slots.saturating_sub(1))
    })
}

/// `POST /api/v1/system/actors/{actor}/crash`
pub async fn crash_actor(actor: Text, call: Call) -> Answer {
    let actor = actor.to_string();
    crashed(call.api.handles.crash(&actor).await?, &actor, || {
        let known = ActorKind::ALL.into_iter().filter(|kind| *kind != ActorKind::Supervisor).map(ActorKind::as_str);
        format!("there is no actor {actor:?} to crash: expected one of {}", known.collect::<Vec<_>>().join(", "))
    })
}

fn crashed(crash: Crash, actor: &str, unknown: impl FnOnce() -> String) -> Answer {
    match crash {
        Crash::Sent => answer(StatusCode::ACCEPTED, &json!({ "crashed": actor })),
        Crash::Restarting => Err(Problem::new(Code::Unavailable, format!("{actor} is being restarted"))),
        Crash::Unknown => Err(Problem::new(Code::NotFound, unknown())),
    }
}
