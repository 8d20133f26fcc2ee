//! Tasks: submit, list, look at, cancel, try again, delete.

use kubeml_actors::{
    ports::{ListCursor, TaskFilter},
    task::{Submission, TaskId, TaskRecord, TaskState},
    task_dispatcher::Submitted,
    timestamp::Timestamp,
};
use kubeml_spec::{ModelKind, model::names_in_words};
use serde::Serialize;
use std::str::FromStr;
use warp::http::{StatusCode, header};

use super::{
    call::{Answer, Call, Id, empty, header_value, json},
    error::{Code, Problem},
};
use crate::wire::{TaskView, read_task_body};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;
const KEY_LENGTH_MAX: usize = 255;

/// `POST /api/v1/tasks`
pub async fn submit(mut call: Call) -> Answer {
    call.query(&[]).finish()?;
    let key = idempotency_key(&call)?;
    turn_away_while_draining(&call)?;
    let body = read_task_body(&call.json().await?).map_err(Problem::invalid_task)?;
    let id = key.unwrap_or_else(TaskId::fresh);
    hand_in(&call, body.submission(id, None), key.is_some()).await
}

/// `POST /api/v1/tasks/{id}/retry`: a new task that asks for the same.
pub async fn retry(id: Id, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let key = idempotency_key(&call)?;
    turn_away_while_draining(&call)?;
    let TaskRecord { id, name, tags, priority, spec, state, .. } = call.api.handles.dispatcher.get(id.task()?).await?;
    if !state.is_terminal() {
        return Err(Problem::new(
            Code::TaskNotEnded,
            format!("task {id} is {state}: only what has ended is tried again"),
        ));
    }
    let new = key.unwrap_or_else(TaskId::fresh);
    hand_in(&call, Submission { id: new, name, tags, priority, retry_of: Some(id), spec }, key.is_some()).await
}

async fn hand_in(call: &Call, submission: Submission, has_key: bool) -> Answer {
    let submitted = call.api.handles.dispatcher.submit(submission).await?;
    // Without a key nobody can have submitted it before: the dispatcher was restarted and asked again.
    let status = match submitted {
        Submitted::Again(_) if has_key => StatusCode::OK,
        Submitted::Again(_) | Submitted::Fresh(_) => StatusCode::CREATED,
    };
    let record = submitted.record();
    let mut response = json(status, &call.api.view(record))?;
    response.headers_mut().insert(header::LOCATION, header_value(&format!("/api/v1/tasks/{}", record.id)));
    Ok(response)
}

pub fn turn_away_while_draining(call: &Call) -> Result<(), Problem> {
    if call.api.phase.is_draining() {
        return Err(Problem::new(Code::Draining, "the server is shutting down and takes no new tasks; try again soon"));
    }
    Ok(())
}

fn idempotency_key(call: &Call) -> Result<Option<TaskId>, Problem> {
    const HEADER: &str = "idempotency-key";
    let Some(key) = call.header(HEADER)? else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_LENGTH_MAX {
        return Err(Problem::invalid_header(HEADER, format!("expected 1 to {KEY_LENGTH_MAX} characters")));
    }
    Ok(Some(TaskId::from_idempotency_key(key)))
}

#[derive(Serialize)]
struct Page {
    items: Vec<TaskView>,
    next: Option<String>,
}

/// `GET /api/v1/tasks?state=&model=&limit=&cursor=`
pub async fn list(call: Call) -> Answer {
    let mut query = call.query(&["state", "model", "limit", "cursor"]);
    let state = query.get::<State>("state", "pending, running, succeeded, failed or cancelled").map(|state| state.0);
    let model = query.get::<ModelKind>("model", &names_in_words());
    let limit = query.limit(LIST_DEFAULT, LIST_MAX);
    let cursor = query.get::<Cursor>("cursor", "`next` of an earlier answer").map(|cursor| cursor.0);
    query.finish()?;
    let page = call.api.handles.dispatcher.list(TaskFilter { state, model }, cursor, limit).await?;
    let items = page.records.iter().map(|record| call.api.view(record)).collect();
    let next = page.next.map(|next| format!("{}-{}", next.created_at.0, next.id));
    let mut link = format!("</api/v1/tasks?limit={limit}");
    for (name, value) in [("state", state.map(TaskState::as_str)), ("model", model.map(ModelKind::as_str))] {
        link.extend(value.map(|value| format!("&{name}={value}")));
    }
    let link = next.as_ref().map(|next| format!("{link}&cursor={next}>; rel=\"next\""));
    let mut response = json(StatusCode::OK, &Page { items, next })?;
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, header_value(&link));
    }
    Ok(response)
}

/// `GET /api/v1/tasks/{id}`
pub async fn get(id: Id, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let record = call.api.handles.dispatcher.get(id.task()?).await?;
    json(StatusCode::OK, &call.api.view(&record))
}

/// `POST /api/v1/tasks/{id}/cancel`: what waits has ended with the answer, what runs ends soon.
pub async fn cancel(id: Id, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let record = call.api.handles.dispatcher.cancel(id.task()?).await?;
    json(StatusCode::OK, &call.api.view(&record))
}

/// `DELETE /api/v1/tasks/{id}`: an ended task, with its events and models.
pub async fn delete(id: Id, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let record = call.api.handles.dispatcher.get(id.task()?).await?;
    let (id, state) = (record.id, record.state);
    if !state.is_terminal() {
        return Err(Problem::new(Code::TaskNotEnded, format!("task {id} is {state}: cancel it first")));
    }
    if !record.announced {
        // Its end shall be in the log before it is gone.
        call.api.context.committer.announce(&record).await?;
    }
    let ports = &call.api.context.ports;
    // In this order: without the record nobody would find what is left of them.
    ports.artifacts.prune(id, u32::MAX, &[]).await?;
    ports.tasks.delete(id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

struct State(TaskState);

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        TaskState::ALL.into_iter().find(|state| state.as_str() == text).map(Self).ok_or(())
    }
}

/// `<microseconds>-<task id>`
struct Cursor(ListCursor);

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (created_at, id) = text.split_once('-').ok_or(())?;
        let created_at = Timestamp(created_at.parse().map_err(|_| ())?);
        Ok(Self(ListCursor { created_at, id: id.parse().map_err(|_| ())? }))
    }
}
