//! `[tasks]`: how long claims last, how often a task is tried, how many may wait (PROTOCOL R4, R5, R9, R14).

use std::time::Duration;

use super::reader::Table;
use super::value::Retention;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// Attempts in a row that may end without a newer checkpoint before the task fails.
    pub no_progress_max: usize,
    /// A node silent for this long loses its tasks.
    pub lease: Duration,
    /// How often a node says that it lives; shorter than `lease`.
    pub heartbeat: Duration,
    /// Tasks that may wait; more are refused.
    pub queue_max: usize,
    /// How long a task is kept after its end.
    pub retention: Retention,
}

impl Tasks {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let tasks = Self {
            no_progress_max: table.key("no_progress_max").within(0..=1000).get(),
            lease: table.key("lease").within(Duration::from_millis(100)..=Duration::from_hours(1)).get(),
            heartbeat: table.key("heartbeat").within(Duration::from_millis(10)..=Duration::from_secs(10)).get(),
            queue_max: table.key("queue_max").within(1..=10_000_000).get(),
            retention: table.key("retention").get(),
        };
        let Self { lease, heartbeat, .. } = tasks;
        let wrong = "the heartbeat must be shorter than the lease";
        table.require(&["lease", "heartbeat"], heartbeat < lease, wrong);
        tasks
    }
}
