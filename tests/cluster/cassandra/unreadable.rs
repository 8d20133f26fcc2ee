//! Partitions of the queue that the database cannot read: too many removed rows, a damaged file, nodes that are away.

use kubeml_actors::{
    ports::{TaskFilter, TaskStore},
    task::{TaskId, TaskRecord, TaskState},
    testing::contracts::{Kept, samples::record},
};
use scylla::{errors::DbError, statement::Consistency};
use scylla_proxy::{Condition, RequestOpcode, RequestReaction, RequestRule};

use super::{
    keyspace::{Keyspace, Node},
    proxy::{contains, proxied},
    queue::{PERIOD, period_of, shard_of, sibling},
};

#[tokio::test]
async fn tasks_are_found_although_a_partition_cannot_be_read() -> Kept {
    let keyspace = Keyspace::take().await;
    let (mut proxy, config) = proxied(&keyspace).await;
    let node = Node::over(config);
    let tasks: Vec<TaskRecord> = (0..12).map(|n| in_shard(n * PERIOD, n as u128 % 4)).collect();
    for task in &tasks {
        node.tasks.insert(task, &[]).await?;
    }
    proxy.running_nodes[0].change_request_rules(Some(vec![failing(&tasks[5])]));
    let readable: Vec<&TaskRecord> = tasks.iter().filter(|task| task.id != tasks[5].id).collect();
    for limit in [12, 5] {
        let found = node.tasks.queue(&[TaskState::Pending], limit).await?;
        assert!(found.iter().eq(readable.iter().copied().take(limit)), "{found:?}");
    }
    let pending = TaskFilter { state: Some(TaskState::Pending), model: None };
    assert_eq!(node.tasks.list(&pending, None, 20).await?.records.len(), 11);
    assert_eq!(node.tasks.counts().await?.get(&TaskState::Pending), Some(&11));
    // It is taken and can be asked for all the same.
    let another = sibling(&tasks[5]);
    node.tasks.insert(&another, &[]).await?;
    assert_eq!(node.tasks.get(another.id).await?, Some(another));
    proxy.running_nodes[0].change_request_rules(Some(Vec::new()));
    assert_eq!(node.tasks.queue(&[TaskState::Pending], 20).await?.len(), 13);
    Ok(())
}

#[tokio::test]
async fn a_queue_of_which_much_cannot_be_read_is_unavailable() -> Kept {
    let keyspace = Keyspace::take().await;
    let (mut proxy, config) = proxied(&keyspace).await;
    let node = Node::over(config);
    let tasks: Vec<TaskRecord> = (0..6).map(|n| in_shard(n * PERIOD, 0)).collect();
    for task in &tasks {
        node.tasks.insert(task, &[]).await?;
    }
    proxy.running_nodes[0].change_request_rules(Some(tasks[..4].iter().map(failing).collect()));
    let found = node.tasks.queue(&[TaskState::Pending], 10).await;
    assert!(found.as_ref().is_err_and(|error| error.is_transient()), "{found:?}");
    Ok(())
}

/// Every read of the task's partition fails, as it does when there are too many removed rows.
fn failing(task: &TaskRecord) -> RequestRule {
    let consistency = Consistency::LocalQuorum;
    let error = DbError::ReadFailure { consistency, received: 0, required: 1, numfailures: 1, data_present: false };
    // Of a scan nothing but the partition's key is sent; what follows it is not the next value, but the end.
    let key = [&4_i32.to_be_bytes(), &shard_of(task).to_be_bytes(), &8_i32.to_be_bytes()[..]].concat();
    let key = [&2_i16.to_be_bytes()[..], &key, &period_of(task).to_be_bytes()].concat();
    let is_it = Condition::RequestOpcode(RequestOpcode::Execute).and(contains(&key));
    RequestRule(is_it, RequestReaction::forge_with_error(error))
}

fn in_shard(created_at: u64, shard: u128) -> TaskRecord {
    let task = record(created_at);
    let id = TaskId::fresh().0.as_u128();
    TaskRecord { id: TaskId(uuid::Uuid::from_u128(id - id % 4 + shard)), ..task }
}
