//! What is counted of Kafka, partly from librdkafka's statistics. No label names a task.

use kubeml_actors::metrics::Metrics;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};
use rdkafka::statistics::Statistics;

use super::topics::Topic;

/// Why a message becomes a dead letter.
pub const UNREADABLE: &str = "unreadable";
pub const INVALID_TASK: &str = "invalid_task";

pub struct KafkaMetrics {
    pub(super) messages: IntCounterVec,
    pub(super) rebalances: IntCounterVec,
    pub(super) errors: IntCounterVec,
    pub(super) facts_owed: IntGauge,
    pub(super) dead_letters: IntCounterVec,
    lag: IntGaugeVec,
    brokers: IntGaugeVec,
    queue_messages: IntGauge,
    queue_bytes: IntGauge,
}

impl KafkaMetrics {
    /// # Errors
    /// When they are in the registry already.
    pub fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        let registry = &metrics.registry;
        let gauges = |name, help, labels: &[&str]| add(registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let counters = |name, help, labels: &[&str]| add(registry, IntCounterVec::new(Opts::new(name, help), labels));
        let gauge = |name, help| add(registry, IntGauge::new(name, help));
        for reason in [UNREADABLE, INVALID_TASK] {
            metrics.dead_letters.with_label_values(&[Topic::Task.name(), reason]);
        }
        Ok(Self {
            messages: counters(
                "kubeml_bus_messages_total",
                "Messages of Kafka by what became of them",
                &["direction", "topic", "outcome"],
            )?,
            rebalances: counters("kubeml_bus_rebalances_total", "Assignments of partitions to this node", &["group"])?,
            errors: counters("kubeml_bus_errors_total", "Errors that clients of Kafka met", &["client", "error"])?,
            facts_owed: gauge("kubeml_bus_facts_owed_tasks", "Tasks with facts that Kafka has not taken yet")?,
            dead_letters: metrics.dead_letters.clone(),
            lag: gauges(
                "kubeml_bus_consumer_lag",
                "Messages that a group has not committed, of the partitions that this node reads",
                &["group", "topic"],
            )?,
            brokers: gauges("kubeml_bus_brokers", "Brokers as a client sees them", &["client", "state"])?,
            queue_messages: gauge("kubeml_bus_producer_queue_messages", "Messages on their way to Kafka")?,
            queue_bytes: gauge("kubeml_bus_producer_queue_bytes", "Size of messages on their way to Kafka")?,
        })
    }

    pub(super) fn count(&self, direction: &str, topic: &str, outcome: &str) {
        self.messages.with_label_values(&[direction, topic, outcome]).inc();
    }

    pub(super) fn take(&self, client: &'static str, statistics: &Statistics) {
        // Numbers below 0 stand for brokers that are only known by their configured address.
        let brokers = || statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let up = brokers().filter(|broker| broker.state == "UP").count();
        self.brokers.with_label_values(&[client, "up"]).set(up as i64);
        self.brokers.with_label_values(&[client, "down"]).set((brokers().count() - up) as i64);
        if statistics.client_type == "producer" {
            self.queue_messages.set(i64::try_from(statistics.msg_cnt).unwrap_or(i64::MAX));
            self.queue_bytes.set(i64::try_from(statistics.msg_size).unwrap_or(i64::MAX));
        } else {
            self.take_lag(client, statistics);
        }
    }

    fn take_lag(&self, group: &str, statistics: &Statistics) {
        for topic in statistics.topics.values() {
            let partitions = topic.partitions.values().filter(|partition| partition.partition >= 0);
            // Others are read by another node, or by nobody: those are not ours to tell.
            let lags = partitions.filter(|partition| partition.fetch_state == "active" && partition.consumer_lag >= 0);
            let labels = [group, topic.topic.as_str()];
            match lags.map(|partition| partition.consumer_lag).reduce(|sum, lag| sum + lag) {
                Some(lag) => self.lag.with_label_values(&labels).set(lag),
                // It may not have been there.
                None => drop(self.lag.remove_label_values(&labels)),
            }
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> prometheus::Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
