//! What must hold of a cluster once its tasks have ended.

use std::time::Duration;

use kubeml::edges::history::{Line, Outcome, check};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::kafka::{config_of, older_client};
use super::Cluster;

/// Of workers, and of API nodes.
const HINT_GROUPS: [&str; 2] = ["task-consumer-group-1", "kubeml-bridge"];

impl Cluster {
    /// What every process did to the task store keeps the protocol, and nothing is left over.
    pub async fn assert_history_is_good(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = check::read(&self.histories()).expect("histories can be read");
            let violations = check::check_at_rest(&lines);
            if violations.is_empty() {
                return self.assert_history_is_whole(&lines).await;
            }
            // An announcement may still be under way.
            assert!(Instant::now() < end, "{violations:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Of every task that there is, somebody who writes a history has written.
    async fn assert_history_is_whole(&self, lines: &[Line]) {
        let (_, body) = self.get(&self.apis[0], "/api/v1/tasks?limit=200").await;
        let page: Value = serde_json::from_str(&body).expect("JSON");
        let tasks = page["items"].as_array().expect("a page");
        assert!(!tasks.is_empty() && page["next"].is_null(), "one page of tasks: {body}");
        for task in tasks {
            let is_of_it = |line: &Line| line.outcome == Outcome::Applied && task["id"] == line.task.to_string();
            assert!(lines.iter().any(is_of_it), "nobody has written {}", task["id"]);
        }
    }

    /// No task waits or runs, and every hint that there was is settled.
    pub async fn assert_at_rest(&self) {
        for state in ["pending", "running"] {
            let (status, body) = self.get(&self.apis[0], &format!("/api/v1/tasks?state={state}")).await;
            let page: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((status, &page["items"]), (200, &serde_json::json!([])), "{state}");
        }
        let config = config_of(&format!("{}.", self.name));
        let end = Instant::now() + Duration::from_secs(30);
        for group in HINT_GROUPS {
            while let unsettled = older_client::unsettled(&config, group, "task").await
                && unsettled > 0
            {
                assert!(Instant::now() < end, "{unsettled} hints are not settled by {group}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    fn histories(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).expect("it is a directory").filter_map(Result::ok);
        let histories = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "history"));
        histories.map(|file| std::fs::read_to_string(file.path()).expect("it is text")).collect()
    }
}
