//! The promises that every change of the record is held to.

use kubeml_actors::{
    event::{EventKind, Seq, TaskEvent},
    task::{FailureKind, TaskRecord, TaskState},
    transition::{Input, Limits},
};

use crate::{
    mutants::fence_of,
    world::{Ledger, Write},
};

/// A promise that did not hold.
pub type Broken = &'static str;

pub const TERMINAL_ABSORBS: Broken = "I2: a terminal state changed";
pub const ATTEMPT_DECREASED: Broken = "I3: the attempt decreased";
pub const NOT_THE_OWNER: Broken = "I3: a write without the current attempt and nonce changed the task";
pub const CLAIMED_TWICE: Broken = "I3: a task was claimed that was not pending";
pub const SECOND_RESULT: Broken = "I4: a second result was accepted";
pub const TRIED_TOO_OFTEN: Broken = "I6: tried too often without progress";
pub const GIVEN_UP_TOO_EARLY: Broken = "I6: given up before the budget was spent";
pub const CHECKPOINT_WENT_BACK: Broken = "I7: the checkpoint went back";
pub const WRONG_CHECKPOINT_LOST: Broken = "I7: another checkpoint than the damaged one was lost";
pub const ENDS_DIFFER: Broken = "I10: the log's end is not the store's";
pub const STALE_ATTEMPT: Broken = "I16: a write of an older attempt changed the task";
pub const EPOCH_REPORTED_TWICE: Broken = "an epoch was reported twice, or one was left out";
pub const FACT_MISNUMBERED: Broken = "a fact leaves a hole, or is written over another";
pub const HOLDER_REFUSED: Broken = "the attempt's holder was refused";

/// What is wrong with putting `write` in the place of `old`.
pub fn broken_by(old: &TaskRecord, write: &Write, ledger: &Ledger, limits: &Limits) -> Option<Broken> {
    let (new, input) = (&*write.record, &*write.input);
    terminal_absorbs(old, new)
        .or_else(|| written_by_the_owner(old, new, input))
        .or_else(|| one_result(old, new))
        .or_else(|| tried_as_often_as_promised(new, input, ledger, limits))
        .or_else(|| checkpoints_grow(old, new, input))
        .or_else(|| facts_are_in_place(old, write, ledger))
}

fn terminal_absorbs(old: &TaskRecord, new: &TaskRecord) -> Option<Broken> {
    let same_end = (old.state, old.attempt, &old.result, &old.failure, &old.checkpoints)
        == (new.state, new.attempt, &new.result, &new.failure, &new.checkpoints);
    (old.state.is_terminal() && !(same_end && new.announced)).then_some(TERMINAL_ABSORBS)
}

fn written_by_the_owner(old: &TaskRecord, new: &TaskRecord, input: &Input) -> Option<Broken> {
    let stale = fence_of(input).filter(|fence| old.fence() != Some(*fence));
    match stale {
        Some(fence) if fence.attempt < old.attempt => Some(STALE_ATTEMPT),
        Some(_) => Some(NOT_THE_OWNER),
        None if new.attempt < old.attempt => Some(ATTEMPT_DECREASED),
        None if matches!(input, Input::Claim { .. }) && old.state != TaskState::Pending => Some(CLAIMED_TWICE),
        None => None,
    }
}

fn one_result(old: &TaskRecord, new: &TaskRecord) -> Option<Broken> {
    (old.result.is_some() && old.result != new.result).then_some(SECOND_RESULT)
}

fn tried_as_often_as_promised(new: &TaskRecord, input: &Input, ledger: &Ledger, limits: &Limits) -> Option<Broken> {
    let tries_max = limits.no_progress_max + 1;
    let given_up = new.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::NoProgress);
    match (input, new.state) {
        (Input::Claim { .. }, TaskState::Running) if ledger.tries >= tries_max => Some(TRIED_TOO_OFTEN),
        (Input::Claim { .. }, TaskState::Failed) if given_up && ledger.tries < tries_max => Some(GIVEN_UP_TOO_EARLY),
        _ => None,
    }
}

fn checkpoints_grow(old: &TaskRecord, new: &TaskRecord, input: &Input) -> Option<Broken> {
    match input {
        Input::LoseCheckpoint { lost, .. } => {
            let right = old.newest_checkpoint().is_some_and(|newest| newest.artifact == *lost)
                && new.checkpoints[..] == old.checkpoints[1..];
            (!right).then_some(WRONG_CHECKPOINT_LOST)
        }
        _ => (new.resume_step() < old.resume_step()).then_some(CHECKPOINT_WENT_BACK),
    }
}

fn facts_are_in_place(old: &TaskRecord, write: &Write, ledger: &Ledger) -> Option<Broken> {
    let new = &write.record;
    let mut next_n = if new.attempt == old.attempt { ledger.next_n } else { 0 };
    // A repeated start writes the same facts again.
    let repeats = |n: u64, next_n: u64| matches!(*write.input, Input::Start { .. }) && n < next_n;
    for fact in write.facts.iter() {
        match fact.kind {
            _ if fact.seq.attempt() != new.attempt => return Some(FACT_MISNUMBERED),
            EventKind::AttemptFailed { .. } if fact.seq == Seq::attempt_end(new.attempt) => {}
            EventKind::EpochFinished(epoch) if epoch.epoch != old.epochs.last().map_or(0, |last| last.epoch) + 1 => {
                return Some(EPOCH_REPORTED_TWICE);
            }
            _ if fact.seq.n() == next_n => next_n += 1,
            _ if repeats(fact.seq.n(), next_n) => {}
            _ => return Some(FACT_MISNUMBERED),
        }
    }
    None
}

impl Ledger {
    /// Books that `write` has taken the place of `old`.
    pub fn book(&mut self, old: &TaskRecord, write: &Write, limits: &Limits) {
        let new = &write.record;
        if new.attempt != old.attempt {
            self.next_n = 0;
        }
        let owners = |fact: &&TaskEvent| fact.seq != Seq::attempt_end(new.attempt);
        if let Some(last) = write.facts.iter().rfind(owners) {
            self.next_n = self.next_n.max(last.seq.n() + 1);
        }
        self.tries = match &*write.input {
            Input::Claim { .. } if new.state == TaskState::Running => (self.tries + 1).min(limits.no_progress_max + 2),
            Input::SaveCheckpoint { .. } => 0,
            Input::EndAttempt { failure, .. } if failure.kind != FailureKind::Crashed => self.tries.saturating_sub(1),
            _ => self.tries,
        };
    }

    /// The terminal fact is published, perhaps once more.
    pub fn publish(&mut self, record: &TaskRecord) -> Option<Broken> {
        let said = record.terminal_fact().and_then(|fact| match fact.kind {
            EventKind::Succeeded { .. } => Some(TaskState::Succeeded),
            EventKind::Failed { .. } => Some(TaskState::Failed),
            EventKind::Cancelled => Some(TaskState::Cancelled),
            _ => None,
        });
        let differs = said != Some(record.state) || self.published.is_some_and(|before| Some(before) != said);
        self.published = said;
        differs.then_some(ENDS_DIFFER)
    }
}
