//! An exhaustive check of the task protocol: the real `transition` and `landed`, two workers and a store, and
//! everything that may go wrong between them, in every order, within bounds.
//!
//! Workers read, decide and send writes that arrive, arrive without a reply, arrive after their sender's death, or never
//! do; processes and pools die; living holders are taken for dead; hints are lost and doubled; checkpoints are damaged;
//! somebody cancels. Every change of the record is held to the promises of `invariants`, and from every world some way
//! without further faults must lead to an announced end. The same walk over classic mistakes shows that it would find
//! them. The bounds are wider in CI, and as wide as `PROTOCOL_CHECK_BUDGET=crashes,steals,losses,damages,cancels` says:
//! `2,1,1,1,1` takes about a minute.

mod attempt_inputs;
mod carrying;
mod explore;
mod invariants;
mod key;
mod moves;
mod mutants;
mod world;

use std::{collections::BTreeSet, time::Instant};

use explore::{Explored, explore};
use invariants::{Broken, CLAIMED_TWICE, NOT_THE_OWNER, STALE_ATTEMPT, TRIED_TOO_OFTEN, WRONG_CHECKPOINT_LOST};
use kubeml_actors::task::TaskState::{Cancelled, Failed, Succeeded};
use mutants::{Mutant, Rules};
use world::Budget;

/// Two tries in a row without progress, then no more.
const RULES: Rules = Rules::real(1);
const NO_FAULTS: Budget = Budget { crashes: 0, steals: 0, losses: 0, damages: 0, cancels: 0 };
/// Enough for every mistake below.
const SOME_FAULTS: Budget = Budget { crashes: 1, steals: 1, losses: 1, ..NO_FAULTS };

#[test]
fn every_promise_holds_through_crashes_steals_and_lost_replies() {
    let explored = explore_all(&RULES, widened());
    assert_sound(&explored);
    assert!(explored.ends.is_superset(&BTreeSet::from([Succeeded, Failed])));
    assert!(explored.states > 100_000, "the walk has grown short: {} states", explored.states);
}

#[test]
fn every_promise_holds_when_checkpoints_are_damaged_and_people_cancel() {
    let explored = explore_all(&RULES, Budget { damages: 1, cancels: 1, ..SOME_FAULTS });
    assert_sound(&explored);
    assert_eq!(explored.ends, BTreeSet::from([Succeeded, Failed, Cancelled]));
}

#[test]
fn a_task_that_kills_its_process_fails_once_its_budget_is_spent() {
    for no_progress_max in [0, 1, 5] {
        let explored = explore_all(&Rules { poison: true, ..Rules::real(no_progress_max) }, SOME_FAULTS);
        assert_sound(&explored);
        assert_eq!(explored.ends, BTreeSet::from([Failed]));
    }
}

#[test]
fn a_task_that_kills_its_process_would_run_for_ever_if_attempts_were_counted_at_their_end() {
    let rules = Rules { poison: true, ..with(Mutant::CountedAtTheEnd) };
    let explored = explore_all(&rules, NO_FAULTS);
    assert_found(&explored, TRIED_TOO_OFTEN);
    assert!(explored.ends.is_empty());
    assert_eq!(explored.stuck, explored.states);
}

#[test]
fn a_missing_fence_is_found() {
    assert_found(&explore_until_broken(&with(Mutant::NoFence), SOME_FAULTS), STALE_ATTEMPT);
}

#[test]
fn an_unfenced_checkpoint_is_found() {
    assert_found(&explore_until_broken(&with(Mutant::CheckpointUnfenced), SOME_FAULTS), STALE_ATTEMPT);
}

#[test]
fn a_fence_by_attempt_only_is_found() {
    assert_found(&explore_until_broken(&with(Mutant::FenceByAttemptOnly), SOME_FAULTS), NOT_THE_OWNER);
}

#[test]
fn attempts_that_are_counted_at_their_end_are_found() {
    assert_found(&explore_until_broken(&with(Mutant::CountedAtTheEnd), SOME_FAULTS), TRIED_TOO_OFTEN);
}

#[test]
fn losing_whichever_checkpoint_is_the_newest_is_found() {
    let budget = Budget { crashes: 1, losses: 1, damages: 1, cancels: 1, ..NO_FAULTS };
    assert_found(&explore_all(&with(Mutant::LosesTheNewest), budget), WRONG_CHECKPOINT_LOST);
}

#[test]
fn writes_without_a_comparison_are_found() {
    assert_found(&explore_until_broken(&Rules { compares: false, ..RULES }, NO_FAULTS), CLAIMED_TWICE);
}

#[test]
fn a_missing_reconciler_is_found() {
    assert_stuck(&explore_all(&Rules { reconciler: false, ..RULES }, NO_FAULTS));
}

#[test]
fn a_missing_orphan_rule_is_found() {
    assert_stuck(&explore_all(&Rules { orphans: false, ..RULES }, Budget { crashes: 1, ..NO_FAULTS }));
}

fn with(mutant: Mutant) -> Rules {
    Rules { mutant: Some(mutant), ..RULES }
}

fn explore_all(rules: &Rules, budget: Budget) -> Explored {
    told(|| explore(rules, budget, false))
}

fn explore_until_broken(rules: &Rules, budget: Budget) -> Explored {
    told(|| explore(rules, budget, true))
}

/// Tells what was found, for who runs this with `--nocapture` or sees it fail.
fn told(exploring: impl FnOnce() -> Explored) -> Explored {
    let begun = Instant::now();
    let explored = exploring();
    let Explored { states, stuck, ends, .. } = &explored;
    println!("{states} states, {stuck} of them stuck, ends {ends:?}, {:.1} s", begun.elapsed().as_secs_f64());
    explored.violations.iter().chain(&explored.first_stuck).for_each(|violation| println!("{violation}"));
    explored
}

fn assert_sound(explored: &Explored) {
    assert!(explored.violations.is_empty(), "a promise is broken: see above");
    assert_eq!(explored.stuck, 0, "worlds that cannot end: see above");
}

#[track_caller]
fn assert_found(explored: &Explored, broken: Broken) {
    assert!(explored.violations.iter().any(|violation| violation.broken == broken), "not found: {broken}");
}

#[track_caller]
fn assert_stuck(explored: &Explored) {
    assert!(explored.violations.is_empty() && explored.stuck > 0, "every world can end");
}

/// More of everything, or what the environment asks for.
fn widened() -> Budget {
    let Ok(wanted) = std::env::var("PROTOCOL_CHECK_BUDGET") else {
        let steals = if std::env::var_os("CI").is_some() { 2 } else { 1 };
        return Budget { crashes: 2, steals, losses: 1, ..NO_FAULTS };
    };
    let numbers: Vec<u8> = wanted.split(',').map(|number| number.parse().expect("a small number")).collect();
    let [crashes, steals, losses, damages, cancels] = numbers[..] else {
        panic!("PROTOCOL_CHECK_BUDGET: expected crashes,steals,losses,damages,cancels, found {wanted:?}");
    };
    Budget { crashes, steals, losses, damages, cancels }
}
