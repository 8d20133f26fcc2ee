//! What every [`EventLog`] promises of taking and reading facts. Of retention: [`super::log_trim`].

use std::time::Duration;

use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{Kept, State, samples::fact};
use crate::{
    event::{Seq, TaskEvent},
    ports::{EventLog, LogEntry, PortError, Position},
    task::TaskId,
};

/// `$open` gives an `async || -> State`.
#[macro_export]
macro_rules! event_log_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            event_log,
            $open,
            [
                facts_of_a_task_come_in_the_order_of_seq,
                facts_of_a_task_can_be_read_in_pages,
                an_unknown_task_has_no_facts,
                a_fact_written_again_changes_nothing,
                a_fact_older_than_the_newest_is_not_taken,
                another_fact_in_a_taken_place_is_not_taken,
                facts_of_all_tasks_come_in_the_order_of_position,
                the_log_can_be_read_in_pages_from_any_position,
                positions_survive_their_text,
                an_empty_log_has_a_head,
                the_head_is_the_newest_position,
                a_new_fact_wakes_who_watches_the_head,
                nothing_is_read_beyond_the_head,
                a_fact_that_is_not_taken_wakes_nobody,
                concurrent_appends_are_all_taken_in_order,
                facts_outlive_their_process,
            ]
        );
        $crate::contract_tests!(
            log_trim,
            $open,
            [
                old_facts_of_ended_tasks_are_trimmed,
                facts_of_tasks_that_have_not_ended_are_kept,
                facts_of_no_task_are_trimmed,
                many_facts_are_trimmed_at_once,
                a_trimmed_fact_is_not_taken_again,
                a_trimmed_fact_is_not_taken_although_the_clock_stepped_back,
                an_ended_task_that_was_trimmed_is_still_announced,
                what_was_trimmed_is_a_gap,
                a_gap_is_told_once,
                a_log_that_was_not_trimmed_has_no_gap,
                trimming_moves_no_position,
            ]
        );
    };
}

pub async fn facts_of_a_task_come_in_the_order_of_seq(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let (task, other) = (TaskId::fresh(), TaskId::fresh());
    let facts = [fact(task, 0, 0), fact(task, 1, 0), fact(task, 1, 1), fact(task, 2, 0)];
    events.append(&facts[..1]).await?;
    events.append(&[fact(other, 0, 0), facts[1].clone(), fact(other, 1, 0), facts[2].clone()]).await?;
    events.append(&facts[3..]).await?;
    assert_eq!(events.read_task(task, None, 10).await?, facts);
    Ok(())
}

pub async fn facts_of_a_task_can_be_read_in_pages(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    let facts: Vec<TaskEvent> = (0..10).map(|n| fact(task, 1, n)).collect();
    events.append(&facts).await?;
    assert_eq!(events.read_task(task, None, 3).await?, facts[..3]);
    assert_eq!(events.read_task(task, Some(facts[2].seq), 3).await?, facts[3..6]);
    assert_eq!(events.read_task(task, Some(facts[8].seq), 3).await?, facts[9..]);
    assert_eq!(events.read_task(task, Some(facts[9].seq), 3).await?, []);
    assert_eq!(events.read_task(task, Some(Seq::terminal(9)), 3).await?, []);
    assert_eq!(events.read_task(task, Some(Seq(u64::MAX)), 3).await?, []);
    Ok(())
}

pub async fn an_unknown_task_has_no_facts(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    events.append(&[fact(TaskId::fresh(), 0, 0)]).await?;
    assert_eq!(events.read_task(TaskId::fresh(), None, 10).await?, []);
    Ok(())
}

pub async fn a_fact_written_again_changes_nothing(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    let facts = [fact(task, 0, 0), fact(task, 1, 0), fact(task, 1, 1)];
    events.append(&facts).await?;
    let before = everything(&*events).await?;
    events.append(&facts).await?;
    events.append(&facts[2..]).await?;
    events.append(&[]).await?;
    assert_eq!(everything(&*events).await?, before);
    Ok(())
}

pub async fn a_fact_older_than_the_newest_is_not_taken(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    let end = TaskEvent { seq: Seq::attempt_end(1), ..fact(task, 1, 5) };
    events.append(&[fact(task, 1, 0), end.clone()]).await?;
    events.append(&[fact(task, 1, 1), fact(task, 1, 2)]).await?;
    assert_eq!(events.read_task(task, None, 10).await?, [fact(task, 1, 0), end.clone()]);
    // What is newer, in the same call, is.
    events.append(&[fact(task, 1, 3), fact(task, 2, 0)]).await?;
    assert_eq!(events.read_task(task, None, 10).await?, [fact(task, 1, 0), end, fact(task, 2, 0)]);
    Ok(())
}

pub async fn another_fact_in_a_taken_place_is_not_taken(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    events.append(&[fact(task, 1, 0)]).await?;
    events.append(&[TaskEvent { seq: Seq::new(1, 0), ..fact(task, 7, 7) }]).await?;
    assert_eq!(events.read_task(task, None, 10).await?, [fact(task, 1, 0)]);
    Ok(())
}

