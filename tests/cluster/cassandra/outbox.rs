//! A task's row is its outbox: what a dead writer left there is told by whoever comes next.

use kubeml::codec;
use kubeml_actors::{
    event::{EventKind, Seq, TaskEvent},
    ports::{Cas, Inserted, TaskStore},
    task::{TaskRecord, TaskState},
    testing::contracts::{
        Kept,
        samples::{announced, fact, in_state, record},
    },
};

use super::keyspace::Keyspace;

/// What is in the database when a process dies between the conditional write and the facts.
async fn died_after_writing(keyspace: &Keyspace, record: &TaskRecord, facts: &[TaskEvent]) {
    let encoded = codec::encode(record).expect("it is short");
    let facts: Vec<Vec<u8>> = facts.iter().map(|fact| codec::encode(fact).expect("it is short")).collect();
    let values = (record.id.0, record.version as i64, encoded, facts);
    keyspace
        .run("INSERT INTO $.task (task_id, version, record, facts) VALUES (?, ?, ?, ?) IF NOT EXISTS", values)
        .await;
}

#[tokio::test]
async fn the_next_version_takes_the_facts_of_a_dead_writer_along() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let dead = record(1);
    let id = dead.id;
    died_after_writing(&keyspace, &dead, &[fact(id, 0, 0)]).await;
    assert_eq!(node.events.read_task(id, None, 10).await?, []);
    let next = in_state(&dead, TaskState::Running);
    assert_eq!(node.tasks.compare_and_set(&next, &[fact(id, 1, 0)]).await?, Cas::Applied);
    assert_eq!(node.events.read_task(id, None, 10).await?, [fact(id, 0, 0), fact(id, 1, 0)]);
    Ok(())
}

#[tokio::test]
async fn an_insert_whose_reply_was_lost_tells_its_facts_when_repeated() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let dead = record(1);
    died_after_writing(&keyspace, &dead, &[fact(dead.id, 0, 0)]).await;
    let answer = node.tasks.insert(&dead, &[fact(dead.id, 0, 0)]).await?;
    assert_eq!(answer, Inserted::Exists(Box::new(dead.clone())));
    assert_eq!(node.events.read_task(dead.id, None, 10).await?, [fact(dead.id, 0, 0)]);
    assert_eq!(node.tasks.queue(&[TaskState::Pending], 10).await?, [dead]);
    Ok(())
}

#[tokio::test]
async fn nothing_appears_in_front_of_the_last_fact_after_it() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let dead = TaskRecord { attempt: 1, state: TaskState::Cancelled, ..record(1) };
    died_after_writing(&keyspace, &dead, &[fact(dead.id, 1, 7)]).await;
    let end = TaskEvent { seq: Seq::terminal(1), kind: EventKind::Cancelled, ..fact(dead.id, 1, 8) };
    node.events.append(std::slice::from_ref(&end), |_| ()).await?;
    assert_eq!(node.events.read_task(dead.id, None, 10).await?, [fact(dead.id, 1, 7), end.clone()]);
    node.tasks.compare_and_set(&announced(&dead), &[]).await?;
    assert_eq!(node.events.read_task(dead.id, None, 10).await?, [fact(dead.id, 1, 7), end]);
    Ok(())
}

#[tokio::test]
async fn two_nodes_write_a_task_in_turns() -> Kept {
    let keyspace = Keyspace::take().await;
    let nodes = [keyspace.node(), keyspace.node()];
    let mut current = record(1);
    nodes[0].tasks.insert(&current, &[fact(current.id, 0, 0)]).await?;
    let mut expected = vec![fact(current.id, 0, 0)];
    for attempt in 1..=4 {
        let node = &nodes[attempt as usize % 2];
        current = in_state(&current, TaskState::ALL[attempt as usize % 2]);
        expected.extend([0, 1].map(|n| fact(current.id, attempt, n)));
        let [.., written, appended] = expected.as_slice() else { panic!("there are some") };
        assert_eq!(node.tasks.compare_and_set(&current, std::slice::from_ref(written)).await?, Cas::Applied);
        node.events.append(std::slice::from_ref(appended), |_| ()).await?;
    }
    for node in &nodes {
        assert_eq!(node.events.read_task(current.id, None, 100).await?, expected);
        assert_eq!(node.tasks.get(current.id).await?.as_ref(), Some(&current));
    }
    Ok(())
}

#[tokio::test]
async fn a_write_is_finished_although_its_caller_went_away() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let first = record(1);
    node.tasks.insert(&first, &[]).await?;
    let next = in_state(&first, TaskState::Running);
    let writing = tokio::spawn({
        let (tasks, next) = (node.tasks.clone(), next.clone());
        async move { tasks.compare_and_set(&next, &[fact(next.id, 1, 0)]).await }
    });
    tokio::task::yield_now().await;
    writing.abort();
    let settled = node.tasks.get_settled(first.id).await?.expect("it was inserted");
    let expected = if settled == next { vec![fact(first.id, 1, 0)] } else { Vec::new() };
    assert!(settled == next || settled == first);
    assert_eq!(node.events.read_task(first.id, None, 10).await?, expected);
    Ok(())
}
