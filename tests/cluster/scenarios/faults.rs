//! Trainers that crash, tasks that kill, hints that say anything.

use serde_json::Value;

use super::{super::nodes::Cluster, assert_all_is_well, assert_same_result, trained_alone};

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_trainer_is_replaced_and_its_task_goes_on() {
    let cluster = Cluster::start_patient(1).await;
    let mut listener = cluster.listen();
    let id = cluster.submit("cnn", 3).await;
    cluster.wait_for_step(&id, 70).await;
    let worker = &cluster.workers[0];
    let crash = reqwest::Client::new().post(format!("{}/api/v1/system/trainers/0/crash", worker.url)).send().await;
    assert_eq!(crash.expect("it answers").status(), 202);
    let view = cluster.succeeded(&id).await;
    assert_eq!(view.attempt, 2);
    assert_same_result(&view, &trained_alone("cnn", 3));
    assert_eq!(cluster.metric(worker, "kubeml_actor_restarts_total{actor=\"trainer\"} ").await, 1.0);
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_may_be_doubled_reordered_strange_and_garbage() {
    let cluster = Cluster::start_patient(2).await;
    let mut listener = cluster.listen();
    let ids = [cluster.submit("mlp", 20).await, cluster.submit("mlp", 20).await];
    let hint = |id: &str| format!("{{\"task_type\": \"mlp\", \"task_id\": \"{id}\"}}").into_bytes();
    let nobody = uuid::Uuid::new_v4().to_string();
    let mut messages = vec![hint(&ids[1]), hint(&ids[0]), hint(&ids[0]), hint(&nobody), b"\xff\x00garbage".to_vec()];
    messages.extend([b"{}".to_vec(), b"[1]".to_vec(), vec![b'x'; 300_000], hint("no-id")]);
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    cluster.write_to_bus(&messages).await;
    for id in &ids {
        let view = cluster.succeeded(id).await;
        assert_eq!(view.attempt, 1, "no hint makes a task run twice");
    }
    let submitted: Value = serde_json::from_str(&cluster.get(&cluster.apis[0], "/api/v1/tasks").await.1).expect("JSON");
    assert_eq!(submitted["items"].as_array().map(Vec::len), Some(2), "garbage is no submission");
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}
