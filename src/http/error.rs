//! What can be wrong with a request, and how it is said: the only file that knows status codes of failures.
//!
//! Under `/api` a problem is `application/problem+json` (RFC 9457) with a stable `code`; elsewhere it is the older
//! system's `{"detail": "…"}`.

use kubeml_actors::{
    commit::CommitError, dataset_loader::LoadError, handle::AskError, log_relay::SubscribeError, ports::PortError,
    task_dispatcher::DispatchError,
};
use serde::Serialize;
use warp::{
    Rejection, Reply,
    http::{HeaderValue, StatusCode, header},
    reject::MethodNotAllowed,
    reply::Response,
};

const RETRY_SOON: u32 = 1;
const RETRY_LATER: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    MalformedJson,
    BadRequest,
    ForeignOrigin,
    NotFound,
    NoSuchTask,
    NoModel,
    MethodNotAllowed,
    BodyTimeout,
    TaskEnded,
    TaskNotEnded,
    Refused,
    BodyTooLarge,
    NotJson,
    InvalidTask,
    InvalidQuery,
    InvalidHeader,
    IdempotencyKeyReused,
    QueueFull,
    Internal,
    Unavailable,
    Draining,
}

impl Code {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedJson => (S::BAD_REQUEST, "malformed_json", "The body is not JSON"),
            Self::BadRequest => (S::BAD_REQUEST, "bad_request", "The request cannot be read"),
            Self::ForeignOrigin => (S::FORBIDDEN, "foreign_origin", "Pages of this origin may not do that"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing here"),
            Self::NoSuchTask => (S::NOT_FOUND, "no_such_task", "There is no such task"),
            Self::NoModel => (S::NOT_FOUND, "no_model", "The task has no model"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here"),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body_timeout", "The body did not arrive in time"),
            Self::TaskEnded => (S::CONFLICT, "task_ended", "The task has ended"),
            Self::TaskNotEnded => (S::CONFLICT, "task_not_ended", "The task has not ended yet"),
            Self::Refused => (S::CONFLICT, "refused", "It cannot be taken as it is"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::NotJson => (S::UNSUPPORTED_MEDIA_TYPE, "not_json", "The body must be JSON"),
            Self::InvalidTask => (S::UNPROCESSABLE_ENTITY, "invalid_task", "The task cannot be carried out"),
            Self::InvalidQuery => (S::UNPROCESSABLE_ENTITY, "invalid_query", "A parameter cannot be used"),
            Self::InvalidHeader => (S::UNPROCESSABLE_ENTITY, "invalid_header", "A header cannot be used"),
            Self::IdempotencyKeyReused => {
                (S::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key was used for another task")
            }
            Self::QueueFull => (S::TOO_MANY_REQUESTS, "queue_full", "Too many tasks are waiting"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "A part of the server is not available"),
            Self::Draining => (S::SERVICE_UNAVAILABLE, "draining", "The server is shutting down"),
        }
    }

    fn retry_after(self) -> Option<u32> {
        match self {
            Self::QueueFull | Self::Draining => Some(RETRY_LATER),
            Self::Unavailable => Some(RETRY_SOON),
            _ => None,
        }
    }
}

/// One thing wrong: where, by JSON pointer into the body or by the name of a parameter or header, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'static str>,
    detail: String,
}

/// Why a request was not granted. It gets its dress when it leaves, by the path that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Fault>,
}

#[derive(Serialize)]
struct Rfc9457<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
}

#[derive(Serialize)]
struct Detail<'a> {
    detail: &'a str,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new() }
    }

    /// Everything wrong with a task's body.
    pub fn invalid_task(problems: Vec<kubeml_spec::Problem>) -> Self {
        let faults = problems.into_iter().map(|kubeml_spec::Problem { pointer, message }| Fault {
            pointer: Some(pointer),
            parameter: None,
            header: None,
            detail: message,
        });
        Self::of_faults(Code::InvalidTask, faults.collect())
    }

    /// Everything wrong with a query.
    pub fn invalid_query(faults: Vec<(String, String)>) -> Self {
        let faults = faults.into_iter().map(|(parameter, detail)| Fault {
            pointer: None,
            parameter: Some(parameter),
            header: None,
            detail,
        });
        Self::of_faults(Code::InvalidQuery, faults.collect())
    }

    pub fn invalid_header(header: &'static str, detail: impl Into<String>) -> Self {
        let fault = Fault { pointer: None, parameter: None, header: Some(header), detail: detail.into() };
        Self::of_faults(Code::InvalidHeader, vec![fault])
    }

    fn of_faults(code: Code, errors: Vec<Fault>) -> Self {
        let place = |fault: &Fault| {
            let place = fault.pointer.as_deref().or(fault.parameter.as_deref()).or(fault.header).unwrap_or_default();
            format!("{}: {}", if place.is_empty() { "the body" } else { place }, fault.detail)
        };
        let detail = errors.iter().map(place).collect::<Vec<_>>().join("; ");
        Self { code, detail, errors }
    }

    pub fn is_method_not_allowed(&self) -> bool {
        self.code == Code::MethodNotAllowed
    }

    /// The answer to a request for `path`.
    pub fn answer(&self, path: &str) -> Response {
        let (status, code, title) = self.code.parts();
        let (body, content_type) = if path == "/api" || path.starts_with("/api/") {
            let r#type = format!("urn:kubeml:problem:{code}");
            let (detail, errors) = (self.detail.as_str(), self.errors.as_slice());
            let problem = Rfc9457 { r#type, title, status: status.as_u16(), detail, instance: path, code, errors };
            (serde_json::to_string(&problem), "application/problem+json")
        } else {
            (serde_json::to_string(&Detail { detail: &self.detail }), "application/json")
        };
        let mut response = Response::new(body.unwrap_or_default().into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = self.code.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The problem travels with the response until the path is at hand.
impl Reply for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = self.code.parts().0;
        response.extensions_mut().insert(self);
        response
    }
}

/// What the routes themselves turn away: an unknown path, or a known one with another method.
pub async fn recover(rejection: Rejection) -> Result<Response, std::convert::Infallible> {
    let problem = if rejection.find::<MethodNotAllowed>().is_some() {
        Problem::new(Code::MethodNotAllowed, "Method Not Allowed")
    } else if rejection.is_not_found() {
        Problem::new(Code::NotFound, "Not Found")
    } else {
        Problem::new(Code::BadRequest, format!("{rejection:?}"))
    };
    Ok(problem.into_response())
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        let code = match error {
            PortError::Unavailable(_) => Code::Unavailable,
            PortError::NotFound(_) => Code::NotFound,
            PortError::Rejected(_) => Code::Refused,
            PortError::Corrupt(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let code = match &error {
            DispatchError::NoSuchTask(_) => Code::NoSuchTask,
            DispatchError::Ended(..) => Code::TaskEnded,
            DispatchError::IdTaken(_) => Code::IdempotencyKeyReused,
            DispatchError::QueueFull(_) => Code::QueueFull,
            DispatchError::Store(error) => return error.clone().into(),
            DispatchError::Ask(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        let code = match error {
            CommitError::Refused(_) => Code::Refused,
            CommitError::NoSuchTask(_) => Code::NoSuchTask,
            CommitError::Port(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        let code = match error {
            LoadError::Absent(_) => Code::NotFound,
            LoadError::Refused(_) => Code::Refused,
            LoadError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
