//! Whole clusters of real processes, and what is done to them.
//!
//! Scenarios stop servers that others would need, so they run one at a time:
//! `cargo xtask test --suite cluster` runs them with one thread, after the adapters' tests.

mod faults;
mod group;
mod killed;
mod newer;
mod outages;
mod seed;

use kubeml::wire::TaskView;
use serde_json::Value;

use super::nodes::Cluster;

/// What `kubeml train` without any server makes of the same task.
pub fn trained_alone(model: &str, epochs: u32) -> TaskView {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubeml"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBEML__")) {
        command.env_remove(name);
    }
    command.env("KUBEML__NODE__DATA_DIR", directory.path());
    let epochs = epochs.to_string();
    command.args(["train", model, "--epochs", &epochs, "--seed", "7", "--dataset", "mnist-10k", "--json"]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    let summary: Value = serde_json::from_str(text.lines().last().expect("a summary")).expect("JSON");
    serde_json::from_value(summary["tasks"][0].clone()).expect("a task")
}

/// The result is the undisturbed one: weights and metrics.
pub fn assert_same_result(view: &TaskView, reference: &TaskView) {
    assert_eq!(view.weights_sha256, reference.weights_sha256, "{}", view.spec.model);
    assert!(view.weights_sha256.is_some());
    assert_eq!(view.metrics.clone().without_clock(), reference.metrics.clone().without_clock());
    assert_eq!(view.confusion_matrix, reference.confusion_matrix);
}

/// Every task's stream is its history, once and without holes; the stores agree; the protocol was kept.
pub async fn assert_all_is_well(cluster: &Cluster, listener: &mut super::stream::Listener, ids: &[String]) {
    for id in ids {
        let heard = listener.wait_for(|heard| heard.has_ended(id)).await;
        heard.assert_is_history(id, &cluster.history(id).await);
        heard.assert_ids_grow();
    }
    cluster.assert_history_is_good().await;
    cluster.assert_at_rest().await;
}
