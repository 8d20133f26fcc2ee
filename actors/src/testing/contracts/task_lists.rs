//! What every [`TaskStore`] promises of many tasks: lists, the queue, counts.

use std::collections::HashMap;

use super::{
    Kept, State,
    samples::{announced, in_state, next, record, spec},
};
use crate::{
    ports::{ListCursor, PortError, TaskFilter, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
};
use kubeml_spec::ModelKind;

pub async fn lists_go_from_newest_to_oldest(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let records = insert(&*tasks, [3, 1, 2].map(record)).await?;
    let page = tasks.list(&TaskFilter::default(), None, 10).await?;
    assert_eq!(ids(&page.records), [records[0].id, records[2].id, records[1].id]);
    assert_eq!(page.records[0], records[0]);
    Ok(())
}

pub async fn pages_of_a_list_join_without_loss_or_repetition(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    // Several were created in the same microsecond: they go by their ids.
    let mut records = insert(&*tasks, [5, 5, 5, 1, 9, 5, 2, 9].map(record)).await?;
    records.sort_by_key(|record| std::cmp::Reverse(ListCursor::of(record)));
    for limit in 1..=9 {
        assert_eq!(ids(&all_pages(&*tasks, &TaskFilter::default(), limit).await?), ids(&records), "pages of {limit}");
    }
    Ok(())
}

pub async fn the_last_page_says_so(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let all = TaskFilter::default();
    assert_eq!(tasks.list(&all, None, 5).await?.next, None);
    let records = insert(&*tasks, [1, 2, 3, 4].map(record)).await?;
    let first = tasks.list(&all, None, 2).await?;
    assert_eq!(first.next, Some(ListCursor::of(&records[2])));
    assert_eq!(tasks.list(&all, first.next, 2).await?.next, None);
    assert_eq!(tasks.list(&all, None, 4).await?.next, None);
    Ok(())
}

pub async fn new_and_deleted_tasks_do_not_disturb_the_pages(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let records = insert(&*tasks, [1, 2, 3, 4].map(record)).await?;
    let first = tasks.list(&TaskFilter::default(), None, 2).await?;
    insert(&*tasks, [record(9)]).await?;
    tasks.compare_and_set(&TaskRecord { state: TaskState::Failed, ..announced(&records[2]) }, &[]).await?;
    tasks.delete(records[2].id).await?;
    let second = tasks.list(&TaskFilter::default(), first.next, 2).await?;
    assert_eq!(ids(&second.records), [records[1].id, records[0].id]);
    Ok(())
}

pub async fn a_list_can_be_narrowed_by_state_and_model(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let mut records = Vec::new();
    for (created, state) in TaskState::ALL.into_iter().cycle().take(30).enumerate() {
        let model = ["mlp", "cnn", "lstm"][created % 3];
        records.push(TaskRecord { state, spec: spec(model), ..record(created as u64) });
    }
    records = insert(&*tasks, records).await?;
    records.reverse();
    for state in TaskState::ALL.map(Some).into_iter().chain([None]) {
        for model in ModelKind::all().map(Some).chain([None]) {
            let filter = TaskFilter { state, model };
            let expected: Vec<TaskRecord> = records.iter().filter(|record| filter.admits(record)).cloned().collect();
            for limit in [1, 2, 30] {
                assert_eq!(all_pages(&*tasks, &filter, limit).await?, expected, "{filter:?} in pages of {limit}");
            }
        }
    }
    Ok(())
}

pub async fn a_list_follows_the_changes_of_state(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let records = insert(&*tasks, [1, 2].map(record)).await?;
    tasks.compare_and_set(&in_state(&records[0], TaskState::Running), &[]).await?;
    let in_list = async |state| {
        let page = tasks.list(&TaskFilter { state: Some(state), model: None }, None, 10).await?;
        Ok::<_, PortError>(ids(&page.records))
    };
    assert_eq!(in_list(TaskState::Running).await?, [records[0].id]);
    assert_eq!(in_list(TaskState::Pending).await?, [records[1].id]);
    Ok(())
}

pub async fn the_queue_goes_by_priority_then_age(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let order = [(i32::MAX, 9), (1, 1), (1, 2), (0, 0), (0, 7), (-1, 3), (i32::MIN, 1)];
    let mut records = order.map(|(priority, created)| TaskRecord { priority, ..record(created) });
    records.reverse();
    insert(&*tasks, records).await?;
    let queued = tasks.queue(&[TaskState::Pending], 100).await?;
    let found: Vec<_> = queued.iter().map(|record| (record.priority, record.created_at.0)).collect();
    assert_eq!(found, order);
    Ok(())
}

pub async fn the_queue_holds_tasks_until_they_are_announced(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let mut current = record(1);
    insert(&*tasks, [current.clone()]).await?;
    for state in [TaskState::Pending, TaskState::Running, TaskState::Succeeded] {
        current = in_state(&current, state);
        tasks.compare_and_set(&current, &[]).await?;
        assert_eq!(tasks.queue(&TaskState::ALL, 10).await?, [current.clone()]);
        assert_eq!(tasks.queue(&[state], 10).await?, [current.clone()]);
    }
    tasks.compare_and_set(&announced(&current), &[]).await?;
    assert_eq!(tasks.queue(&TaskState::ALL, 10).await?, []);
    Ok(())
}

pub async fn the_queue_can_be_narrowed_and_cut(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let states = [TaskState::Running, TaskState::Pending, TaskState::Failed, TaskState::Pending];
    let records = states.into_iter().enumerate().map(|(age, state)| TaskRecord { state, ..record(age as u64) });
    let records = insert(&*tasks, records).await?;
    let found = ids(&tasks.queue(&[TaskState::Pending, TaskState::Failed], 2).await?);
    assert_eq!(found, [records[1].id, records[2].id]);
    assert_eq!(tasks.queue(&[TaskState::Cancelled], 2).await?, []);
    Ok(())
}

pub async fn counts_follow_the_changes_of_state(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    assert_eq!(counted(&tasks.counts().await?), [0, 0, 0, 0, 0]);
    let records = insert(&*tasks, [1, 2, 3].map(record)).await?;
    let running = in_state(&records[0], TaskState::Running);
    tasks.compare_and_set(&running, &[]).await?;
    assert_eq!(counted(&tasks.counts().await?), [2, 1, 0, 0, 0]);
    tasks.compare_and_set(&next(&running), &[]).await?;
    assert_eq!(counted(&tasks.counts().await?), [2, 1, 0, 0, 0]);
    let ended = TaskRecord { state: TaskState::Cancelled, ..announced(&records[1]) };
    tasks.compare_and_set(&ended, &[]).await?;
    assert_eq!(counted(&tasks.counts().await?)[..2], [1, 1]);
    tasks.delete(ended.id).await?;
    assert_eq!(counted(&tasks.counts().await?)[..2], [1, 1]);
    Ok(())
}

pub async fn lists_outlive_their_process(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let records = insert(&*state.tasks, [1, 2, 3].map(record)).await?;
    state.tasks.compare_and_set(&in_state(&records[1], TaskState::Running), &[]).await?;
    drop(state);
    let State { tasks, .. } = open().await;
    let listed = tasks.list(&TaskFilter::default(), None, 10).await?;
    assert_eq!(ids(&listed.records), [records[2].id, records[1].id, records[0].id]);
    let queued = tasks.queue(&[TaskState::Pending], 10).await?;
    assert_eq!(ids(&queued), [records[0].id, records[2].id]);
    assert_eq!(counted(&tasks.counts().await?), [2, 1, 0, 0, 0]);
    Ok(())
}

async fn insert(
    tasks: &dyn TaskStore,
    records: impl IntoIterator<Item = TaskRecord>,
) -> Result<Vec<TaskRecord>, PortError> {
    let mut inserted = Vec::new();
    for record in records {
        tasks.insert(&record, &[]).await?;
        inserted.push(record);
    }
    Ok(inserted)
}

async fn all_pages(tasks: &dyn TaskStore, filter: &TaskFilter, limit: usize) -> Result<Vec<TaskRecord>, PortError> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = tasks.list(filter, after, limit).await?;
        assert!(page.records.len() <= limit);
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return Ok(records);
        }
    }
}

fn ids(records: &[TaskRecord]) -> Vec<TaskId> {
    records.iter().map(|record| record.id).collect()
}

/// In the order of [`TaskState::ALL`]; a state without tasks is counted as well, so that a gauge goes back to 0.
fn counted(counts: &HashMap<TaskState, u64>) -> [u64; 5] {
    TaskState::ALL.map(|state| counts[&state])
}
