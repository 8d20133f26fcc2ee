//! The task's own row: one record, and the facts of the transition that made it.
//!
//! The row is its own outbox. Facts go from there to the facts' tables after the write that made them; if the process
//! dies in between, they are still there, and whoever writes the next version takes them along.

use std::sync::{Arc, OnceLock};

use kubeml_actors::{
    event::TaskEvent,
    ports::PortError,
    task::{TaskId, TaskRecord, TaskState},
};

use super::{
    facts::{Fact, Facts},
    memory::Memory,
    places::signed,
    query::{Kind, Query},
    session::Session,
};
use crate::codec;

const GET_SETTLED: Query = Query::new(Kind::SettledRead, "SELECT record FROM $.task WHERE task_id = ?");
const ROW: Query = Query::read("SELECT version, record, facts FROM $.task WHERE task_id = ?");
const INSERT: Query =
    Query::swap("INSERT INTO $.task (task_id, version, record, facts) VALUES (?, ?, ?, ?) IF NOT EXISTS");
const REPLACE: Query =
    Query::swap("UPDATE $.task SET version = ?, record = ?, facts = ? WHERE task_id = ? IF version = ?");
const DELETE: Query = Query::swap("DELETE FROM $.task WHERE task_id = ? IF version = ?");

/// It rides in Paxos' own state too. A record takes a few KiB.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// Version, record, facts.
type Row = (i64, Vec<u8>, Option<Vec<Vec<u8>>>);

pub(super) struct Records {
    session: Session,
    settled: Memory<Settled>,
    seen: Memory<Arc<Seen>>,
    told: OnceLock<Tell>,
}

/// Told of a record's facts as soon as they are in its row. Says whether it need not be told once more when they are in the
/// log.
pub(super) type Tell = Box<dyn Fn(&TaskRecord, &RowFacts) -> bool + Send + Sync>;

/// The facts in a task's row.
#[derive(Clone, Debug, Default)]
pub struct RowFacts {
    /// Of versions that were read: whoever made them may not have lived to tell them, or what came before them.
    pub found: Vec<TaskEvent>,
    /// Of the version that was written here.
    pub made: Vec<TaskEvent>,
}

impl RowFacts {
    pub(super) fn of(found: &[Fact], made: &[Fact]) -> Self {
        let events = |facts: &[Fact]| facts.iter().map(|fact| fact.event.clone()).collect();
        Self { found: events(found), made: events(made) }
    }
}

/// A version as it was read. Its facts may not be in the log yet.
pub(super) struct Seen {
    pub version: i64,
    pub record: TaskRecord,
    facts: Vec<Vec<u8>>,
}

/// What is known of a task's newest version: its facts are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub version: i64,
    /// The task's state, while it is queued.
    pub queued: Option<TaskState>,
}

impl Settled {
    fn of(version: i64, record: &TaskRecord) -> Self {
        Self { version, queued: record.is_queued().then_some(record.state) }
    }
}

/// A version as it is written.
pub(super) struct Version {
    pub record: TaskRecord,
    pub number: i64,
    pub bytes: Vec<u8>,
}

impl Version {
    pub fn of(record: &TaskRecord) -> Result<Self, PortError> {
        let id = record.id;
        let rejected = |what: String| PortError::Rejected(format!("task {id}: {what}"));
        let bytes = codec::encode(record).map_err(|error| error.at(&format!("task {id}")))?;
        if bytes.len() > RECORD_BYTES_MAX {
            let length = bytes.len();
            return Err(rejected(format!("its record of {length} bytes is longer than {RECORD_BYTES_MAX}")));
        }
        // What is beyond is no version of anything: it conflicts with every other.
        let number = i64::try_from(record.version).unwrap_or(i64::MAX);
        Ok(Self { record: record.clone(), number, bytes })
    }
}

impl Records {
    pub fn new(session: Session) -> Self {
        Self { session, settled: Memory::new(), seen: Memory::new(), told: OnceLock::new() }
    }

