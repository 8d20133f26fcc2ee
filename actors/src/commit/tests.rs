//! Decisions reach the store exactly once, whatever becomes of calls and replies.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;

use super::*;
use crate::{
    ports::{Inserted, ListCursor, TaskFilter, TaskPage},
    task::{Checkpoint, Fence},
    testing::{
        faulty::{Faults, FaultyLog},
        test_tree::World,
    },
};

mod inputs;

use inputs::{claim, end, finish, lose, reap, save, start};

/// What the next compare-and-set meets with.
#[derive(Clone, Debug)]
enum Fate {
    /// It does not happen, and looks so.
    Fail,
    /// It happens, and looks as if it had not.
    LoseReply,
    /// It looks as if it had not happened until it is tried again: then it comes first.
    Late,
    /// Whoever carries it does it twice.
    Twice,
    /// It happens, its reply is lost, and others write before anybody looks.
    LoseReplyThen(Vec<Input>),
    /// Others are faster.
    Overtake(Vec<Input>),
    Reject,
}

/// A task store with scripted fates.
struct Scripted {
    inner: Arc<dyn TaskStore>,
    fates: Mutex<Vec<Fate>>,
    unread: Faults,
    late: Mutex<Option<(TaskRecord, Vec<TaskEvent>)>>,
}

impl Scripted {
    fn fate(&self) -> Option<Fate> {
        self.fates.lock().unwrap().pop()
    }

    fn reader(&self) -> Result<&dyn TaskStore, PortError> {
        if self.unread.take() { Err(away()) } else { Ok(self.inner.as_ref()) }
    }

    /// Somebody else makes the inputs happen.
    async fn others(&self, id: TaskId, inputs: &[Input]) {
        for input in inputs {
            let record = self.inner.get(id).await.unwrap().unwrap();
            let next = transition(&record, input, &moment(&record)).expect("the input is taken");
            assert_eq!(self.inner.compare_and_set(&next.record, &next.facts).await, Ok(Cas::Applied));
        }
    }
}

fn moment(record: &TaskRecord) -> Moment {
    Moment { now: record.updated_at, op_id: Uuid::new_v4(), limits: Limits::default() }
}

fn away() -> PortError {
    PortError::Unavailable("scripted".to_owned())
}

#[async_trait]
impl TaskStore for Scripted {
    async fn insert(&self, record: &TaskRecord, facts: &[TaskEvent]) -> Result<Inserted, PortError> {
        self.inner.insert(record, facts).await
    }

    async fn compare_and_set(&self, next: &TaskRecord, facts: &[TaskEvent]) -> Result<Cas, PortError> {
        let late = self.late.lock().unwrap().take();
        if let Some((next, facts)) = late {
            assert_eq!(self.inner.compare_and_set(&next, &facts).await, Ok(Cas::Applied));
        }
        match self.fate() {
            Some(Fate::Late) => {
                *self.late.lock().unwrap() = Some((next.clone(), facts.to_vec()));
                Err(away())
            }
            Some(Fate::Twice) => {
                self.inner.compare_and_set(next, facts).await?;
                self.inner.compare_and_set(next, facts).await
            }
            None => self.inner.compare_and_set(next, facts).await,
            Some(Fate::Fail) => Err(away()),
            Some(Fate::Reject) => Err(PortError::Rejected("scripted".to_owned())),
            Some(Fate::LoseReply) => {
                self.inner.compare_and_set(next, facts).await?;
                Err(away())
            }
            Some(Fate::LoseReplyThen(inputs)) => {
                assert_eq!(self.inner.compare_and_set(next, facts).await, Ok(Cas::Applied));
                self.others(next.id, &inputs).await;
                Err(away())
            }
            Some(Fate::Overtake(inputs)) => {
                self.others(next.id, &inputs).await;
                self.inner.compare_and_set(next, facts).await
            }
        }
    }

    async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.reader()?.get(id).await
    }

    async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        self.reader()?.get_settled(id).await
    }

    async fn list(&self, filter: &TaskFilter, after: Option<ListCursor>, limit: usize) -> Result<TaskPage, PortError> {
        self.inner.list(filter, after, limit).await
    }

    async fn queue(&self, states: &[TaskState], limit: usize) -> Result<Vec<TaskRecord>, PortError> {
        self.inner.queue(states, limit).await
    }

    async fn counts(&self) -> Result<HashMap<TaskState, u64>, PortError> {
        self.inner.counts().await
    }

    async fn delete(&self, id: TaskId) -> Result<(), PortError> {
        self.inner.delete(id).await
    }
}

/// One stored task, a committer, and what stands between them.
struct Bench {
    store: Arc<Scripted>,
    log: Arc<FaultyLog>,
    committer: Committer,
    metrics: Arc<Metrics>,
    id: TaskId,
}

impl Bench {
    async fn new() -> Self {
        let mut ports = World::new().ports;
        let store = Arc::new(Scripted {
            inner: ports.tasks,
            fates: Mutex::default(),
            unread: Faults::default(),
            late: Mutex::default(),
        });
        let log = Arc::new(FaultyLog::new(ports.events));
        (ports.tasks, ports.events) = (store.clone(), log.clone());
        let metrics = Arc::new(Metrics::new());
        let record = inputs::submitted(ports.clock.now());
        assert_eq!(store.insert(&record, &[]).await, Ok(Inserted::Fresh));
        let committer = Committer::new(&ports, Limits::default(), metrics.clone());
        Self { store, log, committer, metrics, id: record.id }
    }

    /// Claimed, with checkpoints of steps 5 and 9.
    async fn running() -> (Self, Fence) {
        let bench = Self::new().await;
        let record = bench.must(claim(1)).await;
        let fence = record.fence().unwrap();
        bench.must(save(bench.id, fence, 5)).await;
        bench.must(save(bench.id, fence, 9)).await;
        (bench, fence)
    }

    async fn must(&self, input: Input) -> TaskRecord {
        self.committer.commit(self.id, &input).await.expect("the input is taken").record
    }

    async fn record(&self) -> TaskRecord {
        self.store.inner.get(self.id).await.unwrap().unwrap()
    }

    async fn newest(&self) -> Checkpoint {
        *self.record().await.newest_checkpoint().unwrap()
    }

    /// The first of `fates` comes first.
    fn fated(&self, fates: impl IntoIterator<Item = Fate>) {
        let mut fates: Vec<Fate> = fates.into_iter().collect();
        fates.reverse();
        *self.store.fates.lock().unwrap() = fates;
    }

    async fn facts(&self) -> Vec<TaskEvent> {
        self.log.read_task(self.id, None, usize::MAX).await.unwrap()
    }

    fn fenced(&self) -> u64 {
        let labels = crate::metrics::FENCED_OPERATIONS;
        labels.iter().map(|label| self.metrics.fenced.with_label_values(&[label]).get()).sum()
    }
}

mod announcing;
mod deciding;
mod replies;
