//! Each fact is heard once, in order.

use kubeml_actors::testing::contracts::samples;

use super::*;

#[test]
fn repeated_and_replaced_facts_are_no_news() {
    let (mut heard, task, other) = (Heard::new(), TaskId::fresh(), TaskId::fresh());
    let mut news = |task, attempt, n| heard.hear(&samples::fact(task, attempt, n)) != News::Old;
    assert!(news(task, 0, 0) && news(task, 1, 0) && news(task, 1, 1));
    assert!(!news(task, 1, 1) && !news(task, 1, 0));
    assert!(news(task, 2, 0), "the next attempt");
    assert!(!news(task, 1, 2), "its predecessor lives on");
    assert!(news(other, 1, 0));
}

#[test]
fn what_was_never_told_is_a_hole() {
    let (first, end) = (Seq::new(1, 4), Seq::attempt_end(1));
    for (seq, expected) in [
        (Seq::new(1, 5), News::Next),
        (Seq::new(1, 6), News::AfterHole),
        (end, News::Next),
        (Seq::new(2, 0), News::AfterHole),
        (Seq::attempt_end(2), News::AfterHole),
        (Seq::terminal(1), News::Next),
    ] {
        let (mut heard, task) = (Heard::new(), TaskId::fresh());
        let fact = |seq| TaskEvent { seq, ..samples::fact(task, 0, 0) };
        assert_eq!(heard.hear(&fact(first)), News::Next, "nothing is known of what came before");
        assert_eq!(heard.hear(&fact(seq)), expected, "{seq}");
        assert_eq!(heard.hear(&fact(seq)), News::Old, "{seq}");
    }
}

#[test]
fn lines_of_no_task_come_in_any_order_but_once() {
    let mut heard = Heard::new();
    let mut news = |n| heard.hear(&samples::fact(TaskId::NONE, 1, n)) == News::Next;
    assert!(news(5) && news(3) && !news(5) && !news(3));
}

#[test]
fn memory_is_bounded_and_busy_tasks_stay() {
    let (mut heard, busy) = (Heard::new(), TaskId::fresh());
    for n in 0..3 * TASKS as u64 {
        assert_ne!(heard.hear(&samples::fact(busy, 1, n)), News::Old);
        heard.hear(&samples::fact(TaskId::fresh(), 1, 0));
        assert_eq!(heard.hear(&samples::fact(busy, 1, n)), News::Old);
    }
}
