//! What must hold of a task that has ended, whatever it went through, and of a node that has nothing more to do.

use kubeml_actors::{
    event::{EventKind, Seq, TaskEvent},
    metrics::ActorKind,
    task::{FailureKind, TaskRecord, TaskState},
    testing::test_tree::{TestTree, World},
};

/// The budget of a task that gets nowhere: five attempts, and the last one.
const ATTEMPTS_MAX: usize = 6;

pub async fn check(world: &World, record: &TaskRecord, cancel_asked: bool) {
    let facts = world.history(record.id).await;
    check_stream(record, &facts);
    check_budget(record, &facts);
    match record.state {
        TaskState::Succeeded => check_result(world, record, &facts).await,
        TaskState::Cancelled => assert!(cancel_asked, "nobody asked for it: {record:?}"),
        TaskState::Failed => check_failure(record, &facts),
        TaskState::Pending | TaskState::Running => panic!("not ended: {record:?}"),
    }
    for checkpoint in &record.checkpoints {
        world.ports.artifacts.get(&checkpoint.artifact).await.expect("a pointer names whole bytes");
    }
}

/// Growing ids, no hole within an attempt, one terminal fact: the last, and the one that the store has.
fn check_stream(record: &TaskRecord, facts: &[TaskEvent]) {
    assert!(record.announced);
    assert_eq!(facts[0].seq, Seq::QUEUED);
    assert!(facts.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(facts.iter().filter(|fact| fact.kind.is_terminal()).count(), 1);
    assert_eq!(facts.last(), record.terminal_fact().as_ref());
    for attempt in 1..=record.attempt {
        let end = Seq::attempt_end(attempt);
        let own: Vec<u64> = facts
            .iter()
            .map(|fact| fact.seq)
            .filter(|seq| seq.attempt() == attempt && *seq < end)
            .map(Seq::n)
            .collect();
        assert_eq!(own, (0..own.len() as u64).collect::<Vec<_>>(), "attempt {attempt} of {}", record.id);
        assert!(!own.is_empty(), "attempt {attempt} of {} was claimed", record.id);
    }
    let epochs: Vec<u32> = facts.iter().filter_map(epoch_of).collect();
    assert_eq!(epochs, (1..=epochs.len() as u32).collect::<Vec<_>>(), "each epoch is told once and in order");
}

/// Nobody is tried more often in a row than the budget allows without getting further.
fn check_budget(record: &TaskRecord, facts: &[TaskEvent]) {
    let (mut in_a_row, mut reached, mut has_progressed) = (0, 0, false);
    for fact in facts {
        match &fact.kind {
            EventKind::CheckpointSaved { step } if *step > reached => (reached, has_progressed) = (*step, true),
            EventKind::EpochFinished(_) => has_progressed = true,
            EventKind::AttemptFailed { charged: true, .. } if !has_progressed => in_a_row += 1,
            EventKind::AttemptFailed { .. } if has_progressed => (in_a_row, has_progressed) = (0, false),
            _ => {}
        }
        assert!(in_a_row <= ATTEMPTS_MAX, "{} is tried for ever", record.id);
    }
}

fn check_failure(record: &TaskRecord, facts: &[TaskEvent]) {
    let kind = record.failure.as_ref().map(|failure| failure.kind);
    let failed_as = |wanted: FailureKind| {
        let is = |fact: &&TaskEvent| matches!(&fact.kind, EventKind::AttemptFailed { failure, .. } if failure.kind == wanted);
        facts.iter().filter(is).count()
    };
    match kind {
        Some(FailureKind::Diverged) => assert!(failed_as(FailureKind::Diverged) >= 1, "once is not enough: {record:?}"),
        Some(FailureKind::NoProgress) => {
            let charged =
                facts.iter().filter(|fact| matches!(fact.kind, EventKind::AttemptFailed { charged: true, .. }));
            assert!(charged.count() >= ATTEMPTS_MAX, "given up too early: {record:?}");
        }
        other => panic!("{other:?} is no reason to fail here: {record:?}"),
    }
}

/// The weights are those of an undisturbed run, and the models are there.
async fn check_result(world: &World, record: &TaskRecord, facts: &[TaskEvent]) {
    let result = record.result.as_ref().expect("a success has a result");
    let h = &record.spec.hyperparameters();
    assert_eq!(result.outcome.weights_sha256, world.engine.expected_weights(h.seed, h.epochs));
    assert_eq!(result.attempt, record.attempt);
    for model in [&result.model, &result.best_model] {
        world.ports.artifacts.get(model).await.expect("a result names whole bytes");
    }
    assert_eq!(facts.iter().filter_map(epoch_of).count(), h.epochs as usize);
}

/// Nothing is queued, held or left in a mailbox.
pub async fn check_at_rest(node: &TestTree) {
    let queued = node.world.ports.tasks.queue(&TaskState::ALL, usize::MAX).await.unwrap();
    assert_eq!(queued, []);
    let metrics = &node.tree.context.metrics;
    for kind in ActorKind::ALL.map(ActorKind::as_str) {
        assert_eq!(metrics.actor_mailbox_depth.with_label_values(&[kind]).get(), 0, "mailbox of the {kind}");
    }
    assert_eq!(metrics.trainer_slots.with_label_values(&["busy"]).get(), 0);
}

fn epoch_of(fact: &TaskEvent) -> Option<u32> {
    match &fact.kind {
        EventKind::EpochFinished(epoch) => Some(epoch.epoch),
        _ => None,
    }
}
