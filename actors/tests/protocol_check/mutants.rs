//! The rules a world runs by: the real ones, or with one of the classic mistakes in them.

use std::time::Duration;

use kubeml_actors::{
    task::{FailureKind, Fence, TaskRecord},
    transition::{Input, Limits, Moment, Next, Refused, landed, transition},
};

use crate::world::Write;

/// A mistake in `transition` or `landed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Whoever writes is believed to hold the attempt.
    NoFence,
    /// Whoever saves a checkpoint is.
    CheckpointUnfenced,
    /// The attempt's number is taken for proof of holding it.
    FenceByAttemptOnly,
    /// An attempt is charged when its owner ends it, not when it is claimed.
    CountedAtTheEnd,
    /// A damaged checkpoint is not named, so a repetition loses the next one.
    LosesTheNewest,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub limits: Limits,
    pub mutant: Option<Mutant>,
    /// Pending tasks are scanned for, and unannounced ends announced.
    pub reconciler: bool,
    /// Stores compare versions before they set.
    pub compares: bool,
    /// A pool releases what its own incarnation owns and no slot runs.
    pub orphans: bool,
    /// Training kills the process, always.
    pub poison: bool,
}

impl Rules {
    pub const fn real(no_progress_max: u32) -> Self {
        let limits = Limits { no_progress_max, blocked_max: Duration::MAX };
        Self { limits, mutant: None, reconciler: true, compares: true, orphans: true, poison: false }
    }

    pub fn transition(&self, record: &TaskRecord, input: &Input, moment: &Moment) -> Result<Next, Refused> {
        let Some(mutant) = self.mutant else { return transition(record, input, moment) };
        let next = transition(record, &mutant.heard(record, input), moment)?;
        Ok(if mutant == Mutant::CountedAtTheEnd { counted_at_the_end(record, input, next) } else { next })
    }

    pub fn landed(&self, read: &TaskRecord, write: &Write) -> bool {
        let landed = landed(read, write.op_id(), &write.input);
        match (self.mutant, &*write.input) {
            (Some(Mutant::FenceByAttemptOnly), Input::Claim { .. }) => {
                landed || read.owner.is_some() && read.attempt == write.record.attempt
            }
            (Some(Mutant::LosesTheNewest), Input::LoseCheckpoint { .. }) => read.op_id == write.op_id(),
            _ => landed,
        }
    }
}

impl Mutant {
    /// The input as the mistaken `transition` takes it.
    fn heard(self, record: &TaskRecord, input: &Input) -> Input {
        let (Some(fence), Some(current)) = (fence_of(input), record.fence()) else { return input.clone() };
        match (self, input) {
            (Self::NoFence, _) | (Self::CheckpointUnfenced, Input::SaveCheckpoint { .. }) => with_fence(input, current),
            (Self::FenceByAttemptOnly, _) if fence.attempt == current.attempt => with_fence(input, current),
            (Self::LosesTheNewest, Input::LoseCheckpoint { lost, why, n, .. }) => {
                let lost = record.newest_checkpoint().map_or(*lost, |newest| newest.artifact);
                Input::LoseCheckpoint { fence, lost, why: why.clone(), n: *n }
            }
            _ => input.clone(),
        }
    }
}

fn counted_at_the_end(record: &TaskRecord, input: &Input, mut next: Next) -> Next {
    match input {
        Input::Claim { .. } | Input::Reap { .. } => next.record.no_progress = record.no_progress,
        Input::EndAttempt { failure, .. } => {
            next.record.no_progress = record.no_progress + u32::from(failure.kind == FailureKind::Crashed);
        }
        _ => {}
    }
    next
}

/// The fence of an input that needs one.
pub fn fence_of(input: &Input) -> Option<Fence> {
    match input {
        Input::Start { fence, .. }
        | Input::SaveCheckpoint { fence, .. }
        | Input::LoseCheckpoint { fence, .. }
        | Input::Finish { fence, .. }
        | Input::EndAttempt { fence, .. }
        | Input::Reap { fence, .. }
        | Input::ConfirmCancel { fence } => Some(*fence),
        Input::Claim { .. } | Input::RequestCancel | Input::Announce => None,
    }
}

fn with_fence(input: &Input, current: Fence) -> Input {
    let mut input = input.clone();
    match &mut input {
        Input::Start { fence, .. }
        | Input::SaveCheckpoint { fence, .. }
        | Input::LoseCheckpoint { fence, .. }
        | Input::Finish { fence, .. }
        | Input::EndAttempt { fence, .. }
        | Input::Reap { fence, .. }
        | Input::ConfirmCancel { fence } => *fence = current,
        Input::Claim { .. } | Input::RequestCancel | Input::Announce => {}
    }
    input
}
