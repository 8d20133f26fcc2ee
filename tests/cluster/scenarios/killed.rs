//! kill -9 and SIGSTOP of nodes: every task goes on elsewhere, and ends as if nothing had happened.

use std::{collections::HashMap, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    super::{
        nodes::{Cluster, Node},
        stream::Heard,
    },
    assert_all_is_well, assert_same_result, trained_alone,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_mid_epoch_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let mut listener = cluster.listen();
    let id = cluster.submit("cnn", 3).await;
    let holder = cluster.wait_for_step(&id, 70).await.worker_id.expect("it runs");
    let node = holder.split('/').next().expect("a node").to_owned();
    cluster.node_mut(&node).kill();
    let view = cluster.succeeded(&id).await;
    assert!(view.attempt >= 2);
    assert_ne!(view.worker_id, Some(holder));
    assert_same_result(&view, &trained_alone("cnn", 3));
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_lose_nothing() {
    const KILLS: u64 = 10;
    // On a slow machine many lives in a row may be too short for a checkpoint.
    let mut cluster = Cluster::start_with(1, 2, &[("KUBEML__TASKS__NO_PROGRESS_MAX", "1000")]).await;
    let mut listener = cluster.listen();
    let mut ids = Vec::new();
    for (model, epochs) in [("mlp", 40), ("cnn", 2), ("lstm", 2)] {
        ids.push(cluster.submit(model, epochs).await);
    }
    for kill in 0..KILLS {
        sleep(Duration::from_millis(500 + kill * 150)).await;
        let id = format!("worker-{}", kill % 2 + 1);
        cluster.node_mut(&id).kill();
        cluster.restart(&id).await;
    }
    for (id, (model, epochs)) in ids.iter().zip([("mlp", 40), ("cnn", 2), ("lstm", 2)]) {
        assert_same_result(&cluster.succeeded(id).await, &trained_alone(model, epochs));
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_node_killed_in_mid_submit_and_in_mid_stream_loses_no_task_and_no_event() {
    let mut cluster = Cluster::start(1).await;
    let url = cluster.apis[0].url.clone();
    let mut listener = cluster.listen();
    let body = json!({"model": "mlp", "dataset": "mnist-10k", "hyperparameters": {"epochs": 2, "seed": 7}});
    let mut ids = Vec::new();
    for round in 0..4_u64 {
        let key = Uuid::new_v4().to_string();
        let submitting = cluster.try_submit(&body, &key);
        let killing = sleep(Duration::from_millis(round * 3));
        let answered = tokio::select! {
            answer = submitting => answer.ok(),
            () = killing => None,
        };
        cluster.apis[0].kill();
        // The same address, so that the stream's client finds it again.
        cluster.restart_at("api-1", &url).await;
        let id = loop {
            // A busy store may turn it away for a while.
            let again = cluster.try_submit(&body, &key).await.expect("the API answers");
            if let Some(id) = again["id"].as_str() {
                break id.to_owned();
            }
            assert_eq!(again["status"], 503, "{again}");
            sleep(Duration::from_millis(200)).await;
        };
        assert!(answered.is_none_or(|answer| answer["id"] == id.as_str()), "the same key is the same task");
        ids.push(id);
    }
    for id in &ids {
        cluster.succeeded(id).await;
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_beyond_its_lease_changes_nothing_when_it_comes_back() {
    let mut cluster = Cluster::start(2).await;
    let mut listener = cluster.listen();
    let id = cluster.submit("cnn", 4).await;
    let holder = cluster.wait_for_step(&id, 70).await.worker_id.expect("it runs");
    let node = holder.split('/').next().expect("a node").to_owned();
    cluster.node_mut(&node).signal(Signal::STOP);
    cluster.wait_until(&id, |view| view.attempt >= 2 && view.state == "running").await;
    cluster.node_mut(&node).signal(Signal::CONT);
    assert_same_result(&cluster.succeeded(&id).await, &trained_alone("cnn", 4));
    let zombie = cluster.workers.iter().find(|worker| worker.id == node).expect("it is there");
    let noticed = refused_writes(&cluster, zombie).await + fenced(&cluster, zombie, "heartbeat").await;
    assert!(noticed >= 1.0, "it has noticed");
    assert_eq!(cluster.metric(zombie, "kubeml_trainer_slots{state=\"idle\"} ").await, 1.0, "it has let go");
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

/// It trains on and looks seldom: what it believes shows in what it writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_another_takes_for_dead_finds_its_writes_refused() {
    // Until the other one has it, each of its attempts is taken away as well, however short.
    let patient = [("KUBEML__TASKS__LEASE", "60s"), ("KUBEML__TASKS__NO_PROGRESS_MAX", "1000")];
    let mut cluster = Cluster::start_with(1, 0, &patient).await;
    let mut listener = cluster.listen();
    cluster.join_with("worker-1", &[("KUBEML__TASKS__HEARTBEAT", "10s")]).await;
    let id = cluster.submit("mlp", 150).await;
    cluster.wait_for_step(&id, 70).await;
    cluster.join_with("worker-2", &[("KUBEML__TASKS__LEASE", "2s")]).await;
    let view = cluster.succeeded(&id).await;
    assert_eq!(view.worker_id.as_deref(), Some("worker-2/0"));
    assert_same_result(&view, &trained_alone("mlp", 150));
    let refused = refused_writes(&cluster, &cluster.workers[0]).await;
    assert!(refused >= 1.0, "it has written");
    let (heard, history) = (listener.wait_for(|heard| heard.has_ended(&id)).await, cluster.history(&id).await);
    heard.assert_ids_grow();
    kept(heard, view.attempt, &history).assert_is_history(&id, &history);
    cluster.assert_history_is_good().await;
    cluster.assert_at_rest().await;
}

/// What was heard, without the one or two lines of progress that an owner told while his successor was closing an attempt
/// before `attempt`: they are in no history.
fn kept(mut heard: Heard, attempt: u32, history: &[Value]) -> Heard {
    let place = |event: &Value| event["seq"].as_u64().map(|seq| (seq >> 40, seq & ((1 << 40) - 1)));
    let owners = history.iter().filter_map(place).filter(|(_, n)| *n < (1 << 40) - 2);
    let last_kept: HashMap<u64, u64> = owners.collect();
    let is_unkept = |event: &Value| {
        place(event).is_some_and(|(earlier, n)| {
            let last = last_kept.get(&earlier).copied().unwrap_or_default();
            earlier < attempt.into() && (last + 1..=last + 2).contains(&n) && event["kind"] == "progress"
        })
    };
    heard.0.retain(|(_, event)| !is_unkept(event));
    heard
}

/// Writes of attempts that were taken away.
async fn refused_writes(cluster: &Cluster, node: &Node) -> f64 {
    let mut refused = 0.0;
    for operation in ["start", "checkpoint", "finish", "end_attempt"] {
        refused += fenced(cluster, node, operation).await;
    }
    refused
}

async fn fenced(cluster: &Cluster, node: &Node, operation: &str) -> f64 {
    cluster.metric(node, &format!("kubeml_fenced_total{{operation=\"{operation}\"}} ")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_all_nodes_charges_nobody() {
    let mut cluster = Cluster::start_patient(2).await;
    let mut ids = Vec::new();
    for (model, epochs) in [("mlp", 60), ("cnn", 3), ("lstm", 2)] {
        ids.push(cluster.submit(model, epochs).await);
    }
    cluster.wait_for_step(&ids[0], 100).await;
    for id in ["worker-1", "worker-2", "api-1"] {
        assert_eq!(cluster.node_mut(id).terminate().await, Some(0), "{}", cluster.log(id));
        cluster.restart(id).await;
    }
    for (id, (model, epochs)) in ids.iter().zip([("mlp", 60), ("cnn", 3), ("lstm", 2)]) {
        let view = cluster.succeeded(id).await;
        assert_same_result(&view, &trained_alone(model, epochs));
        let charged = cluster.history(id).await.iter().filter(|event| event["charged"] == true).count();
        assert_eq!(charged, 0);
    }
    cluster.assert_history_is_good().await;
    cluster.assert_at_rest().await;
}
