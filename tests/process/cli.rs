//! The command line as a person uses it.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::server::{DEADLINE, Server, free_port, kubeml, trained_alone};

#[tokio::test(flavor = "multi_thread")]
async fn training_without_a_dataset_uses_the_built_in_digits_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = kubeml(dir.path()).args(["train", "mlp", "--epochs", "1"]).output().unwrap();
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(shown.contains("mnist-10k") && shown.contains("NOT ON THE FULL MNIST"), "{shown}");
    assert!(told.contains("WARNING: training on mnist-10k") && told.contains("epoch   1"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_is_named_and_cannot_be_had_fails_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = kubeml(dir.path()).args(["train", "mlp", "--epochs", "1", "--dataset", "mnist"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("failed") && shown.contains("--dataset mnist-10k"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_threads_gives_the_same_weights() {
    for model in ["mlp", "cnn", "lstm"] {
        let one = trained_alone(model, 1, 1);
        for threads in [2, 3] {
            let more = trained_alone(model, 1, threads);
            assert_eq!(
                (&more.weights_sha256, more.metrics.clone().without_clock()),
                (&one.weights_sha256, one.metrics.clone().without_clock()),
                "{model}, {threads} threads"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_trained_on_by_its_server_and_refused_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), free_port(), &[]).await;
    let through =
        kubeml(dir.path()).args(["train", "mlp", "--epochs", "1", "--dataset", "mnist-10k"]).output().unwrap();
    let told = String::from_utf8_lossy(&through.stderr);
    assert!(through.status.success() && told.contains(&server.url), "{told}");
    let threads = kubeml(dir.path()).args(["train", "mlp", "--threads", "1"]).output().unwrap();
    let told = String::from_utf8_lossy(&threads.stderr);
    assert!(threads.status.code() == Some(2) && told.contains("--threads") && told.contains(&server.url), "{told}");

    let second = kubeml(dir.path()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains(&format!("pid {}", server.child.id())) && told.contains(&server.url), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_every_interface_and_any_port_publishes_where_it_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_on(dir.path(), "0.0.0.0:0", &[]).await;
    let here: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(here.ip().is_loopback() && here.port() != 0, "{here}");
    let published = async {
        loop {
            let system: Value = serde_json::from_str(&server.text("/api/v1/system").await).unwrap();
            if let Some(address) = system["nodes"][0]["address"].as_str() {
                return address.to_owned();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let published = timeout(DEADLINE, published).await.expect("the next heartbeat has it");
    let elsewhere: SocketAddr = published.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(!elsewhere.ip().is_unspecified(), "{elsewhere}");
    assert_eq!(elsewhere.port(), here.port());
}

#[test]
fn wrong_usage_is_told_with_exit_code_2_and_a_wrong_spec_with_every_problem() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| kubeml(dir.path()).args(args).output().unwrap();
    assert_eq!(run(&["train", "transformer"]).status.code(), Some(2));
    assert_eq!(run(&["fly"]).status.code(), Some(2));
    let wrong = run(&["train", "mlp", "--epochs", "0", "--learning-rate", "-1"]);
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told.contains("/hyperparameters/epochs") && told.contains("/hyperparameters/learning_rate"), "{told}");
    let version = String::from_utf8_lossy(&run(&["--version"]).stdout).into_owned();
    assert!(version.contains("kernels"), "{version}");
}
