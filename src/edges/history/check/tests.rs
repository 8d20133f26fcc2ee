//! The checker finds each violation, and none in a good history.

use uuid::Uuid;

use super::*;

fn task() -> TaskId {
    TaskId(Uuid::from_u128(7))
}

fn line(version: u64, attempt: u32, state: TaskState) -> Line {
    Line {
        node: "worker-1".to_owned(),
        op: if version == 1 { Op::Insert } else { Op::Set },
        task: task(),
        version,
        op_id: Uuid::from_u128(u128::from(version)),
        attempt,
        nonce: (state == TaskState::Running).then(|| Uuid::from_u128(u128::from(attempt))),
        state,
        result: (state == TaskState::Succeeded).then(|| "abc".to_owned()),
        announced: false,
        outcome: Outcome::Applied,
    }
}

/// Submitted, run, released, run again, ended, announced.
fn good() -> Vec<Line> {
    use TaskState::{Pending, Running, Succeeded};
    let mut lines = vec![
        line(1, 0, Pending),
        line(2, 1, Running),
        line(3, 1, Running),
        line(4, 1, Pending),
        line(5, 2, Running),
        line(6, 2, Succeeded),
        Line { announced: true, ..line(7, 2, Succeeded) },
    ];
    // A zombie's write that was refused, and one whose reply was lost and that was written again.
    lines.push(Line { outcome: Outcome::Refused, op_id: Uuid::from_u128(90), ..line(4, 1, Running) });
    lines.push(Line { outcome: Outcome::Unknown, ..line(3, 1, Running) });
    lines
}

fn with(changed: Line) -> Vec<Violation> {
    let mut lines = good();
    match lines.iter_mut().find(|line| line.version == changed.version && line.outcome == Outcome::Applied) {
        Some(line) => *line = changed,
        None => lines.push(changed),
    }
    check_at_rest(&lines)
}

#[test]
fn a_good_history_has_no_violations_and_survives_its_text() {
    let mut text: String = good().iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    text.push_str("{\"node\":\"worker-1\",\"op\":\"se");
    assert_eq!(read(&[text.clone(), String::new()]), Ok(good()));
    assert!(read(&[text + "\n"]).is_err());
    assert_eq!(check_at_rest(&good()), []);
}

#[test]
fn every_violation_is_found() {
    use TaskState::{Failed, Pending, Running, Succeeded};
    let twice = Line { op_id: Uuid::from_u128(99), ..line(3, 1, Running) };
    let found = check(&[good(), vec![twice]].concat());
    assert!(matches!(found[..], [Violation::VersionTwice(_, 3, _)]), "{found:?}");
    assert!(matches!(with(line(8, 2, Failed))[..], [Violation::AfterTheEnd(_, 8, Failed, 7, Succeeded)]));
    assert!(matches!(with(line(5, 0, Pending))[..], [Violation::AttemptFellBack(_, 5, 0, 4, 1), ..]));
    let stolen = Line { nonce: Some(Uuid::from_u128(66)), ..line(3, 1, Running) };
    assert!(matches!(with(stolen)[..], [Violation::StrangeNonce(_, 3, 1)]));
    for (version, attempt, state, wrong) in [
        (5, 3, Running, "skips one"),
        (5, 1, Running, "begins none"),
        (4, 2, Running, "is stolen"),
        (5, 1, Succeeded, ""),
    ] {
        let found = with(line(version, attempt, state));
        assert!(matches!(found[0], Violation::NoSuchStep(_, v, ..) if v == version), "{wrong}: {found:?}");
    }
    let other = Line { result: Some("def".to_owned()), announced: true, ..line(7, 2, Succeeded) };
    assert!(matches!(with(other)[..], [Violation::ResultsDiffer(..)]));
    assert_eq!(with(line(7, 2, Succeeded)), [Violation::NotAnnounced(task())]);
    let unfinished: Vec<Line> = good().into_iter().filter(|line| line.version < 6).collect();
    assert_eq!(check_at_rest(&unfinished), [Violation::NotEnded(task(), Running, 5)]);
    let again = Line { op: Op::Insert, ..line(1, 0, Pending) };
    assert_eq!(check(&[good(), vec![again]].concat()), [Violation::InsertedTwice(task())]);
}
