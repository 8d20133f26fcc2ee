//! What every [`TaskStore`] promises of single tasks. Of many: [`super::task_lists`].

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    Kept, State,
    samples::{announced, fact, full_record, in_state, next, record},
};
use crate::{
    event::Seq,
    ports::{Cas, Inserted, PortError, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
};

/// `$open` gives an `async || -> State`.
#[macro_export]
macro_rules! task_store_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            task_store,
            $open,
            [
                a_record_reads_back_as_it_was_written,
                an_unknown_task_reads_as_none,
                a_taken_id_is_not_inserted_again,
                a_record_and_its_facts_are_inserted_together,
                the_next_version_takes_the_place_of_the_last,
                a_write_of_any_other_version_conflicts_and_changes_nothing,
                a_write_to_an_unknown_task_is_not_found,
                a_write_is_applied_although_its_facts_are_stale,
                of_concurrent_inserts_one_is_fresh,
                of_a_hundred_concurrent_writes_one_is_applied,
                concurrent_writers_who_try_again_lose_nothing,
                a_settled_read_follows_the_writes_under_way,
                an_announced_task_can_be_deleted_with_its_facts,
                a_task_that_is_not_announced_cannot_be_deleted,
                an_unknown_task_cannot_be_deleted,
                a_deleted_id_begins_anew,
                tasks_outlive_their_process,
            ]
        );
        $crate::contract_tests!(
            task_lists,
            $open,
            [
                lists_go_from_newest_to_oldest,
                pages_of_a_list_join_without_loss_or_repetition,
                the_last_page_says_so,
                new_and_deleted_tasks_do_not_disturb_the_pages,
                a_list_can_be_narrowed_by_state_and_model,
                a_list_follows_the_changes_of_state,
                the_queue_goes_by_priority_then_age,
                the_queue_holds_tasks_until_they_are_announced,
                the_queue_can_be_narrowed_and_cut,
                counts_follow_the_changes_of_state,
                lists_outlive_their_process,
            ]
        );
    };
}

pub async fn a_record_reads_back_as_it_was_written(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    for record in [record(1), full_record()] {
        assert_eq!(tasks.insert(&record, &[]).await?, Inserted::Fresh);
        assert_eq!(tasks.get(record.id).await?.as_ref(), Some(&record));
        assert_eq!(tasks.get_settled(record.id).await?.as_ref(), Some(&record));
    }
    Ok(())
}

pub async fn an_unknown_task_reads_as_none(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    tasks.insert(&record(1), &[]).await?;
    assert_eq!(tasks.get(TaskId::fresh()).await?, None);
    assert_eq!(tasks.get_settled(TaskId::fresh()).await?, None);
    Ok(())
}

pub async fn a_taken_id_is_not_inserted_again(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let first = record(1);
    let second = TaskRecord { priority: 9, ..record(2) };
    let second = TaskRecord { id: first.id, ..second };
    tasks.insert(&first, &[fact(first.id, 0, 0)]).await?;
    let inserted = tasks.insert(&second, &[fact(first.id, 1, 0)]).await?;
    assert_eq!(inserted, Inserted::Exists(Box::new(first.clone())));
    assert_eq!(tasks.get(first.id).await?, Some(first.clone()));
    assert_eq!(events.read_task(first.id, None, 10).await?, [fact(first.id, 0, 0)]);
    Ok(())
}

pub async fn a_record_and_its_facts_are_inserted_together(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let record = record(1);
    let facts = [fact(record.id, 0, 0), fact(record.id, 1, 0)];
    tasks.insert(&record, &facts).await?;
    assert_eq!(events.read_task(record.id, None, 10).await?, facts);
    Ok(())
}

pub async fn the_next_version_takes_the_place_of_the_last(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let first = record(1);
    tasks.insert(&first, &[fact(first.id, 0, 0)]).await?;
    let second = in_state(&first, TaskState::Running);
    assert_eq!(tasks.compare_and_set(&second, &[fact(first.id, 1, 0)]).await?, Cas::Applied);
    assert_eq!(tasks.get(first.id).await?, Some(second));
    assert_eq!(events.read_task(first.id, Some(Seq::QUEUED), 10).await?, [fact(first.id, 1, 0)]);
    Ok(())
}

pub async fn a_write_of_any_other_version_conflicts_and_changes_nothing(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let first = record(1);
    let second = next(&first);
    tasks.insert(&first, &[]).await?;
    tasks.compare_and_set(&second, &[]).await?;
    for version in [0, 1, 2, 4, u64::MAX] {
        let other = TaskRecord { version, priority: 9, ..next(&second) };
        let answer = tasks.compare_and_set(&other, &[fact(first.id, 1, 0)]).await?;
        assert_eq!(answer, Cas::Conflict(Box::new(second.clone())), "version {version}");
    }
    assert_eq!(tasks.get(first.id).await?, Some(second));
    assert_eq!(events.read_task(first.id, None, 10).await?, []);
    Ok(())
}

pub async fn a_write_to_an_unknown_task_is_not_found(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let unknown = next(&record(1));
    let answer = tasks.compare_and_set(&unknown, &[fact(unknown.id, 0, 0)]).await;
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    assert_eq!(tasks.get(unknown.id).await?, None);
    assert_eq!(events.read_task(unknown.id, None, 10).await?, []);
    Ok(())
}

pub async fn a_write_is_applied_although_its_facts_are_stale(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let first = record(1);
    tasks.insert(&first, &[fact(first.id, 2, 5)]).await?;
    let second = next(&first);
    let facts = [fact(first.id, 1, 9), fact(first.id, 2, 5), fact(first.id, 2, 6)];
    assert_eq!(tasks.compare_and_set(&second, &facts).await?, Cas::Applied);
    assert_eq!(tasks.get(first.id).await?, Some(second));
    assert_eq!(events.read_task(first.id, None, 10).await?, [fact(first.id, 2, 5), fact(first.id, 2, 6)]);
    Ok(())
}

