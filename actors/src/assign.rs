//! Which waiting task a free slot takes. Pure.

use crate::{task::TaskRecord, timestamp::Timestamp};

/// What a free slot may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Assignment<'a> {
    Take(&'a TaskRecord),
    /// A task is due, but it may not run beside the tasks that run.
    Held,
    /// No task is due.
    NothingDue,
}

/// Picks the task to claim next.
///
/// `queue` holds PENDING tasks in the order in which they are due; `busy` says of every busy slot of this node whether
/// its task is a suspect. A suspect (a task whose last attempt made no progress) runs alone, so that what it may do to
/// the process is not charged to its neighbours; when one is due, no other task overtakes it.
pub fn assign<'a>(queue: &'a [TaskRecord], busy: &[bool], now: Timestamp) -> Assignment<'a> {
    let is_due = |record: &&TaskRecord| record.not_before.is_none_or(|not_before| not_before <= now);
    match queue.iter().find(is_due) {
        None => Assignment::NothingDue,
        Some(_) if busy.contains(&true) => Assignment::Held,
        Some(due) if due.is_suspect() && !busy.is_empty() => Assignment::Held,
        Some(due) => Assignment::Take(due),
    }
}

#[cfg(test)]
mod tests;
