//! Sends what Kafka did not take again, from the store, once Kafka answers.

use std::{collections::VecDeque, iter, sync::Arc, time::Duration};

use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::PortError,
    task::TaskId,
};
use tokio::time::sleep;

use super::{super::topics::Topic, FactStore, Shared, debts::Owed};

const PAGE: usize = 256;
/// What a writer that died had not told yet are its newest facts, and not more than these.
const UNTOLD_MAX: usize = 512;
const PAUSE: Duration = Duration::from_millis(500);
/// At a page that grows; the first look at what has grown takes almost always all of it along.
const LOOKS_MAX: usize = 8;

pub async fn run(shared: Arc<Shared>) {
    loop {
        let (task, owed) = shared.debts.next().await;
        match pay(&shared, task, owed).await {
            Ok(next) => shared.debts.paid(task, owed, next),
            Err(error) if !error.is_transient() => {
                tracing::warn!(%task, %error, "facts that are not to be had are not sent again");
                shared.debts.paid(task, owed, owed.from());
            }
            Err(error) => {
                tracing::debug!(%task, %error, "facts cannot be sent again yet");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Sends what is owed of a task. Returns the number after the last of its facts.
async fn pay(shared: &Shared, task: TaskId, owed: Owed) -> Result<Seq, PortError> {
    shared.kafka.has(&[Topic::TrainingLog]).await?;
    let mut next = match owed {
        Owed::From(seq) => seq,
        Owed::Inherited(_) => untold(&*shared.store, task, owed.from()).await?,
    };
    loop {
        let facts = read_closed(&*shared.store, task, next.before()).await?;
        shared.deliver(&facts).await?;
        if let Some(last) = facts.last() {
            next = Seq(last.seq.0.saturating_add(1));
        }
        if facts.len() < PAGE {
            return Ok(next);
        }
    }
}

/// A page of facts. To attempts that end there nothing is added afterwards.
async fn read_closed(store: &dyn FactStore, task: TaskId, after: Option<Seq>) -> Result<Vec<TaskEvent>, PortError> {
    let mut facts = store.read_task(task, after, PAGE).await?;
    for _ in 0..LOOKS_MAX {
        let mut has_grown = false;
        for (last, end) in ends(after, &facts) {
            has_grown |= store.close(task, last, end).await?;
        }
        if !has_grown {
            break;
        }
        facts = store.read_task(task, after, PAGE).await?;
    }
    Ok(facts)
}

/// What is stored of a task from `from` on, without what the node that ran the attempt has surely told.
pub async fn all_untold(store: &dyn FactStore, task: TaskId, from: Seq) -> Result<Vec<TaskEvent>, PortError> {
    let mut after = untold(store, task, from).await?.before();
    let mut all = Vec::new();
    loop {
        let facts = store.read_task(task, after, PAGE).await?;
        let is_last_page = facts.len() < PAGE;
        after = facts.last().map(|last| last.seq);
        all.extend(facts);
        if is_last_page {
            return Ok(all);
        }
    }
}

/// From where on the facts of an attempt, `from` and after, may not have been told by the node that ran it. With all of them
/// goes what came before the attempt.
async fn untold(store: &dyn FactStore, task: TaskId, from: Seq) -> Result<Seq, PortError> {
    let mut newest = VecDeque::from([from]);
    let mut after = from.before();
    loop {
        let facts = store.read_task(task, after, PAGE).await?;
        newest.extend(facts.iter().map(|fact| fact.seq).filter(|seq| seq.attempt() == from.attempt()));
        newest.drain(..newest.len().saturating_sub(UNTOLD_MAX));
        after = facts.last().map(|last| last.seq);
        if facts.len() < PAGE || after.is_some_and(|after| after.attempt() > from.attempt()) {
            return Ok(whole(newest[0]));
        }
    }
}

/// The attempts that end among `facts`: the last fact of the owner, and the end. `before` comes before all.
fn ends(before: Option<Seq>, facts: &[TaskEvent]) -> Vec<(Seq, Seq)> {
    let befores = iter::once(before).chain(facts.iter().map(|fact| Some(fact.seq)));
    let ends = befores.zip(facts).filter_map(|(before, TaskEvent { seq, .. })| {
        let begin = Seq::new(seq.attempt(), 0).before()?;
        let last = before.map_or(begin, |before| before.max(begin));
        (seq.is_end() && last.0 + 1 < seq.0).then_some((last, *seq))
    });
    ends.collect()
}

/// From the fact before it, where `first` begins an attempt: who told that one may have died as well.
fn whole(first: Seq) -> Seq {
    match first.attempt() {
        attempt if first != Seq::new(attempt, 0) => first,
        0 | 1 => Seq::QUEUED,
        attempt => Seq::attempt_end(attempt - 1),
    }
}
