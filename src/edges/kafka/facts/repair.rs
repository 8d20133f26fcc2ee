//! Sends what Kafka did not take again, from the store, once Kafka answers.

use std::{sync::Arc, time::Duration};

use kubeml_actors::{event::Seq, ports::PortError, task::TaskId};
use tokio::time::sleep;

use super::{super::topics::Topic, ReadFacts, Shared};

const PAGE: usize = 256;
const PAUSE: Duration = Duration::from_millis(500);

pub async fn run(shared: Arc<Shared>, store: Arc<dyn ReadFacts>) {
    loop {
        let (task, from) = shared.debts.next().await;
        match pay(&shared, &*store, task, from).await {
            Ok(next) => shared.debts.paid(task, from, next),
            Err(error) if !error.is_transient() => {
                tracing::warn!(%task, %error, "facts that are not to be had are not sent again");
                shared.debts.paid(task, from, from);
            }
            Err(error) => {
                tracing::debug!(%task, %error, "facts cannot be sent again yet");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Sends a task's facts from `from` on. Returns the number after the last of them.
async fn pay(shared: &Shared, store: &dyn ReadFacts, task: TaskId, from: Seq) -> Result<Seq, PortError> {
    shared.kafka.has(&[Topic::TrainingLog]).await?;
    let mut next = from;
    loop {
        let facts = store.read_task(task, next.0.checked_sub(1).map(Seq), PAGE).await?;
        shared.deliver(&facts).await?;
        if let Some(last) = facts.last() {
            next = Seq(last.seq.0.saturating_add(1));
        }
        if facts.len() < PAGE {
            return Ok(next);
        }
    }
}
