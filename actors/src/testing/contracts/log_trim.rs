//! What every [`EventLog`] promises of retention.

use super::{
    Kept, State,
    samples::{fact_at, in_state, next, record},
};
use crate::{
    event::{Seq, TaskEvent},
    ports::{EventLog, PortError, Position},
    task::{TaskId, TaskRecord, TaskState},
    timestamp::Timestamp,
};

pub async fn old_facts_of_ended_tasks_are_trimmed(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    for ended in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled] {
        let task = task_in(&state, ended).await?;
        let facts = [10, 19, 20, 21].map(|at| fact_at(task, Seq::new(1, at), at));
        state.events.append(&facts).await?;
        assert_eq!(state.events.trim(Timestamp(20)).await?, 2);
        assert_eq!(state.events.read_task(task, None, 10).await?, facts[2..]);
        assert_eq!(state.events.trim(Timestamp(20)).await?, 0);
    }
    Ok(())
}

pub async fn facts_of_tasks_that_have_not_ended_are_kept(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    for live in [TaskState::Pending, TaskState::Running] {
        let task = task_in(&state, live).await?;
        let facts = [1, 2].map(|at| fact_at(task, Seq::new(1, at), at));
        state.events.append(&facts).await?;
        assert_eq!(state.events.trim(Timestamp(20)).await?, 0);
        assert_eq!(state.events.read_task(task, None, 10).await?, facts);
    }
    Ok(())
}

pub async fn facts_of_no_task_are_trimmed(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    events.append(&[fact_at(task, Seq::QUEUED, 1)]).await?;
    assert_eq!(events.trim(Timestamp(2)).await?, 1);
    assert_eq!(events.read_task(task, None, 10).await?, []);
    Ok(())
}

pub async fn many_facts_are_trimmed_at_once(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let (old, live) = (task_in(&state, TaskState::Failed).await?, task_in(&state, TaskState::Running).await?);
    let facts = |task| (0..5_000).map(move |n| fact_at(task, Seq::new(1, n), n));
    state.events.append(&facts(old).zip(facts(live)).flat_map(|(a, b)| [a, b]).collect::<Vec<_>>()).await?;
    assert_eq!(state.events.trim(Timestamp(4_999)).await?, 4_999);
    assert_eq!(state.events.read_task(old, None, 10_000).await?, facts(old).skip(4_999).collect::<Vec<_>>());
    assert_eq!(state.events.read_task(live, None, 10_000).await?.len(), 5_000);
    Ok(())
}

pub async fn a_trimmed_fact_is_not_taken_again(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let (task, facts) = trimmed(&state, true).await?;
    let head = state.events.head().borrow().clone();
    state.events.append(&facts).await?;
    assert_eq!(state.events.read_task(task, None, 10).await?, []);
    assert_eq!(*state.events.head().borrow(), head);
    Ok(())
}

pub async fn a_trimmed_fact_is_not_taken_although_the_clock_stepped_back(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let task = task_in(&state, TaskState::Failed).await?;
    let [kept, trimmed] = [(1, 30), (2, 10)].map(|(n, at)| fact_at(task, Seq::new(1, n), at));
    state.events.append(&[kept.clone(), trimmed.clone()]).await?;
    assert_eq!(state.events.trim(Timestamp(20)).await?, 1);
    state.events.append(&[trimmed]).await?;
    assert_eq!(state.events.read_task(task, None, 10).await?, [kept]);
    Ok(())
}

pub async fn an_ended_task_that_was_trimmed_is_still_announced(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let (task, stale) = trimmed(&state, false).await?;
    state.events.append(&stale).await?;
    let end = fact_at(task, Seq::terminal(1), 50);
    state.events.append(std::slice::from_ref(&end)).await?;
    assert_eq!(state.events.read_task(task, None, 10).await?, [end]);
    Ok(())
}

