//! Notices a listener that does not get on although there is more to hear: its client may have lost all brokers for good
//! without a word (librdkafka's issue 5301).

use std::time::{Duration, Instant};

use kubeml_actors::ports::Position;

/// Far longer than reading on takes after an outage.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Standstill(Option<(Position, Instant)>);

impl Standstill {
    /// What was `read` when the log reached to `end`; says whether that has been so for too long.
    pub fn look(&mut self, read: &Position, end: &Position, now: Instant) -> bool {
        match &self.0 {
            _ if read.is_unknown() || read.covers(end) => self.0 = None,
            Some((before, since)) if before == read => {
                let too_long = now.duration_since(*since) > PATIENCE;
                if too_long {
                    self.0 = None;
                }
                return too_long;
            }
            _ => self.0 = Some((read.clone(), now)),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_behind_and_reads_nothing_for_long_stands_still() {
        let start = Instant::now();
        let mut standstill = Standstill::default();
        let mut look = |second: u64, read: &[u64], end: &[u64]| {
            let [read, end] = [read, end].map(|counters| Position(counters.to_vec()));
            standstill.look(&read, &end, start + Duration::from_secs(second))
        };
        assert!(!look(0, &[], &[5, 5]), "it has not begun");
        assert!(!look(100, &[5, 5], &[5, 5]) && !look(200, &[5, 5], &[5, 5]), "there is nothing to read");
        assert!(!look(201, &[5, 5], &[5, 6]) && !look(220, &[5, 5], &[9, 6]));
        assert!(!look(222, &[6, 5], &[9, 6]), "it got on");
        assert!(!look(242, &[6, 5], &[9, 9]));
        assert!(look(243, &[6, 5], &[9, 9]));
        assert!(!look(244, &[6, 5], &[9, 9]), "another has its time, too");
        assert!(!look(264, &[6, 5], &[9, 9]) && look(265, &[6, 5], &[9, 9]));
    }
}
