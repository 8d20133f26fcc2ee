//! Whoever is due first runs first, suspects run alone, and nobody waits for ever.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    task::{TaskId, TaskState},
    testing::contracts::samples,
};

const NOW: Timestamp = Timestamp(1_000);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Waiting {
    Fresh,
    Suspect,
    Later,
    LaterSuspect,
    /// Due exactly now.
    DueNow,
}

use Waiting::{DueNow, Fresh, Later, LaterSuspect, Suspect};

fn record(number: usize, waiting: Waiting) -> TaskRecord {
    let mut record = samples::record(number as u64);
    record.id = TaskId(Uuid::from_u128(number as u128));
    record.no_progress = u32::from(matches!(waiting, Suspect | LaterSuspect));
    record.not_before = match waiting {
        Fresh | Suspect => None,
        Later | LaterSuspect => Some(Timestamp(NOW.0 + 1)),
        DueNow => Some(NOW),
    };
    record
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Picked {
    /// The task at this place of the queue.
    Number(usize),
    Held,
    NothingDue,
}

use Picked::{Held, NothingDue, Number};

fn picked(waiting: &[Waiting], busy: &[bool]) -> Picked {
    let queue: Vec<TaskRecord> = waiting.iter().enumerate().map(|(number, kind)| record(number, *kind)).collect();
    match assign(&queue, busy, NOW) {
        Assignment::Take(due) => Number(due.id.0.as_u128() as usize),
        Assignment::Held => Held,
        Assignment::NothingDue => NothingDue,
    }
}

#[test]
fn the_table_of_who_is_taken() {
    let table: &[(&[Waiting], &[bool], Picked)] = &[
        (&[], &[], NothingDue),
        (&[], &[true], NothingDue),
        (&[Fresh, Fresh], &[], Number(0)),
        (&[Fresh, Fresh], &[false, false], Number(0)),
        (&[Later, Fresh], &[], Number(1)),
        (&[DueNow, Fresh], &[false], Number(0)),
        (&[Later, Later], &[], NothingDue),
        (&[LaterSuspect], &[false], NothingDue),
        (&[Suspect, Fresh], &[], Number(0)),
        (&[Suspect, Fresh], &[false], Held),
        (&[Fresh, Suspect], &[false], Number(0)),
        (&[LaterSuspect, Fresh], &[false], Number(1)),
        (&[LaterSuspect, Suspect], &[], Number(1)),
        (&[Fresh], &[true], Held),
        (&[Suspect], &[true], Held),
        (&[Fresh], &[false, true], Held),
    ];
    for (queue, busy, expected) in table {
        assert_eq!(picked(queue, busy), *expected, "{queue:?} beside {busy:?}");
    }
}

fn waiting() -> impl Strategy<Value = Waiting> {
    prop_oneof![Just(Fresh), Just(Suspect), Just(Later), Just(LaterSuspect), Just(DueNow)]
}

/// A task that runs, and for how many turns yet.
struct Running {
    number: usize,
    turns: u32,
}

proptest! {
    #[test]
    fn whoever_is_due_first_is_taken_or_nobody(
        queue in prop::collection::vec(waiting(), 0..12),
        busy in prop::collection::vec(any::<bool>(), 0..4),
    ) {
        let first_due = queue.iter().position(|kind| matches!(kind, Fresh | Suspect | DueNow));
        match picked(&queue, &busy) {
            Number(number) => {
                prop_assert_eq!(Some(number), first_due, "nobody is overtaken");
                prop_assert!(!busy.contains(&true), "a suspect is left alone");
                prop_assert!(queue[number] != Suspect || busy.is_empty(), "a suspect runs alone");
            }
            Held => {
                let suspect_waits = first_due.is_some_and(|first| queue[first] == Suspect) && !busy.is_empty();
                prop_assert!(first_due.is_some(), "only a due task is held");
                prop_assert!(busy.contains(&true) || suspect_waits, "no slot idles for nothing");
            }
            NothingDue => prop_assert_eq!(first_due, None),
        }
    }

    #[test]
    fn with_any_slots_and_durations_all_run_in_order_and_suspects_alone(
        tasks in prop::collection::vec((any::<bool>(), 1_u32..6), 1..30),
        slots in 1_usize..5,
    ) {
        let kind = |number: usize| if tasks[number].0 { Suspect } else { Fresh };
        let mut queue: Vec<TaskRecord> = (0..tasks.len()).map(|number| record(number, kind(number))).collect();
        let (mut running, mut started): (Vec<Running>, Vec<usize>) = (Vec::new(), Vec::new());
        for _ in 0..1_000 {
            let busy: Vec<bool> = running.iter().map(|running| tasks[running.number].0).collect();
            let taken = match assign(&queue, &busy, NOW) {
                Assignment::Take(due) if running.len() < slots => Some(due.id),
                _ => None,
            };
            if let Some(id) = taken {
                queue.retain(|record| record.id != id);
                let number = id.0.as_u128() as usize;
                started.push(number);
                running.push(Running { number, turns: tasks[number].1 });
                let suspects = running.iter().filter(|running| tasks[running.number].0).count();
                prop_assert!(suspects == 0 || running.len() == 1, "a suspect has a neighbour");
            } else {
                running.iter_mut().for_each(|running| running.turns -= 1);
                running.retain(|running| running.turns > 0);
            }
        }
        prop_assert_eq!(started, (0..tasks.len()).collect::<Vec<_>>(), "each in its turn");
        prop_assert!(queue.is_empty() && running.is_empty());
    }

    #[test]
    fn suspects_are_those_whose_last_attempt_made_no_progress(charged in 0_u32..4) {
        let mut record = record(0, Fresh);
        record.no_progress = charged;
        prop_assert_eq!(record.is_suspect(), charged > 0);
        // The claim charges the attempt before it runs: the first charge says nothing yet.
        record.state = TaskState::Running;
        prop_assert_eq!(record.is_suspect(), charged > 1);
    }
}
