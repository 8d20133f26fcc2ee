//! A client of server-sent events that sees the very fields.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::time::timeout;

use crate::server::{PATIENCE, Server};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: Option<String>,
    pub retry: Option<u64>,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("data")).expect("JSON")
    }

    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("message")
    }
}

pub struct Stream {
    pub response: Response,
    buffer: String,
}

impl Stream {
    pub async fn open(server: &Server, path: &str, last_event_id: Option<&str>) -> Self {
        let request = server.request("GET", path);
        let request = match last_event_id {
            Some(id) => request.header("Last-Event-ID", id),
            None => request,
        };
        Self::of(request).await
    }

    pub async fn of(request: RequestBuilder) -> Self {
        let response = timeout(PATIENCE, request.send()).await.expect("an answer in time").expect("an answer");
        assert_eq!(response.status(), 200);
        Self { response, buffer: String::new() }
    }

    /// The next event with data; `None` when the server has ended the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.next_frame().await?;
            if event.data.is_some() {
                return Some(event);
            }
        }
    }

    pub async fn next_frame(&mut self) -> Option<Event> {
        loop {
            if let Some((frame, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(frame);
                self.buffer = rest.to_owned();
                return Some(event);
            }
            let piece =
                timeout(PATIENCE, self.response.chunk()).await.expect("something in time").expect("a sound stream")?;
            self.buffer.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    pub async fn until(&mut self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}: {events:?}"));
            events.push(event);
            if events.last().is_some_and(|event| event.name() == name) {
                return events;
            }
        }
    }
}

fn parse(frame: &str) -> Event {
    let mut event = Event::default();
    for line in frame.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "id" => event.id = Some(value),
            "event" => event.name = Some(value),
            "data" => event.data = Some(event.data.map_or(value.clone(), |data| format!("{data}\n{value}"))),
            "retry" => event.retry = value.parse().ok(),
            _ => {}
        }
    }
    event
}
