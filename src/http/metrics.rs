//! What the server counts of itself. Route labels are the patterns of the routes: a closed set.

use std::time::Duration;

use kubeml_actors::context::Context;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// The label of requests that no route took.
pub const NO_ROUTE: &str = "none";

const SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

pub struct HttpMetrics {
    pub sse_clients: IntGauge,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpMetrics {
    /// # Panics
    /// Never: names and labels are well-formed, which the first test of any kind shows.
    pub fn new(context: &Context) -> Self {
        let registry = &context.metrics.registry;
        let labels = ["method", "route", "status"];
        let requests = Opts::new("kubeml_http_requests_total", "Requests answered");
        let seconds = HistogramOpts::new("kubeml_http_request_seconds", "From a request's head to its answer's head");
        let build = Opts::new("kubeml_build_info", "1, labelled with what runs");
        let build = IntGaugeVec::new(build, &["version", "revision"]).expect("well-formed");
        let revision = option_env!("KUBEML_REVISION").unwrap_or("unknown");
        add(registry, build).with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
        #[cfg(target_os = "linux")]
        add_process(registry);
        let clients = IntGauge::new("kubeml_sse_clients", "Open event streams").expect("well-formed");
        Self {
            sse_clients: add(registry, clients),
            requests: add(registry, IntCounterVec::new(requests, &labels).expect("well-formed")),
            seconds: add(
                registry,
                HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &labels[..2]).expect("well-formed"),
            ),
        }
    }

    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.seconds.with_label_values(&[method, route]).observe(took.as_secs_f64());
    }
}

/// A second server over the same registry counts without being shown.
fn add<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::debug!(%error, "a metric is not shown");
    }
    metric
}

#[cfg(target_os = "linux")]
fn add_process(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    if let Err(error) = registry.register(Box::new(process)) {
        tracing::debug!(%error, "metrics of the process are not shown");
    }
}
