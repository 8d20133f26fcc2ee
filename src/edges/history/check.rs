//! Whether the protocol was kept, told from the histories of all nodes.

use std::collections::BTreeMap;

use kubeml_actors::task::{TaskId, TaskState};

use super::{Line, Op, Outcome};

#[cfg(test)]
mod tests;

/// What histories must not show. Each names the task and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("task {0}: version {1} was made twice, by operations {2}")]
    VersionTwice(TaskId, u64, String),
    #[error("task {0}: version {1} is {2}, after version {3} had ended it as {4}")]
    AfterTheEnd(TaskId, u64, TaskState, u64, TaskState),
    #[error("task {0}: version {1} belongs to attempt {2}, version {3} before it to attempt {4}")]
    AttemptFellBack(TaskId, u64, u32, u64, u32),
    #[error("task {0}: version {1} of attempt {2} was written with another nonce than the attempt's claim")]
    StrangeNonce(TaskId, u64, u32),
    #[error("task {0}: version {1} is {2} of attempt {3}, right after {4} of attempt {5}")]
    NoSuchStep(TaskId, u64, TaskState, u32, TaskState, u32),
    #[error("task {0}: it was inserted twice")]
    InsertedTwice(TaskId),
    #[error("task {0}: its results differ: {1} and {2}")]
    ResultsDiffer(TaskId, String, String),
    #[error("task {0} has not ended: it is {1} in version {2}")]
    NotEnded(TaskId, TaskState, u64),
    #[error("task {0} has ended and is not announced")]
    NotAnnounced(TaskId),
}

/// Reads lines. Only the last one of a file may be incomplete, as its process was killed, or still writes.
///
/// # Errors
/// A whole line that is none of a history.
pub fn read(histories: &[String]) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for history in histories {
        let (whole, _incomplete) = history.rsplit_once('\n').unwrap_or_default();
        for line in whole.lines() {
            lines.push(serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?);
        }
    }
    Ok(lines)
}

/// Everything that is wrong while faults go on: what every prefix of a history must keep.
pub fn check(lines: &[Line]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (task, writes) in by_task(lines) {
        let versions = versions(task, &writes, &mut violations);
        let inserts = writes.iter().filter(|line| line.op == Op::Insert && line.outcome == Outcome::Applied);
        if inserts.count() > 1 {
            violations.push(Violation::InsertedTwice(task));
        }
        check_order(task, &versions, &mut violations);
        check_owners(task, &versions, &mut violations);
        check_results(task, &versions, &mut violations);
    }
    violations
}

/// What is wrong once everything has come to rest.
pub fn check_at_rest(lines: &[Line]) -> Vec<Violation> {
    let mut violations = check(lines);
    for (task, writes) in by_task(lines) {
        let Some(last) = writes.iter().filter(|line| line.outcome == Outcome::Applied).max_by_key(|line| line.version)
        else {
            continue;
        };
        if !last.state.is_terminal() {
            violations.push(Violation::NotEnded(task, last.state, last.version));
        } else if !writes.iter().any(|line| line.announced && line.outcome != Outcome::Refused) {
            violations.push(Violation::NotAnnounced(task));
        }
    }
    violations
}

fn by_task(lines: &[Line]) -> BTreeMap<TaskId, Vec<&Line>> {
    let mut tasks: BTreeMap<TaskId, Vec<&Line>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.op != Op::Delete) {
        tasks.entry(line.task).or_default().push(line);
    }
    tasks
}

/// The versions that were made for certain, in order.
fn versions<'a>(task: TaskId, writes: &[&'a Line], violations: &mut Vec<Violation>) -> Vec<&'a Line> {
    let mut versions: BTreeMap<u64, &Line> = BTreeMap::new();
    for line in writes.iter().filter(|line| line.outcome == Outcome::Applied) {
        let first = versions.entry(line.version).or_insert(line);
        if first.op_id != line.op_id {
            let both = format!("{} of {} and {} of {}", first.op_id, first.node, line.op_id, line.node);
            violations.push(Violation::VersionTwice(task, line.version, both));
        }
    }
    versions.into_values().collect()
}

fn check_order(task: TaskId, versions: &[&Line], violations: &mut Vec<Violation>) {
    for pair in versions.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.state.is_terminal() && after.state != before.state {
            let (made, ended) = ((after.version, after.state), (before.version, before.state));
            violations.push(Violation::AfterTheEnd(task, made.0, made.1, ended.0, ended.1));
        }
        if after.attempt < before.attempt {
            let (late, early) = ((after.version, after.attempt), (before.version, before.attempt));
            violations.push(Violation::AttemptFellBack(task, late.0, late.1, early.0, early.1));
        } else if after.version == before.version + 1 && !is_step(before, after) && !before.state.is_terminal() {
            let (from, to) = ((before.state, before.attempt), (after.state, after.attempt));
            violations.push(Violation::NoSuchStep(task, after.version, to.0, to.1, from.0, from.1));
        }
    }
}

/// Only a claim begins an attempt, and only of a task that nobody runs; results come of running attempts.
fn is_step(before: &Line, after: &Line) -> bool {
    use TaskState::{Cancelled, Failed, Pending, Running, Succeeded};
    match (before.state, after.state) {
        (Pending, Running) => after.attempt == before.attempt + 1,
        (Pending, Cancelled | Failed) | (Running, Pending | Running | Cancelled | Failed | Succeeded) => {
            after.attempt == before.attempt
        }
        _ => false,
    }
}

/// All that is written of a running attempt carries the nonce of its claim.
fn check_owners(task: TaskId, versions: &[&Line], violations: &mut Vec<Violation>) {
    let mut nonces = BTreeMap::new();
    for line in versions.iter().filter(|line| line.state == TaskState::Running) {
        let nonce = nonces.entry(line.attempt).or_insert(line.nonce);
        if *nonce != line.nonce {
            violations.push(Violation::StrangeNonce(task, line.version, line.attempt));
        }
    }
}

fn check_results(task: TaskId, versions: &[&Line], violations: &mut Vec<Violation>) {
    let mut results = versions.iter().filter_map(|line| line.result.as_ref());
    let Some(first) = results.next() else { return };
    if let Some(other) = results.find(|result| *result != first) {
        violations.push(Violation::ResultsDiffer(task, first.clone(), other.clone()));
    }
}
