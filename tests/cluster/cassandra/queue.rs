//! Rows of the queue and of the lists are believed by nobody, and mended by who finds them wrong.

use kubeml_actors::{
    ports::{Inserted, ListCursor, TaskFilter, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
    testing::contracts::{
        Kept,
        samples::{announced, in_state, record},
    },
    timestamp::Timestamp,
};

use super::keyspace::Keyspace;

pub const PERIOD: u64 = 5 * MINUTE;
const MINUTE: u64 = 60_000_000;
const DAY: u64 = 24 * 60 * MINUTE;
const OTHERS: [TaskState; 4] = [TaskState::Running, TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled];

pub fn shard_of(task: &TaskRecord) -> i32 {
    (task.id.0.as_u128() % 4) as i32
}

pub fn period_of(task: &TaskRecord) -> i64 {
    (task.created_at.0 / PERIOD) as i64
}

/// Writes a row of the queue by hand, at a time of the database's clock.
async fn put_row(keyspace: &Keyspace, record: &TaskRecord, state: i8, written_at: i64) {
    let (shard, period) = (shard_of(record), period_of(record));
    mark(keyspace, record, now()).await;
    let (created, id) = (record.created_at.0 as i64, record.id.0.as_bytes().to_vec());
    let row = "INSERT INTO $.task_queue (shard, period, priority, created_at, task_id, state) \
               VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    keyspace.run(row, (shard, period, record.priority, created, id, state, written_at)).await;
}

async fn mark(keyspace: &Keyspace, record: &TaskRecord, written_at: i64) {
    let mark = "INSERT INTO $.task_period (list, shard, period, mark) VALUES ('queue', ?, ?, 0) USING TIMESTAMP ?";
    keyspace.run(mark, (shard_of(record), period_of(record), written_at)).await;
}

async fn marks(keyspace: &Keyspace) -> usize {
    let marks = keyspace.run("SELECT period FROM $.task_period WHERE list = 'queue' ALLOW FILTERING", ()).await;
    marks.into_rows_result().expect("a select has rows").rows_num()
}

fn now() -> i64 {
    Timestamp::from_system(std::time::SystemTime::now()).0 as i64
}

#[tokio::test]
async fn a_pending_task_that_is_advised_otherwise_is_found_again() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let pending = record(1);
    node.tasks.insert(&pending, &[]).await?;
    put_row(&keyspace, &pending, 1, now() + 1).await;
    assert_eq!(node.tasks.queue(&[TaskState::Pending], 10).await?, []);
    assert_eq!(node.tasks.queue(&OTHERS, 10).await?, []);
    assert_eq!(node.tasks.queue(&[TaskState::Pending], 10).await?, [pending]);
    Ok(())
}

#[tokio::test]
async fn a_running_task_that_is_advised_to_be_pending_is_found_again() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let running = TaskRecord { state: TaskState::Running, ..record(1) };
    let pending = record(2);
    node.tasks.insert(&running, &[]).await?;
    node.tasks.insert(&pending, &[]).await?;
    put_row(&keyspace, &running, 0, now() + 1).await;
    // It takes no place of one that is pending.
    assert_eq!(node.tasks.queue(&[TaskState::Pending], 1).await?, [pending]);
    assert_eq!(node.tasks.queue(&OTHERS, 10).await?, [running]);
    Ok(())
}

#[tokio::test]
async fn a_row_without_a_record_is_removed_when_it_is_old() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let (young, old) = (record(1), record(2));
    put_row(&keyspace, &young, 0, now()).await;
    put_row(&keyspace, &old, 0, now() - 601_000_000).await;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, []);
    assert_eq!(keyspace.rows_in("task_queue").await, 1);
    // The young one's insert was under way.
    node.tasks.insert(&young, &[]).await?;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, [young]);
    Ok(())
}

/// As when the process was stopped for long between the rows and the record.
#[tokio::test]
async fn a_task_without_rows_has_them_again_when_it_is_submitted_again() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let task = record(1);
    node.tasks.insert(&task, &[]).await?;
    let day = (task.created_at.0 / DAY) as i64;
    let (in_queue, in_list) = ((shard_of(&task), period_of(&task)), (day, shard_of(&task)));
    keyspace.run("DELETE FROM $.task_queue WHERE shard = ? AND period = ?", in_queue).await;
    keyspace.run("DELETE FROM $.task_by_day WHERE day = ? AND shard = ?", in_list).await;
    let list = async || node.tasks.list(&TaskFilter::default(), None, 10).await.map(|page| page.records);
    assert_eq!((node.tasks.queue(&TaskState::ALL, 10).await?, list().await?), (vec![], vec![]));
    let again = TaskRecord { created_at: Timestamp(task.created_at.0 + 7), ..task.clone() };
    assert_eq!(node.tasks.insert(&again, &[]).await?, Inserted::Exists(Box::new(task.clone())));
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, std::slice::from_ref(&task));
    assert_eq!(list().await?, [task]);
    Ok(())
}

