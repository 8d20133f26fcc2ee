//! The older system's flow, on real servers.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::nodes::{Cluster, DEADLINE},
    assert_all_is_well,
};

#[tokio::test(flavor = "multi_thread")]
async fn its_clients_submit_watch_and_ask_as_they_always_did() {
    let cluster = Cluster::start_with(1, 2, &[]).await;
    let api = &cluster.apis[0];
    let ok = |body: &str| (200, body.to_owned());
    assert_eq!(cluster.get(api, "/kafka-status").await, ok(r#"{"status":"Kafka is reachable"}"#));
    let sent = r#"{"status":"Message sent","message":{"task_type":"mlp","data":"Hello from Master"}}"#;
    assert_eq!(cluster.get(api, "/test-producer").await, ok(sent));
    let health: Value = serde_json::from_str(&cluster.get(api, "/health").await.1).expect("JSON");
    assert_eq!(health["db_status"], "Cassandra  and Redis is connected");
    let worker = &cluster.workers[0];
    let health: Value = serde_json::from_str(&cluster.get(worker, "/health").await.1).expect("JSON");
    assert_eq!(
        (&health["status"], &health["db_status"]),
        (&json!("Service running"), &json!("Cassandra and Redis connected"))
    );
    let (status, value) = cluster.get(worker, "/get_from_redis/nobody").await;
    assert_eq!((status, value.contains(r#""value":null"#)), (200, true));
    assert_eq!(cluster.post("/send_task/none").await, (400, r#"{"detail":"Invalid task type"}"#.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_clients_store_cache_and_fetch_as_they_always_did() {
    const STORE: &str = "/store_mnist_dataset_to_cassandra";
    const WARM: &str = "/store_data_from_cassandra_to_redis";
    let files = small_mnist();
    let dir = files.path().to_str().expect("it is text");
    let cluster = Cluster::start_with(2, 1, &[("KUBEML__DATASETS__MNIST__DIR", dir)]).await;
    let (api, other, worker) = (&cluster.apis[0], &cluster.apis[1], &cluster.workers[0]);
    let nothing = r#"{"detail":"Failed to fetch data: the dataset mnist is not stored"}"#;
    let stored = r#"{"status":"mnist data successfully stored."}"#;
    let fetched = r#"{"status":"Data fetched from Redis cache","cached":true}"#;
    let put = r#"{"status":"Data cached successfully","key":"k1","value":{"value":"v1"}}"#;
    let got = r#"{"status":"Data fetched successfully","key":"k1","value":{"value":"v1"}}"#;
    let no_object = r#"{"detail":[{"loc":["body"],"msg":"value is not a valid dict","type":"type_error.dict"}]}"#;
    let unknown = r#"{"detail":"Failed to fetch data from Redis cache."}"#;
    let unknown_to_worker = r#"{"status":"Data fetched successfully","key":"k2","value":null}"#;
    for (node, method, path, body, status, answer) in [
        (api, "GET", WARM, "", 500, nothing),
        (api, "POST", STORE, "", 200, stored),
        (other, "POST", STORE, "", 200, stored),
        (api, "DELETE", "/api/v1/cache", "", 204, ""),
        (api, "GET", WARM, "", 200, fetched),
        (api, "GET", WARM, "", 200, r#"{"cached":true}"#),
        (other, "GET", WARM, "", 200, r#"{"cached":true}"#),
        (api, "POST", "/cache_to_redis/k1", r#"{"value": "v1"}"#, 200, put),
        (api, "POST", "/cache_to_redis/k1", "[7]", 422, no_object),
        (other, "GET", "/get_from_redis/k1", "", 200, got),
        (worker, "GET", "/get_from_redis/k1", "", 200, got),
        (api, "GET", "/get_from_redis/k2", "", 500, unknown),
        (worker, "GET", "/get_from_redis/k2", "", 200, unknown_to_worker),
        (worker, "POST", "/cache_to_redis/k1", r#"{"value": "v1"}"#, 200, put),
        (worker, "POST", "/test_send_training_log", "", 200, r#"{"status":"Message sent"}"#),
        (api, "GET", STORE, "", 405, r#"{"detail":"Method Not Allowed"}"#),
        (api, "GET", "/load_dataset", "", 404, r#"{"detail":"Not Found"}"#),
    ] {
        let answered = cluster.ask(node, method, path, body).await;
        assert_eq!(answered, (status, answer.to_owned()), "{method} {path} of {}", node.id);
    }
}

/// Files of MNIST's format with a few images.
fn small_mnist() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (part, count) in [("train", 300_u32), ("t10k", 100)] {
        let images = [0x803, count, 28, 28].map(u32::to_be_bytes).concat();
        let pixels = (0..count * 28 * 28).map(|n| (n % 251) as u8);
        let images = images.into_iter().chain(pixels).collect::<Vec<u8>>();
        std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images).expect("it is writable");
        let labels = [0x801, count].map(u32::to_be_bytes).concat();
        let labels = labels.into_iter().chain((0..count).map(|n| (n % 10) as u8)).collect::<Vec<u8>>();
        std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), labels).expect("it is writable");
    }
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_id_is_a_submission() {
    let cluster = Cluster::start_with(2, 1, &[("KUBEML__DATASETS__MNIST__DIR", "")]).await;
    let mut listener = cluster.listen();
    cluster.write_to_bus("task", &[br#"{"task_type": "mlp"}"#]).await;
    let end = Instant::now() + Duration::from_secs(60);
    let id = loop {
        let list: Value = serde_json::from_str(&cluster.get(&cluster.apis[1], "/api/v1/tasks").await.1).expect("JSON");
        if let Some(id) = list["items"][0]["id"].as_str() {
            assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "two API nodes bridge it once");
            break id.to_owned();
        }
        assert!(Instant::now() < end, "nobody took it");
        sleep(Duration::from_millis(100)).await;
    };
    cluster.succeeded(&id).await;
    assert_all_is_well(&cluster, &mut listener, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_api_node_shows_all_nodes_and_serves_any_stream() {
    let cluster = Cluster::start_with(2, 2, &[]).await;
    let id = cluster.submit("mlp", 2).await;
    cluster.succeeded(&id).await;
    for api in &cluster.apis {
        let system: Value = serde_json::from_str(&cluster.get(api, "/api/v1/system").await.1).expect("JSON");
        let nodes: Vec<&str> =
            system["nodes"].as_array().expect("nodes").iter().filter_map(|n| n["id"].as_str()).collect();
        assert_eq!(nodes, ["api-1", "api-2", "worker-1", "worker-2"]);
        let edges = system["edges"].as_array().expect("edges");
        assert!(edges.len() == 3 && edges.iter().all(|edge| edge["reachable"] == true), "{edges:?}");
        let (status, events) = cluster.get(api, &format!("/api/v1/tasks/{id}/events")).await;
        assert_eq!(status, 200);
        assert!(events.contains("event:succeeded"), "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_models_are_sent_and_their_lines_heard_at_another_node() {
    let files = small_mnist();
    let dir = files.path().to_str().expect("it is text");
    let cluster = Cluster::start_with(2, 2, &[("KUBEML__DATASETS__MNIST__DIR", dir)]).await;
    let mut listener = cluster.listen();
    let url = format!("{}/logs/stream", cluster.apis[1].url);
    let mut stream = reqwest::get(url).await.expect("the API answers");
    let mut ids = Vec::new();
    for model in ["mlp", "cnn", "lstm"] {
        let (status, body) = cluster.post(&format!("/send_task/{model}")).await;
        let sent: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &sent["message"]), (200, &json!(format!("Task {model} sent to Kafka"))));
        ids.push(sent["task_id"].as_str().expect("an id").to_owned());
    }
    let mut heard = String::new();
    let is_result = |line: &&str| line.contains(r#""log_type": "result""#);
    let all = async {
        while heard.lines().filter(is_result).count() < ids.len() {
            let chunk = stream.chunk().await.expect("it goes on").expect("it has no end");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    assert!(timeout(DEADLINE, all).await.is_ok(), "not every result is heard");
    for id in &ids {
        let of_task = |line: &&str| line.contains(id.as_str());
        let epochs = heard.lines().filter(of_task).filter(|line| line.contains(r#""epoch": "#)).count();
        assert_eq!((epochs, heard.lines().filter(of_task).filter(is_result).count()), (5, 1), "{heard}");
        cluster.succeeded(id).await;
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}
