//! Every pair of state and input.

use std::time::Duration;

use uuid::Uuid;

use super::life::{Life, claim, end, finish, lose, reap, save, start};
use crate::{
    task::{FailureKind, Fence, TaskState},
    transition::Input,
};

const STATES: [&str; 6] = ["pending", "running", "cancelling", "succeeded", "failed", "cancelled"];

/// A task in each state of the tables; every one of them but the pending one has saved a checkpoint.
fn in_state(state: &str) -> Life {
    if state == "pending" {
        return Life::submitted();
    }
    let mut life = Life::running();
    life.save(5);
    match state {
        "running" => {}
        "cancelling" => life.must(&Input::RequestCancel),
        "succeeded" => life.finish(),
        "failed" => life.end(FailureKind::Permanent),
        _ => {
            life.must(&Input::RequestCancel);
            life.reap();
        }
    }
    life
}

fn inputs(life: &Life, fence: Fence) -> [(&'static str, Input); 10] {
    let lost = life.record.newest_checkpoint().map(|newest| newest.artifact);
    let lost = lost.unwrap_or_else(|| super::life::checkpoint(fence, 5, 0).artifact);
    [
        ("claim", claim(9)),
        ("start", start(fence, 2)),
        ("save", save(fence, 7, 2)),
        ("lose", lose(fence, lost, 2)),
        ("finish", finish(fence)),
        ("end", end(fence, FailureKind::Crashed, Duration::ZERO)),
        ("reap", reap(fence)),
        ("request_cancel", Input::RequestCancel),
        ("confirm_cancel", Input::ConfirmCancel { fence }),
        ("announce", Input::Announce),
    ]
}

/// One line an input, one column a state: what the task becomes, or why it does not.
fn table(fence: impl Fn(&Life) -> Fence) -> String {
    let mut lines = vec![format!("{:15}", "input"); 11];
    for state in STATES {
        lines[0] += &format!("{state:15}");
        let life = in_state(state);
        for (line, (name, input)) in lines[1..].iter_mut().zip(inputs(&life, fence(&life))) {
            if state == STATES[0] {
                *line = format!("{name:15}");
            }
            let outcome = match in_state(state).decide(&input) {
                Ok(next) => next.record.state.to_string(),
                Err(refused) => format!("{refused:?}"),
            };
            *line += &format!("{outcome:15}");
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn current(life: &Life) -> Fence {
    life.record.fence().unwrap_or(Fence { attempt: life.record.attempt, nonce: Uuid::from_u128(1) })
}

#[test]
fn the_holder_may_do_what_the_protocol_says_and_nothing_else() {
    let expected = "\
input          pending        running        cancelling     succeeded      failed         cancelled
claim          running        AlreadyRunning AlreadyRunning Ended          Ended          Ended
start          StaleFence     running        running        Ended          Ended          Ended
save           StaleFence     running        running        Ended          Ended          Ended
lose           StaleFence     running        running        Ended          Ended          Ended
finish         StaleFence     succeeded      succeeded      Ended          Ended          Ended
end            StaleFence     pending        cancelled      Ended          Ended          Ended
reap           StaleFence     pending        cancelled      Ended          Ended          Ended
request_cancel cancelled      running        AlreadySo      Ended          Ended          Ended
confirm_cancel StaleFence     NotRequested   cancelled      Ended          Ended          Ended
announce       NotEnded       NotEnded       NotEnded       succeeded      failed         cancelled
";
    assert_eq!(table(current), expected);
}

#[test]
fn who_does_not_hold_the_attempt_changes_nothing() {
    let expected = "\
input          pending        running        cancelling     succeeded      failed         cancelled
claim          running        AlreadyRunning AlreadyRunning Ended          Ended          Ended
start          StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
save           StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
lose           StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
finish         StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
end            StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
reap           StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
request_cancel cancelled      running        AlreadySo      Ended          Ended          Ended
confirm_cancel StaleFence     StaleFence     StaleFence     Ended          Ended          Ended
announce       NotEnded       NotEnded       NotEnded       succeeded      failed         cancelled
";
    let of_another_claim = |life: &Life| Fence { nonce: Uuid::from_u128(99), ..current(life) };
    let of_an_earlier_attempt = |life: &Life| Fence { attempt: life.record.attempt.saturating_sub(1), ..current(life) };
    let of_a_later_attempt = |life: &Life| Fence { attempt: life.record.attempt + 1, ..current(life) };
    assert_eq!(table(of_another_claim), expected);
    assert_eq!(table(of_an_earlier_attempt), expected);
    assert_eq!(table(of_a_later_attempt), expected);
}

#[test]
fn an_end_is_announced_once_and_then_nothing_changes() {
    for state in ["succeeded", "failed", "cancelled"] {
        let mut life = in_state(state);
        life.must(&Input::Announce);
        assert!(life.record.announced && !life.record.is_queued(), "{state}");
        for (name, input) in inputs(&life, current(&life)) {
            life.decide(&input).expect_err(name);
        }
    }
}

#[test]
fn every_accepted_input_makes_the_next_version_under_its_own_op_id() {
    for state in STATES {
        let life = in_state(state);
        for (name, input) in inputs(&life, current(&life)) {
            let mut life = in_state(state);
            life.pass(Duration::from_secs(3));
            if let Ok(next) = life.decide(&input) {
                assert_eq!(next.record.version, life.record.version + 1, "{state}, {name}");
                assert_ne!(next.record.op_id, life.record.op_id, "{state}, {name}");
                assert_eq!(next.record.updated_at, life.now, "{state}, {name}");
                assert!(next.facts.iter().all(|fact| fact.at == life.now), "{state}, {name}");
            }
        }
    }
}

#[test]
fn only_a_running_task_has_an_owner() {
    for state in STATES {
        let record = in_state(state).record;
        assert_eq!(record.owner.is_some(), record.state == TaskState::Running, "{state}");
        assert_eq!(record.finished_at.is_some(), record.state.is_terminal(), "{state}");
        assert_eq!(record.terminal_fact().is_some(), record.state.is_terminal(), "{state}");
    }
}
