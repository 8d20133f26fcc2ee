//! Every metric of the application: its name, its help, its labels. Made once, outside the actors, so a restarted actor
//! goes on counting where its predecessor stopped.
//!
//! Labels are closed sets, and every series exists from the start: an alert on a rate never misses the first failure.

use kubeml_spec::ModelKind;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

use crate::task::{FailureKind, TaskState};

/// The kinds of actors, named like their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    Supervisor,
    TaskDispatcher,
    Reconciler,
    DatasetLoader,
    CacheWarmer,
    LogRelay,
    TrainerPool,
    Trainer,
}

impl ActorKind {
    pub const ALL: [Self; 8] = [
        Self::Supervisor,
        Self::TaskDispatcher,
        Self::Reconciler,
        Self::DatasetLoader,
        Self::CacheWarmer,
        Self::LogRelay,
        Self::TrainerPool,
        Self::Trainer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::TaskDispatcher => "task_dispatcher",
            Self::Reconciler => "reconciler",
            Self::DatasetLoader => "dataset_loader",
            Self::CacheWarmer => "cache_warmer",
            Self::LogRelay => "log_relay",
            Self::TrainerPool => "trainer_pool",
            Self::Trainer => "trainer",
        }
    }
}

/// Why an actor ended, as a label.
pub const STOP_REASONS: [&str; 4] = ["normal", "error", "panic", "killed"];
/// What an owner did when it found that it had lost its task, as labels.
pub const FENCED_OPERATIONS: [&str; 6] = ["start", "checkpoint", "finish", "end_attempt", "cancel", "heartbeat"];

pub struct Metrics {
    pub registry: Registry,

    pub actor_alive: IntGaugeVec,
    pub actor_started: IntCounterVec,
    pub actor_stopped: IntCounterVec,
    pub actor_restarts: IntCounterVec,
    pub actor_mailbox_depth: IntGaugeVec,
    pub actor_message_wait: HistogramVec,
    pub supervisor_intensity_exceeded: IntCounter,
    pub supervisor_backoff: GaugeVec,

    pub tasks: IntGaugeVec,
    pub task_transitions: IntCounterVec,
    pub task_queue_seconds: Histogram,
    pub task_first_step_seconds: Histogram,
    pub task_duration_seconds: HistogramVec,
    pub task_retries: IntCounterVec,
    pub fenced: IntCounterVec,
    pub cas_conflicts: IntCounter,

    pub trainer_slots: IntGaugeVec,
    pub trainer_stalls: IntCounter,
    pub train_samples: IntCounterVec,
    pub train_samples_per_second: GaugeVec,
    pub checkpoint_seconds: HistogramVec,
    pub checkpoint_bytes: Gauge,
    pub checkpoint_failures: IntCounter,

    pub cache_requests: IntCounterVec,
    pub cache_warm_seconds: Histogram,
    pub cache_unreadable: IntCounter,
    pub cache_breaker_open: IntGauge,
    pub dataset_import_seconds: Histogram,
    pub dead_letters: IntCounterVec,
    pub log_ring_entries: IntGauge,
    pub subscriptions: IntGauge,
    pub nodes_alive: IntGauge,
    pub heartbeat_seconds: Histogram,
    pub store_tolerated_failures: IntGauge,
}

const FAST: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
const SLOW: [f64; 11] = [0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];

