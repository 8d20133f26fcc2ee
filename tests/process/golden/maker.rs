//! Makes a golden directory: tasks in every state, in the data directory of a server that is killed.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use kubeml::edges::redb::RedbState;
use kubeml_actors::{
    ports::{TaskFilter, TaskStore},
    task::TaskRecord,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    super::server::{DEADLINE, Server, free_port},
    EXPECTED, Expected,
};

/// Of the built-in digits: enough to train on, and few to keep.
const TRAIN_IMAGES: usize = 800;
const TEST_IMAGES: usize = 200;
const POLL: Duration = Duration::from_millis(5);

/// Each trains for a second or two: longer than until its first checkpoints.
fn long_tasks() -> [Value; 3] {
    let task = |name: &str, model: &str, hyperparameters: Value| json!({ "name": name, "tags": ["golden"], "model": model, "dataset": "mnist", "hyperparameters": hyperparameters });
    [
        task(
            "mlp with everything",
            "mlp",
            json!({
                "epochs": 600, "batch_size": 32, "hidden": [4, 6], "optimizer": "adamw", "schedule": "cosine", "seed": 11,
                "validation_fraction": 0.1, "patience": 10_000,
            }),
        ),
        task(
            "cnn",
            "cnn",
            json!({
                "epochs": 60, "batch_size": 32, "channels": [3], "dense": 4, "optimizer": "sgd", "schedule": "step",
                "schedule_every": 20, "learning_rate": 0.01, "seed": 12,
            }),
        ),
        task("lstm", "lstm", json!({ "epochs": 60, "batch_size": 32, "units": 8, "dense": 8, "seed": 13 })),
    ]
}

fn short_task(name: &str, epochs: u32) -> Value {
    let hyperparameters = json!({ "epochs": epochs, "batch_size": 32, "hidden": [4], "seed": 7 });
    json!({ "name": name, "model": "mlp", "dataset": "mnist", "hyperparameters": hyperparameters })
}

pub async fn make(version: &Path) {
    let (dir, digits) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    few_digits(digits.path());
    let digits = digits.path().to_str().unwrap();
    let failed = one_fails(dir.path()).await;
    some_end_and_others_are_released(dir.path(), digits).await;
    two_run_and_two_wait(dir.path(), digits, &failed).await;
    compact(&dir.path().join("state.redb"));
    compact(&dir.path().join("datasets.redb"));
    let records = records(&dir.path().join("state.redb")).await;
    let mut expected = Vec::new();
    for record in &records {
        expected.push(expectation(record, digits).await);
    }
    let states: Vec<&str> = records.iter().map(|record| record.state.as_str()).collect();
    for (state, count) in [("succeeded", 1), ("failed", 1), ("cancelled", 1), ("running", 2), ("pending", 2)] {
        assert_eq!(states.iter().filter(|found| **found == state).count(), count, "{state}: {states:?}");
    }
    fs::create_dir_all(version).unwrap();
    for file in ["state.redb", "datasets.redb", "artifacts"] {
        pack(&dir.path().join(file), &version.join(file));
    }
    let text = serde_json::to_string_pretty(&expected).unwrap() + "\n";
    fs::write(version.join(EXPECTED), text).unwrap();
}

/// The dataset of its task cannot be had yet.
async fn one_fails(dir: &Path) -> String {
    let server = Server::start(dir, free_port(), &[]).await;
    let id = server.submit(&short_task("without digits", 3)).await;
    server.wait_until(&id, |view| view.state == "failed").await;
    drained(server).await;
    id
}

async fn some_end_and_others_are_released(dir: &Path, digits: &str) {
    let settings = [("KUBEML__DATASETS__MNIST__DIR", digits), ("KUBEML__TRAINER__SLOTS", "3")];
    let server = Server::start(dir, free_port(), &settings).await;
    let id = server.submit(&short_task("succeeded", 3)).await;
    server.succeeded(&id).await;
    let id = server.submit(&short_task("cancelled", 10_000)).await;
    wait_for_checkpoint(&server, &id, 1).await;
    assert!(server.post(&format!("/api/v1/tasks/{id}/cancel")).await.status().is_success());
    server.wait_until(&id, |view| view.state == "cancelled").await;
    for task in long_tasks() {
        let id = server.submit(&task).await;
        wait_for_checkpoint(&server, &id, 1).await;
    }
    drained(server).await;
}

