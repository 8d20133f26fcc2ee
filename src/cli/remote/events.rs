//! A task's events over server-sent events: a cut stream is resumed after the last event received.

use std::{fmt, iter, pin::Pin, time::Duration};

use eventsource_stream::{Event as Message, EventStreamError, Eventsource as _};
use futures::{Stream, StreamExt as _};
use kubeml_actors::task::TaskId;
use reqwest::StatusCode;
use serde::{
    Deserialize as _,
    de::{self, value::MapDeserializer},
};

use super::{Remote, RemoteError};
use crate::wire::{Body, Event};

#[cfg(test)]
mod tests;

/// Retries in a row. With the pause between them, a server may be away for about two minutes.
const RECONNECTS_MAX: u32 = 120;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

type Messages = Pin<Box<dyn Stream<Item = Result<Message, EventStreamError<reqwest::Error>>> + Send>>;

pub struct RemoteEvents {
    remote: Remote,
    id: TaskId,
    /// Id of the last message received: the stream goes on after it.
    last: Option<String>,
    stream: Option<Messages>,
    ended: bool,
}

impl RemoteEvents {
    pub(super) fn new(remote: Remote, id: TaskId) -> Self {
        Self { remote, id, last: None, stream: None, ended: false }
    }

    /// The next event; `None` after the terminal one.
    pub async fn next(&mut self) -> Result<Option<Event>, RemoteError> {
        let mut failures = 0;
        while !self.ended {
            match self.read().await {
                Ok(event) => {
                    self.ended = event.as_ref().is_none_or(|event| event.body.is_terminal());
                    return Ok(event);
                }
                Err(error) if error.is_transient() && failures < RECONNECTS_MAX => {
                    failures += 1;
                    self.stream = None;
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The next event that this version knows; `None` when the server has none after the last one.
    async fn read(&mut self) -> Result<Option<Event>, RemoteError> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match self.connect().await? {
                    Some(stream) => self.stream.insert(stream),
                    None => return Ok(None),
                },
            };
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(EventStreamError::Parser(error))) => return Err(self.no_event(error)),
                // Text that ends within a character was cut there.
                Some(Err(EventStreamError::Transport(_) | EventStreamError::Utf8(_))) | None => {
                    return Err(RemoteError::Cut { url: self.remote.url.clone() });
                }
            };
            let is_known = is_known(&message.event);
            let event = is_known.then(|| serde_json::from_str(&message.data).map_err(|error| self.no_event(error)));
            let event = event.transpose()?;
            if !message.id.is_empty() {
                self.last = Some(message.id);
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// `None` when there is nothing after the last event received.
    async fn connect(&self) -> Result<Option<Messages>, RemoteError> {
        let mut request = self.remote.client.get(format!("{}/api/v1/tasks/{}/events", self.remote.url, self.id));
        request = request.header("accept", "text/event-stream");
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        let response = self.remote.answer(request.send().await).await?;
        let has_more = response.status() != StatusCode::NO_CONTENT;
        Ok(has_more.then(|| Box::pin(response.bytes_stream().eventsource()) as Messages))
    }

    fn no_event(&self, why: impl fmt::Display) -> RemoteError {
        RemoteError::NoEvent { url: self.remote.url.clone(), why: why.to_string() }
    }
}

/// Whether this version knows events of this kind: streams also carry `gap` and `bye`, and a newer server may send more.
fn is_known(kind: &str) -> bool {
    let tag_alone = MapDeserializer::<_, Lacks>::new(iter::once(("kind", kind)));
    !matches!(Body::deserialize(tag_alone), Err(Lacks::Kind))
}

/// What an event that is nothing but its kind lacks.
#[derive(Debug, thiserror::Error)]
enum Lacks {
    #[error("there is no such kind")]
    Kind,
    #[error("{0}")]
    Fields(String),
}

impl de::Error for Lacks {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Fields(message.to_string())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::Kind
    }
}
