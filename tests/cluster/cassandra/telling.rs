//! What is stored of a task is told, and in the order of the log, whoever goes away meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kubeml::{codec, edges::cassandra::Appended};
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{Cas, TaskStore},
    task::TaskState,
    testing::contracts::{
        Kept,
        samples::{fact, in_state, record},
    },
};
use scylla::{
    errors::{DbError, WriteType},
    statement::Consistency,
};
use scylla_proxy::{Condition, Reaction, RequestReaction, RequestRule};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    keyspace::{Keyspace, Node},
    proxy::{contains, proxied},
};

/// Long enough for others to get by, if they may.
const DELAY: Duration = Duration::from_millis(300);

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Seq>>>);

impl Told {
    fn note(&self, events: &[TaskEvent]) {
        self.0.lock().expect("nobody panics").extend(events.iter().map(|event| event.seq));
    }

    fn seqs(&self) -> Vec<Seq> {
        self.0.lock().expect("nobody panics").clone()
    }
}

/// A write of one fact or many.
async fn facts_written(keyspace: &Keyspace) -> Condition {
    let table = format!("{}.event", keyspace.config.keyspace);
    let cql = format!("INSERT INTO {table} (task_id, bucket, seq, at, payload) VALUES (?, ?, ?, ?, ?) USING TTL ?");
    contains(&keyspace.prepared_id(&cql).await)
}

#[tokio::test]
async fn a_fact_whose_writer_went_away_is_told_before_what_ends_its_attempt() -> Kept {
    let keyspace = Keyspace::take().await;
    let (mut proxy, config) = proxied(&keyspace).await;
    let node = Node::over(config);
    let told = Told::default();
    let telling = told.clone();
    node.events.on_facts(move |_, row| {
        telling.note(&row.found);
        telling.note(&row.made);
        true
    });
    let waiting = record(1);
    let id = waiting.id;
    node.tasks.insert(&waiting, &[fact(id, 0, 0)]).await?;
    let running = in_state(&waiting, TaskState::Running);
    assert_eq!(node.tasks.compare_and_set(&running, &[fact(id, 1, 0)]).await?, Cas::Applied);
    node.tasks.finish().await;

    let (passing, mut passed) = unbounded_channel();
    let first = facts_written(&keyspace).await.and(Condition::TrueForLimitedTimes(1));
    let delayed = RequestReaction::delay(DELAY).with_feedback_when_performed(passing);
    proxy.running_nodes[0].change_request_rules(Some(vec![RequestRule(first, delayed)]));
    let appending = tokio::spawn({
        let (events, telling) = (node.events.clone(), told.clone());
        let tell = move |appended: Appended<'_>| match appended {
            Appended::Written(events) => telling.note(events),
            Appended::Unknown(events) => panic!("{events:?} are written"),
        };
        async move { events.append(&[fact(id, 1, 1)], tell).await }
    });
    passed.recv().await.expect("facts are written by this statement");
    appending.abort();

    let end = TaskEvent { seq: Seq::attempt_end(1), ..fact(id, 1, 2) };
    let given_back = in_state(&running, TaskState::Pending);
    assert_eq!(node.tasks.compare_and_set(&given_back, std::slice::from_ref(&end)).await?, Cas::Applied);
    let stored = node.events.read_task(id, None, 10).await?;
    assert_eq!(stored, [fact(id, 0, 0), fact(id, 1, 0), fact(id, 1, 1), end]);
    assert_eq!(told.seqs(), stored.iter().map(|event| event.seq).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_fact_that_arrives_after_its_attempt_was_closed_is_never_read() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let id = record(1).id;
    let end = TaskEvent { seq: Seq::attempt_end(1), ..fact(id, 1, 2) };
    let stored = [fact(id, 1, 0), fact(id, 1, 1), end.clone(), fact(id, 2, 0)];
    node.events.append(&stored[..3], |_| ()).await?;
    assert!(!node.events.close(id, stored[1].seq, end.seq).await?, "nothing is there");
    node.events.append(&stored[3..], |_| ()).await?;
    // On its way for almost ten seconds, from an owner who does not know that his attempt has ended.
    let late = fact(id, 1, 2);
    let place = |event: &TaskEvent| {
        let seq = i64::try_from(event.seq.0).expect("it fits");
        (id.0, seq >> 16, seq)
    };
    let written = "SELECT WRITETIME(payload) FROM $.event WHERE task_id = ? AND bucket = ? AND seq = ?";
    let written = keyspace.run(written, place(&end)).await.into_rows_result().expect("a select has rows");
    let (ended_at,) = written.single_row::<(i64,)>().expect("it is there");
    let (task, bucket, seq) = place(&late);
    let arrives = "INSERT INTO $.event (task_id, bucket, seq, at, payload) VALUES (?, ?, ?, 0, ?) USING TIMESTAMP ?";
    let bytes = codec::encode(&late).expect("it is short");
    keyspace.run(arrives, (task, bucket, seq, bytes, ended_at + 9_900_000)).await;
    assert_eq!(node.events.read_task(id, None, 10).await?, stored);
    Ok(())
}

