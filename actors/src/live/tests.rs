//! What the ring covers, what it forgets, and how far running tasks are.

use proptest::prelude::*;
use uuid::Uuid;

use super::{latest::LATEST_MAX, *};
use crate::{
    event::{EventKind, Seq, TaskEvent},
    ports::Place,
    task::Failure,
    testing::contracts::samples,
};

fn task(number: u128) -> TaskId {
    TaskId(Uuid::from_u128(number))
}

fn entry(position: u64) -> LogEntry {
    LogEntry::single(position, samples::fact(task(1), 1, position))
}

fn entries(positions: impl IntoIterator<Item = u64>) -> Vec<LogEntry> {
    positions.into_iter().map(entry).collect()
}

fn after(live: &Live, position: u64, limit: usize) -> Option<Vec<u64>> {
    let found = live.after(&Position::single(position), limit, |_| true)?.0;
    Some(found.iter().map(|entry| entry.position.counter(0)).collect())
}

fn told(live: &Live, position: u64, task: TaskId, attempt: u32, kind: EventKind) {
    let event = TaskEvent { kind, ..samples::fact(task, attempt, position) };
    live.push(vec![LogEntry::single(position, event)]);
}

fn at_step(step: u64) -> EventKind {
    EventKind::Progress(Progress { step, ..Progress::default() })
}

#[test]
fn an_empty_ring_covers_what_comes_after_its_start_only() {
    let live = Live::new(Position::single(7), 4);
    assert_eq!(after(&live, 7, 10), Some(vec![]));
    assert_eq!(after(&live, 6, 10), None);
    assert_eq!(after(&live, 8, 10), Some(vec![]), "whoever has read on elsewhere has read all that is here");
    assert_eq!(live.newest().borrow().counter(0), 7);
}

#[test]
fn what_does_not_fit_is_forgotten_oldest_first_and_not_pretended_to_be_known() {
    let live = Live::new(Position::single(0), 3);
    assert_eq!(live.push(entries(1..=2)), 2);
    assert_eq!(live.push(entries(3..=5)), 3);
    assert_eq!(after(&live, 1, 10), None);
    assert_eq!(after(&live, 2, 10), Some(vec![3, 4, 5]));
    assert_eq!(after(&live, 3, 1), Some(vec![4]));
    assert_eq!(after(&live, 5, 10), Some(vec![]));
}

#[test]
fn a_push_larger_than_the_ring_keeps_its_end() {
    let live = Live::new(Position::single(0), 0);
    assert_eq!(live.push(entries(1..=100)), 1, "there is room for one at least");
    assert_eq!(after(&live, 99, 10), Some(vec![100]));
    assert_eq!(after(&live, 98, 10), None);
}

#[tokio::test]
async fn a_push_wakes_and_an_empty_one_does_not() {
    let live = Live::new(Position::single(0), 3);
    let mut newest = live.newest();
    live.push(Vec::new());
    assert!(!newest.has_changed().unwrap());
    live.push(entries([1, 2]));
    newest.changed().await.unwrap();
    assert_eq!(newest.borrow_and_update().counter(0), 2);
}

#[test]
fn a_hole_in_the_log_is_never_inside_the_ring() {
    let live = Live::new(Position::single(0), 10);
    live.push(entries(1..=3));
    live.skip_to(&Position::single(6), &entries([5, 6]));
    assert_eq!(after(&live, 3, 10), None, "who stands before the hole reads the store, which tells of it");
    assert_eq!(after(&live, 6, 10), Some(vec![]));
    assert_eq!(live.newest().borrow().counter(0), 6);
    live.push(entries([7]));
    assert_eq!(after(&live, 6, 10), Some(vec![7]));
}

