//! Data directories of released versions: this version opens them and finishes what is in them.
//!
//! `tests/golden/<version>/` holds every file of a data directory, gzipped, as that version left it when it was killed:
//! ended, waiting and running tasks, their checkpoints, and a small dataset that is nowhere else. `expected.json` beside
//! them says how each task stood, and the weights of an undisturbed training of the same spec.
//!
//! Each release adds one directory and never changes an older one:
//!
//! ```text
//! KUBEML_BLESS=1 cargo test --workspace --test process golden
//! ```
//! makes the directory of the version in `Cargo.toml` if it is not there.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use kubeml::wire::TaskView;
use serde::{Deserialize, Serialize};

use super::server::{Server, free_port};

mod maker;

const EXPECTED: &str = "expected.json";
/// By default the events would be deleted for their age.
const SETTINGS: [(&str, &str); 1] = [("KUBEML__EVENTS__RETENTION", "forever")];

/// How a task stood in a data directory, and how it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    id: String,
    name: Option<String>,
    state: String,
    attempt: u32,
    /// Step of the newest checkpoint of a task that has not ended.
    resumes_at: u64,
    /// Of its own result, or of the undisturbed training of a task that has not ended.
    weights_sha256: Option<String>,
}

impl Expected {
    fn has_ended(&self) -> bool {
        ["succeeded", "failed", "cancelled"].contains(&self.state.as_str())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_in_the_data_directory_of_a_released_version_are_kept_and_finished() {
    if std::env::var_os("KUBEML_BLESS").is_some() && !golden().join(env!("CARGO_PKG_VERSION")).exists() {
        maker::make(&golden().join(env!("CARGO_PKG_VERSION"))).await;
    }
    let versions: Vec<PathBuf> = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty(), "there is a directory of each release");
    for version in versions {
        println!("{}", version.display());
        assert_is_kept_and_finished(&version).await;
    }
}

async fn assert_is_kept_and_finished(version: &Path) {
    let expected: Vec<Expected> = serde_json::from_slice(&fs::read(version.join(EXPECTED)).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    unpack(version, dir.path());
    let server = Server::start(dir.path(), free_port(), &SETTINGS).await;
    let listed = server.tasks().await;
    assert_eq!(listed.len(), expected.len());
    for task in &expected {
        let view = &listed[&task.id];
        assert_eq!(view.name, task.name);
        if task.has_ended() {
            assert_has_ended_as(task, view);
        } else {
            let view = server.succeeded(&task.id).await;
            assert_eq!((&view.weights_sha256, view.attempt), (&task.weights_sha256, task.attempt + 1), "{task:?}");
            let resumed = resumed_at(&server, &task.id).await;
            assert_eq!(resumed.unwrap_or_default(), task.resumes_at, "{task:?} goes on from its checkpoint");
        }
        assert_can_be_read(&server, &task.id).await;
    }
}

fn assert_has_ended_as(task: &Expected, view: &TaskView) {
    assert_eq!(
        (&view.state, view.attempt, &view.weights_sha256),
        (&task.state, task.attempt, &task.weights_sha256),
        "{task:?}"
    );
    assert_eq!(view.failure.is_some(), task.state == "failed");
    assert_eq!(view.confusion_matrix.is_some(), task.state == "succeeded");
}

/// An ended task's history is whole, and the models of a succeeded one can be downloaded.
async fn assert_can_be_read(server: &Server, id: &str) {
    let (view, history) = (server.view(id).await, server.history(id).await);
    assert_eq!(history[0]["kind"], "queued");
    assert_eq!(history.last().unwrap()["kind"], view.state);
    for which in ["final", "best"] {
        let model = server.get(&format!("/api/v1/tasks/{id}/model?which={which}")).await;
        assert_eq!(model.status() == 200, view.state == "succeeded", "{which}: {}", model.status());
    }
}

/// Step at which the last attempt resumed, if it did not start anew.
async fn resumed_at(server: &Server, id: &str) -> Option<u64> {
    let (attempt, history) = (server.view(id).await.attempt, server.history(id).await);
    let of_last = |seq: u64| seq >> 40 == u64::from(attempt);
    let resumed = history.iter().find(|event| event["kind"] == "resumed" && event["seq"].as_u64().is_some_and(of_last));
    resumed.and_then(|event| event["from_step"].as_u64())
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn unpack(packed: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(packed).unwrap().map(Result::unwrap) {
        let target = to.join(entry.path().file_stem().unwrap());
        if entry.file_type().unwrap().is_dir() {
            unpack(&entry.path(), &to.join(entry.file_name()));
        } else if entry.path().extension().is_some_and(|extension| extension == "gz") {
            let mut unpacked = File::create(target).unwrap();
            std::io::copy(&mut GzDecoder::new(File::open(entry.path()).unwrap()), &mut unpacked).unwrap();
        }
    }
}

impl Server {
    /// All tasks by id.
    async fn tasks(&self) -> HashMap<String, TaskView> {
        let page: serde_json::Value = serde_json::from_str(&self.text("/api/v1/tasks?limit=200").await).unwrap();
        let views: Vec<TaskView> = serde_json::from_value(page["items"].clone()).unwrap();
        views.into_iter().map(|view| (view.id.to_string(), view)).collect()
    }
}