async fn two_run_and_two_wait(dir: &Path, digits: &str, failed: &str) {
    let settings = [("KUBEML__DATASETS__MNIST__DIR", digits), ("KUBEML__TRAINER__SLOTS", "2")];
    let server = Server::start(dir, free_port(), &settings).await;
    assert!(server.post(&format!("/api/v1/tasks/{failed}/retry")).await.status().is_success());
    let running = async {
        loop {
            let tasks = server.tasks().await;
            let running: Vec<String> =
                tasks.values().filter(|view| view.state == "running").map(|view| view.id.to_string()).collect();
            if let [one, other] = &running[..] {
                return [one.clone(), other.clone()];
            }
            sleep(POLL).await;
        }
    };
    for id in timeout(DEADLINE, running).await.expect("two run") {
        wait_for_checkpoint(&server, &id, 2).await;
    }
    server.kill();
}

async fn drained(server: Server) {
    server.terminate();
    assert_eq!(server.exit_code(DEADLINE).await, Some(0));
}

async fn wait_for_checkpoint(server: &Server, id: &str, attempt: u64) {
    let is_one = |event: &Value| {
        event["kind"] == "checkpoint_saved" && event["seq"].as_u64().is_some_and(|seq| seq >> 40 == attempt)
    };
    let saved = async {
        while !server.history(id).await.iter().any(is_one) {
            sleep(POLL).await;
        }
    };
    timeout(DEADLINE, saved).await.expect("it is saved");
}

/// Of a copy: opening the file changes it.
async fn records(state: &Path) -> Vec<TaskRecord> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("state.redb");
    fs::copy(state, &copy).unwrap();
    let store = RedbState::open(&copy).unwrap();
    store.list(&TaskFilter::default(), None, 200).await.unwrap().records
}

/// How the task stood; of one that has not ended, a server without disturbances makes the weights.
async fn expectation(record: &TaskRecord, digits: &str) -> Expected {
    let own = record.result.as_ref().map(|result| result.outcome.weights_sha256.clone());
    let weights_sha256 = if record.state.is_terminal() {
        own
    } else {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), free_port(), &[("KUBEML__DATASETS__MNIST__DIR", digits)]).await;
        let id = server.submit(&record.spec.to_json()).await;
        server.succeeded(&id).await.weights_sha256
    };
    Expected {
        id: record.id.to_string(),
        name: record.name.clone(),
        state: record.state.as_str().to_owned(),
        attempt: record.attempt,
        resumes_at: if record.state.is_terminal() { 0 } else { record.resume_step() },
        weights_sha256,
    }
}

fn compact(file: &Path) {
    redb::Database::open(file).unwrap().compact().unwrap();
}

/// Gzips a file, or all files of a directory.
fn pack(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            pack(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let name = format!("{}.gz", to.file_name().unwrap().to_str().unwrap());
    let mut packed = GzEncoder::new(File::create(to.with_file_name(name)).unwrap(), Compression::best());
    packed.write_all(&fs::read(from).unwrap()).unwrap();
    packed.finish().unwrap();
}

/// MNIST's four files with the first of the built-in digits.
fn few_digits(dir: &Path) {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edges/mnist/digits");
    for (part, count) in [("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)] {
        for (kind, header, each) in [("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)] {
            let name = format!("{part}-{kind}-ubyte");
            let mut bytes = Vec::new();
            let packed = File::open(built_in.join(format!("{name}.gz"))).unwrap();
            GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
            bytes.truncate(header + count * each);
            bytes[4..8].copy_from_slice(&u32::try_from(count).unwrap().to_be_bytes());
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}
