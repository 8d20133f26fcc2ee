//! The way in for people: submit, cancel, get, list.
//!
//! Hears: `Submit`, `Cancel`, `Get`, `List` from HTTP and CLI. Asks: nobody; reads and writes the task store.
//! Tells: the bus (hints), the cache warmer (what will be needed), the trainer pool (a cancel to be seen at once).
//! If it dies: what it had begun goes on in its own tasks; who asked asks again, which is safe: a submission carries its id.

use std::{sync::Arc, time::Duration};

use kubeml_spec::DEFAULT_DATASET;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use uuid::Uuid;

use crate::{
    cache_warmer::CacheWarmer,
    commit::CommitError,
    context::Context,
    event::{EventKind, Seq, TaskEvent},
    handle::{AskError, Handle, Mail},
    metrics::ActorKind,
    ports::{Hint, Inserted, ListCursor, PortError, TaskFilter, TaskPage},
    task::{Submission, TaskId, TaskRecord, TaskState},
    trainer_pool::TrainerPool,
    transition::{Input, Refused},
};

#[cfg(test)]
mod tests;

pub type TaskDispatcher = Handle<Msg>;

const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    Fresh(Box<TaskRecord>),
    /// The same was submitted before under the same id.
    Again(Box<TaskRecord>),
}

