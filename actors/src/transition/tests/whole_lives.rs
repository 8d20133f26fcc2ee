//! Whole lives as text.

use std::{fmt::Write as _, time::Duration};

use super::life::{Life, dataset, end};
use crate::{
    event::{EventKind, TaskEvent},
    task::{FailureKind, TaskRecord},
    transition::Input,
};

fn render(life: &Life) -> String {
    let mut text = render_record(&life.record);
    let terminal = life.record.terminal_fact();
    for fact in life.facts.iter().chain(&terminal) {
        writeln!(text, "{:9} {} {}", fact.seq.to_string(), fact.at, render_fact(fact)).expect("text takes everything");
    }
    text
}

fn render_record(record: &TaskRecord) -> String {
    let checkpoints: Vec<String> = record
        .checkpoints
        .iter()
        .map(|saved| format!("step {} of attempt {}", saved.step(), saved.artifact.key.attempt))
        .collect();
    let failure = record.failure.as_ref().map(|failure| format!("{}: {}", failure.kind.as_str(), failure.message));
    format!(
        "{} version {} attempt {} no_progress {} on {}\n\
         step {} of {}, epoch {}; checkpoints [{}]; dataset {}\n\
         started {} finished {} failure {}{}\n",
        record.state,
        record.version,
        record.attempt,
        record.no_progress,
        record.worker_id.as_deref().unwrap_or("-"),
        record.progress.step,
        record.progress.steps,
        record.epochs.last().map_or(0, |last| last.epoch),
        checkpoints.join(", "),
        record.dataset.as_ref().map_or("-", |used| &used.name),
        record.started_at.map_or("-".to_owned(), |at| at.to_string()),
        record.finished_at.map_or("-".to_owned(), |at| at.to_string()),
        failure.as_deref().unwrap_or("-"),
        if record.announced { ", announced" } else { "" },
    )
}

fn render_fact(fact: &TaskEvent) -> String {
    match &fact.kind {
        EventKind::Claimed { worker_id } => format!("claimed by {worker_id}"),
        EventKind::Resumed { from_step } => format!("resumed from step {from_step}"),
        EventKind::EpochFinished(epoch) => format!("epoch {} finished", epoch.epoch),
        EventKind::CheckpointSaved { step } => format!("checkpoint of step {step} saved"),
        EventKind::Log { level, message } => format!("{level:?}: {message}"),
        EventKind::AttemptFailed { failure, charged } => {
            format!("attempt failed, {}: {}, charged {charged}", failure.kind.as_str(), failure.message)
        }
        EventKind::Succeeded { result, .. } => format!("succeeded in attempt {}", result.attempt),
        EventKind::Failed { failure } => format!("failed, {}: {}", failure.kind.as_str(), failure.message),
        other => other.as_str().to_owned(),
    }
}

fn second(life: &mut Life) {
    life.pass(Duration::from_secs(1));
}

#[test]
fn a_task_that_meets_with_everything_succeeds() {
    let mut life = Life::submitted();
    second(&mut life);
    life.claim();
    life.start();
    life.save(4);
    life.close_epoch(1);
    second(&mut life);
    life.reap();
    second(&mut life);
    life.claim();
    life.lose_checkpoint();
    life.start();
    life.close_epoch(1);
    second(&mut life);
    life.end(FailureKind::Drained);
    life.claim();
    life.start();
    life.close_epoch(2);
    life.must(&Input::RequestCancel);
    life.close_epoch(3);
    second(&mut life);
    life.finish();
    life.must(&Input::Announce);
    let expected = "\
succeeded version 18 attempt 3 no_progress 0 on node-1/0
step 30 of 30, epoch 3; checkpoints [step 30 of attempt 3, step 20 of attempt 3]; dataset mnist
started 1.000000s finished 5.000000s failure -, announced
1/0       1.000000s claimed by node-1/0
1/1       1.000000s checkpoint of step 4 saved
1/2       1.000000s checkpoint of step 10 saved
1/3       1.000000s epoch 1 finished
1/failed  2.000000s attempt failed, crashed: node-1 is silent, charged false
2/0       3.000000s claimed by node-1/0
2/1       3.000000s Warn: the checkpoint of step 10 is lost: its hash differs
2/2       3.000000s resumed from step 4
2/3       3.000000s checkpoint of step 10 saved
2/failed  4.000000s attempt failed, drained: it went wrong, charged false
3/0       4.000000s claimed by node-1/0
3/1       4.000000s resumed from step 10
3/2       4.000000s checkpoint of step 20 saved
3/3       4.000000s epoch 2 finished
3/4       4.000000s checkpoint of step 30 saved
3/5       4.000000s epoch 3 finished
3/end     5.000000s succeeded in attempt 3
";
    assert_eq!(render(&life), expected);
}

#[test]
fn a_task_that_gets_nowhere_fails_and_says_why() {
    let mut life = Life::submitted();
    life.limits.no_progress_max = 1;
    for _ in 0..2 {
        life.claim();
        life.start();
        life.must(&end(life.fence(), FailureKind::Crashed, Duration::from_secs(1)));
        second(&mut life);
    }
    life.claim();
    let expected = "\
failed version 8 attempt 2 no_progress 2 on node-1/0
step 0 of 0, epoch 0; checkpoints []; dataset mnist
started 0.000000s finished 2.000000s failure no_progress: 2 attempts in a row made no progress; the last one: it went wrong
1/0       0.000000s claimed by node-1/0
1/failed  0.000000s attempt failed, crashed: it went wrong, charged true
2/0       1.000000s claimed by node-1/0
2/1       1.000000s resumed from step 0
2/failed  1.000000s attempt failed, crashed: it went wrong, charged true
2/end     2.000000s failed, no_progress: 2 attempts in a row made no progress; the last one: it went wrong
";
    assert_eq!(render(&life), expected);
}

#[test]
fn a_task_on_the_digits_that_stand_in_says_so_and_can_be_cancelled() {
    let mut life = Life::running();
    let mut used = dataset("mnist-10k");
    used.instead_of = Some("mnist cannot be had".to_owned());
    life.must(&Input::Start { fence: life.fence(), dataset: used, n: life.next_n() });
    life.must(&Input::RequestCancel);
    second(&mut life);
    life.must(&Input::ConfirmCancel { fence: life.fence() });
    let expected = "\
cancelled version 5 attempt 1 no_progress 1 on node-1/0
step 0 of 0, epoch 0; checkpoints []; dataset mnist-10k
started 0.000000s finished 1.000000s failure -
1/0       0.000000s claimed by node-1/0
1/1       0.000000s Warn: training on mnist-10k: mnist cannot be had
1/end     1.000000s cancelled
";
    assert_eq!(render(&life), expected);
}