#[tokio::test]
async fn a_row_of_an_announced_task_is_removed() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let first = record(1);
    node.tasks.insert(&first, &[]).await?;
    node.tasks.compare_and_set(&TaskRecord { state: TaskState::Failed, ..announced(&first) }, &[]).await?;
    node.tasks.finish().await;
    assert_eq!(keyspace.rows_in("task_queue").await, 0);
    put_row(&keyspace, &first, 1, now()).await;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, []);
    assert_eq!(keyspace.rows_in("task_queue").await, 0);
    Ok(())
}

#[tokio::test]
async fn a_row_in_a_wrong_place_moves() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let first = record(1);
    node.tasks.insert(&first, &[]).await?;
    node.tasks.queue(&TaskState::ALL, 10).await?;
    keyspace.run("TRUNCATE $.task_queue", ()).await;
    put_row(&keyspace, &TaskRecord { priority: 7, ..first.clone() }, 0, now()).await;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, []);
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, [first]);
    assert_eq!(keyspace.rows_in("task_queue").await, 1);
    Ok(())
}

#[tokio::test]
async fn old_periods_without_tasks_are_forgotten() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let (old, recent) = (record(50 * MINUTE), record(70 * MINUTE));
    mark(&keyspace, &old, now() - 11 * MINUTE as i64).await;
    mark(&keyspace, &recent, now() - 9 * MINUTE as i64).await;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, []);
    assert_eq!(marks(&keyspace).await, 1);
    // Marked anew.
    node.tasks.insert(&old, &[]).await?;
    assert_eq!(node.tasks.queue(&TaskState::ALL, 10).await?, [old]);
    Ok(())
}

/// The clock of the node that made the task, or of the one that looks for it, is hours off.
#[tokio::test]
async fn a_period_that_was_marked_lately_is_not_forgotten_whatever_it_is_called() -> Kept {
    let keyspace = Keyspace::take().await;
    let (node, other) = (keyspace.node(), keyspace.node());
    for created_at in [now() as u64 - 200 * MINUTE, now() as u64 + 200 * MINUTE] {
        let first = record(created_at);
        node.tasks.insert(&first, &[]).await?;
        node.tasks.compare_and_set(&TaskRecord { state: TaskState::Failed, ..announced(&first) }, &[]).await?;
        assert_eq!(other.tasks.queue(&TaskState::ALL, 10).await?, []);
        let second = sibling(&first);
        node.tasks.insert(&second, &[]).await?;
        assert_eq!(other.tasks.queue(&TaskState::ALL, 10).await?, std::slice::from_ref(&second));
        node.tasks.compare_and_set(&TaskRecord { state: TaskState::Failed, ..announced(&second) }, &[]).await?;
    }
    assert_eq!(marks(&keyspace).await, 2);
    Ok(())
}

#[tokio::test]
async fn a_period_is_marked_again_as_long_as_tasks_come() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let first = record(now() as u64);
    node.tasks.insert(&first, &[]).await?;
    // As who found it empty later.
    keyspace.run("DELETE FROM $.task_period WHERE list = 'queue' AND shard = ?", (shard_of(&first),)).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(301)).await;
    tokio::time::resume();
    let second = sibling(&first);
    node.tasks.insert(&second, &[]).await?;
    let found = keyspace.node().tasks.queue(&TaskState::ALL, 10).await?;
    assert!(found.contains(&second), "{found:?}");
    Ok(())
}

/// Another task of the same partition.
pub fn sibling(task: &TaskRecord) -> TaskRecord {
    TaskRecord { id: TaskId(uuid::Uuid::from_u128(task.id.0.as_u128() ^ (1 << 20))), ..task.clone() }
}

#[tokio::test]
async fn lists_and_the_queue_span_periods_and_days() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let mut records: Vec<TaskRecord> = (0..40).map(|n| record(n * 500 * MINUTE + n)).collect();
    for record in &records {
        node.tasks.insert(record, &[]).await?;
    }
    let queued = node.tasks.queue(&[TaskState::Pending], 15).await?;
    assert_eq!(queued, records[..15]);
    records.reverse();
    for state in [None, Some(TaskState::Pending)] {
        let (mut listed, mut after) = (Vec::new(), None::<ListCursor>);
        loop {
            let page = node.tasks.list(&TaskFilter { state, model: None }, after, 7).await?;
            listed.extend(page.records);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, records);
    }
    Ok(())
}

#[tokio::test]
async fn another_node_sees_the_changes() -> Kept {
    let keyspace = Keyspace::take().await;
    let (writer, reader) = (keyspace.node(), keyspace.node());
    let first = record(1);
    writer.tasks.insert(&first, &[]).await?;
    assert_eq!(reader.tasks.queue(&[TaskState::Pending], 10).await?, std::slice::from_ref(&first));
    let running = in_state(&first, TaskState::Running);
    writer.tasks.compare_and_set(&running, &[]).await?;
    assert_eq!(reader.tasks.queue(&[TaskState::Pending], 10).await?, []);
    assert_eq!(reader.tasks.queue(&OTHERS, 10).await?, std::slice::from_ref(&running));
    assert_eq!(reader.tasks.counts().await?.get(&TaskState::Running), Some(&1));
    Ok(())
}
