//! An attempt's own facts: numbered without holes, each durable before the next is told.

use super::{Attempt, Halt, port_failure};
use crate::{
    event::{EventKind, Seq, TaskEvent},
    task::TaskId,
    timestamp::Timestamp,
};

/// Numbers the attempt's facts. One whose write has an unknown outcome is kept, to be written again before any other.
pub struct Teller {
    task: TaskId,
    attempt: u32,
    next_n: u64,
    unconfirmed: Option<TaskEvent>,
    last_step: u64,
    cancel_told: bool,
}

impl Teller {
    pub fn new(task: TaskId, attempt: u32, next_n: u64) -> Self {
        Self { task, attempt, next_n, unconfirmed: None, last_step: 0, cancel_told: false }
    }

    pub fn next_n(&self) -> u64 {
        self.next_n
    }

    /// `facts` were written by a transition.
    pub fn told(&mut self, facts: usize) {
        self.next_n += facts as u64;
    }

    fn fact(&mut self, at: Timestamp, kind: EventKind) -> TaskEvent {
        let fact = TaskEvent { task: self.task, seq: Seq::new(self.attempt, self.next_n), at, kind };
        self.next_n += 1;
        self.unconfirmed = Some(fact.clone());
        fact
    }
}

impl Attempt {
    /// Tells how far training is, if it got further. While the log is away, progress is not told.
    pub(super) async fn tell_progress(&mut self) {
        let progress = self.control.progress();
        if progress.step == self.teller.last_step || progress.step <= self.record.resume_step() {
            return;
        }
        if let Some(fact) = self.teller.unconfirmed.clone()
            && self.write(fact).await.is_err()
        {
            return;
        }
        let fact = self.teller.fact(self.context.ports.clock.now(), EventKind::Progress(progress));
        self.teller.last_step = progress.step;
        // Kept as unconfirmed.
        let _ = self.write(fact).await;
    }

    /// Tells once that the cancellation was heard.
    pub(super) async fn tell_cancel_requested(&mut self) {
        if self.teller.cancel_told || self.confirm_told().await.is_err() {
            return;
        }
        self.teller.cancel_told = true;
        let fact = self.teller.fact(self.context.ports.clock.now(), EventKind::CancelRequested);
        let _ = self.write(fact).await;
    }

    /// Waits, with patience, until everything told is in the log.
    pub(super) async fn confirm_told(&mut self) -> Result<(), Halt> {
        if let Some(fact) = self.teller.unconfirmed.clone() {
            self.context.committer.append(&[fact]).await.map_err(|error| Halt::Ended(port_failure(&error)))?;
            self.teller.unconfirmed = None;
        }
        Ok(())
    }

    async fn write(&mut self, fact: TaskEvent) -> Result<(), ()> {
        match self.context.ports.events.append(&[fact]).await {
            Ok(()) => {
                self.teller.unconfirmed = None;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(task = %self.record.id, %error, "fact not written yet");
                Err(())
            }
        }
    }
}
