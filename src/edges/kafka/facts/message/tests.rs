//! Every kind of fact comes back bit by bit, and nothing else passes for one.

use kubeml_actors::{
    event::{EventKind, LogLevel, Seq},
    task::{Failure, FailureKind, Progress, TaskId},
    testing::contracts::samples,
    timestamp::Timestamp,
};
use kubeml_spec::EpochMetrics;
use rdkafka::message::OwnedMessage;
use serde_json::Value;

use super::*;

fn every_kind() -> Vec<EventKind> {
    let failure = || Failure::new(FailureKind::Crashed, "ü \u{0} \"quoted\"");
    let odd = f64::from_bits(0x3FB9_9999_9999_999B);
    let metrics = EpochMetrics { epoch: 3, loss: f64::MIN_POSITIVE, accuracy: odd, ..EpochMetrics::default() };
    let progress = Progress { epoch: 1, loss: -0.0, eta_seconds: 1e300, ..Progress::default() };
    vec![
        EventKind::Queued,
        EventKind::Claimed { worker_id: "node-1/0".to_owned() },
        EventKind::Resumed { from_step: u64::MAX },
        EventKind::Progress(progress),
        EventKind::EpochFinished(metrics),
        EventKind::CheckpointSaved { step: 7 },
        EventKind::Log { level: LogLevel::Warn, message: "x".repeat(10_000) },
        EventKind::AttemptFailed { failure: failure(), charged: true },
        EventKind::CancelRequested,
        EventKind::Succeeded { result: Box::new(samples::result(TaskId::NONE)), last: metrics },
        EventKind::Failed { failure: failure() },
        EventKind::Cancelled,
    ]
}

fn message(kind: EventKind) -> (TaskEvent, FactMessage) {
    let event = TaskEvent { task: TaskId::fresh(), seq: Seq::new(2, 1), at: Timestamp(5), kind };
    let message = FactMessage::new(&event, &Known::of(None)).expect("it is short enough");
    (event, message)
}

#[test]
fn every_kind_of_fact_comes_back_bit_by_bit() {
    for kind in every_kind() {
        let (event, message) = message(kind);
        let back = fact(Some(&message.headers)).expect("it is one");
        assert_eq!(codec::encode(&back), codec::encode(&event), "{}", event.kind.as_str());
        assert_eq!(message.key, event.task.to_string());
    }
}

#[test]
fn every_value_is_json_that_names_task_and_number() {
    for kind in every_kind() {
        let (event, message) = message(kind);
        let value: Value = serde_json::from_str(&message.value).expect(&message.value);
        assert_eq!(value["task_id"], event.task.to_string());
        assert_eq!(value["seq"], event.seq.0);
    }
}

#[test]
fn what_others_write_is_no_fact() {
    let (_, good) = message(EventKind::Queued);
    let bytes = fact(Some(&good.headers)).and_then(|event| codec::encode(&event).ok()).expect("it is one");
    let with = |key: &str, value: Option<&[u8]>| OwnedHeaders::new().insert(Header { key, value });
    let mut damaged = bytes.clone();
    damaged[12] ^= 1;
    let strangers = [
        with(FACT_HEADER, None),
        with(FACT_HEADER, Some(b"")),
        with(FACT_HEADER, Some(&damaged)),
        with("x", Some(&bytes)),
    ];
    assert!(strangers.iter().all(|headers| fact(Some(headers)).is_none()));
    assert!(fact(None::<&OwnedHeaders>).is_none());
}

/// As rdkafka reads a header whose name is not UTF-8.
struct Unreadable;

impl Headers for Unreadable {
    fn count(&self) -> usize {
        1
    }

    fn try_get(&self, _: usize) -> Option<Header<'_, &[u8]>> {
        panic!("a test: this name is not UTF-8")
    }
}

#[test]
fn a_header_that_the_library_cannot_read_is_no_fact() {
    assert_eq!(fact(Some(&Unreadable)), None);
}

#[test]
fn lines_of_the_older_systems_programs_are_told_as_lines_of_no_task() {
    let read = |value: &str, headers: Option<OwnedHeaders>| {
        let at = rdkafka::Timestamp::CreateTime(1_700_000_000_123);
        told(&OwnedMessage::new(Some(value.into()), None, "training_log".to_owned(), at, 1, 5, headers))
    };
    let line = r#"{"log_type": "testing", "message": "Test training_log message sent", "more": 1}"#;
    let event = read(line, None).expect("it is one");
    let at = 1_700_000_000_123_000;
    // Another offset or partition in the same millisecond has another number.
    assert_eq!((event.task, event.seq, event.at), (TaskId::NONE, Seq(at + 41), Timestamp(at)));
    let shown = older::line(&event, &Known::of(None)).expect("it has a line");
    assert!(shown.starts_with(r#"{"log_type": "testing", "message": "Test training_log message sent""#), "{shown}");
    let long = format!(r#"{{"log_type": "x", "message": "{}"}}"#, "ü".repeat(100_000));
    assert!(
        matches!(read(&long, None).expect("it is one").kind, EventKind::Log { message, .. } if message.len() == 8_192)
    );
    for other in
        ["", "{}", "[]", "\u{0}", r#"{"message": "x"}"#, r#"{"log_type": "x", "message": 1}"#, r#"{"log_type": "x"}"#]
    {
        assert_eq!(read(other, None), None, "{other}");
    }
    // Ours, of a version that is not known yet.
    let newer = OwnedHeaders::new().insert(Header { key: FACT_HEADER, value: Some(&[0xff]) });
    assert_eq!(read(line, Some(newer)), None);
}
