//! What is kept for how long: ended tasks with their artifacts, and facts.

use std::time::Duration;

use crate::{
    context::Context,
    ports::{PortError, TaskFilter},
    task::TaskRecord,
};

/// How often old things are looked for.
pub const INTERVAL: Duration = Duration::from_secs(3_600);
const PAGE: usize = 1_000;

/// How long things are kept; `None` keeps them for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// After a task's end.
    pub tasks: Option<Duration>,
    pub events: Option<Duration>,
}

/// Deletes what is older than it shall become. Tasks that have not ended are never touched.
pub async fn apply(context: &Context) -> Result<(), PortError> {
    let Retention { tasks, events } = context.settings.retention;
    if let Some(kept) = tasks {
        delete_tasks(context, kept).await?;
    }
    if let Some(kept) = events {
        let trimmed = context.ports.events.trim(context.ports.clock.now().minus(kept)).await?;
        if trimmed > 0 {
            tracing::info!(trimmed, "old facts removed");
        }
    }
    Ok(())
}

async fn delete_tasks(context: &Context, kept: Duration) -> Result<(), PortError> {
    let horizon = context.ports.clock.now().minus(kept);
    let is_old = |record: &TaskRecord| record.announced && record.finished_at.is_some_and(|ended| ended < horizon);
    let mut cursor = None;
    loop {
        let page = context.ports.tasks.list(&TaskFilter::default(), cursor, PAGE).await?;
        for record in page.records.iter().filter(|record| is_old(record)) {
            // The record goes last: whatever is left over until then is found again through it.
            context.ports.artifacts.prune(record.id, record.attempt, &[]).await?;
            match context.ports.tasks.delete(record.id).await {
                // Somebody else was faster.
                Ok(()) | Err(PortError::NotFound(_)) => tracing::info!(task = %record.id, "old task removed"),
                Err(error) => return Err(error),
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}
