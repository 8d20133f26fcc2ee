//! Tasks over HTTP: from submission to the model, and every way to end one.

use serde_json::json;

use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_task_is_trained_and_its_model_can_be_had() {
    let server = Server::start().await;
    let body = json!({"model": "cnn", "name": "first", "tags": ["a"], "priority": 3, "dataset": "mnist",
        "hyperparameters": {"epochs": 2, "seed": 7}});
    let created = server.post("/api/v1/tasks", &body).await;
    let view = created.json();
    let id = view["id"].as_str().unwrap();
    assert_eq!((created.status.as_u16(), created.header("location")), (201, format!("/api/v1/tasks/{id}").as_str()));
    assert_eq!((&view["state"], &view["name"], &view["priority"]), (&json!("pending"), &json!("first"), &json!(3)));
    assert_eq!(view["progress"]["epochs"], 2);
    assert_eq!(view["spec"]["hyperparameters"]["seed"], 7);
    assert!(view["metrics"]["last"]["loss"].is_number());

    let done = server.wait_for(id, "succeeded").await;
    assert_eq!(done["worker_id"], "node-1/0");
    assert_eq!(done["weights_sha256"], server.world.engine.expected_weights(7, 2));
    assert_eq!(done["dataset"]["name"], "mnist");
    assert!(done["finished_at"].as_str().unwrap().ends_with('Z'), "{done}");

    let model = server.get(&format!("/api/v1/tasks/{id}/model")).await;
    let etag = format!("\"{}\"", done["weights_sha256"].as_str().unwrap());
    assert_eq!((model.status.as_u16(), model.header("etag")), (200, etag.as_str()));
    let file = format!("attachment; filename=\"cnn-{id}.safetensors\"");
    assert_eq!(model.header("content-disposition"), file);
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let request = server.request("GET", &format!("/api/v1/tasks/{id}/model")).header("If-None-Match", tags);
        let again = server.send(request).await;
        assert_eq!((again.status.as_u16(), again.text.len()), (304, 0));
    }
    assert_eq!(server.get(&format!("/api/v1/tasks/{id}/model?which=best")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_one_task() {
    let server = Server::start().await;
    let body = json!({"model": "mlp"});
    let submit = |body| server.send(server.request("POST", "/api/v1/tasks").header("Idempotency-Key", "k").json(body));
    let first = submit(&body).await;
    let again = submit(&body).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(first.header("location"), again.header("location"));
    let other = submit(&json!({"model": "cnn"})).await;
    assert_eq!((other.status.as_u16(), &other.json()["code"]), (422, &json!("idempotency_key_reused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_page_by_page_newest_first() {
    let server = Server::start_slow().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, server.submit(1).await);
    }
    let mut listed = Vec::new();
    let mut path = "/api/v1/tasks?limit=2&model=mlp".to_owned();
    loop {
        let page = server.get(&path).await;
        let view = page.json();
        assert!(view["items"].as_array().unwrap().len() <= 2);
        listed.extend(view["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        let Some(next) = view["next"].as_str() else {
            assert_eq!(page.header("link"), "");
            break;
        };
        let link = page.header("link").to_owned();
        assert!(link.contains(next) && link.ends_with(">; rel=\"next\""), "{link}");
        path = link[1..].split('>').next().unwrap().to_owned();
    }
    assert_eq!(listed, ids);
    server.wait_for(&ids[4], "running").await;
    let running = server.get("/api/v1/tasks?state=running").await.json();
    assert_eq!(running["items"].as_array().unwrap().len(), 1);
    let none = server.get("/api/v1/tasks?model=lstm").await.json();
    assert_eq!(none, json!({"items": [], "next": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_task_is_cancelled_at_once_and_a_running_one_soon() {
    let server = Server::start_slow().await;
    let (running, waiting) = (server.submit(1).await, server.submit(1).await);
    server.wait_for(&running, "running").await;
    let cancel = |id: &str| server.request("POST", &format!("/api/v1/tasks/{id}/cancel"));
    let answer = server.send(cancel(&waiting)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("cancelled")));
    let answer = server.send(cancel(&running)).await;
    assert_eq!(answer.status, 200);
    server.wait_for(&running, "cancelled").await;
    // It is so already, or it has ended: never a change.
    assert!([200, 409].contains(&server.send(cancel(&running)).await.status.as_u16()));
    let model = server.get(&format!("/api/v1/tasks/{running}/model")).await;
    assert_eq!((model.status.as_u16(), &model.json()["code"]), (404, &json!("no_model")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_can_be_tried_again_and_deleted_and_nothing_else_can() {
    let server = Server::start_slow().await;
    let id = server.submit(1).await;
    server.wait_for(&id, "running").await;
    let retry = server.request("POST", &format!("/api/v1/tasks/{id}/retry"));
    let delete = || server.send(server.request("DELETE", &format!("/api/v1/tasks/{id}")));
    for refused in [server.send(retry).await, delete().await, server.get(&format!("/api/v1/tasks/{id}/model")).await] {
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &json!("task_not_ended")));
    }
    server.send(server.request("POST", &format!("/api/v1/tasks/{id}/cancel"))).await;
    server.wait_for(&id, "cancelled").await;
    let new = server.send(server.request("POST", &format!("/api/v1/tasks/{id}/retry"))).await;
    assert_eq!((new.status.as_u16(), &new.json()["retry_of"]), (201, &json!(id)));
    assert_ne!(new.json()["id"], json!(id));
    assert_eq!(new.json()["spec"], server.get(&format!("/api/v1/tasks/{id}")).await.json()["spec"]);
    assert_eq!(delete().await.status, 204);
    assert_eq!(delete().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_tasks_are_turned_away_for_later() {
    let server = Server::start_slow().await;
    let mut last = server.post("/api/v1/tasks", &json!({"model": "mlp"})).await;
    for _ in 0..60 {
        if last.status != 201 {
            break;
        }
        last = server.post("/api/v1/tasks", &json!({"model": "mlp"})).await;
    }
    assert_eq!((last.status.as_u16(), &last.json()["code"]), (429, &json!("queue_full")));
    assert!(last.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_cleared_in_mid_run_changes_nothing() {
    let server = Server::start().await;
    let id = server.submit(5).await;
    assert_eq!(server.send(server.request("DELETE", "/api/v1/cache")).await.status, 204);
    let done = server.wait_for(&id, "succeeded").await;
    assert_eq!(done["weights_sha256"], server.world.engine.expected_weights(1, 5));
    assert!(server.get("/api/v1/cache").await.json()["misses"].is_number());
    let datasets = server.get("/api/v1/datasets").await.json();
    assert_eq!((&datasets["items"][0]["name"], &datasets["items"][0]["train_samples"]), (&json!("mnist"), &json!(20)));
    assert_eq!(server.get("/api/v1/datasets/mnist").await.json(), datasets["items"][0]);
    assert_eq!(server.request("POST", "/api/v1/datasets/mnist/warm").send().await.unwrap().status(), 200);
}
