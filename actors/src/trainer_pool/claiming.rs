//! Finding and claiming the next task, outside the pool's mailbox.

use std::{cmp::Reverse, collections::HashSet};

use futures::future::join_all;
use uuid::Uuid;

use crate::{
    assign::{Assignment, assign},
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

/// How a look for work ended.
pub enum Claim {
    Claimed(Box<Claimed>),
    /// The queue holds no task that is due.
    Empty,
    /// A task is due, but it may not run beside the tasks that this node runs.
    Held,
    /// The queue could not be read, or the store did not say whether the claim happened.
    Unknown,
}

/// What became of the claim of one task.
enum Take {
    Claimed(Box<Claimed>),
    /// Another node was faster, or the task's budget was spent and it has ended.
    Gone,
    /// The stored task is damaged: it must not hold up the tasks behind it.
    Damaged,
    /// The claim may have happened. If it did, the search for orphans finds the task.
    Unknown,
}

/// Claims the task that is due, if there is one. `hinted` tasks are tried before the queue is read, so they must be the
/// only tasks that can have come since it was found empty.
pub async fn claim(context: &Context, seat: &Seat, hinted: &[TaskId]) -> Claim {
    let candidates = waiting(context, hinted).await;
    if let Assignment::Take(due) = assign(&candidates, &seat.busy, context.ports.clock.now()) {
        match take(context, seat, due).await {
            Take::Claimed(claimed) => return Claim::Claimed(claimed),
            // A second claim under the same nonce would hide the first one from the search for orphans.
            Take::Unknown => return Claim::Unknown,
            Take::Gone | Take::Damaged => {}
        }
    }
    let (mut page, mut unusable) = (PAGE, HashSet::new());
    loop {
        let mut queue = match context.ports.tasks.queue(&[TaskState::Pending], page).await {
            Ok(queue) => queue,
            Err(error) => {
                tracing::warn!(%error, "cannot look for tasks");
                return Claim::Unknown;
            }
        };
        let (now, is_whole_page) = (context.ports.clock.now(), queue.len() == page);
        queue.retain(|record| !unusable.contains(&record.id));
        if is_whole_page && queue.iter().all(|record| record.not_before.is_some_and(|time| time > now)) {
            page *= 4;
            continue;
        }
        let due = match assign(&queue, &seat.busy, now) {
            Assignment::Take(due) => due,
            Assignment::Held => return Claim::Held,
            Assignment::NothingDue => return Claim::Empty,
        };
        match take(context, seat, due).await {
            Take::Claimed(claimed) => return Claim::Claimed(claimed),
            Take::Unknown => return Claim::Unknown,
            Take::Gone => {}
            Take::Damaged => {
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

async fn take(context: &Context, seat: &Seat, due: &TaskRecord) -> Take {
    let owner = Owner { incarnation: context.me.clone(), nonce: seat.nonce };
    let input = Input::Claim { owner, worker_id: context.me.worker_id(seat.slot) };
    match context.committer.commit_from(due.clone(), &input).await {
        Ok(next) if next.record.state == TaskState::Running => {
            let fence = Fence { attempt: next.record.attempt, nonce: seat.nonce };
            Take::Claimed(Box::new(Claimed { record: next.record, fence }))
        }
        Ok(next) => {
            bury(context, &next.record).await;
            Take::Gone
        }
        Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => Take::Gone,
        Err(CommitError::Port(error)) if error.is_transient() => {
            tracing::warn!(task = %due.id, %error, "cannot claim");
            Take::Unknown
        }
        Err(CommitError::Port(error)) => {
            tracing::error!(task = %due.id, %error, "cannot be claimed: what is stored of it is damaged");
            Take::Damaged
        }
    }
}

/// The tasks that the store shows as run by this incarnation.
pub async fn running_here(context: &Context) -> Result<Vec<TaskRecord>, PortError> {
    let running = context.ports.tasks.queue(&[TaskState::Running], RUNNING_PAGE).await;
    let mut records = running.inspect_err(|error| tracing::warn!(%error, "cannot look for orphans"))?;
    records.retain(|record| record.owner.as_ref().is_some_and(|owner| owner.incarnation == context.me));
    Ok(records)
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

#[cfg(test)]
mod tests;
