//! Whether a server that fails is asked at all. Pure: the time is an argument.
//!
//! ```text
//! closed ──failures in a row──> open ──its time is over──> half-open: one call tries
//!    ^                           ^                              │        │
//!    └───────── success ─────────┼──────────────────────────────┘        │
//!                                └──────────────── failure ──────────────┘
//! ```

use std::time::Duration;

use kubeml_actors::restart_policy::Backoff;
use tokio::time::Instant;

/// In a row; then the breaker opens.
const FAILURES_MAX: u32 = 3;
/// For how long it opens: half a second, and twice as long after each try that failed.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };
/// How long a try may be silent (its caller may be gone) before another is let through. Longer than any call takes.
const TRY_MAX: Duration = Duration::from_secs(6);

#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    /// How often it opened since it was last closed.
    opened: u32,
    /// Grows with every change, so that calls from before it say nothing about now.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { until: Instant },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// Leave to ask the server; its outcome is to be told.
#[derive(Debug)]
#[must_use]
pub struct Ticket(u64);

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Opened { wait: Duration },
    Closed,
}

impl Breaker {
    /// Whether a call may be made; if not, when to ask again.
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        match self.state {
            State::Open { until } | State::HalfOpen { until } if now < until => Err(until - now),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.turn(State::HalfOpen { until: now + TRY_MAX });
                Ok(Ticket(self.generation))
            }
            State::Closed { .. } => Ok(Ticket(self.generation)),
        }
    }

    pub fn succeeded(&mut self, Ticket(generation): Ticket) -> Change {
        if generation != self.generation {
            return Change::None;
        }
        match self.state {
            State::Closed { .. } => {
                self.state = State::default();
                Change::None
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.opened = 0;
                self.turn(State::default());
                Change::Closed
            }
        }
    }

    /// `chance` in `0.0..1.0` spreads the wait (full jitter).
    pub fn failed(&mut self, Ticket(generation): Ticket, now: Instant, chance: f64) -> Change {
        if generation != self.generation {
            return Change::None;
        }
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
                Change::None
            }
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => {
                self.opened = self.opened.saturating_add(1);
                // `Backoff` forgives its first failure; here the failures in a row have been forgiven already.
                let wait = BACKOFF.delay(self.opened.saturating_add(1), chance);
                self.turn(State::Open { until: now + wait });
                Change::Opened { wait }
            }
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests;
