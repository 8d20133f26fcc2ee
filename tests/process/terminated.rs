//! SIGTERM: what runs is checkpointed and given back, streams say goodbye, the process ends well and soon.

use std::time::Duration;

use super::{
    server::{Server, assert_same_result, free_port, task, trained_alone},
    stream::Listener,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_server_gives_its_tasks_back_and_its_successor_goes_on_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = [("KUBEML__TRAINER__SLOTS", "2")];
    let server = Server::start(dir.path(), port, &settings).await;
    let mut listeners = [Listener::start(&server.url), Listener::start(&server.url)];
    let ids = [server.submit(&task("cnn", 2)).await, server.submit(&task("lstm", 2)).await];
    for id in &ids {
        server.wait_until(id, |view| view.progress.step > 10).await;
    }
    server.terminate();
    assert_eq!(server.exit_code(Duration::from_secs(5)).await, Some(0), "ends within five seconds, and well");

    let server = Server::start(dir.path(), port, &settings).await;
    for (id, model) in ids.iter().zip(["cnn", "lstm"]) {
        let view = server.succeeded(id).await;
        assert_eq!(view.attempt, 2);
        assert_same_result(&view, &trained_alone(model, 2, 1));
        let history = server.history(id).await;
        let failed = history.iter().find(|event| event["kind"] == "attempt_failed").unwrap();
        assert_eq!((&failed["failure"]["kind"], &failed["charged"]), (&"drained".into(), &false.into()));
        let resumed = history.iter().find(|event| event["kind"] == "resumed").unwrap();
        assert!(resumed["from_step"].as_u64().unwrap() > 10, "checkpointed where it stopped");
        for listener in &mut listeners {
            let heard = listener.wait_for(|heard| heard.has_ended(id)).await;
            heard.assert_is_history(id, &history);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), free_port(), &[]).await;
    server.terminate();
    assert_eq!(server.exit_code(Duration::from_secs(5)).await, Some(0));
}
