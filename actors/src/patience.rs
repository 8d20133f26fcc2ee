//! Trying again what another program was not there for.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    ports::PortError,
    restart_policy::{Backoff, chance},
};

/// For how long a store that is away is asked again before the caller is told.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Asks until the answer is another one than that the other side is away, at most until `deadline`. Asking twice must not
/// matter.
pub async fn patiently<T, F>(deadline: Instant, mut ask: impl FnMut() -> F) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    let mut failures = 0;
    loop {
        match ask().await {
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

    /// What comes of a side that is away for `away`, and how often it was asked.
    async fn asked(away: Duration, answer: Result<u8, PortError>) -> (Result<u8, PortError>, u32) {
        let (back, tries) = (Instant::now() + away, Cell::new(0));
        let outcome = patiently(Instant::now() + PATIENCE, || {
            tries.set(tries.get() + 1);
            let is_back = Instant::now() >= back;
            let answer = if is_back { answer.clone() } else { Err(PortError::Unavailable("away".to_owned())) };
            async move { answer }
        });
        (outcome.await, tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_away_is_asked_again_for_a_while() {
        assert_eq!(asked(Duration::ZERO, Ok(1)).await, (Ok(1), 1));
        let (outcome, tries) = asked(Duration::from_secs(5), Ok(1)).await;
        assert!(outcome == Ok(1) && tries > 3, "{tries}");
        let (outcome, tries) = asked(Duration::from_secs(60), Ok(1)).await;
        assert_eq!(outcome, Err(PortError::Unavailable("away".to_owned())));
        assert!(tries > 5, "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer() {
        let refusal = Err(PortError::Rejected("no".to_owned()));
        assert_eq!(asked(Duration::ZERO, refusal.clone()).await, (refusal, 1));
    }
}
