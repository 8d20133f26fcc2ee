//! What of a world decides its future, as bytes: worlds with the same key need to be looked at once only.
//!
//! Ids are numbered in the order in which they are met, attempts are counted back from the record's, of versions only
//! remains whether a write still fits, and the two workers may change places.

use std::cmp::Ordering;

use kubeml_actors::{
    task::{Checkpoint, Incarnation, TaskRecord},
    transition::Input,
};
use uuid::Uuid;

use crate::{
    mutants::fence_of,
    world::{Attempt, Slot, World, Write},
};

pub type Key = Box<[u8]>;

pub fn key(world: &World) -> Key {
    let written = |order| {
        let mut writer = Writer { world, ids: Vec::new(), bytes: Vec::with_capacity(64) };
        writer.world(order);
        writer.bytes
    };
    let rank = |i: usize| (tag(&world.workers[i].slot), world.owner().is_some_and(|(owner, _)| owner == i));
    match rank(0).cmp(&rank(1)) {
        Ordering::Less => written([0, 1]),
        Ordering::Equal => written([0, 1]).min(written([1, 0])),
        Ordering::Greater => written([1, 0]),
    }
    .into_boxed_slice()
}

fn tag(slot: &Slot) -> u8 {
    match slot {
        Slot::Idle => 0,
        Slot::Writing(..) => 1,
        Slot::Unsure(..) => 2,
        Slot::Training(_) => 3,
        Slot::Ending => 4,
    }
}

struct Writer<'a> {
    world: &'a World,
    ids: Vec<Uuid>,
    bytes: Vec<u8>,
}

impl Writer<'_> {
    fn world(&mut self, order: [usize; 2]) {
        let world = self.world;
        self.record(&world.record, order);
        for i in order {
            self.slot(&world.workers[i].slot);
        }
        self.optional(world.late.as_ref(), Self::write);
        let budget = world.budget;
        self.bytes.extend([budget.crashes, budget.steals, budget.losses, budget.damages, budget.cancels]);
        let ledger = world.ledger;
        self.bytes.extend([ledger.tries as u8, ledger.next_n as u8, u8::from(world.hint)]);
        self.bytes.push(ledger.published.map_or(0, |state| 1 + state as u8));
    }

    fn record(&mut self, record: &TaskRecord, order: [usize; 2]) {
        let flags = [record.cancel_requested, record.announced, record.dataset.is_some(), record.result.is_some()];
        self.bytes.extend([record.state as u8, record.attempt.min(2) as u8, record.no_progress as u8]);
        self.bytes.extend(flags.map(u8::from));
        if let (Some(owner), Some((i, is_alive))) = (&record.owner, self.world.owner()) {
            self.bytes.extend([u8::from(order[0] == i), u8::from(is_alive)]);
            self.id(owner.nonce);
        }
        self.bytes.push(record.checkpoints.len() as u8);
        record.checkpoints.iter().for_each(|checkpoint| self.checkpoint(checkpoint));
        self.optional(record.result.as_ref(), |writer, result| writer.attempt_number(result.attempt));
    }

    fn slot(&mut self, slot: &Slot) {
        self.bytes.push(tag(slot));
        match slot {
            Slot::Idle | Slot::Ending => {}
            Slot::Writing(write, attempt) | Slot::Unsure(write, attempt) => {
                self.write(write);
                self.optional(attempt.as_ref(), Self::attempt);
            }
            Slot::Training(attempt) => self.attempt(attempt),
        }
    }

    fn write(&mut self, write: &Write) {
        let record = &self.world.record;
        self.bytes.extend([u8::from(write.is_fresh(record)), u8::from(write.op_id() == record.op_id)]);
        self.attempt_number(write.record.attempt);
        self.optional(fence_of(&write.input).as_ref(), |writer, fence| {
            writer.attempt_number(fence.attempt);
            writer.id(fence.nonce);
        });
        let tag = match &*write.input {
            Input::Claim { owner, .. } => {
                self.id(owner.nonce);
                u8::from(self.is_alive(&owner.incarnation))
            }
            Input::SaveCheckpoint { checkpoint, .. } => {
                self.checkpoint(checkpoint);
                2
            }
            Input::LoseCheckpoint { lost, .. } => {
                self.attempt_number(lost.key.attempt);
                self.bytes.push(lost.key.step as u8);
                3
            }
            Input::EndAttempt { failure, .. } => 16 + failure.kind as u8,
            Input::Start { .. } => 4,
            Input::Finish { .. } => 5,
            Input::Reap { .. } => 6,
            Input::RequestCancel => 7,
            Input::ConfirmCancel { .. } => 8,
            Input::Announce => 9,
        };
        self.bytes.push(tag);
    }

    fn is_alive(&self, incarnation: &Incarnation) -> bool {
        self.world.workers.iter().any(|worker| *worker.incarnation == *incarnation)
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.attempt_number(attempt.fence.attempt);
        self.id(attempt.fence.nonce);
        let flags = [attempt.started, attempt.epoch_closed, attempt.draining];
        self.bytes.extend(flags.map(u8::from));
        self.bytes.extend([attempt.step, attempt.saved, attempt.n].map(|number| number as u8));
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.attempt_number(checkpoint.artifact.key.attempt);
        self.bytes.extend([checkpoint.step() as u8, checkpoint.epochs as u8]);
    }

    fn attempt_number(&mut self, attempt: u32) {
        self.bytes.push(self.world.record.attempt.wrapping_sub(attempt) as u8);
    }

    fn id(&mut self, id: Uuid) {
        let number = self.ids.iter().position(|known| *known == id).unwrap_or(self.ids.len());
        if number == self.ids.len() {
            self.ids.push(id);
        }
        self.bytes.push(number as u8);
    }

    fn optional<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}