pub async fn of_concurrent_inserts_one_is_fresh(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let first = record(1);
    let mut inserts = JoinSet::new();
    for _ in 0..50 {
        let (tasks, record) = (tasks.clone(), first.clone());
        inserts.spawn(async move { tasks.insert(&record, &[]).await });
    }
    let answers = inserts.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(answers.iter().filter(|answer| **answer == Inserted::Fresh).count(), 1);
    Ok(())
}

pub async fn of_a_hundred_concurrent_writes_one_is_applied(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let mut current = record(1);
    tasks.insert(&current, &[]).await?;
    for _ in 0..3 {
        let mut writes = JoinSet::new();
        for _ in 0..100 {
            let (tasks, next) = (tasks.clone(), next(&current));
            writes.spawn(async move { (next.op_id, tasks.compare_and_set(&next, &[]).await) });
        }
        let mut applied = Vec::new();
        for (op_id, answer) in writes.join_all().await {
            match answer? {
                Cas::Applied => applied.push(op_id),
                Cas::Conflict(winner) => assert_eq!(winner.version, current.version + 1),
            }
        }
        let winner = tasks.get(current.id).await?.expect("it was inserted");
        assert_eq!(applied, [winner.op_id]);
        current = winner;
    }
    Ok(())
}

pub async fn concurrent_writers_who_try_again_lose_nothing(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    let first = record(1);
    tasks.insert(&first, &[]).await?;
    let mut writers = JoinSet::new();
    for _ in 0..10 {
        let (tasks, mut current) = (tasks.clone(), first.clone());
        writers.spawn(async move {
            let mut written = 0;
            while written < 5 {
                let mut next = next(&current);
                next.priority += 1;
                match tasks.compare_and_set(&next, &[]).await? {
                    Cas::Applied => (written, current) = (written + 1, next),
                    Cas::Conflict(newer) => current = *newer,
                }
            }
            Ok::<_, PortError>(())
        });
    }
    writers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let last = tasks.get(first.id).await?.expect("it was inserted");
    assert_eq!((last.version, last.priority), (51, 50));
    Ok(())
}

pub async fn a_settled_read_follows_the_writes_under_way(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    for _ in 0..10 {
        let first = record(1);
        tasks.insert(&first, &[]).await?;
        let writing = tokio::spawn({
            let (tasks, next) = (tasks.clone(), next(&first));
            async move { tasks.compare_and_set(&next, &[]).await }
        });
        tokio::task::yield_now().await;
        writing.abort();
        let settled = tasks.get_settled(first.id).await?;
        for _ in 0..10 {
            tokio::task::yield_now().await;
            assert_eq!(tasks.get(first.id).await?, settled);
        }
    }
    Ok(())
}

pub async fn an_announced_task_can_be_deleted_with_its_facts(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let (kept, deleted) = (record(1), ended_and_announced(&open_task(&tasks).await?));
    tasks.insert(&kept, &[fact(kept.id, 0, 0)]).await?;
    events.append(&[fact(deleted.id, 1, 0), fact(deleted.id, 1, 1)]).await?;
    tasks.compare_and_set(&deleted, &[]).await?;
    tasks.delete(deleted.id).await?;
    assert_eq!(tasks.get(deleted.id).await?, None);
    assert_eq!(events.read_task(deleted.id, None, 10).await?, []);
    assert_eq!(events.read_task(kept.id, None, 10).await?, [fact(kept.id, 0, 0)]);
    assert_eq!(tasks.get(kept.id).await?, Some(kept));
    Ok(())
}

pub async fn a_task_that_is_not_announced_cannot_be_deleted(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, .. } = open().await;
    for state in TaskState::ALL {
        let record = in_state(&record(1), state);
        tasks.insert(&record, &[]).await?;
        let answer = tasks.delete(record.id).await;
        assert!(matches!(answer, Err(PortError::Rejected(_))), "{state}: {answer:?}");
        assert_eq!(tasks.get(record.id).await?, Some(record));
    }
    Ok(())
}

pub async fn an_unknown_task_cannot_be_deleted(open: impl AsyncFn() -> State) -> Kept {
    let answer = open().await.tasks.delete(TaskId::fresh()).await;
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    Ok(())
}

pub async fn a_deleted_id_begins_anew(open: impl AsyncFn() -> State) -> Kept {
    let State { tasks, events } = open().await;
    let first = open_task(&tasks).await?;
    events.append(&[fact(first.id, 3, 0)]).await?;
    tasks.compare_and_set(&ended_and_announced(&first), &[]).await?;
    tasks.delete(first.id).await?;
    assert_eq!(tasks.insert(&first, &[fact(first.id, 0, 0)]).await?, Inserted::Fresh);
    assert_eq!(events.read_task(first.id, None, 10).await?, [fact(first.id, 0, 0)]);
    Ok(())
}

pub async fn tasks_outlive_their_process(open: impl AsyncFn() -> State) -> Kept {
    let state = open().await;
    let first = open_task(&state.tasks).await?;
    let second = next(&first);
    state.tasks.compare_and_set(&second, &[]).await?;
    drop(state);
    assert_eq!(open().await.tasks.get(first.id).await?, Some(second));
    Ok(())
}

async fn open_task(tasks: &Arc<dyn TaskStore>) -> Result<TaskRecord, PortError> {
    let record = record(1);
    tasks.insert(&record, &[]).await?;
    Ok(record)
}

fn ended_and_announced(record: &TaskRecord) -> TaskRecord {
    TaskRecord { state: TaskState::Succeeded, ..announced(record) }
}
