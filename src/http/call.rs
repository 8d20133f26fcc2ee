//! A request as its handler sees it: who answers, headers, query, body; each read with bounds and clear errors.

use std::{convert::Infallible, fmt, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use kubeml_actors::task::TaskId;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use warp::{
    Filter, Rejection,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    Api,
    error::{Code, Problem},
};

pub type Answer = Result<Response, Problem>;

/// Between two pieces of a body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);

pub struct Call {
    pub api: Arc<Api>,
    pub headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>,
}

/// The last thing a route does before its handler: it takes everything the handler may want.
pub fn call(api: &Arc<Api>) -> impl Filter<Extract = (Call,), Error = Rejection> + Clone + Send + Sync + 'static {
    let api = api.clone();
    warp::any()
        .map(move || api.clone())
        .and(warp::header::headers_cloned())
        .and(warp::query::<Vec<(String, String)>>())
        .and(warp::body::stream())
        .map(Call::new)
}

impl Call {
    fn new<S, B>(api: Arc<Api>, headers: HeaderMap, query: Vec<(String, String)>, body: S) -> Self
    where
        S: Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static,
        B: Buf,
    {
        let body = body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())));
        Self { api, headers, query, body: Box::pin(body) }
    }

    /// A header's text; what is not visible ASCII is a problem.
    pub fn header(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let text = self.headers.get(name).map(HeaderValue::to_str).transpose();
        text.map_err(|_| Problem::invalid_header(name, "expected visible ASCII characters"))
    }

    /// Whether the client prefers `wanted` to a stream.
    pub fn accepts_only(&self, wanted: &str) -> bool {
        let accept = self.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept.contains(wanted) && !accept.contains("text/event-stream")
    }

    /// The parameters of `known`; others, and one given twice, are problems.
    pub fn query(&self, known: &'static [&'static str]) -> Query<'_> {
        let mut query = Query { given: &self.query, problems: Vec::new() };
        for (index, (name, _)) in self.query.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                query.problem(name, format!("unknown parameter; known here: {known}"));
            } else if self.query[..index].iter().any(|(earlier, _)| earlier == name) {
                query.problem(name, "given twice".to_owned());
            }
        }
        query
    }

    /// The body, up to the configured bound, however it is sent.
    pub async fn body(&mut self) -> Result<Bytes, Problem> {
        let limit = self.api.config.body_bytes_max;
        let too_large = || Problem::new(Code::BodyTooLarge, format!("the body is larger than {limit} bytes"));
        let announced = self.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        loop {
            let piece = timeout(BODY_PAUSE_MAX, self.body.next()).await.map_err(|_| {
                let seconds = BODY_PAUSE_MAX.as_secs();
                Problem::new(Code::BodyTimeout, format!("nothing more of the body arrived for {seconds} s"))
            })?;
            match piece {
                None => return Ok(body.freeze()),
                Some(Ok(piece)) if body.len() + piece.len() > limit => return Err(too_large()),
                Some(Ok(piece)) => body.extend_from_slice(&piece),
                Some(Err(error)) => {
                    return Err(Problem::new(Code::BadRequest, format!("cannot read the body: {error}")));
                }
            }
        }
    }

    /// The body as JSON, if its content type says so.
    pub async fn json(&mut self) -> Result<Value, Problem> {
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|it| it.split(';').next()).map(|it| it.trim().to_ascii_lowercase());
        if media_type.as_deref() != Some("application/json") {
            let found = content_type.map_or_else(|| "nothing".to_owned(), |it| format!("{it:?}"));
            let detail = format!("Content-Type: expected application/json, found {found}");
            return Err(Problem::new(Code::NotJson, detail));
        }
        let body = self.body().await?;
        serde_json::from_slice(&body).map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))
    }
}

/// Reads parameters and collects what is wrong with them.
pub struct Query<'a> {
    given: &'a [(String, String)],
    problems: Vec<(String, String)>,
}

impl Query<'_> {
    /// An empty value is as good as none.
    pub fn get<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let (_, value) = self.given.iter().find(|(given, value)| given == name && !value.is_empty())?;
        let read = value.parse().ok();
        if read.is_none() {
            let value: String = value.chars().take(80).collect();
            self.problem(name, format!("expected {expected}, found {value:?}"));
        }
        read
    }

    pub fn limit(&mut self, default: usize, max: usize) -> usize {
        let expected = format!("a whole number from 1 to {max}");
        let limit = self.get("limit", &expected).unwrap_or(default);
        if !(1..=max).contains(&limit) {
            self.problem("limit", format!("expected {expected}, found {limit}"));
        }
        limit
    }

    pub fn finish(self) -> Result<(), Problem> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problem::invalid_query(self.problems)) }
    }

    fn problem(&mut self, name: &str, problem: String) {
        self.problems.push((name.to_owned(), problem));
    }
}

/// `{id}` in a path.
pub struct Id(String);

impl Id {
    pub fn task(&self) -> Result<TaskId, Problem> {
        let shown: String = self.0.chars().take(80).collect();
        self.0.parse().map_err(|_| Problem::new(Code::NoSuchTask, format!("{shown:?} is no task id: expected a UUID")))
    }
}

/// Any other text in a path, percent-decoded.
pub struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Id {
    type Err = Infallible;

    fn from_str(segment: &str) -> Result<Self, Infallible> {
        Ok(Self(segment.to_owned()))
    }
}

impl FromStr for Text {
    type Err = Infallible;

    fn from_str(segment: &str) -> Result<Self, Infallible> {
        Ok(Self(percent_decoded(segment)))
    }
}

fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or_default() << 4 | hex(*low).unwrap_or_default());
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer in JSON; the order of fields is that of the type.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(json_text(status, text))
}

pub fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// For values made of what header values may contain.
pub fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