#[test]
fn progress_is_that_of_the_asked_attempt_and_ends_with_the_task() {
    let live = Live::new(Position::single(0), 2);
    assert_eq!(live.progress(task(1), 1), None);
    told(&live, 1, task(1), 1, at_step(5));
    told(&live, 2, task(2), 1, at_step(9));
    told(&live, 3, task(1), 1, at_step(6));
    assert_eq!(live.progress(task(1), 1).map(|progress| progress.step), Some(6));
    assert_eq!(live.progress(task(2), 1).map(|progress| progress.step), Some(9), "it outlives its entry in the ring");
    assert_eq!(live.progress(task(1), 2), None, "a new attempt starts from its checkpoint, not from here");
    told(&live, 4, task(1), 2, at_step(4));
    assert_eq!(live.progress(task(1), 1), None);
    assert_eq!(live.progress(task(1), 2).map(|progress| progress.step), Some(4));
    told(&live, 5, task(1), 2, EventKind::Failed { failure: Failure::crashed("it broke") });
    told(&live, 6, task(2), 1, EventKind::Cancelled);
    assert_eq!((live.progress(task(1), 2), live.progress(task(2), 1)), (None, None));
}

#[test]
fn progress_behind_a_hole_is_heard_of() {
    let live = Live::new(Position::single(0), 2);
    let event = TaskEvent { kind: at_step(8), ..samples::fact(task(1), 1, 0) };
    assert_eq!(event.seq, Seq::new(1, 0));
    live.skip_to(&Position::single(9), &[LogEntry::single(9, event)]);
    assert_eq!(live.progress(task(1), 1).map(|progress| progress.step), Some(8));
}

#[test]
fn tasks_whose_end_fell_into_a_hole_are_forgotten_for_newer_ones() {
    let live = Live::new(Position::single(0), 2);
    let count = 2 * LATEST_MAX as u64;
    let mut position = 0;
    for number in 1..=count {
        // The first goes on all the time, the ends of the others are never heard of.
        for task in [task(1), task(number.into())] {
            position += 1;
            told(&live, position, task, 1, at_step(number));
        }
    }
    let known = (1..=count).filter(|number| live.progress(task((*number).into()), 1).is_some()).count();
    assert_eq!(known, LATEST_MAX);
    let step_of = |number: u64| live.progress(task(number.into()), 1).map(|progress| progress.step);
    assert_eq!((step_of(1), step_of(2), step_of(count)), (Some(count), None, Some(count)));
}

#[test]
fn who_has_read_the_partitions_in_another_order_hears_each_entry_once() {
    let live = Live::new(Position(vec![0, 0]), 8);
    let mut reached = Position(vec![0, 0]);
    let places = [(0, 1), (1, 1), (0, 2), (1, 2)].map(|(partition, counter)| Place { partition, counter });
    live.push(Vec::from(places.map(|place| {
        reached.advance(place);
        LogEntry { position: reached.clone(), place, event: samples::fact(task(1), 1, place.counter) }
    })));
    let heard = |read: &[u64]| {
        let (entries, reached) = live.after(&Position(read.to_vec()), 10, |_| true).expect("it reaches back");
        assert_eq!(reached, Position(vec![2, 2]));
        entries.into_iter().map(|entry| (entry.place.partition, entry.place.counter)).collect::<Vec<_>>()
    };
    assert_eq!(heard(&[0, 0]), [(0, 1), (1, 1), (0, 2), (1, 2)]);
    assert_eq!(heard(&[0, 2]), [(0, 1), (0, 2)]);
    assert_eq!(heard(&[2, 0]), [(1, 1), (1, 2)]);
    assert_eq!(heard(&[2, 2]), []);
}

proptest! {
    #[test]
    fn the_ring_tells_the_log_or_nothing(
        capacity in 0_usize..9,
        start in 0_u64..3,
        pushes in prop::collection::vec(0_u64..6, 0..12),
        limit in 1_usize..8,
    ) {
        let live = Live::new(Position::single(start), capacity);
        let mut head = start;
        for push in pushes {
            live.push(entries(head + 1..=head + push));
            head += push;
            let covered = head.saturating_sub(capacity.max(1) as u64).max(start);
            for position in 0..=head + 1 {
                let expected: Option<Vec<u64>> =
                    (position >= covered).then(|| (position + 1..=head).take(limit).collect());
                prop_assert_eq!(after(&live, position, limit), expected, "after {} of {}", position, head);
            }
        }
    }
}
