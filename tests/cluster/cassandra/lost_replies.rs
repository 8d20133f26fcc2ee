//! Conditional writes whose request, reply or success gets lost on the way: done once all the same.
//!
//! A proxy stands between the node and the database. It meets the first conditional write with what the test asks for,
//! lets everything else through, and counts how often the write was sent.

use std::{sync::Arc, time::Duration};

use kubeml::edges::cassandra::CassandraConfig;
use kubeml_actors::{
    commit::Committer,
    metrics::Metrics,
    ports::{Inserted, Ports, TaskStore},
    task::{Incarnation, Owner, TaskRecord, TaskState},
    testing::{
        contracts::{
            Kept,
            samples::{fact, in_state, record},
        },
        test_tree::World,
    },
    transition::{Input, Limits},
};
use scylla::{
    errors::{DbError, WriteType},
    statement::Consistency,
};
use scylla_proxy::{
    Condition, Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule, ResponseFrame, ResponseReaction,
    ResponseRule, RunningProxy,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::{
    contracts::Stored,
    keyspace::{Keyspace, Node},
    proxy::{contains, proxied},
};

/// A lost reply costs a test this much; what is not lost must make it even on a busy machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Only the replies to conditional writes have this column.
const APPLIED: &[u8] = b"[applied]";

const REPLACE: &str = "UPDATE";
const INSERT: &str = "INSERT";

/// What a conditional write meets with.
#[derive(Clone, Debug)]
enum Fate {
    LoseRequest,
    LoseReply,
    /// It does not reach the database.
    FailBefore(DbError),
    /// It is done, and looks as if it had failed.
    FailAfter(DbError),
}

struct Bench {
    keyspace: Keyspace,
    node: Node,
    committer: Committer,
    metrics: Arc<Metrics>,
    proxy: RunningProxy,
    /// What the adapter has prepared.
    statements: Vec<String>,
    /// The conditional writes on their way to the database.
    sent: UnboundedReceiver<(RequestFrame, Option<u16>)>,
}

impl Bench {
    async fn new() -> Self {
        let keyspace = Keyspace::take().await;
        let (proxy, config) = proxied(&keyspace).await;
        let node = Node::over(CassandraConfig { request_timeout: REQUEST_TIMEOUT, ..config });
        let events = Arc::new(Stored(node.events.clone()));
        let ports = Ports { tasks: node.tasks.clone(), events, ..World::new().ports };
        let metrics = Arc::new(Metrics::new());
        let committer = Committer::new(&ports, Limits::default(), metrics.clone());
        let (statements, sent) = (Vec::new(), unbounded_channel().1);
        let mut bench = Self { keyspace, node, committer, metrics, proxy, statements, sent };
        bench.node.until_connected().await;
        bench.prepare_statements().await;
        bench
    }

    /// What is done for the first time takes longer, and only what is prepared can be found by its statement.
    async fn prepare_statements(&mut self) {
        let (telling, mut prepared) = unbounded_channel();
        let is_it = Condition::RequestOpcode(RequestOpcode::Prepare);
        let passed = RequestReaction::noop().with_feedback_when_performed(telling);
        self.proxy.running_nodes[0].change_request_rules(Some(vec![RequestRule(is_it, passed)]));
        let task = self.submitted().await;
        let next = in_state(&task, TaskState::Running);
        self.node.tasks.compare_and_set(&next, &[fact(task.id, 1, 0)]).await.expect("the proxy is transparent");
        self.node.tasks.get_settled(task.id).await.expect("the proxy is transparent");
        // A length of four bytes, and the text.
        let text = |frame: RequestFrame| String::from_utf8_lossy(&frame.body[4..]).into_owned();
        self.statements = std::iter::from_fn(|| prepared.try_recv().ok()).map(|(frame, _)| text(frame)).collect();
    }

    async fn submitted(&self) -> TaskRecord {
        let task = record(1);
        assert_eq!(self.node.tasks.insert(&task, &[fact(task.id, 0, 0)]).await, Ok(Inserted::Fresh));
        task
    }

    /// The next conditional write of that sort meets with `fate`, those after it with nothing.
    async fn fated(&mut self, statement: &str, fate: Fate) {
        let (counting, sent) = unbounded_channel();
        self.sent = sent;
        let id = self.prepared_id(statement).await;
        let is_it = Condition::RequestOpcode(RequestOpcode::Execute).and(contains(&id));
        let passed = RequestReaction::noop().with_feedback_when_performed(counting.clone());
        let mut requests = vec![RequestRule(is_it.clone(), passed)];
        let mut replies = Vec::new();
        match fate {
            Fate::LoseRequest => requests.insert(0, once(is_it, RequestReaction::drop_frame(), counting)),
            Fate::FailBefore(error) => {
                requests.insert(0, once(is_it, RequestReaction::forge_with_error(error), counting));
            }
            Fate::LoseReply => replies.push(ResponseRule(first(contains(APPLIED)), ResponseReaction::drop_frame())),
            Fate::FailAfter(error) => replies.push(ResponseRule(first(contains(APPLIED)), turned_into(error))),
        }
        let node = &mut self.proxy.running_nodes[0];
        node.change_request_rules(Some(requests));
        node.change_response_rules(Some(replies));
    }

    /// By which the database knows what the adapter has prepared.
    async fn prepared_id(&self, statement: &str) -> Vec<u8> {
        let table = format!(" {}.task ", self.keyspace.config.keyspace);
        let is_it = |cql: &&String| cql.starts_with(statement) && cql.contains(&table) && cql.contains(" IF ");
        let cql = self.statements.iter().find(is_it).expect("the adapter has prepared it");
        self.keyspace.prepared_id(cql).await
    }

    /// How often the conditional write was sent since the last question.
    fn times_sent(&mut self) -> usize {
        std::iter::from_fn(|| self.sent.try_recv().ok()).count()
    }

    /// A claim that meets with `fate` is reported done, is done once, and all of it can be read by others.
    async fn claim_meets_with(&mut self, fate: Fate, times_sent: usize) -> Kept {
        // Of the one before, nothing is left.
        self.proxy.running_nodes[0].change_request_rules(None);
        self.proxy.running_nodes[0].change_response_rules(None);
        let task = self.submitted().await;
        let before = self.claims();
        self.fated(REPLACE, fate.clone()).await;
        let claimed = self.committer.commit(task.id, &claim()).await;
        let claimed = claimed.unwrap_or_else(|error| panic!("{fate:?}: {error}"));
        assert_eq!(self.times_sent(), times_sent, "{fate:?}");
        assert_eq!((claimed.record.version, claimed.record.attempt), (task.version + 1, 1), "{fate:?}");
        assert_eq!(self.claims() - before, 1, "{fate:?}");
        self.node.tasks.finish().await;
        let other = self.keyspace.node();
        assert_eq!(other.tasks.get(task.id).await?.as_ref(), Some(&claimed.record), "{fate:?}");
        let facts: Vec<_> = std::iter::once(fact(task.id, 0, 0)).chain(claimed.facts).collect();
        assert_eq!(facts.len(), 2);
        assert_eq!(other.events.read_task(task.id, None, 10).await?, facts, "{fate:?}");
        Ok(())
    }

    fn claims(&self) -> u64 {
        self.metrics.task_transitions.with_label_values(&["pending", "running"]).get()
    }
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_counts_once() -> Kept {
    Bench::new().await.claim_meets_with(Fate::LoseReply, 1).await
}

#[tokio::test]
async fn a_write_that_never_arrives_is_tried_again() -> Kept {
    Bench::new().await.claim_meets_with(Fate::LoseRequest, 2).await
}

#[tokio::test]
async fn a_coordinators_error_says_nothing_about_the_outcome() -> Kept {
    let mut bench = Bench::new().await;
    for error in errors() {
        bench.claim_meets_with(Fate::FailBefore(error.clone()), 2).await?;
        bench.claim_meets_with(Fate::FailAfter(error), 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_driver_never_repeats_a_conditional_write() -> Kept {
    let mut bench = Bench::new().await;
    let fates = errors().into_iter().map(Fate::FailBefore).chain([Fate::LoseRequest]);
    for fate in fates {
        let task = bench.submitted().await;
        bench.fated(REPLACE, fate.clone()).await;
        let outcome = bench.node.tasks.compare_and_set(&in_state(&task, TaskState::Running), &[]).await;
        assert!(outcome.as_ref().is_err_and(|error| error.is_transient()), "{fate:?}: {outcome:?}");
        assert_eq!(bench.times_sent(), 1, "{fate:?}");
        assert_eq!(bench.node.tasks.get_settled(task.id).await?, Some(task));
    }
    Ok(())
}

#[tokio::test]
async fn a_submission_whose_reply_is_lost_can_be_repeated() -> Kept {
    let mut bench = Bench::new().await;
    let task = record(1);
    let facts = [fact(task.id, 0, 0)];
    bench.fated(INSERT, Fate::LoseReply).await;
    let lost = bench.node.tasks.insert(&task, &facts).await;
    assert!(lost.as_ref().is_err_and(|error| error.is_transient()), "{lost:?}");
    // Whoever submits a second time does not know of the first operation.
    let again = TaskRecord { op_id: Uuid::new_v4(), ..task.clone() };
    assert_eq!(bench.node.tasks.insert(&again, &facts).await?, Inserted::Exists(Box::new(task.clone())));
    assert_eq!(bench.times_sent(), 2);
    bench.node.tasks.finish().await;
    let other = bench.keyspace.node();
    assert_eq!(other.events.read_task(task.id, None, 10).await?, facts);
    assert_eq!(other.tasks.queue(&[TaskState::Pending], 10).await?, [task]);
    Ok(())
}

fn errors() -> Vec<DbError> {
    let consistency = Consistency::LocalQuorum;
    vec![
        DbError::WriteTimeout { consistency, received: 0, required: 1, write_type: WriteType::Cas },
        DbError::ReadTimeout { consistency, received: 1, required: 1, data_present: false },
        DbError::Unavailable { consistency, required: 1, alive: 0 },
        DbError::Overloaded,
    ]
}

fn claim() -> Input {
    let incarnation = Incarnation { node: "node-1".to_owned(), boot: Uuid::nil() };
    Input::Claim { worker_id: incarnation.worker_id(0), owner: Owner { incarnation, nonce: Uuid::new_v4() } }
}

fn first(condition: Condition) -> Condition {
    condition.and(Condition::TrueForLimitedTimes(1))
}

fn once(
    condition: Condition,
    reaction: RequestReaction,
    counting: UnboundedSender<(RequestFrame, Option<u16>)>,
) -> RequestRule {
    RequestRule(first(condition), reaction.with_feedback_when_performed(counting))
}

fn turned_into(error: DbError) -> ResponseReaction {
    let turn = move |reply: ResponseFrame| ResponseFrame::forged_error(reply.params, error.clone(), None);
    ResponseReaction::transform_frame(Arc::new(move |reply| turn(reply).expect("it is short")))
}