pub async fn facts_of_all_tasks_come_in_the_order_of_position(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let (a, b) = (TaskId::fresh(), TaskId::fresh());
    for n in 0..5 {
        events.append(&[fact(a, 1, n), fact(b, 1, n)]).await?;
    }
    let entries = everything(&*events).await?;
    assert_eq!(entries.len(), 10);
    for task in [a, b] {
        let of_task: Vec<Seq> = entries.iter().filter(|e| e.event.task == task).map(|e| e.event.seq).collect();
        assert_eq!(of_task, [0, 1, 2, 3, 4].map(|n| Seq::new(1, n)));
    }
    Ok(())
}

pub async fn the_log_can_be_read_in_pages_from_any_position(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    events.append(&(0..7).map(|n| fact(task, 1, n)).collect::<Vec<_>>()).await?;
    let entries = everything(&*events).await?;
    for (index, entry) in entries.iter().enumerate() {
        let rest = &entries[index + 1..];
        let page = events.read_all(&entry.position, 3).await?;
        assert_eq!((page.entries.as_slice(), page.gap), (&rest[..rest.len().min(3)], false));
    }
    Ok(())
}

pub async fn positions_survive_their_text(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    events.append(&[fact(TaskId::fresh(), 0, 0), fact(TaskId::fresh(), 0, 0)]).await?;
    let entries = everything(&*events).await?;
    let position: Position = entries[0].position.to_string().parse().expect("it was a position's text");
    assert_eq!(events.read_all(&position, 10).await?.entries, entries[1..]);
    Ok(())
}

pub async fn an_empty_log_has_a_head(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let head = events.head().borrow().clone();
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    for nothing_after in [head, Position::single(u64::MAX)] {
        let page = events.read_all(&nothing_after, 10).await?;
        assert_eq!((page.entries.len(), page.gap), (0, false));
    }
    Ok(())
}

pub async fn the_head_is_the_newest_position(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let head = events.head();
    events.append(&[fact(TaskId::fresh(), 0, 0), fact(TaskId::fresh(), 0, 0)]).await?;
    let entries = everything(&*events).await?;
    assert_eq!(*head.borrow(), entries[1].position);
    assert_eq!(*events.head().borrow(), entries[1].position);
    Ok(())
}

pub async fn a_new_fact_wakes_who_watches_the_head(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let mut head = events.head();
    head.mark_unchanged();
    let (task, log) = (TaskId::fresh(), events.clone());
    let before = head.borrow().clone();
    let appending = tokio::spawn(async move { log.append(&[fact(task, 0, 0)]).await });
    timeout(Duration::from_secs(10), head.changed()).await.expect("the head moves").expect("the log is open");
    // Durable before it is shown: who is woken finds it.
    assert_eq!(events.read_all(&before, 10).await?.entries.len(), 1);
    appending.await.expect("it does not panic")
}

/// Whoever has read further than the head takes the log for another one.
pub async fn nothing_is_read_beyond_the_head(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let (log, task) = (events.clone(), TaskId::fresh());
    let appending = tokio::spawn(async move {
        for n in 0..200 {
            log.append(&[fact(task, 1, n)]).await?;
        }
        Ok::<_, PortError>(())
    });
    let (head, mut read) = (events.head(), Position::default());
    while read.counter(0) < 200 {
        if let Some(last) = events.read_all(&read, 10).await?.entries.last() {
            read = last.position.clone();
            assert!(head.borrow().covers(&read), "{read} is beyond {}", *head.borrow());
        }
        yield_now().await;
    }
    appending.await.expect("it does not panic")
}

pub async fn a_fact_that_is_not_taken_wakes_nobody(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    events.append(&[fact(task, 1, 0)]).await?;
    let mut head = events.head();
    head.mark_unchanged();
    events.append(&[fact(task, 1, 0), fact(task, 0, 0)]).await?;
    assert!(!head.has_changed().expect("the log is open"));
    Ok(())
}

pub async fn concurrent_appends_are_all_taken_in_order(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let mut writers = JoinSet::new();
    for _ in 0..20 {
        let (events, task) = (events.clone(), TaskId::fresh());
        writers.spawn(async move {
            for n in 0..10 {
                events.append(&[fact(task, 1, n)]).await?;
            }
            Ok::<_, PortError>(task)
        });
    }
    for task in writers.join_all().await {
        let of_task = events.read_task(task?, None, 100).await?;
        assert_eq!(of_task.iter().map(|fact| fact.seq.n()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
    assert_eq!(everything(&*events).await?.len(), 200);
    Ok(())
}

pub async fn facts_outlive_their_process(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let task = TaskId::fresh();
    state.events.append(&[fact(task, 1, 0), fact(task, 1, 1)]).await?;
    let before = everything(&*state.events).await?;
    drop(state);
    let State { events, .. } = open().await;
    assert_eq!(*events.head().borrow(), before[1].position);
    events.append(&[fact(task, 1, 1), fact(task, 1, 2)]).await?;
    let after = everything(&*events).await?;
    assert_eq!((after.len(), &after[..2]), (3, before.as_slice()));
    Ok(())
}

/// The whole log, which has no gap, read from its beginning.
async fn everything(events: &dyn EventLog) -> Result<Vec<LogEntry>, PortError> {
    let page = events.read_all(&Position::default(), 10_000).await?;
    assert!(!page.gap);
    Ok(page.entries)
}
