//! How a decision becomes a change of the record, and what its reply makes of the one who asked for it.

use std::sync::Arc;

use kubeml_actors::{
    task::{Fence, Incarnation, TaskRecord, TaskState},
    transition::{Input, Refused},
};
use uuid::Uuid;

use crate::{
    invariants::{HOLDER_REFUSED, broken_by},
    mutants::Rules,
    world::{Attempt, Slot, World, Write, moment},
};

impl World {
    /// Worker `i` reads the record, decides, and sends its write off.
    pub fn begin(&mut self, i: usize, input: Input, attempt: Option<Attempt>, rules: &Rules) {
        let op_id = self.fresh_id();
        self.decide(i, Arc::new(input), op_id, attempt, rules);
    }

    /// Like `begin`; a repetition keeps its `op_id`.
    fn decide(&mut self, i: usize, input: Arc<Input>, op_id: Uuid, attempt: Option<Attempt>, rules: &Rules) {
        self.workers[i].slot = match rules.transition(&self.record, &input, &moment(op_id, rules.limits)) {
            Ok(next) => Slot::Writing(Write::new(input, next), attempt),
            Err(Refused::StaleFence | Refused::Ended | Refused::AlreadyRunning) => Slot::Idle,
            Err(_) => {
                self.broken = Some(HOLDER_REFUSED);
                Slot::Idle
            }
        };
    }

    /// The write of worker `i` arrives and its reply comes back.
    pub fn arrive(&mut self, i: usize, write: &Write, attempt: Option<Attempt>, rules: &Rules) {
        if self.land(write, rules) {
            self.succeed(i, write, attempt, &self.record.clone());
        } else {
            self.decide(i, write.input.clone(), write.op_id(), attempt, rules);
        }
    }

    /// Worker `i`, whose reply was lost, reads the record to see what became of its write.
    pub fn settle(&mut self, i: usize, write: &Write, attempt: Option<Attempt>, rules: &Rules) {
        if rules.landed(&self.record, write) {
            self.succeed(i, write, attempt, &self.record.clone());
        } else {
            self.decide(i, write.input.clone(), write.op_id(), attempt, rules);
        }
    }

    /// Decides and writes in one go: who does this does not wait for its reply, and would be refused a second time.
    pub fn commit(&mut self, input: Input, rules: &Rules) {
        let op_id = self.fresh_id();
        if let Ok(next) = rules.transition(&self.record, &input, &moment(op_id, rules.limits)) {
            self.land(&Write::new(Arc::new(input), next), rules);
        }
    }

    /// The store takes the write, or finds that its version is not the next one.
    pub fn land(&mut self, write: &Write, rules: &Rules) -> bool {
        if rules.compares && !write.is_fresh(&self.record) {
            return false;
        }
        self.broken = self.broken.or(broken_by(&self.record, write, &self.ledger, &rules.limits));
        self.ledger.book(&self.record, write, &rules.limits);
        self.hint |= write.record.state == TaskState::Pending;
        self.record = write.record.clone();
        true
    }

    /// Worker `i` learns that its write is in; `seen` is the record as the news brought it.
    fn succeed(&mut self, i: usize, write: &Write, attempt: Option<Attempt>, seen: &TaskRecord) {
        let facts = write.facts.len() as u64;
        let counted = attempt.map(|attempt| Attempt { n: attempt.n + facts, ..attempt });
        self.workers[i].slot = match (&*write.input, counted) {
            (Input::Claim { owner, .. }, _) if write.record.state == TaskState::Running => {
                let fence = Fence { attempt: write.record.attempt, nonce: owner.nonce };
                Slot::Training(Attempt::of(seen, fence, facts))
            }
            (Input::Start { .. }, Some(attempt)) => Slot::Training(Attempt { started: true, ..attempt }),
            (Input::SaveCheckpoint { checkpoint, finished_epoch, .. }, Some(attempt)) => Slot::Training(Attempt {
                saved: checkpoint.step(),
                epoch_closed: attempt.epoch_closed || finished_epoch.is_some(),
                ..attempt
            }),
            (Input::LoseCheckpoint { .. }, Some(attempt)) => {
                Slot::Training(Attempt::of(seen, attempt.fence, attempt.n))
            }
            _ if seen.state.is_terminal() => Slot::Ending,
            _ => Slot::Idle,
        };
    }

    /// The pool of worker `i` dies, or its whole process. A write that it had sent may arrive yet.
    pub fn kill(&mut self, i: usize, whole_process: bool) {
        if whole_process {
            let node = self.workers[i].incarnation.node.clone();
            self.workers[i].incarnation = Arc::new(Incarnation { node, boot: self.fresh_id() });
        }
        if let Slot::Writing(write, _) = std::mem::replace(&mut self.workers[i].slot, Slot::Idle) {
            self.late = Some(write);
        }
    }
}
