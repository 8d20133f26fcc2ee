//! Three brokers, three Cassandra nodes and a Redis Cluster of six: what is lost with one of them, and with two.
//!
//! `cargo xtask test --suite cluster-ha` starts them and runs these tests one at a time.

mod servers;

use std::{sync::OnceLock, time::Duration};

use kubeml::wire::TaskView;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::servers::Fleet;
use super::{
    nodes::{Cluster, DEADLINE},
    scenarios::{assert_all_is_well, assert_same_result, trained_alone},
    stream::Listener,
};

/// Models and epochs: two of them train at a time, and all are long enough for a server to end and come back.
const TASKS: [(&str, u32); 3] = [("mlp", 60), ("cnn", 3), ("lstm", 2)];
const SMALL: (&str, u32) = ("mlp", 2);
/// Further on in a task: behind what was under way when a server ended.
const STEPS: u64 = 40;

/// An API node and two workers, in mid-training.
struct Training {
    fleet: Fleet,
    cluster: Cluster,
    listener: Listener,
    /// The tasks, each with what it is.
    tasks: Vec<(String, (&'static str, u32))>,
}

impl Training {
    async fn start() -> Self {
        let fleet = Fleet::whole().await;
        let cluster = Cluster::start(2).await;
        let listener = cluster.listen();
        let mut training = Self { fleet, cluster, listener, tasks: Vec::new() };
        for task in TASKS {
            training.submit(task).await;
        }
        training.goes_on().await;
        training
    }

    /// It is taken at once.
    async fn submit(&mut self, (model, epochs): (&'static str, u32)) {
        let id = self.cluster.submit(model, epochs).await;
        self.tasks.push((id, (model, epochs)));
    }

    /// Each of the tasks that train now trains on.
    async fn goes_on(&self) {
        self.cluster.wait_until(&self.tasks[0].0, |view| view.state != "pending").await;
        for (id, _) in &self.tasks {
            let begun = self.cluster.wait_until(id, |_| true).await;
            if begun.state == "running" {
                let further = begun.progress.step + STEPS;
                let is_further = |view: &TaskView| view.progress.step >= further || view.state == "succeeded";
                self.cluster.wait_until(id, is_further).await;
            }
        }
    }

    /// Every task ends; meanwhile the API node is ready.
    async fn all_succeed_and_the_api_is_ready(&self) {
        for (id, _) in &self.tasks {
            while self.cluster.wait_until(id, |_| true).await.state != "succeeded" {
                let (status, body) = self.cluster.get(&self.cluster.apis[0], "/readyz").await;
                assert_eq!(status, 200, "{body}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// All results are those of undisturbed tasks, the streams are exact, and the protocol was kept.
    async fn assert_ends_well(mut self) -> Vec<TaskView> {
        let mut views = Vec::new();
        for (id, task) in &self.tasks {
            let view = self.cluster.succeeded(id).await;
            assert_same_result(&view, undisturbed(*task));
            views.push(view);
        }
        let ids: Vec<String> = self.tasks.iter().map(|(id, _)| id.clone()).collect();
        assert_all_is_well(&self.cluster, &mut self.listener, &ids).await;
        views
    }

    /// What a part of the API node's readiness has come to.
    async fn check(&self, part: &str) -> String {
        let (_, body) = self.cluster.get(&self.cluster.apis[0], "/readyz").await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        body["checks"][part].as_str().expect("it is checked").to_owned()
    }

    async fn until_ok(&self, part: &str) {
        let end = Instant::now() + DEADLINE;
        while self.check(part).await != "ok" {
            assert!(Instant::now() < end, "{part}: {}", self.check(part).await);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a task of ours is without any server; trained once.
fn undisturbed(task: (&'static str, u32)) -> &'static TaskView {
    static KNOWN: OnceLock<Vec<((&str, u32), TaskView)>> = OnceLock::new();
    let all = || TASKS.into_iter().chain([SMALL]).map(|task| (task, trained_alone(task.0, task.1))).collect();
    let known = KNOWN.get_or_init(all).iter().find(|(known, _)| *known == task);
    &known.expect("it is one of ours").1
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_taken_and_run_while_brokers_are_killed_one_after_the_other() {
    let mut training = Training::start().await;
    training.fleet.kill("kafka-1");
    training.submit(SMALL).await;
    training.goes_on().await;
    training.fleet.start("kafka-1");
    training.fleet.kill("kafka-2");
    training.submit(SMALL).await;
    training.all_succeed_and_the_api_is_ready().await;
    training.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_cassandra_node_killed_tasks_are_taken_and_end() {
    let mut training = Training::start().await;
    training.fleet.kill("cassandra-1");
    training.submit(SMALL).await;
    training.all_succeed_and_the_api_is_ready().await;
    training.fleet.start("cassandra-1");
    training.submit(SMALL).await;
    training.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_master_that_is_killed_is_replaced_and_no_task_notices() {
    let mut training = Training::start().await;
    let master = training.fleet.redis_master().await;
    training.fleet.kill(&master);
    training.submit(SMALL).await;
    training.until_ok("cache").await;
    training.submit(SMALL).await;
    let views = training.assert_ends_well().await;
    assert!(views.iter().all(|view| view.attempt == 1), "{views:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_each_kind_killed_at_the_same_time_changes_no_result() {
    let mut training = Training::start().await;
    let master = training.fleet.redis_master().await;
    for name in ["kafka-3", "cassandra-3", &master] {
        training.fleet.kill(name);
    }
    training.submit(SMALL).await;
    training.all_succeed_and_the_api_is_ready().await;
    training.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_of_cassandra_nodes_nothing_is_taken_and_nothing_lost() {
    let mut training = Training::start().await;
    for name in ["cassandra-2", "cassandra-3"] {
        training.fleet.kill(name);
    }
    let end = Instant::now() + DEADLINE;
    while training.cluster.is_ready(&training.cluster.apis[0]).await {
        assert!(Instant::now() < end, "it is ready without a store");
        sleep(Duration::from_millis(50)).await;
    }
    let body = json!({"model": SMALL.0, "dataset": "mnist-10k", "hyperparameters": {"epochs": SMALL.1, "seed": 7}});
    let keys: Vec<String> = (0..3).map(|_| Uuid::new_v4().to_string()).collect();
    for key in &keys {
        let (status, answer) = training.cluster.ask_to_take(&body, key).await.expect("the API answers");
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}");
    }
    for name in ["cassandra-2", "cassandra-3"] {
        training.fleet.start(name);
    }
    training.until_ok("store").await;
    for key in &keys {
        let id = training.cluster.taken(&body, key).await;
        training.tasks.push((id, SMALL));
    }
    let (_, list) = training.cluster.get(&training.cluster.apis[0], "/api/v1/tasks?limit=100").await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(training.tasks.len()), "a key is one task: {list}");
    training.assert_ends_well().await;
}
