//! Everything that can happen next in a world.

use kubeml_actors::{
    task::{Failure, FailureKind, Owner, TaskState},
    transition::Input,
};

use crate::{
    attempt_inputs::{close_epoch, finish, lose_checkpoint, save, start},
    mutants::Rules,
    world::{Attempt, STEPS, Slot, World},
};

pub struct Move {
    /// The worker that it happens to.
    pub who: Option<usize>,
    pub what: &'static str,
    /// It goes on by itself: no fault, no person, no luck is needed.
    pub is_free: bool,
    pub world: World,
}

pub fn moves(world: &World, rules: &Rules) -> Vec<Move> {
    let mut moves = Moves { world, rules, list: Vec::with_capacity(16) };
    for i in 0..world.workers.len() {
        moves.of_slot(i);
        moves.crashes(i);
    }
    moves.releases();
    moves.outside();
    moves.announcements();
    moves.list
}

struct Moves<'a> {
    world: &'a World,
    rules: &'a Rules,
    list: Vec<Move>,
}

impl Moves<'_> {
    fn free(&mut self, who: impl Into<Option<usize>>, what: &'static str, happens: impl FnOnce(&mut World, &Rules)) {
        self.add(true, who.into(), what, happens);
    }

    fn fault(&mut self, who: impl Into<Option<usize>>, what: &'static str, happens: impl FnOnce(&mut World, &Rules)) {
        self.add(false, who.into(), what, happens);
    }

    fn add(&mut self, is_free: bool, who: Option<usize>, what: &'static str, happens: impl FnOnce(&mut World, &Rules)) {
        let mut world = self.world.clone();
        happens(&mut world, self.rules);
        if self.rules.compares && world.late.as_ref().is_some_and(|late| !late.is_fresh(&world.record)) {
            world.late = None;
        }
        self.list.push(Move { who, what, is_free, world });
    }

    fn of_slot(&mut self, i: usize) {
        match &self.world.workers[i].slot {
            Slot::Idle => self.of_idle(i),
            Slot::Writing(write, attempt) => {
                let (write, attempt) = (write.clone(), *attempt);
                self.free(i, "its write arrives", |world, rules| world.arrive(i, &write, attempt, rules));
                if self.world.budget.losses > 0 {
                    let unsure = Slot::Unsure(write.clone(), attempt);
                    self.fault(i, "its write is lost", |world, _| {
                        world.budget.losses -= 1;
                        world.workers[i].slot = unsure.clone();
                    });
                    self.fault(i, "its write arrives, the reply is lost", |world, rules| {
                        world.budget.losses -= 1;
                        world.land(&write, rules);
                        world.workers[i].slot = unsure;
                    });
                }
            }
            Slot::Unsure(write, attempt) => {
                self.free(i, "reads what became of its write", |world, rules| world.settle(i, write, *attempt, rules));
            }
            Slot::Training(attempt) => self.of_attempt(i, *attempt),
            Slot::Ending => self.of_ending(i),
        }
    }

    fn of_idle(&mut self, i: usize) {
        let is_pending = self.world.record.state == TaskState::Pending;
        let claim = |world: &mut World, rules: &Rules| {
            let owner = Owner { incarnation: (*world.workers[i].incarnation).clone(), nonce: world.fresh_id() };
            world.begin(i, Input::Claim { owner, worker_id: String::new() }, None, rules);
        };
        if is_pending && self.rules.reconciler {
            self.free(i, "scans and claims", claim);
        }
        if is_pending && self.world.hint {
            self.fault(i, "hears a duplicate of the hint and claims", claim);
        }
        if self.world.hint {
            self.free(i, "hears the hint", |world, rules| {
                world.hint = false;
                if is_pending {
                    claim(world, rules);
                }
            });
        }
    }

    fn of_attempt(&mut self, i: usize, attempt: Attempt) {
        let record = &self.world.record;
        if record.cancel_requested && record.holds(attempt.fence) {
            let input = Input::ConfirmCancel { fence: attempt.fence };
            self.asks(i, "sees the cancel flag", attempt, input);
        }
        match attempt {
            Attempt { draining: true, .. } => self.of_draining(i, attempt),
            Attempt { started: false, .. } => self.of_starting(i, attempt),
            _ if self.rules.poison => self.free(i, "is killed by the training", |world, _| world.kill(i, true)),
            _ => self.of_training(i, attempt),
        }
        if self.world.budget.crashes > 0 && !self.rules.poison {
            self.fault(i, "fails", |world, rules| {
                world.budget.crashes -= 1;
                world.begin(i, end(attempt, FailureKind::Crashed), Some(attempt), rules);
            });
            if !attempt.draining {
                self.fault(i, "is told to drain", |world, _| {
                    world.budget.crashes -= 1;
                    world.workers[i].slot = Slot::Training(Attempt { draining: true, ..attempt });
                });
            }
        }
    }

    fn of_draining(&mut self, i: usize, attempt: Attempt) {
        if attempt.step > attempt.saved {
            self.asks(i, "saves before it lets go", attempt, save(&self.world.record, &attempt));
        } else {
            self.asks(i, "lets go", attempt, end(attempt, FailureKind::Drained));
        }
    }

    fn of_starting(&mut self, i: usize, attempt: Attempt) {
        self.asks(i, "starts", attempt, start(&attempt));
        let damaged = self.world.record.newest_checkpoint().filter(|_| self.world.record.holds(attempt.fence));
        if let (Some(checkpoint), true) = (damaged, self.world.budget.damages > 0) {
            let input = lose_checkpoint(&attempt, checkpoint);
            self.fault(i, "finds the checkpoint damaged", |world, rules| {
                world.budget.damages -= 1;
                world.begin(i, input, Some(attempt), rules);
            });
        }
    }

    fn of_training(&mut self, i: usize, attempt: Attempt) {
        let at_the_end = attempt.step == STEPS;
        if !at_the_end {
            self.free(i, "trains a step", |world, _| {
                world.workers[i].slot = Slot::Training(Attempt { step: attempt.step + 1, ..attempt });
            });
        }
        if !at_the_end && attempt.step > attempt.saved {
            self.asks(i, "saves a checkpoint", attempt, save(&self.world.record, &attempt));
        }
        if at_the_end && !attempt.epoch_closed {
            self.asks(i, "saves the epoch's checkpoint", attempt, close_epoch(&self.world.record, &attempt));
        }
        if at_the_end && attempt.epoch_closed {
            self.asks(i, "finishes", attempt, finish(&self.world.record, &attempt));
        }
    }

    fn asks(&mut self, i: usize, what: &'static str, attempt: Attempt, input: Input) {
        self.free(i, what, |world, rules| world.begin(i, input, Some(attempt), rules));
    }

    fn of_ending(&mut self, i: usize) {
        if self.world.is_settled() {
            self.free(i, "finds the end announced", |world, _| world.workers[i].slot = Slot::Idle);
        } else if self.world.ledger.published.is_some() {
            self.free(i, "announces the end", |world, rules| {
                world.commit(Input::Announce, rules);
                world.workers[i].slot = Slot::Idle;
            });
        } else {
            self.free(i, "publishes the end", |world, _| world.publish());
        }
    }

    fn crashes(&mut self, i: usize) {
        let is_idle = matches!(self.world.workers[i].slot, Slot::Idle);
        if self.world.budget.crashes == 0 {
            return;
        }
        if !is_idle || self.world.owner() == Some((i, true)) {
            self.fault(i, "its process dies", |world, _| {
                world.budget.crashes -= 1;
                world.kill(i, true);
            });
        }
        if !is_idle {
            self.fault(i, "its pool dies", |world, _| {
                world.budget.crashes -= 1;
                world.kill(i, false);
            });
        }
    }

    fn releases(&mut self) {
        let (Some((i, is_alive)), Some(fence)) = (self.world.owner(), self.world.record.fence()) else { return };
        let release = |world: &mut World, rules: &Rules| world.commit(Input::Reap { fence, why: String::new() }, rules);
        if !is_alive {
            self.free(i, "is dead: a reaper releases its task", release);
            return;
        }
        if self.rules.orphans && matches!(self.world.workers[i].slot, Slot::Idle) {
            self.free(i, "releases the orphan", release);
        }
        if self.world.budget.steals > 0 {
            self.fault(i, "is taken for dead: a reaper releases its task", |world, rules| {
                world.budget.steals -= 1;
                release(world, rules);
            });
        }
    }

    fn outside(&mut self) {
        if let Some(late) = &self.world.late {
            self.fault(None, "a write of the dead arrives", |world, rules| {
                world.late = None;
                world.land(late, rules);
            });
        }
        if self.world.hint {
            self.fault(None, "the hint is lost", |world, _| world.hint = false);
        }
        let record = &self.world.record;
        if self.world.budget.cancels > 0 && !record.state.is_terminal() && !record.cancel_requested {
            self.fault(None, "somebody cancels", |world, rules| {
                world.budget.cancels -= 1;
                world.commit(Input::RequestCancel, rules);
            });
        }
    }

    fn announcements(&mut self) {
        if !self.rules.reconciler || !self.world.record.state.is_terminal() || self.world.is_settled() {
            return;
        }
        self.free(None, "the reconciler publishes the end", |world, _| world.publish());
        if self.world.ledger.published.is_some() {
            self.free(None, "the reconciler announces the end", |world, rules| world.commit(Input::Announce, rules));
        }
    }
}

fn end(attempt: Attempt, kind: FailureKind) -> Input {
    let failure = Failure::new(kind, "");
    Input::EndAttempt { fence: attempt.fence, failure, retry_after: std::time::Duration::ZERO }
}

impl World {
    fn publish(&mut self) {
        self.broken = self.ledger.publish(&self.record);
    }
}
