//! Finds what fell between: tasks whose owner is dead, ends that nobody announced.
//!
//! Hears: `ScanDue` from itself, at once when it starts and once a lease after that; `RetentionDue`, once an hour.
//! Asks: nobody; scans the store. Tells: the bus, about tasks that are free again. Counts tasks by state on the way.
//! If it dies: nothing is lost; its successor scans at once.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::{
    commit::CommitError,
    context::Context,
    handle::{Handle, Mail},
    metrics::ActorKind,
    ports::{Hint, PortError},
    retention,
    task::{Incarnation, TaskRecord, TaskState},
    transition::{Input, Next},
};

pub type Reconciler = Handle<Msg>;

/// Tasks looked at in one scan; the next scan sees the rest.
const PAGE: usize = 1_000;
/// Counting is cheap and dashboards are read by people.
const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(1);

pub enum Msg {
    ScanDue,
    RetentionDue,
}

/// Whether an owner is known to be dead. Safety never depends on the answer; a wrong one wastes work.
pub trait Liveness: Send + Sync {
    fn is_dead(&self, owner: &Incarnation) -> bool;
}

/// For a node that holds the only lock on its stores: every other incarnation is dead.
pub struct SoleNode(pub Incarnation);

impl Liveness for SoleNode {
    fn is_dead(&self, owner: &Incarnation) -> bool {
        *owner != self.0
    }
}

pub struct Scanner {
    pub context: Arc<Context>,
    pub liveness: Arc<dyn Liveness>,
}

impl Actor for Scanner {
    type Msg = Mail<Msg>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Mail<Msg>>, (): ()) -> Result<(), ActorProcessingErr> {
        for first in [Msg::ScanDue, Msg::RetentionDue] {
            // A failed cast means that the actor has ended.
            let _ = myself.send_message(Mail::own(first));
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<Msg>>,
        mail: Mail<Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = mail.open(ActorKind::Reconciler, &self.context.metrics);
        match message {
            Msg::ScanDue => self.scan_due(&myself).await,
            Msg::RetentionDue => self.retention_due(myself),
        }
        Ok(())
    }
}

impl Scanner {
    async fn scan_due(&self, myself: &ActorRef<Mail<Msg>>) {
        if let Err(error) = self.scan().await {
            tracing::warn!(%error, "cannot scan the task store");
        }
        myself.send_after(self.context.settings.lease.min(SCAN_INTERVAL_MAX), || Mail::own(Msg::ScanDue));
    }

    /// Takes its time, so not in the mailbox.
    fn retention_due(&self, myself: ActorRef<Mail<Msg>>) {
        let context = self.context.clone();
        tokio::spawn(async move {
            if let Err(error) = retention::apply(&context).await {
                tracing::warn!(%error, "old tasks and facts not removed yet");
            }
            myself.send_after(retention::INTERVAL, || Mail::own(Msg::RetentionDue));
        });
    }

    async fn scan(&self) -> Result<(), PortError> {
        let tasks = &self.context.ports.tasks;
        for (state, count) in tasks.counts().await? {
            self.context.metrics.tasks.with_label_values(&[state.as_str()]).set(count as i64);
        }
        let unfinished = [TaskState::Running, TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled];
        let mut log_answers = true;
        for record in tasks.queue(&unfinished, PAGE).await? {
            if record.state.is_terminal() {
                // Each announcement is patient: one that waited in vain for the log is enough for this scan.
                log_answers = log_answers && self.announce(&record).await;
            } else if record.owner.as_ref().is_some_and(|owner| self.liveness.is_dead(&owner.incarnation)) {
                self.reap(record).await?;
            }
        }
        Ok(())
    }

    /// An error means that the store is away: whoever is next would wait for it as long.
    async fn reap(&self, record: TaskRecord) -> Result<(), PortError> {
        let Some(fence) = record.fence() else { return Ok(()) };
        let why = format!("{} is gone", record.worker_id.as_deref().unwrap_or("its worker"));
        match self.context.committer.commit_from(record, &Input::Reap { fence, why }).await {
            Ok(Next { record, .. }) if record.state.is_terminal() => {
                self.announce(&record).await;
            }
            Ok(Next { record, .. }) => {
                tracing::info!(task = %record.id, attempt = record.attempt, "released: its worker is gone");
                self.context.ports.bus.publish(Hint { task: record.id });
            }
            // Somebody else was faster.
            Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => {}
            Err(CommitError::Port(error)) => return Err(error),
        }
        Ok(())
    }

    /// `false` when the log or the store did not answer.
    async fn announce(&self, record: &TaskRecord) -> bool {
        match self.context.committer.announce(record).await {
            Ok(()) | Err(CommitError::Refused(_) | CommitError::NoSuchTask(_)) => true,
            Err(CommitError::Port(error)) => {
                tracing::warn!(task = %record.id, %error, "end not announced yet");
                false
            }
        }
    }
}
