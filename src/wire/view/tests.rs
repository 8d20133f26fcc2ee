//! A task's view through its life.

use kubeml_spec::Draft;
use std::time::Duration;

use kubeml_actors::task::{FailureKind, Submission};
use serde_json::json;
use uuid::Uuid;

use super::*;

const NOON: Timestamp = Timestamp(1_700_049_600_000_000);

fn record() -> TaskRecord {
    let draft = Draft::new("cnn");
    let spec = draft.build().unwrap();
    let submission = Submission { id: TaskId::fresh(), name: None, tags: vec![], priority: 0, retry_of: None, spec };
    TaskRecord::submitted(submission, Uuid::nil(), NOON)
}

fn running() -> TaskRecord {
    let progress = Progress { step: 5, steps: 10, ..Progress::default() }.into();
    let (worker_id, started_at) = (Some("node-1/0".to_owned()), Some(NOON));
    TaskRecord { state: TaskState::Running, attempt: 1, worker_id, started_at, progress, ..record() }
}

#[test]
fn a_view_survives_its_json_and_nothing_is_left_out() {
    let view = TaskView::new(&record(), None, NOON);
    let value = serde_json::to_value(&view).unwrap();
    for field in ["name", "worker_id", "dataset", "weights_sha256", "failure", "started_at", "finished_at"] {
        assert_eq!(value.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(value["created_at"], "2023-11-15T12:00:00.000000Z");
    assert_eq!(
        (&value["metrics"]["best"]["val_accuracy"], &value["metrics"]["best"]["epoch"]),
        (&json!(0.0), &json!(0))
    );
    assert_eq!(value["progress"]["epochs"], 5);
    assert_eq!(serde_json::from_value::<TaskView>(value).unwrap(), view);
}

#[test]
fn newer_progress_is_shown_and_older_is_not() {
    let heard = |step| Some(Progress { step, steps: 10, ..Progress::default() });
    let shown = |record: &TaskRecord, step| TaskView::new(record, heard(step), NOON).progress.step;
    assert_eq!((shown(&running(), 7), shown(&running(), 3)), (7, 5));
    let ended = TaskRecord { state: TaskState::Cancelled, ..running() };
    assert_eq!(shown(&ended, 7), 5);
}

#[test]
fn why_says_what_a_task_waits_for() {
    let why = |record: &TaskRecord| TaskView::new(record, None, NOON).why;
    assert_eq!(why(&record()), "waiting for a free trainer");
    assert_eq!(why(&running()), "loading the dataset mnist on node-1/0");
    let used = DatasetUsed {
        name: "mnist".to_owned(),
        version: "1".to_owned(),
        sha256: "ab".to_owned(),
        train_samples: 1,
        test_samples: 1,
        instead_of: None,
    };
    let training = TaskRecord { dataset: Some(used.into()), ..running() };
    assert_eq!(why(&training), "training on node-1/0 since 12:00:00");
    assert_eq!(why(&TaskRecord { cancel_requested: true, ..training }), "being cancelled on node-1/0");
    let failure = Some(Failure::new(FailureKind::Crashed, "out of luck").into());
    let not_before = Some(NOON.plus(Duration::from_secs(65)));
    let waiting = TaskRecord { failure, not_before, attempt: 1, ..record() };
    assert_eq!(why(&waiting), "waiting until 12:01:05 after: out of luck");
    assert_eq!(why(&TaskRecord { state: TaskState::Failed, ..waiting }), "out of luck");
}
