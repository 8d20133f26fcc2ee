//! `[trainer]`: how many tasks train at once, on how many threads, and when they are saved.

use std::time::Duration;

use super::reader::Table;
use super::value::Choice;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainer {
    pub engine: Engine,
    /// Tasks that train at the same time.
    pub slots: usize,
    /// Threads of each; they never change a result.
    pub threads_per_slot: usize,
    /// A checkpoint is taken at least this often.
    pub checkpoint_interval_max: Duration,
    /// A trainer that makes no step for this long is replaced.
    pub stall_timeout: Duration,
}

/// What trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Candle,
    /// Nothing is trained: for measuring the platform itself.
    Stub,
}

impl Choice for Engine {
    const CHOICES: &'static [(&'static str, Self)] = &[("candle", Self::Candle), ("stub", Self::Stub)];
}

/// Far more than any machine has: a bound for mistakes.
const THREADS_MAX: usize = 1024;

impl Trainer {
    pub(super) fn read(table: &mut Table<'_>, cores: usize) -> Self {
        let day = Duration::from_hours(24);
        let slots = table.key("slots").within(1..=THREADS_MAX).or((cores / 2).clamp(1, THREADS_MAX));
        let threads = (cores / slots).clamp(1, THREADS_MAX);
        Self {
            engine: table.key("engine").get(),
            slots,
            threads_per_slot: table.key("threads_per_slot").within(1..=THREADS_MAX).or(threads),
            checkpoint_interval_max: table
                .key("checkpoint_interval_max")
                .within(Duration::from_millis(100)..=day)
                .get(),
            stall_timeout: table.key("stall_timeout").within(Duration::from_millis(100)..=day).get(),
        }
    }
}
