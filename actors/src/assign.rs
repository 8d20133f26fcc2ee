//! Which waiting task a free slot takes. Pure.

use crate::{task::TaskRecord, timestamp::Timestamp};

/// The task to claim next, if one may be claimed now.
///
/// `queue` holds PENDING tasks in the order in which they are due; `busy` says of every busy slot of this node whether
/// its task is a suspect. A suspect (a task whose last attempt made no progress) runs alone, so that what it may do to
/// the process is not charged to its neighbours; when one is due, nobody overtakes it.
pub fn assign<'a>(queue: &'a [TaskRecord], busy: &[bool], now: Timestamp) -> Option<&'a TaskRecord> {
    if busy.contains(&true) {
        return None;
    }
    let due = queue.iter().find(|record| record.not_before.is_none_or(|not_before| not_before <= now))?;
    (!due.is_suspect() || busy.is_empty()).then_some(due)
}

#[cfg(test)]
mod tests;
