//! Finding and claiming the next task, outside the pool's mailbox.

use std::{cmp::Reverse, collections::HashSet};

use futures::future::join_all;
use uuid::Uuid;

use crate::{
    assign::assign,
    commit::CommitError,
    context::Context,
    ports::{DeadLetter, PortError},
    task::{Fence, Owner, TaskId, TaskRecord, TaskState},
    transition::Input,
};

/// Waiting tasks looked at first: the first that is due is taken, so few are enough, and every one is read from the
/// store. If all of them wait for a later time, more are, so that they hide nobody.
pub const PAGE: usize = 4;
const RUNNING_PAGE: usize = 10_000;

/// A task that this node holds.
pub struct Claimed {
    pub record: TaskRecord,
    pub fence: Fence,
}

/// What a claim is made for.
pub struct Seat {
    pub slot: usize,
    pub nonce: Uuid,
    /// Of each busy slot, whether its task is a suspect.
    pub busy: Vec<bool>,
}

/// Claims the task that is due, if there is one. `hinted` are looked at before the queue is: they are to be those that have
/// come since it was found to have nothing to claim.
pub async fn claim(context: &Context, seat: &Seat, hinted: &[TaskId]) -> Option<Claimed> {
    let candidates = waiting(context, hinted).await;
    if let Some(due) = assign(&candidates, &seat.busy, context.ports.clock.now())
        && let Ok(Some(claimed)) = take(context, seat, due).await
    {
        return Some(claimed);
    }
    let (mut page, mut unusable) = (PAGE, HashSet::new());
    loop {
        let mut queue = match context.ports.tasks.queue(&[TaskState::Pending], page).await {
            Ok(queue) => queue,
            Err(error) => {
                tracing::warn!(%error, "cannot look for tasks");
                return None;
            }
        };
        let (now, is_whole_page) = (context.ports.clock.now(), queue.len() == page);
        queue.retain(|record| !unusable.contains(&record.id));
        if is_whole_page && queue.iter().all(|record| record.not_before.is_some_and(|time| time > now)) {
            page *= 4;
            continue;
        }
        let due = assign(&queue, &seat.busy, now)?;
        match take(context, seat, due).await {
            Ok(Some(claimed)) => return Some(claimed),
            Ok(None) => {}
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "cannot claim");
                return None;
            }
            // Those behind it shall not wait for it.
            Err(error) => {
                tracing::error!(task = %due.id, %error, "cannot be claimed: what is stored of it is damaged");
                unusable.insert(due.id);
            }
        }
    }
}

/// Those that wait, in the order of the queue. What cannot be read is found there.
async fn waiting(context: &Context, tasks: &[TaskId]) -> Vec<TaskRecord> {
    let reads = tasks.iter().take(PAGE).map(|task| context.ports.tasks.get(*task));
    let read = join_all(reads).await.into_iter().filter_map(|read| read.ok().flatten());
    let mut waiting: Vec<TaskRecord> = read.filter(|record| record.state == TaskState::Pending).collect();
    waiting.sort_by_key(|record| (Reverse(record.priority), record.created_at, record.id));
    waiting
}

/// `None` if it is not to be had: somebody else was faster, or its budget was spent, and that has ended it.
async fn take(context: &Context, seat: &Seat, due: &TaskRecord) -> Result<Option<Claimed>, PortError> {
    let owner = Owner { incarnation: context.me.clone(), nonce: seat.nonce };
    let input = Input::Claim { owner, worker_id: context.me.worker_id(seat.slot) };
    match context.committer.commit_from(due.clone(), &input).await {
        Ok(next) if next.record.state == TaskState::Running => {
            let fence = Fence { attempt: next.record.attempt, nonce: seat.nonce };
            Ok(Some(Claimed { record: next.record, fence }))
        }
        Ok(next) => {
            bury(context, &next.record).await;
            Ok(None)
        }
        Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => Ok(None),
        Err(CommitError::Port(error)) => Err(error),
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
