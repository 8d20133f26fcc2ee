//! A cursor over the log of facts: it reads forward from memory or the store, and live traffic only wakes it.
//!
//! So there is no queue a client could fill, no seam between replay and live, and nothing lost or doubled however slow
//! the client is.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    event::{Seq, TaskEvent},
    live::Live,
    ports::{EventLog, LogEntry, LogPage, PortError, Position},
    task::TaskId,
};

#[cfg(test)]
mod tests;

/// Entries read at a time.
const PAGE: usize = 256;
/// How long the store may be ahead of the relay before a subscription reads the store itself.
const RELAY_PATIENCE: Duration = Duration::from_millis(100);
/// How often the store is asked while nobody hears of new facts.
const DEAF_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    Entries(Vec<LogEntry>),
    /// Something before these entries has been trimmed, or was lost with the log's end.
    Gap(Vec<LogEntry>),
}

/// What the two kinds of subscription share: where facts come from, and what wakes.
pub struct Feed {
    pub events: Arc<dyn EventLog>,
    pub live: Arc<Live>,
    /// Counts open subscriptions.
    pub open: IntGauge,
}

impl Feed {
    pub fn open(self) -> Source {
        let (newest, head) = (self.live.newest(), self.events.head());
        self.open.inc();
        Source { events: self.events, live: self.live, open: self.open, newest, head }
    }
}

pub struct Source {
    events: Arc<dyn EventLog>,
    live: Arc<Live>,
    open: IntGauge,
    newest: watch::Receiver<Position>,
    head: watch::Receiver<Position>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Source {
    /// What [`Live::after`] has.
    fn in_memory(
        &self,
        position: &Position,
        limit: usize,
        wanted: impl Fn(&TaskEvent) -> bool,
    ) -> Option<(Vec<LogEntry>, Position)> {
        let found = self.live.after(position, limit, wanted)?;
        // Asked last: of a log that was replaced the ring has nothing before the head has fallen.
        (!position.lies_beyond(&self.head.borrow())).then_some(found)
    }

    /// Returns when there is more than `seen`: at once when the ring has it, a little later when only the store has. Or
    /// when the log has lost some of it.
    async fn grown(&mut self, seen: &Position) {
        // The log lives as long as the node: its channels do not close under a subscription.
        let grown = self.head.wait_for(|head| !seen.covers(head) || seen.lies_beyond(head));
        tokio::select! {
            _ = grown => {}
            () = unheard(&*self.events) => return,
        }
        let live = self.live.clone();
        let relayed = self.newest.wait_for(|_| live.has_after(seen));
        let _ = timeout(RELAY_PATIENCE, relayed).await;
    }
}

/// Returns after a while, if new facts are not heard of then.
async fn unheard(events: &dyn EventLog) {
    loop {
        sleep(DEAF_PAUSE).await;
        if !events.is_live() {
            return;
        }
    }
}

/// Everything that happens, from a position on.
pub struct AllEvents {
    source: Source,
    cursor: Position,
}

impl AllEvents {
    /// From `after` on; `None` starts now.
    pub fn new(source: Source, after: Option<Position>) -> Self {
        let cursor = after.unwrap_or_else(|| source.head.borrow().clone());
        Self { source, cursor }
    }

    /// Everything up to here was delivered, or is behind a gap.
    pub fn position(&self) -> &Position {
        &self.cursor
    }

    /// Waits for the next entries. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Result<Delivery, PortError> {
        loop {
            if self.cursor.is_unknown() {
                self.source.grown(&self.cursor).await;
                self.cursor = self.source.head.borrow().clone();
                // What has happened until now was not heard.
                return Ok(Delivery::Gap(Vec::new()));
            }
            let page = self.page().await?;
            if let Some(last) = page.entries.last() {
                self.cursor = last.position.clone();
            }
            match page {
                LogPage { entries, gap: true } => return Ok(Delivery::Gap(entries)),
                LogPage { entries, .. } if !entries.is_empty() => return Ok(Delivery::Entries(entries)),
                _ => self.source.grown(&self.cursor).await,
            }
        }
    }

    /// What follows the cursor, from memory or the log. With a gap and no entries the cursor is behind the gap.
    async fn page(&mut self) -> Result<LogPage, PortError> {
        if let Some((entries, _)) = self.source.in_memory(&self.cursor, PAGE, |_| true)
            && !entries.is_empty()
        {
            return Ok(LogPage { entries, gap: false });
        }
        let head = self.source.head.borrow().clone();
        if self.cursor.lies_beyond(&head) {
            self.cursor = self.cursor.up_to(&head);
            return Ok(LogPage { entries: Vec::new(), gap: true });
        }
        let page = self.source.events.read_all(&self.cursor, PAGE).await?;
        if page.gap && page.entries.is_empty() {
            // Nothing up to there is left.
            self.cursor = head;
        }
        Ok(page)
    }
}

/// One task's facts, from one on, up to its terminal fact.
pub struct TaskEvents {
    source: Source,
    task: TaskId,
    cursor: Option<Seq>,
    /// Up to here the log holds nothing of the task after `cursor`. Empty before the first look.
    checked: Option<Position>,
    ended: bool,
}

impl TaskEvents {
    /// After `after`; `None` starts with the first fact. After the terminal one there is nothing to wait for.
    pub fn new(source: Source, task: TaskId, after: Option<Seq>) -> Self {
        let ended = after.is_some_and(|after| after == Seq::terminal(after.attempt()));
        Self { source, task, cursor: after, checked: None, ended }
    }

    /// Waits for the next facts; `None` after the terminal one. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<TaskEvent>>, PortError> {
        while !self.ended {
            let facts = self.look().await?;
            if let Some(last) = facts.last() {
                self.cursor = Some(last.seq);
                self.ended = last.kind.is_terminal();
                return Ok(Some(facts));
            }
            if let Some(checked) = self.checked.clone() {
                self.source.grown(&checked).await;
            }
        }
        Ok(None)
    }

    /// Facts after the cursor: from the ring if it reaches back to `checked`, else from the store.
    async fn look(&mut self) -> Result<Vec<TaskEvent>, PortError> {
        if let Some(checked) = &self.checked
            && self.source.events.is_live()
            && let Some((entries, reached)) = self.source.in_memory(checked, usize::MAX, |event| self.is_next(event))
            && reached != *checked
            && self.has_no_hole(&entries)
        {
            self.checked = Some(reached);
            return Ok(entries.into_iter().map(|entry| entry.event).collect());
        }
        let head = self.source.head.borrow_and_update().clone();
        let facts = self.source.events.read_task(self.task, self.cursor, PAGE).await?;
        // With a full page the rest may lie before `head` as well.
        if facts.len() < PAGE {
            self.checked = Some(head);
        }
        Ok(facts)
    }

    /// What was heard may lack a fact that its writer stored and did not live to tell; the store has it.
    fn has_no_hole(&self, entries: &[LogEntry]) -> bool {
        let seqs = entries.iter().map(|entry| entry.event.seq);
        let before = std::iter::once(self.cursor).chain(seqs.clone().map(Some));
        seqs.zip(before).all(|(seq, before)| seq.follows(before))
    }

    fn is_next(&self, event: &TaskEvent) -> bool {
        event.task == self.task && self.cursor.is_none_or(|cursor| event.seq > cursor)
    }
}
