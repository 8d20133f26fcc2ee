//! Event streams: everything once and in order, however the connection fares.

use std::time::Duration;

use kubeml_actors::{event::LogLevel, timestamp::Timestamp};
use serde_json::json;

use crate::{
    server::Server,
    stream::{Event, Stream},
};

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tasks_stream_begins_at_its_beginning_and_ends_with_its_end() {
    let server = Server::start().await;
    let id = server.submit(2).await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut stream = Stream::open(&server, &path, None).await;
    let header = |name: &str| stream.response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!((header("cache-control").as_str(), header("x-accel-buffering").as_str()), ("no-cache", "no"));
    assert_eq!(stream.next_frame().await.unwrap().retry, Some(2_000));

    let events = stream.rest().await;
    let names: Vec<&str> = events.iter().map(Event::name).filter(|name| *name != "progress").collect();
    assert_eq!(names.first(), Some(&"queued"));
    assert_eq!(names.iter().filter(|name| **name == "epoch_finished").count(), 2);
    assert_eq!((names.last(), names.iter().filter(|name| **name == "succeeded").count()), (Some(&"succeeded"), 1));
    for event in &events {
        let data = event.json();
        assert_eq!((&data["task_id"], data["kind"].as_str().unwrap()), (&json!(id), event.name()));
        assert_eq!(data["seq"].to_string(), event.id.clone().unwrap());
    }
    assert_eq!(events.last().unwrap().json()["weights_sha256"], server.world.engine.expected_weights(1, 2));

    let last = events.last().unwrap().id.clone().unwrap();
    let again = server.send(server.request("GET", &path).header("Last-Event-ID", &last)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (204, ""));
    assert_eq!(server.get(&format!("{path}?after={last}")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_goes_on_where_it_was_cut() {
    let server = Server::start().await;
    let id = server.submit(6).await;
    let path = format!("/api/v1/tasks/{id}/events");
    let mut heard: Vec<Event> = Vec::new();
    loop {
        let last = heard.last().and_then(|event| event.id.clone());
        let mut stream = Stream::open(&server, &path, last.as_deref()).await;
        // Two events a connection, then it is dropped.
        for _ in 0..2 {
            heard.extend(stream.next().await);
        }
        if heard.last().is_some_and(|event| event.name() == "succeeded") {
            break;
        }
    }
    let whole = Stream::open(&server, &path, None).await.rest().await;
    assert_eq!(ids(&heard), ids(&whole));
    assert_eq!(heard, whole);
}

/// Until the task's last fact has been told.
async fn until_announced(server: &Server, id: &str) {
    while !server.world.record(id.parse().expect("it is an id")).await.announced {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_everything_starts_now_or_after_an_id() {
    let server = Server::start().await;
    let before = server.submit(1).await;
    server.wait_for(&before, "succeeded").await;
    until_announced(&server, &before).await;
    let mut live = Stream::open(&server, "/api/v1/events", None).await;
    assert_eq!(live.next_frame().await.unwrap().retry, Some(2_000));
    server.tree.context.log_line(LogLevel::Info, "mnist: half of it".to_owned()).await.unwrap();
    let after = server.submit(1).await;
    let heard = live.until("succeeded").await;
    let line = &heard[0];
    assert_eq!((line.name(), &line.json()["task_id"]), ("log", &json!(null)));
    assert_eq!(line.json()["message"], "mnist: half of it");
    assert!(heard[1..].iter().all(|event| event.json()["task_id"] == json!(after)));

    let first = heard[0].id.clone().unwrap();
    let replayed = Stream::open(&server, "/api/v1/events", Some(&first)).await.until("succeeded").await;
    assert_eq!(replayed, heard[1..]);
    let path = format!("/api/v1/events?after={first}");
    assert_eq!(Stream::open(&server, &path, None).await.until("succeeded").await, replayed);
    let everything = Stream::open(&server, "/api/v1/events?after=0", None).await.until("succeeded").await;
    assert_eq!(everything[0].json()["task_id"], json!(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_log_is_answered_with_a_gap_and_everything() {
    let server = Server::start().await;
    let id = server.submit(1).await;
    let mut stream = Stream::open(&server, "/api/v1/events", Some("999999999")).await;
    let events = stream.until("succeeded").await;
    assert_eq!((events[0].name(), events[0].id.as_deref()), ("gap", Some("0")));
    assert!(events[0].json()["reason"].is_string());
    let mut again = Stream::open(&server, "/api/v1/events", events[0].id.as_deref()).await;
    assert_eq!(again.until("succeeded").await, events[1..], "the gap is sent once");
    assert_eq!((events[1].name(), &events[1].json()["task_id"]), ("queued", &json!(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_trimmed_history_the_gap_and_the_end_are_told() {
    let server = Server::start().await;
    let id = server.submit(1).await;
    Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await.rest().await;
    until_announced(&server, &id).await;
    assert!(server.world.ports.events.trim(Timestamp(u64::MAX)).await.unwrap() > 0);
    let events = Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await.rest().await;
    assert_eq!(events.iter().map(Event::name).collect::<Vec<_>>(), ["gap", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_accepts_json_only_gets_pages() {
    let server = Server::start().await;
    let id = server.submit(2).await;
    server.wait_for(&id, "succeeded").await;
    let whole = Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await.rest().await;
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/tasks/{id}/events?limit=3&after={after}");
        let page = server.send(server.request("GET", &path).header("Accept", "application/json")).await.json();
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, whole.iter().map(Event::json).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_hear_the_same() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = Stream::open(&server, "/api/v1/events", None).await;
        stream.next_frame().await.unwrap();
        streams.push(stream);
    }
    assert!(server.get("/metrics").await.text.contains("\nkubeml_sse_clients 200\n"));
    server.submit(1).await;
    let mut heard: Vec<Vec<Event>> = Vec::new();
    for mut stream in streams {
        heard.push(stream.until("succeeded").await);
    }
    assert!(heard.iter().all(|events| *events == heard[0]), "every client hears everything, in order");
    assert_eq!(heard[0][0].name(), "queued");
    let gone = async {
        while !server.get("/metrics").await.text.contains("\nkubeml_sse_clients 0\n") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("closed streams are not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_server_says_goodbye_and_a_draining_one_goes_on() {
    let server = Server::start_slow().await;
    let id = server.submit(1).await;
    server.wait_for(&id, "running").await;
    let mut one = Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await;
    let mut all = Stream::open(&server, "/api/v1/events", None).await;
    let mut old = Stream::open(&server, "/logs/stream", None).await;
    one.until("claimed").await;

    server.phase.drain();
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get(&format!("/api/v1/tasks/{id}")).await.status, 200);
    for path in ["/api/v1/tasks", "/send_task/mlp"] {
        let refused = server.post(path, &json!({"model": "mlp"})).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    }
    one.until("progress").await;

    server.phase.close();
    for stream in [&mut one, &mut all, &mut old] {
        let rest = stream.rest().await;
        let bye = rest.last().unwrap();
        assert_eq!((bye.name(), &bye.id), ("bye", &None));
        assert!(bye.json().is_object());
    }
    tokio::time::timeout(Duration::from_secs(2), server.serving).await.expect("it ends in time").unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}
