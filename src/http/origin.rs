//! Which pages may call: this server's own, and those of the configured origins. Never any page there is.
//!
//! Written here since a filter of the framework would refuse the server's own page: browsers name the origin of every
//! POST, also of a page that calls its own server.

use warp::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{
    call::empty,
    error::{Code, Problem},
};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static("content-type, idempotency-key, last-event-id");
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static("location, link, etag, retry-after");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Whose page asks.
pub enum Asking {
    /// No page, this server's own, or one that may not read what it gets.
    Plain,
    /// A page of a configured origin.
    Friend(HeaderValue),
    /// The same, asking whether it may ask.
    Preflight(HeaderValue),
    /// A stranger that wants something changed.
    Refused(Problem),
}

pub fn judge(method: &Method, headers: &HeaderMap, allowed: &[String]) -> Asking {
    let Some(origin) = headers.get(header::ORIGIN) else { return Asking::Plain };
    let asks_first = *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        let origin = origin.clone();
        return if asks_first { Asking::Preflight(origin) } else { Asking::Friend(origin) };
    }
    if is_own(origin, headers) || matches!(*method, Method::GET | Method::HEAD) {
        return Asking::Plain;
    }
    let shown = String::from_utf8_lossy(origin.as_bytes()).into_owned();
    let detail = format!("pages of {shown} may not call this server; add the origin to [http] cors_origins");
    Asking::Refused(Problem::new(Code::ForeignOrigin, detail))
}

/// Whether the page came from the host that it asks.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some() && authority == headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

/// What a preflight is answered.
pub fn preflight(origin: HeaderValue) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    permit(&mut response, origin);
    response
}

/// Lets a page of `origin` read the answer.
pub fn permit(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
