//! Facts as they happen, and as they happened: one task's, or everybody's.

use std::time::Duration;

use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{PortError, Position},
    subscription::{AllEvents, Delivery, TaskEvents},
    task::{TaskId, TaskRecord},
};
use serde::Serialize;
use tokio::time::timeout;
use warp::{http::StatusCode, sse};

use super::{
    call::{Answer, Call, Id, empty, json},
    error::{Code, Problem},
    sse::{Feed, gap, stream},
};
use crate::wire;

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 100_000;
const LAST_EVENT_ID: &str = "last-event-id";
const SEQ: &str = "the seq of an event";
const POSITION: &str = "the id of an event: numbers joined by '-'";
const TRIMMED: &str = "earlier events have been deleted; the task itself has the newest state";

/// `GET /api/v1/tasks/{id}/events?after=&limit=`: a stream, or a page for who accepts JSON only.
pub async fn of_task(id: Id, call: Call) -> Answer {
    let mut query = call.query(&["after", "limit"]);
    let after = query.get::<u64>("after", SEQ).map(Seq);
    let limit = query.limit(PAGE_DEFAULT, PAGE_MAX);
    query.finish()?;
    let record = call.api.handles.dispatcher.get(id.task()?).await?;
    if call.accepts_only("application/json") {
        return page(&call, record.id, after, limit).await;
    }
    let after = last_event_id::<u64>(&call, SEQ)?.map(Seq).or(after);
    let last = Seq::terminal(record.attempt);
    match after {
        Some(after) if after > last => Err(beyond(after, &record)),
        Some(after) if after == last && record.state.is_terminal() => Ok(empty(StatusCode::NO_CONTENT)),
        _ => follow(&call, record, after).await,
    }
}

fn beyond(after: Seq, record: &TaskRecord) -> Problem {
    let detail = format!("{} is no event of task {}, which is in attempt {}", after.0, record.id, record.attempt);
    Problem::new(Code::InvalidQuery, detail)
}

async fn follow(call: &Call, record: TaskRecord, after: Option<Seq>) -> Answer {
    let api = &call.api;
    if record.announced && api.context.ports.events.read_task(record.id, after, 1).await?.is_empty() {
        // Nobody will ever write what is missing: its end is told from the record.
        let end = record.terminal_fact().as_ref().map(task_event);
        let told = std::iter::once(gap(TRIMMED)).chain(end).collect();
        return Ok(stream(api, told, Nothing));
    }
    let events = api.handles.relay.task(record.id, after).await?;
    Ok(stream(api, Vec::new(), OneTask { events, whole: after.is_none() }))
}

#[derive(Serialize)]
struct Page {
    items: Vec<wire::Event>,
    next: Option<String>,
}

async fn page(call: &Call, task: TaskId, after: Option<Seq>, limit: usize) -> Answer {
    let mut facts = call.api.context.ports.events.read_task(task, after, limit + 1).await?;
    let more = facts.len() > limit;
    facts.truncate(limit);
    let next = facts.last().filter(|_| more).map(|last| last.seq.0.to_string());
    json(StatusCode::OK, &Page { items: facts.iter().map(wire::Event::new).collect(), next })
}

/// `GET /api/v1/events?after=`
pub async fn of_all(call: Call) -> Answer {
    let mut query = call.query(&["after"]);
    let after = query.get::<Position>("after", POSITION);
    query.finish()?;
    let (events, first) = subscribe(&call, after).await?;
    Ok(stream(&call.api, first, Everything { events }))
}

/// How long a client that has heard more than this node waits for it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Everything after the last id the client has, or `after`, or from now on; and what to say before it.
pub async fn subscribe(call: &Call, after: Option<Position>) -> Result<(AllEvents, Vec<sse::Event>), Problem> {
    let after = last_event_id::<Position>(call, POSITION)?.or(after);
    let relay = &call.api.handles.relay;
    let mut newest = call.api.context.ports.events.head();
    if let Some(after) = &after {
        // Another node, or the one before this, may have been a little ahead.
        let _ = timeout(CATCH_UP, newest.wait_for(|head| !head.is_unknown() && !after.lies_beyond(head))).await;
    }
    let head = newest.borrow().clone();
    match after {
        Some(after) if after.lies_beyond(&head) => {
            let start = Position(vec![0; head.0.len().max(1)]);
            let reason = "the log is another one than the id is from; here is everything it has";
            let gap = gap(reason).id(start.to_string());
            Ok((relay.all(Some(start)).await?, vec![gap]))
        }
        after => Ok((relay.all(after).await?, Vec::new())),
    }
}

fn last_event_id<T: std::str::FromStr>(call: &Call, expected: &str) -> Result<Option<T>, Problem> {
    let Some(text) = call.header(LAST_EVENT_ID)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let refused = |_| {
        let text: String = text.chars().take(80).collect();
        Problem::invalid_header(LAST_EVENT_ID, format!("expected {expected}, found {text:?}"))
    };
    text.parse().map(Some).map_err(refused)
}

struct OneTask {
    events: TaskEvents,
    /// The next event is expected to be the task's first.
    whole: bool,
}

impl Feed for OneTask {
    async fn next(&mut self) -> Result<Option<Vec<sse::Event>>, PortError> {
        let Some(facts) = self.events.next().await? else { return Ok(None) };
        let begins_late = facts.first().is_some_and(|first| first.seq != Seq::QUEUED);
        let trimmed = (std::mem::take(&mut self.whole) && begins_late).then(|| gap(TRIMMED));
        Ok(Some(trimmed.into_iter().chain(facts.iter().map(task_event)).collect()))
    }
}

struct Everything {
    events: AllEvents,
}

impl Feed for Everything {
    async fn next(&mut self) -> Result<Option<Vec<sse::Event>>, PortError> {
        let (trimmed, entries) = match self.events.next().await? {
            Delivery::Entries(entries) => (None, entries),
            // With its id nobody who connects again asks for what is gone.
            Delivery::Gap(entries) if entries.is_empty() => {
                (Some(gap("events have been lost").id(self.events.position().to_string())), entries)
            }
            Delivery::Gap(entries) => (Some(gap("events before these have been deleted")), entries),
        };
        let told = entries.iter().map(|entry| event(entry.position.to_string(), &entry.event));
        Ok(Some(trimmed.into_iter().chain(told).collect()))
    }
}

/// All has been said.
struct Nothing;

impl Feed for Nothing {
    async fn next(&mut self) -> Result<Option<Vec<sse::Event>>, PortError> {
        Ok(None)
    }
}

fn task_event(fact: &TaskEvent) -> sse::Event {
    event(fact.seq.0.to_string(), fact)
}

fn event(id: String, fact: &TaskEvent) -> sse::Event {
    let data = serde_json::to_string(&wire::Event::new(fact)).unwrap_or_default();
    sse::Event::default().id(id).event(fact.kind.as_str()).data(data)
}
