//! How often a checkpoint is worth its cost. Pure: durations are handed in.

use std::time::Duration;

/// Share of training time that checkpoints may take.
pub const COST_MAX: f64 = 0.02;
/// The first checkpoint of an attempt comes this soon, so that even a node that keeps dying gets ahead.
pub const FIRST: Duration = Duration::from_millis(250);

/// The time from the last checkpoint, or from the start of training, to the next one.
///
/// `cost` is what the last one took, `None` before the first. Epochs' ends bring checkpoints of their own.
pub fn interval(cost: Option<Duration>, interval_max: Duration) -> Duration {
    match cost {
        None => FIRST.min(interval_max),
        Some(cost) => cost.div_f64(COST_MAX).clamp(FIRST.min(interval_max), interval_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_cost_two_percent_come_soon_at_first_and_late_at_the_limit() {
        let limit = Duration::from_secs(30);
        let ms = Duration::from_millis;
        assert_eq!(interval(None, limit), FIRST);
        assert_eq!(interval(Some(ms(20)), limit), ms(1_000));
        assert_eq!(interval(Some(ms(0)), limit), FIRST);
        assert_eq!(interval(Some(ms(60_000)), limit), limit);
        assert_eq!(interval(None, ms(100)), ms(100));
        assert_eq!(interval(Some(ms(20)), ms(100)), ms(100));
    }
}
