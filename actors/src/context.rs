//! What every actor of a node is given: who the node is, its ports, and how it shall behave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    commit::Committer,
    event::{EventKind, LogLevel, Seq, TaskEvent},
    metrics::Metrics,
    ports::{PortError, Ports},
    presence::Presence,
    restart_policy::{Backoff, Intensity, chance},
    retention::Retention,
    task::{FailureKind, Incarnation, TaskId, TaskRecord},
    transition::Limits,
};

/// However many nodes look for work, each does so this often.
pub const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    pub api: bool,
    pub trainer: bool,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub roles: Roles,
    /// No other node works on the same stores: whatever else owned a task is dead.
    pub alone: bool,
    pub limits: Limits,
    /// Waiting tasks beyond which a submission is turned away.
    pub queue_max: u64,
    /// How many attempts this node runs at a time.
    pub slots: usize,
    /// How often work is looked for that no hint told of, by all nodes with free slots together; each looks at least every
    /// [`SCAN_INTERVAL_MAX`].
    pub scan_interval: Duration,
    /// A node that has not been heard of for this long loses its tasks to others.
    pub lease: Duration,
    /// How often a node says that it lives, and an attempt re-reads its record and looks for cancellation.
    pub heartbeat: Duration,
    pub checkpoint_interval_max: Duration,
    /// An attempt without progress for this long is ended and its trainer replaced.
    pub stall_timeout: Duration,
    pub retention: Retention,
    /// Facts kept in memory for subscribers.
    pub ring: usize,
    pub subscriptions_max: usize,
    /// Bound of each actor's mailbox.
    pub mailbox: usize,
    pub intensity: Intensity,
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roles: Roles { api: true, trainer: true },
            alone: true,
            limits: Limits::default(),
            queue_max: 100_000,
            slots: 1,
            scan_interval: Duration::from_millis(250),
            lease: Duration::from_secs(2),
            heartbeat: Duration::from_millis(500),
            checkpoint_interval_max: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            retention: Retention::default(),
            ring: 4_096,
            subscriptions_max: 4_096,
            mailbox: 1_024,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
        }
    }
}

pub struct Context {
    pub me: Incarnation,
    pub ports: Ports,
    pub committer: Committer,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub presence: Presence,
    last_line: AtomicU64,
}

impl Context {
    pub fn new(me: Incarnation, ports: Ports, metrics: Arc<Metrics>, settings: Settings) -> Arc<Self> {
        let committer = Committer::new(&ports, settings.limits, metrics.clone());
        let slots = if settings.roles.trainer { settings.slots } else { 0 };
        let presence = Presence::new(settings.lease, slots, ports.clock.now());
        Arc::new(Self { me, ports, committer, metrics, settings, presence, last_line: AtomicU64::new(0) })
    }

    /// Whether it is of use to claim a task: others take it away from a node that they take for dead.
    pub fn may_claim(&self) -> bool {
        self.settings.alone || self.presence.standing().is_some()
    }

    /// How long this node waits between two looks for work: the more nodes have free slots, the longer.
    pub fn scan_interval(&self) -> Duration {
        stretched(self.settings.scan_interval, self.presence.idle_nodes())
    }

    /// How long a task waits before its next attempt, after the one that `record` shows has ended.
    pub fn retry_delay(&self, record: &TaskRecord, kind: FailureKind) -> Duration {
        match kind {
            FailureKind::Drained => Duration::ZERO,
            // As long again as it has been held up, within bounds: no storm when an edge comes back.
            FailureKind::Infrastructure => {
                let now = self.ports.clock.now();
                let blocked = record.blocked_since.map_or(Duration::ZERO, |since| now.since(since));
                blocked.clamp(self.settings.backoff.first, self.settings.backoff.max)
            }
            FailureKind::Permanent | FailureKind::Crashed | FailureKind::Diverged | FailureKind::NoProgress => {
                self.settings.backoff.delay(record.no_progress, chance())
            }
        }
    }

    /// A line in the log that belongs to no task, like the import of a dataset. Its place is its time, or the next one
    /// after the line before.
    pub async fn log_line(&self, level: LogLevel, message: String) -> Result<(), PortError> {
        let at = self.ports.clock.now();
        let after = |last: u64| at.0.max(last + 1);
        let last = self.last_line.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(after(last)));
        let seq = Seq(after(last.unwrap_or_else(|last| last)));
        let kind = EventKind::Log { level, message };
        self.ports.events.append(&[TaskEvent { task: TaskId::NONE, seq, at, kind }]).await
    }
}

fn stretched(interval: Duration, nodes: usize) -> Duration {
    let stretched = interval.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX));
    stretched.min(SCAN_INTERVAL_MAX.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_nodes_look_for_work_the_less_often_each_does() {
        let millis = Duration::from_millis;
        for (interval, nodes, expected) in
            [(250, 1, 250), (250, 3, 750), (250, 8, 2_000), (250, usize::MAX, 2_000), (5_000, 3, 5_000)]
        {
            assert_eq!(stretched(millis(interval), nodes), millis(expected), "{interval} ms, {nodes} nodes");
        }
    }
}