#[tokio::test]
async fn closing_keeps_what_its_owner_may_have_told() -> Kept {
    let keyspace = Keyspace::take().await;
    let (owner, other) = (keyspace.node(), keyspace.node());
    let id = record(1).id;
    let end = TaskEvent { seq: Seq::attempt_end(1), ..fact(id, 1, 3) };
    owner.events.append(&[fact(id, 1, 0)], |_| ()).await?;
    other.events.append(std::slice::from_ref(&end), |_| ()).await?;
    // The owner does not know that his attempt has ended.
    owner.events.append(&[fact(id, 1, 1)], |_| ()).await?;
    assert!(other.events.close(id, fact(id, 1, 0).seq, end.seq).await?, "something is there");
    owner.events.append(&[fact(id, 1, 2)], |_| ()).await?;
    let kept = [fact(id, 1, 0), fact(id, 1, 1), end.clone()];
    assert_eq!(other.events.read_task(id, None, 10).await?, kept);
    assert!(!other.events.close(id, fact(id, 1, 1).seq, end.seq).await?, "nothing was added");
    Ok(())
}

#[tokio::test]
async fn closing_removes_nothing_that_it_cannot_read() -> Kept {
    let keyspace = Keyspace::take().await;
    let node = keyspace.node();
    let id = record(1).id;
    let end = TaskEvent { seq: Seq::attempt_end(1), ..fact(id, 1, 2) };
    node.events.append(&[fact(id, 1, 0), end.clone()], |_| ()).await?;
    let place = fact(id, 1, 1).seq.0;
    // As a node of a newer version may write it.
    let newer = "INSERT INTO $.event (task_id, bucket, seq, at, payload) VALUES (?, ?, ?, 0, 0xff)";
    keyspace
        .run(newer, (id.0, i64::try_from(place >> 16).expect("it fits"), i64::try_from(place).expect("it fits")))
        .await;
    assert!(!node.events.close(id, fact(id, 1, 0).seq, end.seq).await?, "nothing that it can read");
    assert_eq!(keyspace.rows_in("event").await, 3);
    Ok(())
}

#[tokio::test]
async fn facts_that_may_have_been_written_are_not_taken_for_lost() -> Kept {
    let keyspace = Keyspace::take().await;
    let (mut proxy, config) = proxied(&keyspace).await;
    let node = Node::over(config);
    let waiting = record(1);
    node.tasks.insert(&waiting, &[fact(waiting.id, 0, 0)]).await?;
    node.tasks.finish().await;
    let timeout = DbError::WriteTimeout {
        consistency: Consistency::LocalQuorum,
        received: 0,
        required: 1,
        write_type: WriteType::Simple,
    };
    let late = RequestRule(facts_written(&keyspace).await, RequestReaction::forge_with_error(timeout));
    proxy.running_nodes[0].change_request_rules(Some(vec![late]));
    let unknown = Told::default();
    let telling = unknown.clone();
    let tell = move |appended: Appended<'_>| match appended {
        Appended::Unknown(events) => telling.note(events),
        Appended::Written(events) => panic!("nobody knows whether {events:?} are written"),
    };
    let appended = node.events.append(&[fact(waiting.id, 1, 0)], tell).await;
    assert!(appended.as_ref().is_err_and(|error| error.is_transient()), "{appended:?}");
    assert_eq!(unknown.seqs(), [Seq::new(1, 0)]);
    Ok(())
}
