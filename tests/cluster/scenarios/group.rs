//! Workers that come and go while others train, the order in which they take tasks, and lines of the older system.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    super::nodes::{Cluster, DEADLINE, Node},
    assert_all_is_well, assert_same_result, trained_alone,
};

const TASKS: [(&str, u32); 4] = [("cnn", 3), ("mlp", 40), ("lstm", 2), ("mlp", 40)];

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_join_and_leave_charge_nobody_and_change_no_result() {
    let mut cluster = Cluster::start_patient(1).await;
    let mut listener = cluster.listen();
    let mut ids = Vec::new();
    for (model, epochs) in TASKS {
        ids.push(cluster.submit(model, epochs).await);
    }
    let running = cluster.wait_for_step(&ids[0], 20).await.worker_id.expect("it runs");
    assert!(running.starts_with("worker-1/"), "there is no other");
    let before = rebalances(&cluster, &cluster.workers[0]).await;
    cluster.join("worker-2").await;
    cluster.join("worker-3").await;
    until(&cluster, "its partitions were dealt anew", async |cluster| {
        rebalances(cluster, &cluster.workers[0]).await > before
    })
    .await;
    until(&cluster, "worker-2 has taken a task", async |cluster| holds_one(cluster, "worker-2").await).await;
    let before = rebalances(&cluster, &cluster.workers[0]).await;
    assert_eq!(cluster.node_mut("worker-2").terminate().await, Some(0), "{}", cluster.log("worker-2"));
    until(&cluster, "its partitions were dealt anew", async |cluster| {
        rebalances(cluster, &cluster.workers[0]).await > before
    })
    .await;
    for (id, (model, epochs)) in ids.iter().zip(TASKS) {
        assert_same_result(&cluster.succeeded(id).await, &trained_alone(model, epochs));
        let history = cluster.history(id).await;
        assert!(history.iter().all(|event| event["charged"] != true), "{history:?}");
    }
    until(&cluster, "every hint is committed", async |cluster| lag(cluster).await == Some(0.0)).await;
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

async fn rebalances(cluster: &Cluster, node: &Node) -> f64 {
    cluster.metric_or_zero(node, "kubeml_bus_rebalances_total{group=\"hints\"} ").await
}

async fn holds_one(cluster: &Cluster, id: &str) -> bool {
    let (_, tasks) = cluster.get(&cluster.apis[0], "/api/v1/tasks?state=running").await;
    tasks.contains(&format!("\"{id}/"))
}

/// Of all partitions together, as far as the two workers that are left tell.
async fn lag(cluster: &Cluster) -> Option<f64> {
    let mut values = Vec::new();
    for node in [&cluster.workers[0], &cluster.workers[2]] {
        let (_, metrics) = cluster.get(node, "/metrics").await;
        let lines = metrics.lines().filter(|line| line.starts_with("kubeml_bus_consumer_lag{group=\"hints\""));
        values.extend(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()));
    }
    // A partition without any hint has none.
    (!values.is_empty()).then(|| values.iter().sum())
}

async fn until(cluster: &Cluster, what: &str, holds: impl AsyncFn(&Cluster) -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds(cluster).await {
        assert!(Instant::now() < end, "in time: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_claimed_by_priority_whichever_node_claims_them() {
    /// Two nodes that are free at the same moment may pass each other.
    const SAME_MOMENT: Duration = Duration::from_millis(500);
    let cluster = Cluster::start_patient(2).await;
    let mut listener = cluster.listen();
    let mut ids = vec![cluster.submit("cnn", 2).await, cluster.submit("cnn", 2).await];
    for id in &ids {
        cluster.wait_for_step(id, 1).await;
    }
    let mut claims = Vec::new();
    for priority in [0, -50, 100, 7, 50] {
        let parameters = json!({"epochs": 4, "seed": 7});
        let body = json!({"model": "mlp", "dataset": "mnist-10k", "priority": priority, "hyperparameters": parameters});
        claims.push((priority, cluster.taken(&body, &Uuid::new_v4().to_string()).await));
    }
    let mut claimed = Vec::new();
    for (priority, id) in &claims {
        cluster.succeeded(id).await;
        claimed.push((claimed_at(&cluster.history(id).await), *priority));
    }
    for (at, priority) in &claimed {
        let later = claimed.iter().filter(|(other, _)| *other > *at + SAME_MOMENT.as_micros() as i64);
        assert!(later.into_iter().all(|(_, later)| later < priority), "{claimed:?}");
    }
    ids.extend(claims.into_iter().map(|(_, id)| id));
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

/// In microseconds.
fn claimed_at(history: &[Value]) -> i64 {
    let claimed = history.iter().find(|event| event["kind"] == "claimed").expect("it was claimed");
    let at = humantime::parse_rfc3339(claimed["at"].as_str().expect("a time")).expect("a time");
    at.duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros() as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_line_of_a_worker_is_on_everybodys_stream() {
    let cluster = Cluster::start(1).await;
    let mut listener = cluster.listen();
    let url = format!("{}/test_send_training_log", cluster.workers[0].url);
    let answer = reqwest::Client::new().post(url).send().await.expect("it answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.expect("a body"), r#"{"status":"Message sent"}"#);
    let is_told = |event: &Value| event.to_string().contains("Test training_log message sent");
    let heard = listener.wait_for(|heard| heard.0.iter().any(|(_, event)| is_told(event))).await;
    assert_eq!(heard.0.iter().filter(|(_, event)| is_told(event)).count(), 1);
    // A worker of the older system writes it to the bus itself.
    cluster.write_to_bus("training_log", &[br#"{"log_type": "loading", "message": "an old line"}"#]).await;
    listener.wait_for(|heard| heard.0.iter().any(|(_, event)| event.to_string().contains("an old line"))).await;
}
