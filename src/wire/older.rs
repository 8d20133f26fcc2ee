//! Facts in the older system's words: the lines of its stream, which are the values of its topic as well.

use kubeml_actors::{
    event::{EventKind, TaskEvent},
    task::{TaskId, TaskRecord},
};
use serde::Serialize;

use super::{TEST_LINE, python_json};

#[cfg(test)]
mod tests;

/// What the lines name beside the fact itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub model: &'static str,
    pub worker: String,
}

impl Known {
    /// A deleted task's lines still say something.
    pub fn of(record: Option<&TaskRecord>) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            model: record.map_or("unknown", |record| record.spec.model().as_str()),
            worker: record.and_then(|record| record.worker_id.clone()).unwrap_or_else(unknown),
        }
    }

    /// What is known from `event` on.
    #[must_use]
    pub fn from(self, event: &TaskEvent) -> Self {
        match &event.kind {
            EventKind::Claimed { worker_id } => Self { worker: worker_id.clone(), ..self },
            _ => self,
        }
    }
}

/// The line that tells a fact; some have none.
pub fn line(event: &TaskEvent, known: &Known) -> Option<String> {
    words(event, known).map(|line| numbered(event, Some(line)))
}

/// Of a fact that has no line: for those who know tasks and numbers.
pub fn number(event: &TaskEvent) -> String {
    numbered(event, None)
}

fn numbered(event: &TaskEvent, line: Option<Line<'_>>) -> String {
    let task_id = (event.task != TaskId::NONE).then_some(event.task);
    python_json::to_string(&Numbered { line, task_id, seq: event.seq.0 })
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(flatten)]
    line: Option<Line<'a>>,
    task_id: Option<TaskId>,
    seq: u64,
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

fn words<'a>(event: &TaskEvent, known: &'a Known) -> Option<Line<'a>> {
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
        EventKind::Succeeded { result, .. } => Some(Line::Result {
            worker_id: worker,
            log_type: "result",
            task_type: model,
            accuracy: format!("{:.3}", result.outcome.test.accuracy),
            loss: format!("{:.3}", result.outcome.test.loss),
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