impl Metrics {
    /// # Panics
    /// Never: names are distinct and well-formed, which the first test of any kind shows.
    pub fn new() -> Self {
        let register = Register(Registry::new());
        let (counters, gauges) = (|n, h, l| register.counters(n, h, l), |n, h, l| register.gauges(n, h, l));
        let floats = |n, h, l| register.floats(n, h, l);
        let (count, level) = (|n, h| register.counter(n, h), |n, h| register.gauge(n, h));
        let (one, many) = (|n, h, b| register.histogram(n, h, b), |n, h, l, b| register.histograms(n, h, l, b));
        let metrics = Self {
            actor_alive: gauges("kubeml_actor_alive", "Actors alive", &["actor"]),
            actor_started: counters("kubeml_actor_started_total", "Actors started", &["actor"]),
            actor_stopped: counters("kubeml_actor_stopped_total", "Actors ended", &["actor", "reason"]),
            actor_restarts: counters("kubeml_actor_restarts_total", "Actors restarted", &["actor"]),
            actor_mailbox_depth: gauges("kubeml_actor_mailbox_depth", "Messages waiting or in work", &["actor"]),
            actor_message_wait: many("kubeml_actor_message_wait_seconds", "Sending to handling", &["actor"], &FAST),
            supervisor_intensity_exceeded: count(
                "kubeml_supervisor_intensity_exceeded_total",
                "Times a child was given up",
            ),
            supervisor_backoff: floats("kubeml_supervisor_backoff_seconds", "Before the latest restart", &["actor"]),
            tasks: gauges("kubeml_tasks", "Tasks by state; a cluster does not count ended ones", &["state"]),
            task_transitions: counters("kubeml_task_transitions_total", "Changes made by this node", &["from", "to"]),
            task_queue_seconds: one("kubeml_task_queue_seconds", "From submission to the first claim", &SLOW),
            task_first_step_seconds: one("kubeml_task_first_step_seconds", "From submission to the first step", &SLOW),
            task_duration_seconds: many(
                "kubeml_task_duration_seconds",
                "From the first start to the end",
                &["model", "outcome"],
                &SLOW,
            ),
            task_retries: counters("kubeml_task_retries_total", "Attempts to be made again", &["cause"]),
            fenced: counters("kubeml_fenced_total", "Writes and looks of replaced attempts", &["operation"]),
            cas_conflicts: count("kubeml_cas_conflicts_total", "Compare-and-sets decided again"),
            trainer_slots: gauges("kubeml_trainer_slots", "Slots by what they do", &["state"]),
            trainer_stalls: count("kubeml_trainer_stalls_total", "Attempts ended for want of progress"),
            train_samples: counters("kubeml_train_samples_total", "Samples trained", &["model"]),
            train_samples_per_second: floats(
                "kubeml_train_samples_per_second",
                "Of the last finished epoch",
                &["model"],
            ),
            checkpoint_seconds: many("kubeml_checkpoint_seconds", "To write or read a checkpoint", &["op"], &FAST),
            checkpoint_bytes: register.float("kubeml_checkpoint_bytes", "Size of the newest checkpoint"),
            checkpoint_failures: count("kubeml_checkpoint_failures_total", "Checkpoints not written or lost"),
            cache_requests: counters("kubeml_cache_requests_total", "Chunks asked of the cache", &["result"]),
            cache_warm_seconds: one("kubeml_cache_warm_seconds", "To warm the cache", &FAST),
            cache_unreadable: count("kubeml_cache_unreadable_total", "Cached values that were no use"),
            cache_breaker_open: level("kubeml_cache_breaker_open", "1 while a failing cache is left alone"),
            dataset_import_seconds: one("kubeml_dataset_import_seconds", "To fetch and store a dataset", &SLOW),
            dead_letters: counters("kubeml_dead_letters_total", "What nobody could act on", &["topic", "reason"]),
            log_ring_entries: level("kubeml_log_ring_entries", "Facts kept in memory for subscribers"),
            subscriptions: level("kubeml_log_subscriptions", "Open subscriptions to facts"),
            heartbeat_seconds: one("kubeml_heartbeat_seconds", "From due to its confirmation", &FAST),
            nodes_alive: level("kubeml_nodes_alive", "Nodes heard of within a lease, as this node sees it"),
            store_tolerated_failures: level("kubeml_store_tolerated_failures", "Store copies that may fail, or -1"),
            registry: register.0.clone(),
        };
        metrics.zero();
        metrics
    }

    fn zero(&self) {
        for actor in ActorKind::ALL.map(ActorKind::as_str) {
            self.actor_alive.with_label_values(&[actor]);
            self.actor_started.with_label_values(&[actor]);
            self.actor_restarts.with_label_values(&[actor]);
            self.actor_mailbox_depth.with_label_values(&[actor]);
            self.supervisor_backoff.with_label_values(&[actor]);
            for reason in STOP_REASONS {
                self.actor_stopped.with_label_values(&[actor, reason]);
            }
        }
        for state in TaskState::ALL {
            self.tasks.with_label_values(&[state.as_str()]);
            for (from, to) in [(TaskState::Pending, state), (TaskState::Running, state)] {
                self.task_transitions.with_label_values(&[from.as_str(), to.as_str()]);
            }
        }
        for model in ModelKind::names() {
            self.train_samples.with_label_values(&[model]);
            self.train_samples_per_second.with_label_values(&[model]);
            for outcome in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
                self.task_duration_seconds.with_label_values(&[model, outcome.as_str()]);
            }
        }
        let causes = [FailureKind::Infrastructure, FailureKind::Crashed, FailureKind::Diverged, FailureKind::Drained];
        for cause in causes {
            self.task_retries.with_label_values(&[cause.as_str()]);
        }
        for operation in FENCED_OPERATIONS {
            self.fenced.with_label_values(&[operation]);
        }
        for state in ["busy", "idle"] {
            self.trainer_slots.with_label_values(&[state]);
        }
        for result in ["hit", "miss", "stale", "error"] {
            self.cache_requests.with_label_values(&[result]);
        }
        for op in ["write", "read"] {
            self.checkpoint_seconds.with_label_values(&[op]);
        }
        self.dead_letters.with_label_values(&["task", "no_progress"]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Register(Registry);

impl Register {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("the names and labels above are well-formed");
        self.0.register(Box::new(metric.clone())).expect("the names above are distinct");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }
}
