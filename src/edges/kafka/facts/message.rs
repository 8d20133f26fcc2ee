//! A fact as a message: the older line in its value, the fact itself in a header, its task as the key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kubeml_actors::{
    event::{EventKind, LogLevel, Seq, TaskEvent},
    ports::PortError,
    task::TaskId,
    timestamp::Timestamp,
};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use serde::Deserialize;

use crate::{
    codec,
    wire::older::{self, Known},
};

#[cfg(test)]
mod tests;

/// Our nodes read nothing else of our messages, so every bit of a fact arrives.
const FACT_HEADER: &str = "kubeml-fact";
/// Of a line that others have written: it is kept in memory.
const LINE_CHARS_MAX: usize = 4_096;

pub struct FactMessage {
    pub key: String,
    pub value: String,
    pub headers: OwnedHeaders,
}

impl FactMessage {
    pub fn new(event: &TaskEvent, known: &Known) -> Result<Self, PortError> {
        let fact = codec::encode(event).map_err(|error| error.at("kafka, topic training_log"))?;
        Ok(Self {
            key: event.task.to_string(),
            value: older::line(event, known).unwrap_or_else(|| older::number(event)),
            headers: OwnedHeaders::new_with_capacity(1).insert(Header { key: FACT_HEADER, value: Some(&fact) }),
        })
    }
}

/// What a message tells: a fact, or a line of the older system's programs, which know no headers. `None` for anything else.
pub fn told(message: &impl Message) -> Option<TaskEvent> {
    match message.headers() {
        Some(headers) => fact(Some(headers)),
        None => line_of_others(message),
    }
}

/// As a line of our own that belongs to no task. Such lines are told apart by their number: its millisecond, and its place.
fn line_of_others(message: &impl Message) -> Option<TaskEvent> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "log_type")]
        _log_type: String,
        message: String,
    }
    let Line { message: told, .. } = serde_json::from_slice(message.payload()?).ok()?;
    let at = Timestamp(u64::try_from(message.timestamp().to_millis()?).ok()?.saturating_mul(1_000));
    let place = message.offset().wrapping_mul(8).wrapping_add(i64::from(message.partition())).rem_euclid(1_000);
    let seq = Seq(at.0.saturating_add(u64::try_from(place).unwrap_or(0)));
    let message = told.chars().take(LINE_CHARS_MAX).collect();
    Some(TaskEvent { task: TaskId::NONE, seq, at, kind: EventKind::Log { level: LogLevel::Info, message } })
}

/// The fact in a message's headers; `None` for what others have written.
fn fact(headers: Option<&impl Headers>) -> Option<TaskEvent> {
    let headers = headers?;
    let found = || {
        let fact = headers.iter().find(|header| header.key == FACT_HEADER)?;
        codec::decode(fact.value?).ok()
    };
    // The library panics at a header's name that is not UTF-8: one message of somebody's must not end the listening.
    catch_unwind(AssertUnwindSafe(found)).unwrap_or_default()
}