    /// Who changes a waiting task next need not read it again.
    pub async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        let Some(seen) = self.look(id).await? else { return Ok(None) };
        let record = seen.record.clone();
        if record.state == TaskState::Pending && !self.is_settled(&seen) {
            self.seen.put(id, Arc::new(seen));
        }
        Ok(Some(record))
    }

    pub async fn get_settled(&self, id: TaskId) -> Result<Option<TaskRecord>, PortError> {
        let row: Option<(Option<Vec<u8>>,)> = self.session.row(GET_SETTLED, (id.0,)).await?;
        let bytes = row.map(|(bytes,)| bytes.unwrap_or_default());
        bytes.map(|bytes| self.decoded(id, &bytes)).transpose()
    }

    /// Like `get`, for lists: one damaged record does not hide the others.
    pub async fn readable(&self, id: TaskId) -> Result<Read, PortError> {
        match self.get(id).await {
            Ok(Some(record)) => Ok(Read::Record(Box::new(record))),
            Ok(None) => Ok(Read::Missing),
            Err(error @ (PortError::Corrupt(_) | PortError::Rejected(_))) => {
                tracing::error!(%error, "a task is left out of a list");
                Ok(Read::Damaged)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the id was free.
    pub async fn insert(&self, version: &Version, facts: &[Fact]) -> Result<bool, PortError> {
        let values = (version.record.id.0, version.number, &version.bytes, payloads(facts));
        self.session.applied(INSERT, values).await
    }

    /// Whether version `before` was the newest.
    pub async fn replace(&self, before: i64, next: &Version, facts: &[Fact]) -> Result<bool, PortError> {
        let values = (next.number, &next.bytes, payloads(facts), next.record.id.0, before);
        self.session.applied(REPLACE, values).await
    }

    pub async fn delete(&self, record: &TaskRecord) -> Result<bool, PortError> {
        self.settled.forget(record.id);
        self.session.applied(DELETE, (record.id.0, signed(record.version))).await
    }

    /// Once, before anything is settled.
    pub fn on_facts(&self, tell: Tell) {
        let _ = self.told.set(tell);
    }

    pub fn settled(&self, id: TaskId) -> Option<Settled> {
        self.settled.get(id)
    }

    pub fn forget(&self, id: TaskId) {
        self.settled.forget(id);
        self.seen.forget(id);
    }

    /// That version, if it is what was read last.
    pub fn seen(&self, id: TaskId, version: i64) -> Option<Arc<Seen>> {
        self.seen.get(id).filter(|seen| seen.version == version)
    }

    fn tell(&self, record: &TaskRecord, facts: &RowFacts) -> bool {
        self.told.get().is_none_or(|tell| tell(record, facts))
    }

    /// Sees to it that the facts of the newest version are in the log, and returns that version.
    pub async fn settle(&self, id: TaskId, log: &Facts) -> Result<Option<TaskRecord>, PortError> {
        let Some(seen) = self.look(id).await? else { return Ok(None) };
        if !self.is_settled(&seen) {
            let facts = self.untold(&seen, log)?;
            self.log(seen.version, &seen.record, &RowFacts::of(&facts, &[]), facts, log, || ()).await?;
        }
        Ok(Some(seen.record))
    }

    /// Tells what is in the record's row, and puts what is not there yet into the log. Nothing else of the task is told
    /// or read between the two, not even by whom `told` lets go on.
    pub async fn log(
        &self,
        version: i64,
        record: &TaskRecord,
        facts: &RowFacts,
        unlogged: Vec<Fact>,
        log: &Facts,
        told: impl FnOnce(),
    ) -> Result<(), PortError> {
        let tell = || {
            let is_told = self.tell(record, facts);
            told();
            is_told
        };
        let (is_told, put) = log.put_after(record.id, unlogged, tell).await;
        put?;
        self.seen.forget(record.id);
        self.settled.put(record.id, Settled::of(version, record));
        if !is_told {
            self.tell(record, facts);
        }
        Ok(())
    }

    /// The facts that came with what was seen, for the log.
    pub fn untold(&self, seen: &Seen, log: &Facts) -> Result<Vec<Fact>, PortError> {
        let Seen { record, facts, .. } = seen;
        // Nobody has told anything yet of a task that was never claimed, so there is nothing to ask for.
        if record.state == TaskState::Pending && record.attempt == 0 {
            log.begin(record.id);
        } else {
            log.forget(record.id);
        }
        let fact = |bytes: &Vec<u8>| Ok(Fact { event: codec::decode(bytes)?, bytes: bytes.clone() });
        let facts: Result<Vec<Fact>, codec::CodecError> = facts.iter().map(fact).collect();
        facts.map_err(|error| error.at(&self.place(record.id)))
    }

    async fn look(&self, id: TaskId) -> Result<Option<Seen>, PortError> {
        let row: Option<Row> = self.session.row(ROW, (id.0,)).await?;
        let Some((version, bytes, facts)) = row else { return Ok(None) };
        Ok(Some(Seen { version, record: self.decoded(id, &bytes)?, facts: facts.unwrap_or_default() }))
    }

    fn is_settled(&self, seen: &Seen) -> bool {
        self.settled.get(seen.record.id).is_some_and(|settled| settled.version == seen.version)
    }

    fn decoded(&self, id: TaskId, bytes: &[u8]) -> Result<TaskRecord, PortError> {
        let record: TaskRecord = codec::decode(bytes).map_err(|error| error.at(&self.place(id)))?;
        if record.id != id {
            return Err(PortError::Corrupt(format!("{}: the record of task {} is there", self.place(id), record.id)));
        }
        Ok(record)
    }

    fn place(&self, id: TaskId) -> String {
        format!("{}, task {id}", self.session.place())
    }
}

/// What a list finds at an id.
pub(super) enum Read {
    Record(Box<TaskRecord>),
    Missing,
    Damaged,
}

fn payloads(facts: &[Fact]) -> Vec<&Vec<u8>> {
    facts.iter().map(|fact| &fact.bytes).collect()
}
