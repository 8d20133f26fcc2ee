//! Trainers that crash, tasks that kill, hints that say anything.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        kafka::older_client,
        nodes::{Cluster, DEADLINE, Node},
    },
    assert_all_is_well, assert_same_result, trained_alone,
};

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
    cluster.write_to_bus("task", &messages).await;
    for id in &ids {
        let view = cluster.succeeded(id).await;
        assert_eq!(view.attempt, 1, "no hint makes a task run twice");
    }
    let submitted: Value = serde_json::from_str(&cluster.get(&cluster.apis[0], "/api/v1/tasks").await.1).expect("JSON");
    assert_eq!(submitted["items"].as_array().map(Vec::len), Some(2), "garbage is no submission");
    let letters = async |nodes: &[Node], reason: &str| {
        let mut sum = 0.0;
        for node in nodes {
            let series = format!("kubeml_dead_letters_total{{reason=\"{reason}\",topic=\"task\"}} ");
            sum += cluster.metric_or_zero(node, &series).await;
        }
        sum
    };
    let end = Instant::now() + DEADLINE;
    while (letters(&cluster.workers, "unreadable").await, letters(&cluster.apis, "invalid_task").await) != (4.0, 1.0) {
        assert!(Instant::now() < end, "each message that nobody can act on is put aside once");
        sleep(Duration::from_millis(50)).await;
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_facts_that_is_deleted_and_made_anew_silences_no_stream() {
    let cluster = Cluster::start_patient(1).await;
    let first = cluster.submit("mlp", 2).await;
    cluster.succeeded(&first).await;
    let url = format!("{}/api/v1/events", cluster.apis[0].url);
    let mut stream = reqwest::get(url).await.expect("the API answers");
    older_client::delete_topic(&cluster.topics(), "training_log").await;
    let missing = "training_log; `kubeml admin init` creates it";
    let end = Instant::now() + DEADLINE;
    loop {
        let (status, ready) = cluster.get(&cluster.apis[0], "/readyz").await;
        assert_eq!(status, 200, "{ready}");
        if ready.contains(missing) {
            break;
        }
        assert!(Instant::now() < end, "nobody misses it: {ready}");
        sleep(Duration::from_millis(50)).await;
    }
    let during = cluster.submit("mlp", 2).await;
    cluster.succeeded(&during).await;
    cluster.init();
    let mut heard = String::new();
    let mut until = async |wanted: &str| {
        let hear = async {
            while !heard.contains(wanted) {
                let chunk = stream.chunk().await.expect("it goes on").expect("it has no end");
                heard.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        timeout(DEADLINE, hear).await.unwrap_or_else(|_| panic!("{wanted} is not heard"));
    };
    until("event:gap").await;
    let after = cluster.submit("mlp", 2).await;
    cluster.succeeded(&after).await;
    until(&after).await;
    until("event:succeeded").await;
    for id in [&during, &after] {
        let (status, events) = cluster.get(&cluster.apis[0], &format!("/api/v1/tasks/{id}/events")).await;
        assert!(status == 200 && events.contains("event:succeeded"), "{events}");
    }
    cluster.assert_history_is_good().await;
}
