//! Each fact is heard once, in order.

use kubeml_actors::testing::contracts::samples;

use super::*;

#[test]
fn repeated_and_replaced_facts_are_no_news() {
    let (mut heard, task, other) = (Heard::new(), TaskId::fresh(), TaskId::fresh());
    let mut news = |task, attempt, n| heard.is_news(&samples::fact(task, attempt, n));
    assert!(news(task, 0, 0) && news(task, 1, 0) && news(task, 1, 1));
    assert!(!news(task, 1, 1) && !news(task, 1, 0));
    assert!(news(task, 2, 0), "the next attempt");
    assert!(!news(task, 1, 2), "its predecessor lives on");
    assert!(news(other, 1, 0));
}

#[test]
fn lines_of_no_task_come_in_any_order_but_once() {
    let mut heard = Heard::new();
    let mut news = |n| heard.is_news(&samples::fact(TaskId::NONE, 1, n));
    assert!(news(5) && news(3) && !news(5) && !news(3));
}

#[test]
fn memory_is_bounded_and_busy_tasks_stay() {
    let (mut heard, busy) = (Heard::new(), TaskId::fresh());
    for n in 0..3 * TASKS as u64 {
        assert!(heard.is_news(&samples::fact(busy, 1, n)));
        heard.is_news(&samples::fact(TaskId::fresh(), 1, 0));
        assert!(!heard.is_news(&samples::fact(busy, 1, n)));
    }
}
