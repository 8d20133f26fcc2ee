//! Every kind of bad input gets an answer that says what is wrong, where, and what to do; and changes nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::Server;

const NOBODY: &str = "/api/v1/tasks/019aa000-0000-7000-8000-000000000000";

/// Method, path, content type, body; status and code of the answer.
type Case = (&'static str, String, &'static str, String, u16, &'static str);

#[rustfmt::skip]
fn bad_paths_and_queries() -> Vec<Case> {
    let of = |method, path: &str, status, code| (method, path.to_owned(), "", String::new(), status, code);
    let nobodys = |method, rest: &str, status, code| of(method, &format!("{NOBODY}{rest}"), status, code);
    vec![
        of("GET", "/api/v1/nothing", 404, "not_found"),
        of("GET", "/api", 404, "not_found"),
        of("PUT", "/api/v1/tasks", 405, "method_not_allowed"),
        of("POST", "/api/v1/events", 405, "method_not_allowed"),
        of("GET", "/api/v1/tasks/seven", 404, "no_such_task"),
        of("GET", "/api/v1/tasks/%2e%2e%2f", 404, "no_such_task"),
        of("GET", "/api/v1/tasks/00000000-0000-0000-0000-000000000000/events", 404, "no_such_task"),
        nobodys("GET", "", 404, "no_such_task"),
        nobodys("DELETE", "", 404, "no_such_task"),
        nobodys("POST", "/cancel", 404, "no_such_task"),
        nobodys("POST", "/retry", 404, "no_such_task"),
        nobodys("GET", "/events", 404, "no_such_task"),
        nobodys("GET", "/model", 404, "no_such_task"),
        nobodys("GET", "/model?which=worst", 422, "invalid_query"),
        nobodys("GET", "/events?limit=100001", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?limit=0", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?limit=1001", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?limit=1&limit=2", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?state=lost", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?cursor=%00", 422, "invalid_query"),
        of("GET", "/api/v1/tasks?colour=blue", 422, "invalid_query"),
        of("GET", "/api/v1/events?after=yesterday", 422, "invalid_query"),
        of("POST", "/api/v1/system/trainers/9/crash", 404, "not_found"),
        of("POST", "/api/v1/system/trainers/x/crash", 404, "not_found"),
        of("POST", "/api/v1/system/actors/supervisor/crash", 404, "not_found"),
        of("GET", "/api/v1/datasets/cifar", 404, "not_found"),
        of("POST", "/api/v1/datasets/cifar/warm", 404, "not_found"),
    ]
}

fn bad_bodies() -> Vec<Case> {
    let of = |content_type, body: &str, status, code| {
        ("POST", "/api/v1/tasks".to_owned(), content_type, body.to_owned(), status, code)
    };
    let json = "application/json";
    vec![
        of(json, "", 400, "malformed_json"),
        of(json, "{\"model\": ", 400, "malformed_json"),
        of(json, "\u{0}", 400, "malformed_json"),
        of(json, &"[".repeat(2_000), 400, "malformed_json"),
        of(json, "{\"model\": \"mlp\", \"priority\": 1e999}", 400, "malformed_json"),
        of(json, "[]", 422, "invalid_task"),
        of(json, "{}", 422, "invalid_task"),
        of("application/json; charset=utf-8", "{\"model\": \"gpt\"}", 422, "invalid_task"),
        of("", "{\"model\": \"mlp\"}", 415, "not_json"),
        of("text/plain", "{\"model\": \"mlp\"}", 415, "not_json"),
        of(json, &format!("{{\"name\": \"{}\"}}", "x".repeat(5_000)), 413, "body_too_large"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_under_api_is_problem_json_with_a_code() {
    let server = Server::start().await;
    for (method, path, content_type, body, status, code) in bad_paths_and_queries().into_iter().chain(bad_bodies()) {
        let place = format!("{method} {path} {body:.40}");
        let mut request = server.request(method, &path).body(body);
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        let answer = server.send(request).await;
        let place = format!("{place}: {}", answer.text);
        let found = (answer.status.as_u16(), answer.header("content-type"));
        assert_eq!(found, (status, "application/problem+json"), "{place}");
        let problem = answer.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{place}");
        assert_eq!(problem["instance"], path.split('?').next().unwrap(), "{place}");
        assert!(
            ["type", "title", "detail"].iter().all(|field| !problem[field].as_str().unwrap().is_empty()),
            "{place}"
        );
    }
    assert_eq!(server.get("/api/v1/tasks").await.json()["items"], json!([]), "nothing of this has made a task");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_a_body_is_named_at_once_by_its_place() {
    let server = Server::start().await;
    let body = json!({"model": "gpt", "colour": "blue", "priority": "high",
        "hyperparameters": {"epochs": 0, "learning_rate": "fast", "momentum": 0.9}});
    let answer = server.post("/api/v1/tasks", &body).await;
    let problem = answer.json();
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    for pointer in [
        "/model",
        "/colour",
        "/priority",
        "/hyperparameters/epochs",
        "/hyperparameters/learning_rate",
        "/hyperparameters/momentum",
    ] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
        assert!(problem["detail"].as_str().unwrap().contains(pointer));
    }
    let query = server.get("/api/v1/tasks?limit=x&state=y").await.json();
    assert_eq!(query["errors"].as_array().unwrap().len(), 2);
    assert_eq!(query["errors"][0]["parameter"], "state");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_headers_are_refused_by_name() {
    let server = Server::start().await;
    let id = server.submit(1).await;
    let long = "k".repeat(256);
    let events = format!("/api/v1/tasks/{id}/events");
    for (method, path, header, value) in [
        ("POST", "/api/v1/tasks", "Idempotency-Key", ""),
        ("POST", "/api/v1/tasks", "Idempotency-Key", long.as_str()),
        ("POST", "/api/v1/tasks", "Idempotency-Key", "schlüssel"),
        ("GET", "/api/v1/events", "Last-Event-ID", "one"),
        ("GET", events.as_str(), "Last-Event-ID", "-1"),
    ] {
        let request = server.request(method, path).header(header, value.as_bytes()).json(&json!({"model": "mlp"}));
        let answer = server.send(request).await;
        assert_eq!(answer.status, 422, "{header}: {value}");
        assert_eq!(answer.json()["errors"][0]["header"], header.to_ascii_lowercase());
    }
    // An id that the task cannot have had would wait for ever.
    assert_eq!(server.get(&format!("{events}?after={}", u64::MAX)).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::start().await;
    let under_api = server.send(server.request("PATCH", "/api/v1/tasks")).await;
    assert_eq!((under_api.status.as_u16(), under_api.header("allow")), (405, "POST, GET, HEAD"));
    let outside = server.send(server.request("DELETE", "/health")).await;
    assert_eq!((outside.status.as_u16(), outside.header("allow")), (405, "GET, HEAD"));
    assert_eq!(outside.text, r#"{"detail":"Method Not Allowed"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_bounded_too() {
    let server = Server::start().await;
    for (pieces, status) in [(1, "400"), (40, "413")] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            // The server may have hung up on us by now.
            let _ = socket.write_all(format!("ff\r\n{}\r\n", "x".repeat(255)).as_bytes()).await;
        }
        let _ = socket.write_all(b"0\r\n\r\n").await;
        assert!(read(&mut socket).await.starts_with(&format!("HTTP/1.1 {status}")), "{pieces} pieces");
    }
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dawdles_with_a_head_is_cut_and_nobody_else() {
    let server = Server::start().await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let started = Instant::now();
    assert_eq!(server.get("/livez").await.status, 200);
    let answer = tokio::time::timeout(Duration::from_secs(15), read(&mut slow)).await.expect("it is cut");
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() > Duration::from_secs(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_refused_and_the_server_lives() {
    let server = Server::start().await;
    let huge = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    for nonsense in ["\r\n\r\n\u{1}\u{2}garbage\r\n\r\n", "GET\r\n\r\n", huge.as_str()] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let _ = socket.write_all(nonsense.as_bytes()).await;
        assert!(!read(&mut socket).await.starts_with("HTTP/1.1 2"));
    }
    assert_eq!(server.get("/livez").await.status, 200);
}

/// What the server says until it has said an answer or hung up.
async fn read(socket: &mut TcpStream) -> String {
    let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        match socket.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
        }
        if answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission_nothing_can_be_crashed() {
    let server = Server::start_with(4, Duration::from_millis(5), false).await;
    for path in ["/api/v1/system/trainers/0/crash", "/api/v1/system/actors/log_relay/crash"] {
        assert_eq!(server.post(path, &Value::Null).await.status, 404);
    }
}
