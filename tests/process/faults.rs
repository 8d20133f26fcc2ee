//! Fault injection: each actor crashed in turn while a task trains.

use super::{
    server::{Server, assert_same_result, free_port, task, trained_alone},
    stream::Listener,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_trainer_is_restarted_and_its_task_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), free_port(), &[]).await;
    let id = server.submit(&task("cnn", 2)).await;
    server.wait_until(&id, |view| view.progress.step > 20).await;
    assert_eq!(server.post("/api/v1/system/trainers/0/crash").await.status(), 202);
    let view = server.succeeded(&id).await;
    assert_eq!(view.attempt, 2);
    assert_same_result(&view, &trained_alone("cnn", 2, 2));
    assert!(server.history(&id).await.iter().any(|event| event["kind"] == "resumed" && event["from_step"] != 0));
    assert!((server.metric("kubeml_actor_restarts_total{actor=\"trainer\"}").await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_other_actor_is_restarted_and_streams_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), free_port(), &[]).await;
    let mut listener = Listener::start(&server.url);
    let id = server.submit(&task("lstm", 3)).await;
    let actors = ["task_dispatcher", "reconciler", "dataset_loader", "cache_warmer", "log_relay", "trainer_pool"];
    for (index, actor) in actors.into_iter().enumerate() {
        server.wait_until(&id, |view| view.progress.step > 12 * (index as u64 + 1)).await;
        assert_eq!(server.post(&format!("/api/v1/system/actors/{actor}/crash")).await.status(), 202, "{actor}");
    }
    assert_eq!(server.delete("/api/v1/cache").await.status().as_u16() / 100, 2);
    let view = server.succeeded(&id).await;
    assert_same_result(&view, &trained_alone("lstm", 3, 3));
    let heard = listener.wait_for(|heard| heard.has_ended(&id)).await;
    heard.assert_is_history(&id, &server.history(&id).await);
    for actor in actors {
        let restarts = server.metric(&format!("kubeml_actor_restarts_total{{actor=\"{actor}\"}}")).await;
        assert!((restarts - 1.0).abs() < f64::EPSILON, "{actor}: {restarts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_there_is_nothing_to_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), free_port(), &[("KUBEML__HTTP__FAULT_INJECTION", "false")]).await;
    assert_eq!(server.post("/api/v1/system/trainers/0/crash").await.status(), 404);
    assert_eq!(server.post("/api/v1/system/actors/log_relay/crash").await.status(), 404);
}
