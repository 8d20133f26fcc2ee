//! `GET /logs/stream`: the same facts as on `/api/v1/events`, in the lines that the older system's page reads.

use std::{collections::HashMap, sync::Arc};

use kubeml_actors::{
    event::TaskEvent,
    ports::{LogEntry, PortError},
    subscription::{AllEvents, Delivery},
    task::TaskId,
};
use warp::sse::Event;

use super::{
    Api,
    call::{Answer, Call},
    events::subscribe,
    sse::{Feed, gap, stream as sse_stream},
};
use crate::wire::older::{Known, line};

/// Tasks remembered by one stream; beyond, they are looked up again.
const KNOWN_MAX: usize = 4_096;

/// `GET /logs/stream`: from now on, or after `Last-Event-ID`.
pub async fn stream(call: Call) -> Answer {
    let (events, first) = subscribe(&call, None).await?;
    Ok(sse_stream(&call.api, first, Lines { events, api: call.api.clone(), known: HashMap::new() }))
}

struct Lines {
    events: AllEvents,
    api: Arc<Api>,
    known: HashMap<TaskId, Known>,
}

impl Feed for Lines {
    async fn next(&mut self) -> Result<Option<Vec<Event>>, PortError> {
        let (lost, entries) = match self.events.next().await? {
            Delivery::Entries(entries) => (None, entries),
            Delivery::Gap(entries) => (Some(gap("lines before these have been deleted")), entries),
        };
        let mut told = Vec::new();
        for LogEntry { position, event, .. } in &entries {
            let known = self.known(event).await;
            if let Some(line) = line(event, &known) {
                // The older server puts a space after `data:`.
                told.push(Event::default().id(position.to_string()).data(format!(" {line}")));
            }
        }
        if let Some(lost) = lost {
            // Where no line brings an id, the gap does: a client that connects again asks for what follows it.
            let lost = if told.is_empty() { lost.id(self.events.position().to_string()) } else { lost };
            told.insert(0, lost);
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
        let known = known.from(event);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(event.task, known.clone());
        if event.kind.is_terminal() {
            self.known.remove(&event.task);
        }
        known
    }

    async fn look_up(&self, task: TaskId) -> Known {
        let record = match task {
            TaskId::NONE => None,
            task => self.api.context.ports.tasks.get(task).await.ok().flatten(),
        };
        Known::of(record.as_ref())
    }
}
