//! The rules, one by one.

use std::time::Duration;

use super::life::{EPOCHS, Life, STEPS, checkpoint, claim, close_epoch, dataset, end, save};
use crate::{
    event::{EventKind, Seq},
    task::{FailureKind, TaskState},
    transition::{Input, Limits, Refused},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_attempt_is_charged_before_it_runs_and_its_checkpoint_pays_it_back() {
    let mut life = Life::running();
    assert_eq!(life.record.no_progress, 1);
    life.save(5);
    assert_eq!(life.record.no_progress, 0);
    life.reap();
    assert_eq!(life.record.no_progress, 0, "an attempt that got further is not held against the task");
}

#[test]
fn what_others_did_is_free_of_charge() {
    for (kind, charged) in [
        (FailureKind::Crashed, 1),
        (FailureKind::Diverged, 1),
        (FailureKind::Drained, 0),
        (FailureKind::Infrastructure, 0),
    ] {
        let mut life = Life::running();
        life.end(kind);
        assert_eq!((life.record.state, life.record.no_progress), (TaskState::Pending, charged), "{kind:?}");
        let Some(EventKind::AttemptFailed { failure, charged: told }) = life.facts.last().map(|fact| &fact.kind) else {
            panic!("{kind:?}: the attempt's end is not told");
        };
        assert_eq!((failure.kind, *told), (kind, charged == 1));
    }
}

#[test]
fn a_free_end_gives_back_its_own_charge_only() {
    let mut life = Life::running();
    life.reap();
    life.claim();
    life.end(FailureKind::Drained);
    assert_eq!(life.record.no_progress, 1);
    life.claim();
    life.save(5);
    life.end(FailureKind::Drained);
    assert_eq!(life.record.no_progress, 0);
}

#[test]
fn the_sixth_try_in_a_row_without_progress_is_the_last() {
    let mut life = Life::submitted();
    for attempt in 1..=6 {
        life.claim();
        assert_eq!((life.record.state, life.record.attempt), (TaskState::Running, attempt));
        life.reap();
    }
    life.claim();
    assert_eq!((life.record.state, life.record.attempt), (TaskState::Failed, 6));
    let failure = life.record.failure.expect("it failed");
    assert_eq!(failure.kind, FailureKind::NoProgress);
    assert_eq!(failure.message, "6 attempts in a row made no progress; the last one: node-1 is silent");
}

#[test]
fn progress_opens_the_whole_budget_again() {
    let mut life = Life::submitted();
    for step in 1..=20 {
        life.claim();
        if step % 5 == 0 {
            life.save(step);
        }
        life.reap();
        assert_eq!(life.record.state, TaskState::Pending);
    }
    assert_eq!(life.record.attempt, 20);
}

#[test]
fn a_task_is_a_suspect_after_an_attempt_without_progress() {
    let mut life = Life::submitted();
    assert!(!life.record.is_suspect());
    life.claim();
    assert!(!life.record.is_suspect(), "the first attempt");
    life.end(FailureKind::Drained);
    assert!(!life.record.is_suspect(), "a drain says nothing about the task");
    life.claim();
    life.reap();
    assert!(life.record.is_suspect());
    life.claim();
    assert!(life.record.is_suspect());
    life.save(5);
    assert!(!life.record.is_suspect());
}

#[test]
fn a_released_task_waits_for_as_long_as_it_was_told() {
    let mut life = Life::running();
    life.must(&end(life.fence(), FailureKind::Crashed, 3 * SECOND));
    assert_eq!(life.refused(&claim(9)), Refused::NotYet);
    life.pass(3 * SECOND - Duration::from_micros(1));
    assert_eq!(life.refused(&claim(9)), Refused::NotYet);
    life.pass(Duration::from_micros(1));
    life.claim();
    assert_eq!(life.record.not_before, None);
    life.reap();
    assert_eq!(life.record.not_before, None, "a dead owner's task goes on at once");
}

#[test]
fn a_loss_that_is_no_number_twice_in_a_row_is_for_good() {
    let mut life = Life::running();
    life.end(FailureKind::Diverged);
    life.claim();
    life.end(FailureKind::Crashed);
    life.claim();
    life.end(FailureKind::Diverged);
    assert_eq!(life.record.state, TaskState::Pending, "something else came between");
    life.claim();
    life.end(FailureKind::Diverged);
    assert_eq!(life.record.state, TaskState::Failed);
    assert_eq!(life.record.failure.map(|failure| failure.kind), Some(FailureKind::Diverged));
}

#[test]
fn what_trying_again_cannot_help_fails_at_once() {
    for kind in [FailureKind::Permanent, FailureKind::NoProgress] {
        let mut life = Life::running();
        life.end(kind);
        assert_eq!(life.record.state, TaskState::Failed);
        assert_eq!(life.record.failure.map(|failure| failure.kind), Some(kind));
    }
}

#[test]
fn other_peoples_faults_hold_a_task_up_until_a_deadline() {
    let mut life = Life::submitted();
    life.limits = Limits { blocked_max: 10 * SECOND, ..Limits::default() };
    life.pass(100 * SECOND);
    for _ in 0..2 {
        life.claim();
        life.end(FailureKind::Infrastructure);
        assert_eq!(life.record.state, TaskState::Pending);
        life.pass(5 * SECOND);
    }
    life.claim();
    life.end(FailureKind::Infrastructure);
    assert_eq!(life.record.state, TaskState::Pending, "ten seconds are not over ten seconds");
    life.pass(SECOND);
    life.claim();
    life.end(FailureKind::Infrastructure);
    assert_eq!(life.record.state, TaskState::Failed);
    assert_eq!(life.record.no_progress, 1, "the last attempt is not given back");
}

#[test]
fn progress_moves_the_deadline_for_other_peoples_faults() {
    let mut life = Life::submitted();
    life.limits = Limits { blocked_max: 10 * SECOND, ..Limits::default() };
    for step in [5, 15, 25] {
        life.claim();
        life.save(step);
        life.end(FailureKind::Infrastructure);
        life.pass(9 * SECOND);
    }
    assert_eq!(life.record.state, TaskState::Pending);
}

#[test]
fn a_pending_task_is_cancelled_at_once_and_a_running_one_when_its_attempt_ends() {
    let mut life = Life::submitted();
    life.must(&Input::RequestCancel);
    assert_eq!(life.record.state, TaskState::Cancelled);

    let enders: [fn(&mut Life); 5] = [
        |life| life.must(&Input::ConfirmCancel { fence: life.fence() }),
        |life| life.end(FailureKind::Crashed),
        |life| life.end(FailureKind::Drained),
        |life| life.end(FailureKind::Permanent),
        Life::reap,
    ];
    for ender in enders {
        let mut life = Life::running();
        life.must(&Input::RequestCancel);
        assert_eq!(life.record.state, TaskState::Running);
        ender(&mut life);
        assert_eq!(life.record.state, TaskState::Cancelled);
    }
}

#[test]
fn a_finish_beats_the_cancel_flag() {
    let mut life = Life::running();
    life.must(&Input::RequestCancel);
    life.finish();
    assert_eq!(life.record.state, TaskState::Succeeded);
}

#[test]
fn a_cancelled_task_may_still_save_what_it_has() {
    let mut life = Life::running();
    life.must(&Input::RequestCancel);
    life.save(5);
    assert_eq!(life.record.resume_step(), 5);
}

#[test]
fn checkpoints_only_go_forward_and_two_are_kept() {
    let mut life = Life::running();
    for step in [3, 7, 12] {
        life.save(step);
    }
    let steps: Vec<u64> = life.record.checkpoints.iter().map(|checkpoint| checkpoint.step()).collect();
    assert_eq!(steps, [12, 7]);
    for step in [12, 11, 0] {
        assert_eq!(life.refused(&save(life.fence(), step, 9)), Refused::NotNewer);
    }
    assert_eq!(life.record.progress.step, 12);
}

#[test]
fn a_checkpoint_of_the_same_step_is_taken_if_it_closes_an_epoch_and_only_once() {
    let mut life = Life::running();
    life.save(10);
    life.end(FailureKind::Drained);
    life.claim();
    assert_eq!(life.record.epochs.rows(), []);
    life.close_epoch(1);
    assert_eq!((life.record.resume_step(), life.record.epochs.rows().len()), (10, 1));
    assert_eq!(life.refused(&close_epoch(life.fence(), 1, 9)), Refused::NotNewer);
    let told = life.facts.iter().filter(|fact| matches!(fact.kind, EventKind::EpochFinished(_))).count();
    assert_eq!(told, 1);
}

#[test]
fn an_epoch_is_told_together_with_its_checkpoint() {
    let mut life = Life::running();
    life.close_epoch(1);
    let told: Vec<String> = life.facts.iter().map(|fact| format!("{} {}", fact.seq, fact.kind.as_str())).collect();
    assert_eq!(told, ["1/0 claimed", "1/1 checkpoint_saved", "1/2 epoch_finished"]);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before_and_then_to_the_start() {
    let mut life = Life::running();
    life.close_epoch(1);
    life.save(15);
    life.reap();
    life.claim();
    life.lose_checkpoint();
    assert_eq!((life.record.resume_step(), life.record.progress.step), (10, 10));
    life.lose_checkpoint();
    assert_eq!((life.record.resume_step(), life.record.progress.step), (0, 0));
    // What was reported of an epoch stays: it is trained to the same numbers again.
    assert_eq!(life.record.epochs.rows().len(), 1);
    let lost = checkpoint(life.fence(), 10, 1).artifact;
    assert_eq!(life.refused(&super::life::lose(life.fence(), lost, 9)), Refused::AlreadySo);
}

#[test]
fn a_claimed_task_stands_where_its_checkpoint_does() {
    let mut life = Life::running();
    life.close_epoch(1);
    life.record.progress.known.step = 13;
    life.reap();
    life.claim();
    assert_eq!((life.record.progress.step, life.record.progress.epoch), (10, 1));
    assert_eq!(life.record.attempt, 2);
}

#[test]
fn every_attempt_trains_on_the_bytes_that_the_first_one_had() {
    let mut life = Life::running();
    life.pass(SECOND);
    life.start();
    let started_at = life.record.started_at;
    life.reap();
    life.claim();
    life.pass(SECOND);
    life.must(&Input::Start { fence: life.fence(), dataset: dataset("another"), n: 1 });
    assert_eq!(life.record.dataset, Some(dataset("mnist").into()));
    assert_eq!(life.record.started_at, started_at);
}

#[test]
fn the_terminal_fact_is_the_same_whoever_writes_it_and_whenever() {
    let enders: [fn(&mut Life); 3] =
        [Life::finish, |life| life.end(FailureKind::Permanent), |life| life.must(&Input::RequestCancel)];
    for (ender, kind) in enders.into_iter().zip(["succeeded", "failed", "cancelled"]) {
        let mut life = Life::running();
        if kind == "cancelled" {
            life.reap();
        }
        ender(&mut life);
        let fact = life.record.terminal_fact().expect("it has ended");
        assert_eq!((fact.kind.as_str(), fact.seq), (kind, Seq::terminal(1)));
        life.pass(SECOND);
        life.must(&Input::Announce);
        assert_eq!(life.record.terminal_fact(), Some(fact));
    }
}

#[test]
fn a_result_carries_the_tasks_last_progress() {
    let mut life = Life::running();
    life.reap();
    life.claim();
    life.finish();
    assert_eq!((life.record.progress.step, life.record.progress.epoch, life.record.no_progress), (STEPS, EPOCHS, 0));
    assert_eq!(life.record.failure, None, "an earlier attempt's failure is not the task's");
    assert_eq!(life.record.result.map(|result| result.attempt), Some(2));
}
