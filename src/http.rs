//! The ways in over HTTP: tasks, their events, the older system's routes, and what runs a server.
//!
//! ```text
//! server ──connection──> gate (origins, metrics, problems' dress) ──> routes ──Call──> tasks, model, events, seed, …
//! ```
//! Handlers ask actors and read ports; they decide nothing about tasks. Bodies are in [`crate::wire`].

mod call;
mod data;
mod error;
mod events;
mod gate;
mod metrics;
mod model;
mod ops;
mod origin;
mod page;
mod phase;
mod seed;
mod seed_stream;
mod server;
mod sse;
mod system;
mod tasks;

use std::sync::Arc;

use kubeml_actors::{
    context::Context,
    live::Live,
    task::TaskRecord,
    tree::{Handles, Tree},
};
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

use self::{
    call::{Answer, Id, Text as Actor, Text as File, Text as Key, Text as Model, Text as Name, Text as Slot, call},
    metrics::HttpMetrics,
};
pub use self::{phase::Phase, server::serve};
use crate::{config, wire::TaskView};

/// What a server needs of its node.
pub struct Api {
    handles: Handles,
    context: Arc<Context>,
    live: Arc<Live>,
    config: config::Http,
    phase: Phase,
    metrics: HttpMetrics,
}

impl Api {
    pub fn new(tree: &Tree, config: config::Http, phase: Phase) -> Self {
        let (handles, context, live) = (tree.handles.clone(), tree.context.clone(), tree.live.clone());
        Self { handles, metrics: HttpMetrics::new(&context), context, live, config, phase }
    }

    fn view(&self, record: &TaskRecord) -> TaskView {
        let progress = self.live.progress(record.id, record.attempt);
        TaskView::new(record, progress, self.context.ports.clock.now())
    }
}

/// One route: how it is called, and what answers.
struct Route {
    method: String,
    /// Like `/api/v1/tasks/{id}`.
    pattern: Arc<str>,
    filter: BoxedFilter<(Response,)>,
}

/// The pattern of the route that took a request.
#[derive(Clone)]
struct Taken(Arc<str>);

/// `get("api" / "v1" / "tasks" / Id) => tasks::get;` is a route whose handler takes an [`Id`] and a [`call::Call`].
macro_rules! routes {
    ($api:ident; $($method:ident($($segment:tt) / *) => $handler:path;)+) => {
        vec![$({
            let filter = warp::path!($($segment) / *).and(warp::$method()).and(call($api)).then($handler);
            Route::new(stringify!($method), stringify!($($segment) / *), filter.boxed())
        }),+]
    };
}

/// Every route of a node of these roles.
fn routes(api: &Arc<Api>) -> Vec<Route> {
    let mut routes = routes! { api;
        get("livez") => ops::livez;
        get("readyz") => ops::readyz;
        get("healthz") => ops::readyz;
        get("metrics") => ops::metrics;
        post("cache_to_redis" / Key) => seed::put_value;
    };
    let roles = api.context.settings.roles;
    routes.extend(if roles.api { api_routes(api) } else { worker_routes(api) });
    if !roles.api || roles.trainer {
        routes.extend(routes! { api; post("test_send_training_log") => seed::test_training_log; });
    }
    if api.config.fault_injection {
        routes.extend(routes! { api;
            post("api" / "v1" / "system" / "trainers" / Slot / "crash") => ops::crash_trainer;
            post("api" / "v1" / "system" / "actors" / Actor / "crash") => ops::crash_actor;
        });
    }
    routes
}

/// What the older system's workers answered, and its master does otherwise or not at all.
fn worker_routes(api: &Arc<Api>) -> Vec<Route> {
    routes! { api;
        get("health") => seed::worker_health;
        get("get_from_redis" / Key) => seed::get_value_or_null;
    }
}

fn api_routes(api: &Arc<Api>) -> Vec<Route> {
    routes! { api;
        get() => page::index;
        get("assets" / File) => page::asset;
        get("docs") => page::docs;

        post("api" / "v1" / "tasks") => tasks::submit;
        get("api" / "v1" / "tasks") => tasks::list;
        get("api" / "v1" / "tasks" / Id) => tasks::get;
        delete("api" / "v1" / "tasks" / Id) => tasks::delete;
        post("api" / "v1" / "tasks" / Id / "cancel") => tasks::cancel;
        post("api" / "v1" / "tasks" / Id / "retry") => tasks::retry;
        get("api" / "v1" / "tasks" / Id / "events") => events::of_task;
        get("api" / "v1" / "tasks" / Id / "model") => model::download;
        get("api" / "v1" / "events") => events::of_all;

        get("api" / "v1" / "catalogue") => data::catalogue;
        get("api" / "v1" / "datasets") => data::datasets;
        get("api" / "v1" / "datasets" / Name) => data::dataset;
        post("api" / "v1" / "datasets" / Name / "warm") => data::warm;
        get("api" / "v1" / "cache") => data::cache;
        delete("api" / "v1" / "cache") => data::clear_cache;

        get("api" / "v1" / "system") => system::nodes;

        get("health") => seed::health;
        post("send_task" / Model) => seed::send_task;
        post("store_mnist_dataset_to_cassandra") => seed::store_mnist;
        get("store_data_from_cassandra_to_redis") => seed::warm_mnist;
        get("get_from_redis" / Key) => seed::get_value;
        get("kafka-status") => seed::bus_status;
        get("test-producer") => seed::test_producer;
        get("logs" / "stream") => seed_stream::stream;
    }
}

impl Route {
    fn new(method: &str, segments: &str, filter: BoxedFilter<(Answer,)>) -> Self {
        let segments = segments.split('/').map(|segment| match segment.trim() {
            parameter if !parameter.is_empty() && !parameter.starts_with('"') => {
                format!("{{{}}}", parameter.to_ascii_lowercase())
            }
            literal => literal.trim_matches('"').to_owned(),
        });
        let pattern: Arc<str> = format!("/{}", segments.collect::<Vec<_>>().join("/")).into();
        let taken = Taken(pattern.clone());
        let tagged = filter.map(move |answer: Answer| {
            let mut response = answer.into_response();
            response.extensions_mut().insert(taken.clone());
            response
        });
        Self { method: method.to_ascii_uppercase(), pattern, filter: tagged.boxed() }
    }

    /// Whether `path` is this route's, whatever the method.
    fn is_at(&self, path: &str) -> bool {
        let (mut pattern, mut path) = (self.pattern.split('/'), path.split('/'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some(pattern), Some(segment)) if pattern == segment || pattern.starts_with('{') => {}
                _ => return false,
            }
        }
    }
}
