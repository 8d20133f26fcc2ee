//! The lines, letter by letter.

use kubeml_actors::{event::Seq, timestamp::Timestamp};
use kubeml_spec::EpochMetrics;
use uuid::Uuid;

use super::*;

fn event(kind: EventKind) -> TaskEvent {
    TaskEvent { task: TaskId(Uuid::from_u128(7)), seq: Seq(5), at: Timestamp(1), kind }
}

#[test]
fn older_keys_come_first_and_with_their_spacing() {
    let known = Known { model: "lstm", worker: "worker-1".to_owned() };
    let metrics = EpochMetrics { epoch: 1, loss: 0.5519, accuracy: 0.82, ..EpochMetrics::default() };
    assert_eq!(
        line(&event(EventKind::EpochFinished(metrics)), &known).unwrap_or_default(),
        "{\"task_type\": \"lstm\", \"epoch\": 0, \"accuracy\": \"0.820\", \"loss\": \"0.552\", \
         \"log_type\": \"training\", \"worker_id\": \"worker-1\", \
         \"task_id\": \"00000000-0000-0000-0000-000000000007\", \"seq\": 5}"
    );
}

#[test]
fn who_claims_is_the_worker_from_then_on() {
    let claimed = event(EventKind::Claimed { worker_id: "node-2/0".to_owned() });
    let known = Known::of(None).from(&claimed);
    let told = line(&claimed, &known).unwrap_or_default();
    assert!(told.starts_with("{\"log_type\": \"training\", \"message\": \"node-2/0 is training unknown model...\""));
}

#[test]
fn a_fact_without_a_line_has_its_number() {
    let queued = event(EventKind::Queued);
    assert_eq!(line(&queued, &Known::of(None)), None);
    assert_eq!(number(&queued), "{\"task_id\": \"00000000-0000-0000-0000-000000000007\", \"seq\": 5}");
}