pub async fn what_was_trimmed_is_a_gap(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let task = task_in(&state, TaskState::Failed).await?;
    let facts = [1, 2, 3, 4].map(|at| fact_at(task, Seq::new(1, at), at));
    state.events.append(&facts).await?;
    let positions = positions(&*state.events).await?;
    state.events.trim(Timestamp(3)).await?;
    for (after, gap) in [(&Position::default(), true), (&positions[0], true), (&positions[1], false)] {
        let page = state.events.read_all(after, 10).await?;
        assert_eq!((page.entries.len(), page.gap), (2, gap), "after {after}");
    }
    Ok(())
}

pub async fn a_gap_is_told_once(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let (old, live) = (task_in(&state, TaskState::Failed).await?, task_in(&state, TaskState::Running).await?);
    let fact = |task, at| fact_at(task, Seq::new(1, at), at);
    state.events.append(&[fact(live, 1), fact(old, 2), fact(live, 3), fact(live, 4), fact(live, 5)]).await?;
    state.events.trim(Timestamp(100)).await?;
    for limit in 1..=5 {
        let (mut after, mut gaps, mut found) = (Position::default(), 0, 0);
        loop {
            let page = state.events.read_all(&after, limit).await?;
            let Some(last) = page.entries.last() else { break };
            (after, gaps, found) = (last.position.clone(), gaps + u32::from(page.gap), found + page.entries.len());
        }
        assert_eq!((found, gaps), (4, 1), "pages of {limit}");
    }
    Ok(())
}

pub async fn a_log_that_was_not_trimmed_has_no_gap(open: impl AsyncFn() -> State) -> Kept {
    let State { events, .. } = open().await;
    let task = TaskId::fresh();
    // Facts that are not taken leave no hole.
    events.append(&[fact_at(task, Seq::new(2, 0), 1)]).await?;
    events.append(&[fact_at(task, Seq::new(1, 0), 1), fact_at(task, Seq::new(2, 0), 1)]).await?;
    events.append(&[fact_at(task, Seq::new(2, 1), 1)]).await?;
    let page = events.read_all(&Position::default(), 10).await?;
    assert_eq!((page.entries.len(), page.gap), (2, false));
    Ok(())
}

pub async fn trimming_moves_no_position(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let (_, facts) = trimmed(&state, true).await?;
    let head = state.events.head().borrow().clone();
    assert_eq!(state.events.read_all(&head, 10).await?.entries, []);
    drop(state);
    let State { events, .. } = open().await;
    assert_eq!(*events.head().borrow(), head);
    events.append(&[TaskEvent { task: TaskId::fresh(), ..facts[0].clone() }]).await?;
    assert_ne!(*events.head().borrow(), head);
    assert_eq!(events.read_all(&head, 10).await?.entries.len(), 1);
    Ok(())
}

async fn task_in(state: &State, task_state: TaskState) -> Result<TaskId, PortError> {
    let record = TaskRecord { attempt: 1, state: task_state, ..record(1) };
    state.tasks.insert(&record, &[]).await?;
    Ok(record.id)
}

/// An ended task, its facts written and all trimmed.
async fn trimmed(state: &State, announced: bool) -> Result<(TaskId, Vec<TaskEvent>), PortError> {
    let running = TaskRecord { attempt: 1, state: TaskState::Running, ..record(1) };
    let task = running.id;
    let mut facts = vec![fact_at(task, Seq::QUEUED, 1), fact_at(task, Seq::new(1, 0), 2)];
    state.tasks.insert(&running, &facts).await?;
    let ended = in_state(&running, TaskState::Failed);
    state.tasks.compare_and_set(&ended, &[]).await?;
    if announced {
        facts.push(fact_at(task, Seq::terminal(1), 3));
        state.events.append(&facts[2..]).await?;
        state.tasks.compare_and_set(&TaskRecord { announced, ..next(&ended) }, &[]).await?;
    }
    assert_eq!(state.events.trim(Timestamp(10)).await?, facts.len() as u64);
    Ok((task, facts))
}

async fn positions(events: &dyn EventLog) -> Result<Vec<Position>, PortError> {
    let page = events.read_all(&Position::default(), 100).await?;
    Ok(page.entries.into_iter().map(|entry| entry.position).collect())
}
