//! A server's API, as far as the command line needs it.

use std::time::Duration;

use anyhow::Context as _;
use kubeml_actors::task::TaskId;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::wire::TaskView;

mod events;

pub use events::RemoteEvents;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer that explains an error.
const PROBLEM_CHARS_MAX: usize = 2_000;

/// What a server did not do.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("cannot reach {url}; is the server running?")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {problem}")]
    Refused { url: String, status: StatusCode, problem: String },
    #[error("the event stream of {url} was cut")]
    Cut { url: String },
    #[error("the event stream of {url} has something that is no event: {why}")]
    NoEvent { url: String, why: String },
}

impl RemoteError {
    /// Whether the same request may be answered otherwise in a moment.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Cut { .. } => true,
            Self::NoEvent { .. } => false,
        }
    }
}

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
        RemoteEvents::new(self.clone(), id)
    }

    async fn answer(&self, outcome: reqwest::Result<Response>) -> Result<Response, RemoteError> {
        let url = || self.url.clone();
        let response = outcome.map_err(|source| RemoteError::Unreachable { url: url(), source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response.text().await.unwrap_or_default().chars().take(PROBLEM_CHARS_MAX).collect();
        Err(RemoteError::Refused { url: url(), status, problem })
    }
}
