//! What is written, letter by letter, and what is made of whatever comes.

use proptest::prelude::*;

use super::*;

fn id() -> TaskId {
    "00000000-0000-0000-0000-000000000007".parse().expect("it is one")
}

fn read(value: &str) -> TaskMessage {
    read_task(Some(value.as_bytes()))
}

#[test]
fn a_hint_reads_as_it_was_written() {
    let with_model = Hint { task: id(), model: "lstm".parse().ok() };
    let value = hint(with_model);
    assert_eq!(value, r#"{"task_type": "lstm", "task_id": "00000000-0000-0000-0000-000000000007", "v": 1}"#);
    assert_eq!(read(&value), TaskMessage::Hint(with_model));
    let without = Hint { model: None, ..with_model };
    assert_eq!(read(&hint(without)), TaskMessage::Hint(without));
    let newer = r#"{"task_type": "gpt", "task_id": "00000000-0000-0000-0000-000000000007", "v": 9, "x": []}"#;
    assert_eq!(read(newer), TaskMessage::Hint(without), "newer nodes may say more");
}

#[test]
fn the_older_systems_message_is_a_submission() {
    for value in [r#"{"task_type": "mlp"}"#, r#"{"task_type":"mlp","task_id":null,"more":{"a":1}}"#] {
        let TaskMessage::Submission(fields) = read(value) else { panic!("{value}") };
        assert_eq!(spec(&fields).map(|spec| spec.model().as_str()), Ok("mlp"));
    }
    for value in ["{}", r#"{"task_type": "gpt"}"#, r#"{"task_type": 7}"#, r#"{"task_type": ["mlp"]}"#] {
        let TaskMessage::Submission(fields) = read(value) else { panic!("{value}") };
        assert!(spec(&fields).is_err_and(|problem| problem.starts_with("expected a task_type of")), "{value}");
    }
}

#[test]
fn garbage_is_unreadable_and_says_why() {
    let deep = "[".repeat(60_000);
    let huge = format!("{{\"task_type\": \"mlp\", \"x\": \"{}\"}}", "x".repeat(VALUE_BYTES_MAX));
    for value in ["", "mlp", "null", "[]", "7", "{\"task_id\": 7}", "{\"task_id\": \"x\"}", "{", &deep, &huge] {
        assert!(matches!(read(value), TaskMessage::Unreadable(why) if why.len() < 200), "{}", value.len());
    }
    assert!(matches!(read_task(Some(b"\xff\xfe{}")), TaskMessage::Unreadable(_)));
    assert!(matches!(read_task(None), TaskMessage::Unreadable(_)));
}

#[test]
fn datasets_are_told_as_the_older_system_does() {
    let news = DatasetNews { dataset: "mnist".to_owned(), completed: false, chunks: 45, bytes: 45 * 4_980_000 };
    assert_eq!(
        dataset(&news),
        r#"{"dataset_name": "mnist", "batch_size_mb": 4.98, "status": "loading", "total_chunks": 45}"#
    );
    assert_eq!(
        dataset(&DatasetNews { completed: true, ..news.clone() }),
        r#"{"dataset_name": "mnist", "status": "completed", "total_chunks": 45, "chunk_distribution": {"0": 45}}"#
    );
    let nothing = DatasetNews { chunks: 0, bytes: 0, ..news };
    assert!(dataset(&nothing).contains("\"batch_size_mb\": 0.0"));
}

#[test]
fn a_dead_letter_holds_what_it_was_within_bounds() {
    let value = vec![b'x'; 1 << 20];
    let dead = dead(Dead { topic: "task", partition: 1, offset: 5, reason: "r", detail: "d", value: Some(&value) });
    assert!(dead.len() < 2 * KEPT_BYTES_MAX);
    let fields: Map<String, Value> = serde_json::from_str(&dead).expect(&dead);
    let kept = BASE64_STANDARD.decode(fields["value_base64"].as_str().expect("a text")).expect("base64");
    assert_eq!((kept.as_slice(), &fields["offset"]), (&value[..KEPT_BYTES_MAX], &Value::from(5)));
    let ours = DeadLetter { topic: "task", reason: "no_progress", detail: "x".to_owned() };
    assert_eq!(letter(&ours), r#"{"topic": "task", "reason": "no_progress", "detail": "x"}"#);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes: Vec<u8>, json in "[{}\\[\\]\":,a-z0-9 ]{0,60}") {
        let _ = read_task(Some(&bytes));
        if let TaskMessage::Submission(fields) = read(&json) {
            let _ = spec(&fields);
        }
    }
}
