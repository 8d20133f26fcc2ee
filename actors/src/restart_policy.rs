//! When what failed is tried again, and when it is given up. Pure: times and chance are handed in.

use std::{collections::VecDeque, time::Duration};

/// Doubling delays under full jitter, as in "Exponential Backoff And Jitter" (Brooker 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The delay before the next try after `failures` failures in a row; none after the first. `chance` is in `0.0..1.0`.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        match failures.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                let ceiling = self.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.max);
                ceiling.mul_f64(chance.clamp(0.0, 1.0))
            }
        }
    }
}

/// How often one child may be restarted before its supervisor gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    pub restarts_max: usize,
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts_max: 5, window: Duration::from_secs(60) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Restart { after: Duration },
    GiveUp,
}

/// The failures of one child within the window. Times are offsets from any fixed instant.
#[derive(Clone, Debug, Default)]
pub struct Failures(VecDeque<Duration>);

impl Failures {
    /// What to do about a failure at `now`.
    pub fn record(&mut self, now: Duration, intensity: Intensity, backoff: Backoff, chance: f64) -> Decision {
        self.0.push_back(now);
        while self.0.front().is_some_and(|at| now.saturating_sub(*at) > intensity.window) {
            self.0.pop_front();
        }
        if self.0.len() > intensity.restarts_max {
            return Decision::GiveUp;
        }
        Decision::Restart { after: backoff.delay(self.0.len() as u32, chance) }
    }
}

/// A number in `0.0..1.0` for jitter: nothing that is stored depends on it.
pub fn chance() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    (bits & 0xffff_ffff) as f64 / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_failure_is_forgiven_at_once_and_later_ones_wait_twice_as_long_each() {
        let backoff = Backoff { first: SECOND, max: 10 * SECOND };
        let delays: Vec<u64> = (0..8).map(|failures| backoff.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(delays, [0, 0, 1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.delay(u32::MAX, 1.0), 10 * SECOND);
    }

    #[test]
    fn chance_spreads_a_delay_over_its_whole_range() {
        let backoff = Backoff { first: SECOND, max: 10 * SECOND };
        assert_eq!(backoff.delay(2, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(2, 0.5), SECOND / 2);
        assert!((0..1_000).map(|_| chance()).all(|chance| (0.0..1.0).contains(&chance)));
    }

    #[test]
    fn a_storm_of_restarts_is_given_up_and_old_failures_are_forgotten() {
        let mut failures = Failures::default();
        let mut fail_at =
            |seconds: u32| failures.record(seconds * SECOND, Intensity::default(), Backoff::default(), 0.0);
        for seconds in 1..=5 {
            assert_eq!(fail_at(seconds), Decision::Restart { after: Duration::ZERO }, "failure {seconds}");
        }
        assert_eq!(fail_at(6), Decision::GiveUp);
        assert_eq!(fail_at(120), Decision::Restart { after: Duration::ZERO });
    }
}
