//! Finding and claiming the next task, outside the pool's mailbox.

use uuid::Uuid;

use crate::{
    assign::assign,
    commit::CommitError,
    context::Context,
    ports::DeadLetter,
    task::{Fence, Owner, TaskRecord, TaskState},
    transition::Input,
};

/// Waiting tasks looked at first: the first that is due is taken, so few are enough, and every one is read from the
/// store. If all of them wait for a later time, more are, so that they hide nobody.
const PAGE: usize = 4;
const RUNNING_PAGE: usize = 10_000;

/// A task that this node holds.
pub struct Claimed {
    pub record: TaskRecord,
    pub fence: Fence,
}

/// Claims the task that is due, if there is one. `busy` says of each busy slot whether its task is a suspect.
pub async fn claim(context: &Context, slot: usize, nonce: Uuid, busy: Vec<bool>) -> Option<Claimed> {
    let mut page = PAGE;
    loop {
        let queue = match context.ports.tasks.queue(&[TaskState::Pending], page).await {
            Ok(queue) => queue,
            Err(error) => {
                tracing::warn!(%error, "cannot look for tasks");
                return None;
            }
        };
        let now = context.ports.clock.now();
        if queue.len() == page && queue.iter().all(|record| record.not_before.is_some_and(|time| time > now)) {
            page *= 4;
            continue;
        }
        let due = assign(&queue, &busy, now)?;
        let owner = Owner { incarnation: context.me.clone(), nonce };
        let input = Input::Claim { owner, worker_id: context.me.worker_id(slot) };
        match context.committer.commit_from(due.clone(), &input).await {
            Ok(next) if next.record.state == TaskState::Running => {
                let fence = Fence { attempt: next.record.attempt, nonce };
                return Some(Claimed { record: next.record, fence });
            }
            // Its budget was spent: that ended it. On to the next one.
            Ok(next) => bury(context, &next.record).await,
            // Somebody else was faster.
            Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => {}
            Err(CommitError::Port(error)) => {
                tracing::warn!(%error, "cannot claim");
                return None;
            }
        }
    }
}

/// The tasks that the store shows as run by this incarnation.
pub async fn running_here(context: &Context) -> Vec<TaskRecord> {
    match context.ports.tasks.queue(&[TaskState::Running], RUNNING_PAGE).await {
        Ok(mut records) => {
            records.retain(|record| record.owner.as_ref().is_some_and(|owner| owner.incarnation == context.me));
            records
        }
        Err(error) => {
            tracing::warn!(%error, "cannot look for orphans");
            Vec::new()
        }
    }
}

async fn bury(context: &Context, record: &TaskRecord) {
    let reason = record.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone());
    tracing::warn!(task = %record.id, reason, "given up");
    context.metrics.dead_letters.with_label_values(&["task", "no_progress"]).inc();
    let detail = format!("task {}: {reason}", record.id);
    context.ports.bus.bury(DeadLetter { topic: "task", reason: "no_progress", detail });
    if let Err(error) = context.committer.announce(record).await {
        tracing::warn!(task = %record.id, %error, "end not announced yet; the reconciler will");
    }
}
