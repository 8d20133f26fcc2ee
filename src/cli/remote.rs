//! A server's API, as far as the command line needs it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kubeml_actors::task::TaskId;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::wire::{Event, TaskView};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream that was cut is taken up again, for about this long.
const RECONNECTS_MAX: u32 = 120;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Remote {
    url: String,
    client: Client,
}

impl Remote {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        // An error means that a provider has been installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().connect_timeout(CONNECT_TIMEOUT).build().context("cannot make an HTTP client")?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), client })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn submit(&self, body: &Value) -> anyhow::Result<TaskId> {
        let request = self.client.post(format!("{}/api/v1/tasks", self.url)).timeout(REQUEST_TIMEOUT).json(body);
        let view: TaskView = self.answer(request.send().await).await?.json().await.context("no task in the answer")?;
        Ok(view.id)
    }

    pub async fn view(&self, id: TaskId) -> anyhow::Result<TaskView> {
        let request = self.client.get(format!("{}/api/v1/tasks/{id}", self.url)).timeout(REQUEST_TIMEOUT);
        self.answer(request.send().await).await?.json().await.context("no task in the answer")
    }

    pub fn events(&self, id: TaskId) -> RemoteEvents {
        RemoteEvents { remote: self.clone(), id, last: None, stream: None, buffer: Vec::new(), ended: false }
    }

    async fn answer(&self, outcome: reqwest::Result<Response>) -> anyhow::Result<Response> {
        let response = outcome.with_context(|| format!("cannot reach {}; is the server running?", self.url))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response.text().await.unwrap_or_default();
        bail!("{} answered {status}: {}", self.url, problem.chars().take(2_000).collect::<String>())
    }
}

/// A task's events over server-sent events; a cut stream is taken up after the last event heard.
pub struct RemoteEvents {
    remote: Remote,
    id: TaskId,
    last: Option<u64>,
    stream: Option<Response>,
    buffer: Vec<u8>,
    ended: bool,
}

impl RemoteEvents {
    /// The next events; `None` after the terminal one.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Event>>> {
        let mut failures = 0;
        while !self.ended {
            match self.read().await {
                Ok(events) if events.is_empty() => {}
                Ok(events) => return Ok(Some(events)),
                Err(error) if failures >= RECONNECTS_MAX => return Err(error),
                Err(_) => {
                    failures += 1;
                    self.stream = None;
                    self.buffer.clear();
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
        Ok(None)
    }

    async fn read(&mut self) -> anyhow::Result<Vec<Event>> {
        if self.stream.is_none() {
            self.stream = self.connect().await?;
        }
        let Some(stream) = &mut self.stream else {
            self.ended = true;
            return Ok(Vec::new());
        };
        let chunk = stream.chunk().await.context("the event stream was cut")?.context("the event stream ended")?;
        self.buffer.extend_from_slice(&chunk);
        self.take_events()
    }

    /// `None` when there is nothing after the last event heard.
    async fn connect(&self) -> anyhow::Result<Option<Response>> {
        let mut request = self.remote.client.get(format!("{}/api/v1/tasks/{}/events", self.remote.url, self.id));
        request = request.header("accept", "text/event-stream");
        if let Some(last) = self.last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = self.remote.answer(request.send().await).await?;
        Ok((response.status() != StatusCode::NO_CONTENT).then_some(response))
    }

    /// Cuts the whole events off the buffer's front.
    fn take_events(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = String::from_utf8(block).context("the event stream is not UTF-8")?;
            let data: String = block.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
            let name = block.lines().find_map(|line| line.strip_prefix("event:")).map(str::trim);
            if data.is_empty() || matches!(name, Some("gap" | "bye")) {
                continue;
            }
            let event: Event =
                serde_json::from_str(&data).context("the event stream has something that is no event")?;
            self.last = Some(event.seq);
            self.ended |= event.body.is_terminal();
            events.push(event);
        }
        Ok(events)
    }
}
