//! Trying again what another program was not there for.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    ports::PortError,
    restart_policy::{Backoff, chance},
};

/// For how long a store that is away is asked again before the caller is told.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Asks until the answer is another one than that the other side is away; not again after `patience` since the first such
/// answer, however long that took. Asking twice must not matter.
pub async fn patiently<T, F>(patience: Duration, mut ask: impl FnMut() -> F) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    let (mut failures, mut deadline) = (0, None);
    loop {
        let outcome = ask().await;
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
        match outcome {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                failures += 1;
                sleep(pause(failures)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Before the next try after `failures` of them in a row.
pub fn pause(failures: u32) -> Duration {
    let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(2) };
    backoff.delay(failures + 1, chance()) + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What comes of a side that is away for `away` and takes `slow` to say so, and how often it was asked.
    async fn asked(away: Duration, slow: Duration, answer: Result<u8, PortError>) -> (Result<u8, PortError>, u32) {
        let (back, tries) = (Instant::now() + away, Cell::new(0));
        let outcome = patiently(PATIENCE, || {
            tries.set(tries.get() + 1);
            let answer = answer.clone();
            async move {
                if Instant::now() >= back {
                    return answer;
                }
                sleep(slow).await;
                Err(PortError::Unavailable("away".to_owned()))
            }
        });
        (outcome.await, tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_away_is_asked_again_for_a_while() {
        let soon = Duration::from_millis(1);
        assert_eq!(asked(Duration::ZERO, soon, Ok(1)).await, (Ok(1), 1));
        let (outcome, tries) = asked(Duration::from_secs(5), soon, Ok(1)).await;
        assert!(outcome == Ok(1) && tries > 3, "{tries}");
        let (outcome, tries) = asked(Duration::from_secs(60), soon, Ok(1)).await;
        assert_eq!(outcome, Err(PortError::Unavailable("away".to_owned())));
        assert!(tries > 5, "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_to_be_away_is_asked_a_second_time() {
        assert_eq!(asked(Duration::from_secs(20), 2 * PATIENCE, Ok(1)).await, (Ok(1), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer() {
        let refusal = Err(PortError::Rejected("no".to_owned()));
        assert_eq!(asked(Duration::ZERO, Duration::ZERO, refusal.clone()).await, (refusal, 1));
    }
}