impl Submitted {
    pub fn record(&self) -> &TaskRecord {
        match self {
            Self::Fresh(record) | Self::Again(record) => record,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    #[error("there is no task {0}")]
    NoSuchTask(TaskId),
    #[error("task {0} has ended: it is {1}")]
    Ended(TaskId, TaskState),
    #[error("the id of task {0} was used for another submission")]
    IdTaken(TaskId),
    #[error("{0} tasks are waiting, which is the limit; try again later")]
    QueueFull(u64),
    #[error("{0}")]
    Store(PortError),
    #[error("{0}")]
    Ask(#[from] AskError),
}

impl From<PortError> for DispatchError {
    fn from(error: PortError) -> Self {
        Self::Store(error)
    }
}

type Reply<T> = RpcReplyPort<Result<T, DispatchError>>;

impl TaskDispatcher {
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, DispatchError> {
        self.insist(TIMEOUT, |reply| Msg::Submit { submission: Box::new(submission.clone()), reply }).await?
    }

    pub async fn cancel(&self, id: TaskId) -> Result<TaskRecord, DispatchError> {
        self.insist(TIMEOUT, |reply| Msg::Cancel { id, reply }).await?
    }

    pub async fn get(&self, id: TaskId) -> Result<TaskRecord, DispatchError> {
        self.insist(TIMEOUT, |reply| Msg::Get { id, reply }).await?
    }

    pub async fn list(
        &self,
        filter: TaskFilter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<TaskPage, DispatchError> {
        self.insist(TIMEOUT, |reply| Msg::List { filter: filter.clone(), after, limit, reply }).await?
    }
}

pub enum Msg {
    Submit { submission: Box<Submission>, reply: Reply<Submitted> },
    Cancel { id: TaskId, reply: Reply<TaskRecord> },
    Get { id: TaskId, reply: Reply<TaskRecord> },
    List { filter: TaskFilter, after: Option<ListCursor>, limit: usize, reply: Reply<TaskPage> },
}

pub struct Dispatcher {
    pub context: Arc<Context>,
    pub warmer: CacheWarmer,
    /// This node's own, if it has trainers.
    pub pool: Option<TrainerPool>,
}

impl Actor for Dispatcher {
    type Msg = Mail<Msg>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Mail<Msg>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Mail<Msg>>, mail: Mail<Msg>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let (message, permit) = mail.open(ActorKind::TaskDispatcher, &self.context.metrics);
        let desk = Desk { context: self.context.clone(), warmer: self.warmer.clone(), pool: self.pool.clone() };
        tokio::spawn(async move {
            let _permit = permit;
            match message {
                Msg::Submit { submission, reply } => answer(reply, desk.submit(*submission).await),
                Msg::Cancel { id, reply } => {
                    let outcome = desk.cancel(id).await;
                    let cancelled = outcome.as_ref().ok().cloned();
                    answer(reply, outcome);
                    if let Some(record) = cancelled {
                        desk.carry_out_cancel(&record).await;
                    }
                }
                Msg::Get { id, reply } => answer(reply, desk.get(id).await),
                Msg::List { filter, after, limit, reply } => answer(reply, desk.list(&filter, after, limit).await),
            }
        });
        Ok(())
    }
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, DispatchError>) {
    // Who asked may have stopped waiting.
    let _ = reply.send(outcome);
}

/// Where one question is worked on, so that a slow store holds up nobody else.
struct Desk {
    context: Arc<Context>,
    warmer: CacheWarmer,
    pool: Option<TrainerPool>,
}

impl Desk {
    async fn submit(&self, submission: Submission) -> Result<Submitted, DispatchError> {
        let ports = &self.context.ports;
        let record = TaskRecord::submitted(submission, Uuid::new_v4(), ports.clock.now());
        let queued = TaskEvent { task: record.id, seq: Seq::QUEUED, at: record.created_at, kind: EventKind::Queued };
        self.admit(record.id).await?;
        match ports.tasks.insert(&record, &[queued]).await? {
            Inserted::Fresh => {
                ports.bus.publish(Hint::of(&record));
                self.warm_ahead(&record);
                Ok(Submitted::Fresh(Box::new(record)))
            }
            Inserted::Exists(existing) if existing.asks_the_same_as(&record) => Ok(Submitted::Again(existing)),
            Inserted::Exists(existing) => Err(DispatchError::IdTaken(existing.id)),
        }
    }

    /// Turns a new task away when too many wait; what is stored already is no new task.
    async fn admit(&self, id: TaskId) -> Result<(), DispatchError> {
        let tasks = &self.context.ports.tasks;
        let limit = self.context.settings.queue_max;
        let waiting = tasks.counts().await?.get(&TaskState::Pending).copied().unwrap_or(0);
        if waiting >= limit && tasks.get(id).await?.is_none() {
            return Err(DispatchError::QueueFull(limit));
        }
        Ok(())
    }

    /// The default dataset may turn out to be the built-in one; then there is nothing to warm.
    fn warm_ahead(&self, record: &TaskRecord) {
        let dataset = &record.spec.dataset();
        if dataset.explicit || dataset.name != DEFAULT_DATASET {
            self.warmer.warm_ahead(dataset.name.clone());
        }
    }

    async fn cancel(&self, id: TaskId) -> Result<TaskRecord, DispatchError> {
        match self.context.committer.commit(id, &Input::RequestCancel).await {
            Ok(next) => Ok(next.record),
            Err(CommitError::Refused(Refused::AlreadySo)) => self.get(id).await,
            Err(CommitError::Refused(_)) => match self.get(id).await? {
                // What was asked for is so, whoever asked: asking again after a lost answer is no mistake.
                record if record.state == TaskState::Cancelled => Ok(record),
                record => Err(DispatchError::Ended(id, record.state)),
            },
            Err(CommitError::NoSuchTask(id)) => Err(DispatchError::NoSuchTask(id)),
            Err(CommitError::Port(error)) => Err(error.into()),
        }
    }

    /// What follows from a cancellation; nobody waits for it, as the log may be away.
    async fn carry_out_cancel(&self, record: &TaskRecord) {
        if record.state.is_terminal() {
            if let Err(error) = self.context.committer.announce(record).await {
                tracing::warn!(task = %record.id, %error, "end not announced yet; the reconciler will");
            }
        } else if let Some(pool) = &self.pool {
            pool.cancel(record.id);
        }
    }

    async fn get(&self, id: TaskId) -> Result<TaskRecord, DispatchError> {
        self.context.ports.tasks.get(id).await?.ok_or(DispatchError::NoSuchTask(id))
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<TaskPage, DispatchError> {
        Ok(self.context.ports.tasks.list(filter, after, limit).await?)
    }
}
