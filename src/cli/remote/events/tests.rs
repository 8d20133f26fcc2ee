//! How a client handles a server that cuts its streams, refuses requests, or sends events of unknown kinds.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const STREAM: &str = "200 OK\r\ncontent-type: text/event-stream";

/// A server that answers one request per connection, in this order, and returns the heads of what was asked.
struct Scripted {
    url: String,
    asked: JoinHandle<Vec<String>>,
}

impl Scripted {
    async fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (head, body) in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(socket.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8(request).unwrap());
                let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        Self { url, asked }
    }

    fn events(&self) -> RemoteEvents {
        Remote::new(&self.url).unwrap().events(TaskId::fresh())
    }

    /// The ids after which each request asked to go on.
    async fn resumed_after(self) -> Vec<Option<String>> {
        let asked = timeout(LIMIT, self.asked).await.expect("every answer is asked for").unwrap();
        let id = |head: String| head.lines().find_map(|line| line.strip_prefix("last-event-id: ").map(str::to_owned));
        asked.into_iter().map(id).collect()
    }
}

fn message(kind: &str, id: u64, more: serde_json::Value) -> String {
    let mut data = json!({"task_id": null, "seq": id, "at": "2026-01-01T00:00:00Z", "attempt": 1, "kind": kind});
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("id:{id}\nevent:{kind}\ndata:{data}\n\n")
}

fn claimed(id: u64) -> String {
    message("claimed", id, json!({"worker_id": "node-1/0"}))
}

fn cancelled(id: u64) -> String {
    message("cancelled", id, json!({}))
}

async fn next(events: &mut RemoteEvents) -> Result<Option<u64>, RemoteError> {
    let next = timeout(LIMIT, events.next()).await.expect("an answer in time");
    next.map(|event| event.map(|event| event.seq))
}

#[tokio::test]
async fn events_before_a_bad_one_are_told_and_the_bad_one_is_not_asked_for_again() {
    let bad = message("claimed", 2, json!({}));
    let server = Scripted::start(vec![(STREAM, format!("{}{bad}{}", claimed(1), cancelled(3)))]).await;
    let mut events = server.events();
    assert_eq!(next(&mut events).await.unwrap(), Some(1));
    let error = next(&mut events).await.unwrap_err();
    assert!(matches!(&error, RemoteError::NoEvent { why, .. } if why.contains("worker_id")), "{error}");
    assert_eq!(server.resumed_after().await, [None]);
}

#[tokio::test]
async fn a_cut_stream_is_resumed_after_the_last_event() {
    let half = claimed(3)[..20].to_owned();
    let body_that_is_longer = "200 OK\r\ncontent-length: 5000";
    let server = Scripted::start(vec![
        (STREAM, format!("retry:2000\n\n{}{}{half}", claimed(1), claimed(2))),
        (body_that_is_longer, claimed(3)),
        (STREAM, cancelled(4)),
    ])
    .await;
    let mut events = server.events();
    for expected in 1..=4 {
        assert_eq!(next(&mut events).await.unwrap(), Some(expected));
    }
    assert_eq!(next(&mut events).await.unwrap(), None);
    let after = |id: &str| Some(id.to_owned());
    assert_eq!(server.resumed_after().await, [None, after("2"), after("3")]);
}

#[tokio::test]
async fn a_server_that_is_overloaded_or_starting_is_asked_again() {
    let server = Scripted::start(vec![
        ("503 Service Unavailable", String::new()),
        ("429 Too Many Requests", String::new()),
        (STREAM, claimed(1)),
        ("204 No Content", String::new()),
    ])
    .await;
    let mut events = server.events();
    assert_eq!(next(&mut events).await.unwrap(), Some(1));
    assert_eq!(next(&mut events).await.unwrap(), None);
    assert_eq!(server.resumed_after().await, [None, None, None, Some("1".to_owned())]);
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    for head in ["404 Not Found", "400 Bad Request", "403 Forbidden"] {
        let server = Scripted::start(vec![(head, "there is no such task".to_owned())]).await;
        let error = next(&mut server.events()).await.unwrap_err();
        assert!(error.to_string().contains("there is no such task"), "{error}");
        assert_eq!(server.resumed_after().await, [None], "{head}");
    }
}

#[tokio::test]
async fn kinds_that_are_not_known_are_passed_over_and_their_ids_kept() {
    let news = message("teleported", 2, json!({"to": "the moon"}));
    let gap = "event:gap\ndata:{\"kind\":\"gap\",\"reason\":\"some are gone\"}\n\n";
    let server = Scripted::start(vec![
        (STREAM, format!(":keep-alive\n\n{gap}{}{news}event:bye\ndata:{{}}\n\ndata:unnamed\n\n", claimed(1))),
        (STREAM, cancelled(3)),
    ])
    .await;
    let mut events = server.events();
    assert_eq!(next(&mut events).await.unwrap(), Some(1));
    assert_eq!(next(&mut events).await.unwrap(), Some(3));
    assert_eq!(server.resumed_after().await, [None, Some("2".to_owned())]);
}

#[test]
fn what_the_server_calls_its_events_is_known() {
    let known = ["queued", "claimed", "progress", "epoch_finished", "log", "attempt_failed", "succeeded", "cancelled"];
    assert!(known.into_iter().all(is_known));
    assert!(!["gap", "bye", "message", "Queued", ""].into_iter().any(is_known));
}
