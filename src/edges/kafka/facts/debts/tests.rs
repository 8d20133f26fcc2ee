//! What is owed stays owed until all of it is paid.

use futures::FutureExt as _;
use kubeml_actors::metrics::Metrics;

use super::*;

fn debts() -> Debts {
    Debts::new(Arc::new(KafkaMetrics::new(&Metrics::new()).expect("the registry is empty")))
}

fn next(debts: &Debts) -> Option<(TaskId, Owed)> {
    debts.next().now_or_never()
}

#[test]
fn the_first_fact_owed_counts() {
    let (debts, task) = (debts(), TaskId::fresh());
    assert_eq!(next(&debts), None);
    assert!(!debts.joins(task), "nothing is owed");
    debts.owe(task, Owed::From(Seq(7)));
    debts.owe(task, Owed::From(Seq(5)));
    debts.owe(task, Owed::From(Seq(9)));
    assert_eq!(next(&debts), Some((task, Owed::From(Seq(5)))));
    debts.paid(task, Owed::From(Seq(5)), Seq(10));
    assert!(!debts.has(task));
}

#[test]
fn what_joins_while_it_is_paid_is_paid_next() {
    let (debts, task) = (debts(), TaskId::fresh());
    debts.owe(task, Owed::From(Seq(5)));
    assert_eq!(next(&debts), Some((task, Owed::From(Seq(5)))));
    assert!(debts.joins(task));
    debts.paid(task, Owed::From(Seq(5)), Seq(8));
    assert_eq!(next(&debts), Some((task, Owed::From(Seq(8)))));
    debts.owe(task, Owed::From(Seq(2)));
    debts.paid(task, Owed::From(Seq(8)), Seq(9));
    assert_eq!(next(&debts), Some((task, Owed::From(Seq(2)))), "an earlier one failed meanwhile");
    debts.paid(task, Owed::From(Seq(2)), Seq(9));
    assert_eq!(next(&debts), None);
}

#[test]
fn what_another_told_counts_like_any_other_debt() {
    let (debts, task) = (debts(), TaskId::fresh());
    debts.owe(task, Owed::Inherited(2));
    debts.owe(task, Owed::From(Seq::new(2, 7)));
    assert_eq!(next(&debts), Some((task, Owed::Inherited(2))));
    debts.owe(task, Owed::From(Seq::new(1, 7)));
    assert_eq!(next(&debts), Some((task, Owed::From(Seq::new(1, 7)))));
    debts.paid(task, Owed::From(Seq::new(1, 7)), Seq::new(3, 0));
    assert_eq!(next(&debts), None);
}

#[test]
fn a_debt_that_cannot_be_paid_holds_up_no_other() {
    let (debts, tasks) = (debts(), [1, 2, 3].map(|n| TaskId(uuid::Uuid::from_u128(n))));
    for task in tasks {
        debts.owe(task, Owed::From(Seq(1)));
    }
    let turns =
        |count: usize| -> Vec<TaskId> { (0..count).filter_map(|_| next(&debts)).map(|(task, _)| task).collect() };
    assert_eq!(turns(4), [tasks[0], tasks[1], tasks[2], tasks[0]]);
    debts.paid(tasks[1], Owed::From(Seq(1)), Seq(2));
    assert_eq!(turns(3), [tasks[2], tasks[0], tasks[2]]);
}

#[test]
fn memory_is_bounded() {
    let debts = debts();
    for n in 0..TASKS_MAX + 10 {
        debts.owe(TaskId(uuid::Uuid::from_u128(n as u128 + 1)), Owed::From(Seq(1)));
    }
    assert_eq!(debts.lock().owed.len(), TASKS_MAX);
}
