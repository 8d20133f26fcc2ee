//! What the older system's clients rely on, to the letter.

use kubeml_actors::{
    event::{EventKind, LogLevel, Seq, TaskEvent},
    task::TaskId,
    testing::test_tree::World,
    timestamp::Timestamp,
};
use serde_json::json;

use crate::{server::Server, stream::Stream};

#[tokio::test(flavor = "multi_thread")]
async fn values_are_kept_and_given_back() {
    let server = Server::start().await;
    let put = |key: &str, body: &'static str| {
        server.send(server.request("POST", &format!("/cache_to_redis/{key}")).body(body))
    };
    let stored = put("k1", r#"{"value": "v1"}"#).await;
    let expected = r#"{"status":"Data cached successfully","key":"k1","value":{"value":"v1"}}"#;
    assert_eq!((stored.status.as_u16(), stored.text.as_str()), (200, expected));
    assert_eq!(stored.header("content-type"), "application/json");
    put("test%5fkey", r#"{"value": "Hello, Redis!"}"#).await;
    let got = server.get("/get_from_redis/test_key").await;
    let expected = r#"{"status":"Data fetched successfully","key":"test_key","value":{"value":"Hello, Redis!"}}"#;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (200, expected));
    let unknown = server.get("/get_from_redis/nobody").await;
    let expected = r#"{"detail":"Failed to fetch data from Redis cache."}"#;
    assert_eq!((unknown.status.as_u16(), unknown.text.as_str()), (500, expected));
    for no_object in ["[]", "7", "null", "\"x\""] {
        let refused = put("k1", no_object).await;
        let expected = r#"{"detail":[{"loc":["body"],"msg":"value is not a valid dict","type":"type_error.dict"}]}"#;
        assert_eq!((refused.status.as_u16(), refused.text.as_str()), (422, expected));
    }
    let broken = put("k1", "{").await;
    assert_eq!((broken.status.as_u16(), &broken.json()["detail"][0]["type"]), (422, &json!("value_error.jsondecode")));
    let big = server.request("POST", "/cache_to_redis/k1").body("x".repeat(5_000));
    assert_eq!(server.send(big).await.status, 413);
    assert_eq!(put("%00", "{}").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_are_stored_and_cached_by_the_older_routes() {
    let server = Server::start().await;
    let early = server.get("/store_data_from_cassandra_to_redis").await;
    assert_eq!(early.status, 500);
    assert!(early.text.starts_with(r#"{"detail":"Failed to fetch data: "#), "{}", early.text);
    for _ in 0..2 {
        let stored = server.send(server.request("POST", "/store_mnist_dataset_to_cassandra")).await;
        assert_eq!(
            (stored.status.as_u16(), stored.text.as_str()),
            (200, r#"{"status":"mnist data successfully stored."}"#)
        );
    }
    server.send(server.request("DELETE", "/api/v1/cache")).await;
    for expected in [r#"{"status":"Data fetched from Redis cache","cached":true}"#, r#"{"cached":true}"#] {
        let cached = server.get("/store_data_from_cassandra_to_redis").await;
        assert_eq!((cached.status.as_u16(), cached.text.as_str()), (200, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_routes_answer_as_they_were_meant_to() {
    let server = Server::start().await;
    for (method, path, status, body) in [
        ("GET", "/kafka-status", 200, r#"{"status":"Kafka is reachable"}"#),
        (
            "GET",
            "/test-producer",
            200,
            r#"{"status":"Message sent","message":{"task_type":"mlp","data":"Hello from Master"}}"#,
        ),
        ("POST", "/send_task/gpt", 400, r#"{"detail":"Invalid task type"}"#),
        ("GET", "/send_task/mlp", 405, r#"{"detail":"Method Not Allowed"}"#),
        ("GET", "/nothing", 404, r#"{"detail":"Not Found"}"#),
        ("GET", "/get_from_redis", 404, r#"{"detail":"Not Found"}"#),
    ] {
        let answer = server.send(server.request(method, path)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, body), "{method} {path}");
    }
    let health = server.get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["status"]), (200, &json!("KubeML is running")));
    assert_eq!(health.json()["db_status"], "Cassandra  and Redis is connected");
    assert_eq!(server.get("/api/v1/tasks").await.json()["items"], json!([]), "nobody trains a test message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_task_is_trained_and_told_line_by_line() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/logs/stream", None).await;
    assert_eq!(stream.response.headers()["content-type"], "text/event-stream; charset=utf-8");
    stream.next_frame().await.unwrap();
    server.tree.context.log_line(LogLevel::Info, "mnist: 45 of 45".to_owned()).await.unwrap();
    let sent = server.send(server.request("POST", "/send_task/lstm")).await;
    assert_eq!((sent.status.as_u16(), &sent.json()["message"]), (200, &json!("Task lstm sent to Kafka")));
    let id = sent.json()["task_id"].as_str().unwrap().to_owned();
    let view = server.get(&format!("/api/v1/tasks/{id}")).await.json();
    assert_eq!((&view["spec"]["model"], &view["spec"]["dataset"]), (&json!("lstm"), &json!("mnist")));

    let (mut lines, mut first) = (Vec::new(), None);
    while lines.last().is_none_or(|line: &String| !line.contains("\"result\"")) {
        let event = stream.next().await.unwrap();
        assert_eq!(event.name, None, "the older page hears unnamed events only");
        first = first.or(event.id);
        lines.push(event.data.unwrap());
    }
    assert!(
        lines[0].starts_with(r#"{"log_type": "loading", "message": "mnist: 45 of 45", "task_id": null, "seq": "#),
        "{lines:?}"
    );
    let expected = format!(
        r#"{{"log_type": "training", "message": "node-1/0 is training lstm model...", "task_id": "{id}", "seq": "#
    );
    assert!(lines.iter().any(|line| line.starts_with(&expected)), "{expected} in {lines:?}");
    let epochs: Vec<&String> = lines.iter().filter(|line| line.contains("\"epoch\"")).collect();
    assert_eq!(epochs.len(), 5);
    for (epoch, (line, accuracy)) in epochs.iter().zip(["0.500", "0.750", "0.875", "0.938", "0.969"]).enumerate() {
        let expected = format!(
            r#"{{"task_type": "lstm", "epoch": {epoch}, "accuracy": "{accuracy}", "loss": "0.000", "log_type": "training", "worker_id": "node-1/0", "task_id": "{id}", "seq": "#
        );
        assert!(line.starts_with(&expected), "{expected}\n{line}");
    }
    let expected = format!(
        r#"{{"worker_id": "node-1/0", "log_type": "result", "task_type": "lstm", "accuracy": "0.969", "loss": "0.100", "task_id": "{id}", "seq": "#
    );
    assert!(lines.last().unwrap().starts_with(&expected), "{expected}\n{lines:?}");

    let mut replay = Stream::open(&server, "/logs/stream", first.as_deref()).await;
    for line in &lines[1..] {
        assert_eq!(replay.next().await.unwrap().data.as_ref(), Some(line));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_once_and_not_again_after_each_reconnect() {
    let world = World::new();
    let log = world.ports.events.clone();
    let queued = |at| TaskEvent { task: TaskId::fresh(), seq: Seq::QUEUED, at: Timestamp(at), kind: EventKind::Queued };
    log.append(&[queued(1), queued(2)]).await.unwrap();
    assert_eq!(log.trim(Timestamp(10)).await, Ok(2));
    // What follows the gap has no line, and so brings no id.
    log.append(&[queued(20)]).await.unwrap();
    let server = Server::over(world, false).await;
    let gap = Stream::open(&server, "/logs/stream", Some("1")).await.next().await.unwrap();
    assert_eq!((gap.name(), gap.id.as_deref()), ("gap", Some("3")));
    let mut again = Stream::open(&server, "/logs/stream", gap.id.as_deref()).await;
    server.tree.context.log_line(LogLevel::Info, "mnist: 45 of 45".to_owned()).await.unwrap();
    let line = again.next().await.unwrap();
    assert!(line.name.is_none() && line.data.as_ref().unwrap().contains("45 of 45"), "{line:?}");
}
