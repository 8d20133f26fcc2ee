//! Health, metrics, faults on purpose, foreign pages, and the server's own page.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    server::{OLD_PAGE, Server},
    stream::Stream,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_lives_and_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.get("/livez").await.text, r#"{"status":"alive"}"#);
    for path in ["/readyz", "/healthz", "/readyz?verbose"] {
        let ready = server.get(path).await;
        assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &json!("ready")));
        assert_eq!(ready.json()["checks"], json!({"store": "ok", "bus": "ok", "cache": "ok", "phase": "ok"}));
    }
    let head = server.send(server.request("HEAD", "/livez")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_never_by_what_was_asked_for() {
    let server = Server::start().await;
    let id = server.submit(1).await;
    server.wait_for(&id, "succeeded").await;
    for path in ["/api/v1/tasks/one", "/api/v1/tasks/two", "/no/such/route", "/cache_to_redis/x"] {
        server.get(path).await;
    }
    server.send(server.request("BREW", "/livez")).await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"kubeml_http_requests_total{method="POST",route="/api/v1/tasks",status="201"} 1"#,
        r#"kubeml_http_requests_total{method="GET",route="/api/v1/tasks/{id}",status="404"} 2"#,
        r#"kubeml_http_requests_total{method="GET",route="none",status="404"} 1"#,
        r#"kubeml_http_requests_total{method="GET",route="none",status="405"} 1"#,
        r#"kubeml_http_requests_total{method="other",route="none",status="405"} 1"#,
        r#"kubeml_tasks{state="succeeded"}"#,
        r#"kubeml_actor_restarts_total{actor="trainer"} 0"#,
        r#"kubeml_train_samples_total{model="mlp"}"#,
        "kubeml_build_info{",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.text.lines().any(|shown| shown.starts_with(line)), "{line} is not in\n{}", metrics.text);
    }
    assert!(!metrics.text.contains(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_crashed_on_purpose_comes_back_and_loses_nothing() {
    let server = Server::start().await;
    let id = server.submit(40).await;
    let mut stream = Stream::open(&server, &format!("/api/v1/tasks/{id}/events"), None).await;
    let mut heard = stream.until("epoch_finished").await;
    let actors =
        ["task_dispatcher", "reconciler", "dataset_loader", "cache_warmer", "log_relay", "trainer", "trainer_pool"];
    for actor in actors {
        let crashed = server.post(&format!("/api/v1/system/actors/{actor}/crash"), &Value::Null).await;
        assert_eq!((crashed.status.as_u16(), crashed.json()), (202, json!({"crashed": actor})));
        heard.extend(stream.until("epoch_finished").await);
    }
    let crashed = server.post("/api/v1/system/trainers/0/crash", &Value::Null).await;
    assert_eq!((crashed.status.as_u16(), crashed.json()), (202, json!({"crashed": "trainer/0"})));
    heard.extend(stream.rest().await);
    let ids: HashSet<_> = heard.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), heard.len(), "nothing is told twice");
    let epochs: Vec<Value> = heard
        .iter()
        .filter(|event| event.name() == "epoch_finished")
        .map(|event| event.json()["epoch"].clone())
        .collect();
    assert_eq!(epochs, (1..=40).map(Value::from).collect::<Vec<_>>());
    let done = server.wait_for(&id, "succeeded").await;
    assert_eq!(done["weights_sha256"], server.world.engine.expected_weights(1, 40));
    let metrics = server.get("/metrics").await.text;
    for actor in actors {
        let none = format!("kubeml_actor_restarts_total{{actor=\"{actor}\"}} 0");
        assert!(!metrics.contains(&none), "{actor} was restarted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_may_call_and_others_may_change_nothing() {
    let server = Server::start().await;
    let ask = |method, path, origin: &str| server.request(method, path).header("Origin", origin);
    let friend = server.send(ask("GET", "/health", OLD_PAGE)).await;
    assert_eq!((friend.header("access-control-allow-origin"), friend.header("vary")), (OLD_PAGE, "origin"));
    assert_eq!(friend.header("access-control-allow-credentials"), "");
    let failed = server.send(ask("GET", "/get_from_redis/nobody", OLD_PAGE)).await;
    assert_eq!((failed.status.as_u16(), failed.header("access-control-allow-origin")), (500, OLD_PAGE));
    let preflight = ask("OPTIONS", "/api/v1/tasks", OLD_PAGE).header("Access-Control-Request-Method", "POST");
    let preflight = server.send(preflight).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-origin")), (204, OLD_PAGE));
    assert!(preflight.header("access-control-allow-headers").contains("idempotency-key"));

    let stranger = "https://evil.example";
    let read = server.send(ask("GET", "/health", stranger)).await;
    assert_eq!((read.status.as_u16(), read.header("access-control-allow-origin")), (200, ""));
    for path in ["/send_task/mlp", "/api/v1/tasks"] {
        for origin in [stranger, "null"] {
            let refused = server.send(ask("POST", path, origin).json(&json!({"model": "mlp"}))).await;
            assert_eq!(refused.status, 403, "{path} for {origin}");
        }
    }
    let own = server.send(ask("POST", "/send_task/mlp", &server.url)).await;
    assert_eq!(own.status, 200, "the server's own page may");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docs_list_every_route() {
    let server = Server::start().await;
    let docs = server.get("/docs").await;
    assert_eq!((docs.status.as_u16(), docs.header("content-type")), (200, "text/html; charset=utf-8"));
    for route in
        ["<td>POST<td><code>/api/v1/tasks</code>", "<td>GET<td><code>/logs/stream</code>", "/api/v1/tasks/{id}/cancel"]
    {
        assert!(docs.text.contains(route), "{route} is not in {}", docs.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_with_a_strict_policy_and_brings_everything_along() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("<style") && !page.text.contains(" style=") && !page.text.contains("onclick"));
    assert!(!page.text.contains("https://"), "nothing is fetched from elsewhere");
    for (path, content_type) in
        [("/assets/app.js", "text/javascript; charset=utf-8"), ("/assets/app.css", "text/css; charset=utf-8")]
    {
        assert!(page.text.contains(path));
        let asset = server.get(path).await;
        assert_eq!((asset.status.as_u16(), asset.header("content-type")), (200, content_type));
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
        let request = server.request("GET", path).header("If-None-Match", asset.header("etag"));
        assert_eq!(server.send(request).await.status, 304);
    }
    for path in ["/assets/secret", "/assets/..%2fhttp.rs", "/assets/"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}
