//! The log of facts in `state.redb`.

use std::{collections::HashMap, ops::Bound};

use async_trait::async_trait;
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{EventLog, LogEntry, LogPage, PortError, Position},
    task::TaskId,
    timestamp::Timestamp,
};
use tokio::sync::watch;

use super::{
    file::Fault,
    state::{REMOVED_AT_ONCE, RedbState, Snapshot},
    tables::{EVENTS, LOG, encoded, task_id},
};
use crate::codec;

#[async_trait]
impl EventLog for RedbState {
    async fn append(&self, events: &[TaskEvent]) -> Result<(), PortError> {
        let facts = encoded(events, &self.file.place())?;
        self.writer.write(move |tables| tables.take_facts(&facts)).await
    }

    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        self.read(move |snapshot| snapshot.task_facts(task, after, limit)).await
    }

    async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        // What a commit has written before the head says so is left for the next page.
        let (after, head) = (after.counter(0), self.head.borrow().counter(0));
        self.read(move |snapshot| snapshot.log_page(after, head, limit)).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Whatever is taken is heard.
    async fn relay(&self, _: TaskId, _: Seq) -> Result<(), PortError> {
        Ok(())
    }

    fn is_live(&self) -> bool {
        true
    }

    async fn trim(&self, horizon: Timestamp) -> Result<u64, PortError> {
        let (mut removed, mut after) = (0, 0);
        loop {
            let found = self.read(move |snapshot| snapshot.old_positions(after, horizon)).await?;
            let Some(last) = found.last().copied() else { return Ok(removed) };
            after = last;
            removed += self.writer.write(move |tables| tables.trim_facts(&found)).await?;
        }
    }
}

impl Snapshot<'_> {
    fn task_facts(&self, id: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, Fault> {
        let task = id.0.as_u128();
        let start = after.map_or(Bound::Included((task, 0)), |after| Bound::Excluded((task, after.0)));
        let mut facts = Vec::new();
        for row in self.transaction.open_table(EVENTS)?.range((start, Bound::Included((task, u64::MAX))))? {
            if facts.len() == limit {
                break;
            }
            facts.extend(self.readable_fact(row?.1.value().1));
        }
        Ok(facts)
    }

    fn log_page(&self, after: u64, head: u64, limit: usize) -> Result<LogPage, Fault> {
        if after >= head {
            return Ok(LogPage::default());
        }
        let (log, events) = (self.transaction.open_table(LOG)?, self.transaction.open_table(EVENTS)?);
        let mut entries = Vec::new();
        let mut last = after;
        for row in log.range((Bound::Excluded(after), Bound::Included(head)))? {
            if entries.len() == limit {
                break;
            }
            let (position, fact) = row?;
            let (task, seq, _) = fact.value();
            last = position.value();
            let Some(stored) = events.get((task, seq))? else { continue };
            let event = self.readable_fact(stored.value().1);
            entries.extend(event.map(|event| LogEntry::single(last, event)));
        }
        let gap = !entries.is_empty() && last - after > entries.len() as u64;
        Ok(LogPage { entries, gap })
    }

    /// Where facts from before `horizon` are that may be removed: the first of them after `after`.
    fn old_positions(&self, after: u64, horizon: Timestamp) -> Result<Vec<u64>, Fault> {
        let mut has_ended: HashMap<u128, bool> = HashMap::new();
        let mut found = Vec::new();
        for row in self.transaction.open_table(LOG)?.range((Bound::Excluded(after), Bound::Unbounded))? {
            let (position, fact) = row?;
            let (task, _, at) = fact.value();
            if at >= horizon.0 {
                continue;
            }
            let ended = match has_ended.get(&task) {
                Some(known) => *known,
                None => *has_ended.entry(task).or_insert(self.has_ended(task_id(task))?),
            };
            if ended {
                found.push(position.value());
            }
            if found.len() == REMOVED_AT_ONCE {
                break;
            }
        }
        Ok(found)
    }

    /// Of a task that cannot be read, nobody knows.
    fn has_ended(&self, id: TaskId) -> Result<bool, Fault> {
        match self.record(id) {
            Ok(record) => Ok(record.is_none_or(|record| record.state.is_terminal())),
            Err(Fault::Refused(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// A damaged fact is a hole, and a hole is a gap.
    fn readable_fact(&self, bytes: &[u8]) -> Option<TaskEvent> {
        let fact = codec::decode(bytes);
        let fact = fact.inspect_err(|error| tracing::error!(%error, place = self.place, "a fact is left out"));
        fact.ok()
    }
}
