//! `GET /logs/stream`: the same facts as on `/api/v1/events`, in the lines that the older system's page reads.

use std::{collections::HashMap, sync::Arc};

use kubeml_actors::{
    event::{EventKind, TaskEvent},
    ports::{LogEntry, PortError},
    subscription::{AllEvents, Delivery},
    task::TaskId,
};
use serde::Serialize;
use warp::sse::Event;

use super::{
    Api,
    call::{Answer, Call},
    events::subscribe,
    python_json,
    sse::{Feed, gap, stream as sse_stream},
};
use crate::wire::TEST_LINE;

/// Tasks remembered by one stream; beyond, they are looked up again.
const KNOWN_MAX: usize = 4_096;

/// `GET /logs/stream`: from now on, or after `Last-Event-ID`.
pub async fn stream(call: Call) -> Answer {
    let (events, first) = subscribe(&call, None).await?;
    Ok(sse_stream(&call.api, first, Lines { events, api: call.api.clone(), known: HashMap::new() }))
}

/// What the older lines name beside the fact itself.
#[derive(Clone)]
struct Known {
    model: &'static str,
    worker: String,
}

struct Lines {
    events: AllEvents,
    api: Arc<Api>,
    known: HashMap<TaskId, Known>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Message {
        log_type: &'static str,
        message: String,
    },
    Epoch {
        task_type: &'a str,
        /// From 0.
        epoch: u32,
        accuracy: String,
        loss: String,
        log_type: &'static str,
        worker_id: &'a str,
    },
    Result {
        worker_id: &'a str,
        log_type: &'static str,
        task_type: &'a str,
        accuracy: String,
        loss: String,
    },
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    task_id: Option<TaskId>,
    seq: u64,
}

impl Feed for Lines {
    async fn next(&mut self) -> Result<Option<Vec<Event>>, PortError> {
        let (mut told, entries) = match self.events.next().await? {
            Delivery::Entries(entries) => (Vec::new(), entries),
            Delivery::Gap(entries) => (vec![gap("lines before these have been deleted")], entries),
        };
        for LogEntry { position, event, .. } in &entries {
            let known = self.known(event).await;
            if let Some(line) = line(event, &known) {
                let task_id = (event.task != TaskId::NONE).then_some(event.task);
                let line = python_json::to_string(&Numbered { line, task_id, seq: event.seq.0 });
                // The older server puts a space after `data:`.
                told.push(Event::default().id(position.to_string()).data(format!(" {line}")));
            }
        }
        Ok(Some(told))
    }
}

impl Lines {
    /// The task's model, and its worker at the time of the event as far as this stream has heard.
    async fn known(&mut self, event: &TaskEvent) -> Known {
        let known = match self.known.get(&event.task) {
            Some(known) => known.clone(),
            None => self.look_up(event.task).await,
        };
        let worker = match &event.kind {
            EventKind::Claimed { worker_id } => worker_id.clone(),
            _ => known.worker,
        };
        let known = Known { worker, ..known };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(event.task, known.clone());
        if event.kind.is_terminal() {
            self.known.remove(&event.task);
        }
        known
    }

    /// A deleted task's lines still say something.
    async fn look_up(&self, task: TaskId) -> Known {
        let record = match task {
            TaskId::NONE => None,
            task => self.api.context.ports.tasks.get(task).await.ok().flatten(),
        };
        Known {
            model: record.as_ref().map_or("unknown", |record| record.spec.model.as_str()),
            worker: record.and_then(|record| record.worker_id).unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

fn line<'a>(event: &TaskEvent, known: &'a Known) -> Option<Line<'a>> {
    let Known { model, worker } = known;
    let message = |message: String| Some(Line::Message { log_type: "training", message });
    match &event.kind {
        EventKind::Claimed { .. } => message(format!("{worker} is training {model} model...")),
        EventKind::EpochFinished(metrics) => Some(Line::Epoch {
            task_type: model,
            epoch: metrics.epoch.saturating_sub(1),
            accuracy: format!("{:.3}", metrics.accuracy),
            loss: format!("{:.3}", metrics.loss),
            log_type: "training",
            worker_id: worker,
        }),
        EventKind::Succeeded { result } => Some(Line::Result {
            worker_id: worker,
            log_type: "result",
            task_type: model,
            accuracy: format!("{:.3}", result.test_accuracy),
            loss: format!("{:.3}", result.test_loss),
        }),
        EventKind::Log { message, .. } if event.task == TaskId::NONE => {
            let log_type = if message == TEST_LINE { "testing" } else { "loading" };
            Some(Line::Message { log_type, message: message.clone() })
        }
        EventKind::Log { message: told, .. } => message(format!("{worker}, {model}: {told}")),
        EventKind::AttemptFailed { failure, .. } => {
            message(format!("{worker} stopped training {model} model, which will be resumed: {}", failure.message))
        }
        EventKind::Failed { failure } => message(format!("{model} model failed: {}", failure.message)),
        EventKind::Cancelled => message(format!("{model} model was cancelled")),
        EventKind::Queued
        | EventKind::Resumed { .. }
        | EventKind::Progress(_)
        | EventKind::CheckpointSaved { .. }
        | EventKind::CancelRequested => None,
    }
}
