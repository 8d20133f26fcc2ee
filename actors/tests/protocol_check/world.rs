//! What exists in a checked world: one task's record, two workers, a hint, a write of the dead that may still arrive.

use std::sync::Arc;

use kubeml_actors::{
    event::{Seq, TaskEvent},
    task::{Fence, Incarnation, Submission, TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
    transition::{Input, Limits, Moment, Next},
};
use kubeml_spec::Draft;
use uuid::Uuid;

use crate::invariants::Broken;

/// The one epoch has two steps; a checkpoint may also be taken between them.
pub const STEPS: u64 = 2;
/// Nothing here waits: time stands still.
pub const NOW: Timestamp = Timestamp(0);

/// How often each thing may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Processes and pools that die, attempts that end in error or by a drain.
    pub crashes: u8,
    /// Leases that are taken for expired though their holder lives.
    pub steals: u8,
    /// Requests or replies of the store that are lost.
    pub losses: u8,
    /// Stored checkpoints that turn out damaged.
    pub damages: u8,
    /// People who cancel the task.
    pub cancels: u8,
}

#[derive(Clone, Debug)]
pub struct World {
    pub record: Arc<TaskRecord>,
    pub hint: bool,
    pub workers: [Worker; 2],
    /// Sent by a process or pool that is dead by now; it may arrive yet.
    pub late: Option<Write>,
    pub budget: Budget,
    pub ledger: Ledger,
    /// The first promise that the way here has broken.
    pub broken: Option<Broken>,
    names_given: u128,
}

/// What the checker remembers and no process knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// Attempts in a row that were charged and have brought no checkpoint.
    pub tries: u32,
    /// The number that the running attempt's next fact must have.
    pub next_n: u64,
    /// What the terminal fact said.
    pub published: Option<TaskState>,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub incarnation: Arc<Incarnation>,
    pub slot: Slot,
}

#[derive(Clone, Debug)]
pub enum Slot {
    Idle,
    /// The write is on its way. Before the claim has come through there is no attempt.
    Writing(Write, Option<Attempt>),
    /// No reply came.
    Unsure(Write, Option<Attempt>),
    Training(Attempt),
    /// The task has ended here; the terminal fact is to be published.
    Ending,
}

/// A compare-and-set of the record that was decided on.
#[derive(Clone, Debug)]
pub struct Write {
    pub input: Arc<Input>,
    pub record: Arc<TaskRecord>,
    pub facts: Arc<[TaskEvent]>,
}

impl Write {
    pub fn new(input: Arc<Input>, next: Next) -> Self {
        Self { input, record: Arc::new(next.record), facts: next.facts.into() }
    }

    pub fn op_id(&self) -> Uuid {
        self.record.op_id
    }

    /// Whether the stored record is still of the version that this was decided on.
    pub fn is_fresh(&self, stored: &TaskRecord) -> bool {
        self.record.version == stored.version + 1
    }
}

/// What a trainer knows of the attempt that it believes to hold.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub fence: Fence,
    pub started: bool,
    /// Trained up to here.
    pub step: u64,
    /// Checkpointed up to here.
    pub saved: u64,
    pub epoch_closed: bool,
    /// Told to checkpoint and let go.
    pub draining: bool,
    /// The number of its next fact.
    pub n: u64,
}

impl Attempt {
    /// The attempt that `record` has just been claimed for, or goes on with after a checkpoint was lost.
    pub fn of(record: &TaskRecord, fence: Fence, n: u64) -> Self {
        let step = record.resume_step();
        let epoch_closed = record.newest_checkpoint().is_some_and(|newest| newest.epochs == 1);
        Self { fence, started: false, step, saved: step, epoch_closed, draining: false, n }
    }
}

impl World {
    /// A task has just been submitted.
    pub fn new(budget: Budget) -> Self {
        let draft = Draft::new("mlp").with("epochs", 1);
        let spec = draft.build().expect("the draft is good");
        let id = TaskId(Uuid::from_u128(1));
        let submission = Submission { id, name: None, tags: Vec::new(), priority: 0, retry_of: None, spec };
        let worker = |node: &str| Worker {
            incarnation: Arc::new(Incarnation { node: node.to_owned(), boot: Uuid::nil() }),
            slot: Slot::Idle,
        };
        Self {
            record: Arc::new(TaskRecord::submitted(submission, Uuid::nil(), NOW)),
            hint: true,
            workers: [worker("a"), worker("b")],
            late: None,
            budget,
            ledger: Ledger { next_n: Seq::QUEUED.n() + 1, ..Ledger::default() },
            broken: None,
            names_given: 0,
        }
    }

    /// An id that this world has not seen.
    pub fn fresh_id(&mut self) -> Uuid {
        self.names_given += 1;
        Uuid::from_u128(self.names_given)
    }

    pub fn is_settled(&self) -> bool {
        self.record.state.is_terminal() && self.record.announced
    }

    /// The worker that holds the running task, and whether its process is still the one that claimed it.
    pub fn owner(&self) -> Option<(usize, bool)> {
        let owner = self.record.owner.as_ref()?;
        let index = self.workers.iter().position(|worker| worker.incarnation.node == owner.incarnation.node)?;
        Some((index, *self.workers[index].incarnation == owner.incarnation))
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let record = &self.record;
        let holder = record.owner.as_ref().map_or("nobody", |owner| owner.incarnation.node.as_str());
        format!(
            "{} attempt {} of {holder}, step {}, no_progress {}{}",
            record.state,
            record.attempt,
            record.resume_step(),
            record.no_progress,
            if record.announced { ", announced" } else { "" }
        )
    }
}

pub fn moment(op_id: Uuid, limits: Limits) -> Moment {
    Moment { now: NOW, op_id, limits }
}
