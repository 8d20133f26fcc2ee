//! An upgrade without a pause: node after node of an older version is restarted as this one, while they train.
//!
//! Only by hand, since somebody has to build the older version first:
//!
//! ```text
//! git worktree add ../older v0.1.0 && (cd ../older && cargo build --release)
//! KUBEML_TEST_OLDER_BINARY=../older/target/release/kubeml cargo xtask test --suite cluster-rolling
//! ```
//! A change of the tables or of stored bytes that no older version can live with is known by this test's failure.

use std::{path::PathBuf, time::Duration};

use kubeml::wire::TaskView;
use tokio::time::{sleep, timeout};

use super::{
    super::nodes::{Cluster, DEADLINE, this_binary},
    assert_all_is_well, assert_same_result, trained_alone,
};

/// Models and epochs, each long enough to see several restarts.
const TASKS: [(&str, u32); 3] = [("mlp", 120), ("cnn", 6), ("lstm", 6)];
/// Further on in a task: behind what was under way when a node ended.
const STEPS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_becomes_this_version_node_by_node() {
    let patience = [("KUBEML__TASKS__LEASE", "30s")];
    let mut cluster = Cluster::start_as(older_binary(), 1, 2, &patience).await;
    let mut listener = cluster.listen();
    let mut ids = Vec::new();
    for (model, epochs) in TASKS {
        ids.push(cluster.submit(model, epochs).await);
    }
    cluster.wait_for_step(&ids[0], 100).await;
    cluster.binary = this_binary();
    for node in ["worker-1", "api-1", "worker-2"] {
        assert_eq!(cluster.node_mut(node).terminate().await, Some(0), "{}", cluster.log(node));
        let url = url_of(&cluster, node);
        cluster.restart_at(node, &url).await;
        goes_on(&cluster, &ids).await;
    }
    for (id, (model, epochs)) in ids.iter().zip(TASKS) {
        let view = cluster.succeeded(id).await;
        assert_same_result(&view, &trained_alone(model, epochs));
        let charged = cluster.history(id).await.iter().filter(|event| event["charged"] == true).count();
        assert_eq!(charged, 0, "{model}");
        println!("{model}: attempt {}, {}", view.attempt, view.weights_sha256.unwrap_or_default());
    }
    assert_all_is_well(&cluster, &mut listener, &ids).await;
}

fn older_binary() -> PathBuf {
    let path = std::env::var_os("KUBEML_TEST_OLDER_BINARY");
    path.expect("KUBEML_TEST_OLDER_BINARY names an older version's binary: see the head of this file").into()
}

fn url_of(cluster: &Cluster, id: &str) -> String {
    let node = cluster.apis.iter().chain(&cluster.workers).find(|node| node.id == id);
    node.expect("there is such a node").url.clone()
}

/// Both workers train, and get further.
async fn goes_on(cluster: &Cluster, ids: &[String]) {
    for worker in &cluster.workers {
        let (id, begun) = timeout(DEADLINE, held_by(cluster, ids, &worker.id)).await.expect("there is work for it");
        let further = begun.progress.step + STEPS;
        cluster.wait_until(id, |view| view.progress.step >= further || view.worker_id != begun.worker_id).await;
    }
}

async fn held_by<'a>(cluster: &Cluster, ids: &'a [String], worker: &str) -> (&'a str, TaskView) {
    let slot = Some(format!("{worker}/0"));
    loop {
        for id in ids {
            let view = cluster.wait_until(id, |_| true).await;
            if view.state == "running" && view.worker_id == slot {
                return (id, view);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}
