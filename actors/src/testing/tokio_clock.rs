//! Wall-clock time that follows tokio's clock, so that a test which pauses one pauses both.

use tokio::time::Instant;

use crate::{ports::Clock, timestamp::Timestamp};

#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    epoch: Timestamp,
    started: Instant,
}

impl TokioClock {
    /// It is `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { epoch: start, started: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.epoch.plus(self.started.elapsed())
    }
}
