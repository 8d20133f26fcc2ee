//! Server-sent events: a stream pulls from a feed when its client has room, and holds nothing but the page at hand.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream::unfold};
use kubeml_actors::ports::PortError;
use prometheus::IntGauge;
use serde_json::json;
use tokio::time::sleep;
use warp::{
    Reply,
    http::{HeaderValue, header},
    reply::Response,
    sse::Event,
};

use super::{Api, phase::Phase};

const RECONNECT_AFTER: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// While the log cannot be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Where a stream's events come from.
pub trait Feed: Send + 'static {
    /// Waits for the next events; `None` ends the stream. Cancelling the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<Event>>, PortError>> + Send;
}

/// A stream of `first` and then what `feed` has, until either the feed or the server ends.
pub fn stream(api: &Arc<Api>, first: Vec<Event>, feed: impl Feed) -> Response {
    let mut waiting = VecDeque::from([Event::default().retry(RECONNECT_AFTER)]);
    waiting.extend(first);
    let client = Client::new(&api.metrics.sse_clients);
    let streaming = Streaming { feed, waiting, phase: api.phase.clone(), ended: false, _client: client };
    let events = unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    let events = Exclusive(Mutex::new(Box::pin(events)));
    let keep_alive = warp::sse::keep_alive().interval(KEEP_ALIVE).text("keep-alive");
    let mut response = warp::sse::reply(keep_alive.stream(events)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// History that somebody asked for is not there any more.
pub fn gap(reason: &str) -> Event {
    Event::default().event("gap").data(json!({ "kind": "gap", "reason": reason }).to_string())
}

fn bye() -> Event {
    let reason = "the server is shutting down; connect again and go on after the last id";
    Event::default().event("bye").data(json!({ "kind": "bye", "reason": reason }).to_string())
}

struct Streaming<F> {
    feed: F,
    /// Of the page at hand, what has not been sent.
    waiting: VecDeque<Event>,
    phase: Phase,
    ended: bool,
    _client: Client,
}

impl<F: Feed> Streaming<F> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let closing = self.phase.closing();
            let page = tokio::select! {
                biased;
                () = closing => {
                    self.ended = true;
                    return Some(bye());
                }
                page = self.feed.next() => page,
            };
            match page {
                Ok(Some(events)) => self.waiting.extend(events),
                Ok(None) => self.ended = true,
                Err(error) => {
                    tracing::debug!(%error, "a stream waits for the log");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Counts the stream while it lives.
struct Client(IntGauge);

impl Client {
    fn new(clients: &IntGauge) -> Self {
        clients.inc();
        Self(clients.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The framework wants streams that are `Sync`; whoever polls has this one to himself, so the lock is never taken.
struct Exclusive<S>(Mutex<Pin<Box<S>>>);

impl<S: Stream> Stream for Exclusive<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(context)
    }
}
