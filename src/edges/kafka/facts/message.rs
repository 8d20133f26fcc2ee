//! A fact as a message: the older line in its value, the fact itself in a header, its task as the key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kubeml_actors::{event::TaskEvent, ports::PortError};
use rdkafka::message::{Header, Headers, OwnedHeaders};

use crate::{
    codec,
    wire::older::{self, Known},
};

#[cfg(test)]
mod tests;

/// Our nodes read nothing else of a message, so every bit of a fact arrives.
const FACT_HEADER: &str = "kubeml-fact";

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

/// The fact of a message; `None` for what others have written.
pub fn fact(headers: Option<&impl Headers>) -> Option<TaskEvent> {
    let headers = headers?;
    let found = || {
        let fact = headers.iter().find(|header| header.key == FACT_HEADER)?;
        codec::decode(fact.value?).ok()
    };
    // The library panics at a header's name that is not UTF-8: one message of somebody's must not end the listening.
    catch_unwind(AssertUnwindSafe(found)).unwrap_or_default()
}
