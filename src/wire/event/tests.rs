//! Every kind of fact as JSON, and back.

use kubeml_actors::{
    event::Seq,
    task::{FailureKind, Progress, TaskId},
    testing::contracts::samples,
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use super::*;

fn succeeded() -> EventKind {
    let last = EpochMetrics { epoch: 1, loss: 0.5, accuracy: 1.0, ..EpochMetrics::default() };
    EventKind::Succeeded { result: Box::new(samples::result(TaskId::NONE)), last }
}

fn kinds() -> Vec<EventKind> {
    let failure = Failure::new(FailureKind::Crashed, "out of luck");
    vec![
        EventKind::Queued,
        EventKind::Claimed { worker_id: "node-1/0".to_owned() },
        EventKind::Resumed { from_step: 7 },
        EventKind::Progress(Progress { epoch: 1, epochs: 5, step: 3, steps: 9, ..Progress::default() }),
        EventKind::EpochFinished(EpochMetrics { epoch: 2, loss: 0.1, ..EpochMetrics::default() }),
        EventKind::CheckpointSaved { step: 7 },
        EventKind::Log { level: LogLevel::Warn, message: "on mnist-10k".to_owned() },
        EventKind::AttemptFailed { failure: failure.clone(), charged: true },
        EventKind::CancelRequested,
        succeeded(),
        EventKind::Failed { failure },
        EventKind::Cancelled,
    ]
}

fn fact(kind: EventKind) -> TaskEvent {
    TaskEvent { task: TaskId::fresh(), seq: Seq::new(2, 48), at: Timestamp(1_700_000_000_123_456), kind }
}

#[test]
fn every_kind_survives_its_json() {
    for kind in kinds() {
        let event = Event::new(&fact(kind.clone()));
        let text = serde_json::to_string(&event).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["kind"], kind.as_str(), "{text}");
        assert_eq!((&value["seq"], &value["attempt"]), (&json!((2_u64 << 40) + 48), &json!(2)));
        assert_eq!(value["at"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        assert_eq!(event.body.is_terminal(), kind.is_terminal());
    }
}

#[test]
fn a_result_carries_its_receipt() {
    let value = serde_json::to_value(Event::new(&fact(succeeded()))).unwrap();
    assert_eq!((&value["weights_sha256"], &value["stop_reason"]), (&json!("ab".repeat(32)), &json!("target_accuracy")));
    assert_eq!((&value["test_accuracy"], &value["confusion_matrix"]), (&json!(0.97), &json!([[980, 2], [1, 1030]])));
}

#[test]
fn a_line_of_no_task_names_none() {
    let line = TaskEvent { task: TaskId::NONE, ..fact(EventKind::Queued) };
    let value = serde_json::to_value(Event::new(&line)).unwrap();
    assert_eq!((&value["task_id"], &value["attempt"]), (&Value::Null, &json!(0)));
}
