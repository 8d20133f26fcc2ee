//! Where the rows that follow from a record lie. All of it is computed from what never changes in a record: its id, its
//! priority and when it was created.

use std::cmp::Reverse;

use kubeml_actors::{
    ports::ListCursor,
    task::{TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};
use uuid::Uuid;

/// Partitions of one period, so that no node of the database gets all of the newest tasks.
pub(super) const SHARDS: i32 = 4;

const MINUTE: u64 = 60_000_000;
/// Of the queue. Every scan reads through what was removed from a period's partitions: the fewer tasks in one the better.
const PERIOD: u64 = 5 * MINUTE;
/// Of the list.
pub(super) const DAY: u64 = 24 * 60 * MINUTE;

pub(super) fn shards() -> std::ops::Range<i32> {
    0..SHARDS
}

/// The last bits of an id are random, whichever version of a uuid it is.
pub(super) fn shard_of(id: TaskId) -> i32 {
    (id.0.as_u128() % SHARDS as u128) as i32
}

fn period_of(at: Timestamp, length: u64) -> i64 {
    signed(at.0 / length)
}

/// The database has no unsigned numbers. None of ours gets that large, except in a question for what lies beyond.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The insert of a row without a record may be under way for this long.
const ORPHAN_AFTER: i64 = 10 * MINUTE as i64;

/// Whether the record of a row written then has failed to follow. Both are the database's time, in its microseconds and
/// milliseconds: no node's clock takes another's row away.
pub(super) fn is_orphan(written_at: i64, read_at_millis: i64) -> bool {
    read_at_millis.saturating_mul(1_000) > written_at.saturating_add(ORPHAN_AFTER)
}

/// As a blob an id orders by its bytes, as it does everywhere else in kubeml.
pub(super) fn blob(id: TaskId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

pub(super) fn id_of(blob: &[u8]) -> Option<TaskId> {
    Uuid::from_slice(blob).ok().map(TaskId)
}

/// A row of the queue, which is in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueKey {
    pub priority: i32,
    pub created_at: Timestamp,
    pub id: TaskId,
}

impl QueueKey {
    pub fn of(record: &TaskRecord) -> Self {
        Self { priority: record.priority, created_at: record.created_at, id: record.id }
    }

    pub fn order(&self) -> (Reverse<i32>, Timestamp, TaskId) {
        (Reverse(self.priority), self.created_at, self.id)
    }

    pub fn period(&self) -> i64 {
        period_of(self.created_at, PERIOD)
    }

    pub fn shard(&self) -> i32 {
        shard_of(self.id)
    }
}

pub(super) fn day_of(cursor: ListCursor) -> i64 {
    period_of(cursor.created_at, DAY)
}

pub(super) fn state_code(state: TaskState) -> i8 {
    match state {
        TaskState::Pending => 0,
        TaskState::Running => 1,
        TaskState::Succeeded => 2,
        TaskState::Failed => 3,
        TaskState::Cancelled => 4,
    }
}

pub(super) fn state_of(code: i8) -> Option<TaskState> {
    TaskState::ALL.into_iter().find(|state| state_code(*state) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_tasks() {
        let mut tasks = [0; SHARDS as usize];
        for n in 0..4_000_u32 {
            let id = if n % 2 == 0 { TaskId::fresh() } else { TaskId::from_idempotency_key(&n.to_string()) };
            tasks[shard_of(id) as usize] += 1;
        }
        assert!(tasks.iter().all(|tasks| (800..1_200).contains(tasks)), "{tasks:?}");
    }

    #[test]
    fn periods_begin_at_full_minutes_and_days() {
        assert_eq!([0, PERIOD - 1, PERIOD, 25 * PERIOD].map(|at| period_of(Timestamp(at), PERIOD)), [0, 0, 1, 25]);
        assert_eq!([DAY - 1, DAY].map(|at| period_of(Timestamp(at), DAY)), [0, 1]);
    }

    #[test]
    fn a_row_is_an_orphan_only_when_its_insert_must_have_ended() {
        let after = ORPHAN_AFTER / 1_000;
        assert!(!is_orphan(1_000_000, 1_000 + after));
        assert!(is_orphan(1_000_000, 1_001 + after));
        assert!(!is_orphan(i64::MAX, i64::MAX));
    }

    #[test]
    fn states_survive_their_codes() {
        assert!(TaskState::ALL.into_iter().all(|state| state_of(state_code(state)) == Some(state)));
        assert_eq!(state_of(5), None);
    }

    #[test]
    fn ids_survive_their_blobs() {
        let id = TaskId::fresh();
        assert_eq!(id_of(&blob(id)), Some(id));
        assert_eq!(id_of(b"short"), None);
    }
}
