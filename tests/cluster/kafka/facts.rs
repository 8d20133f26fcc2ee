//! Facts between nodes: whole, in order, once; from memory and from Kafka.

use std::{
    collections::{HashMap, HashSet},
    iter,
    sync::Mutex,
    time::Instant,
};

use async_trait::async_trait;
use kubeml::edges::kafka::{FactStore, KafkaFacts};
use kubeml_actors::{
    event::{Seq, TaskEvent},
    ports::{LogEntry, Position},
    testing::contracts::samples,
};

use super::*;

/// A store that has every fact that was put into it, except into what was closed before.
#[derive(Default)]
struct Store {
    facts: Mutex<HashMap<TaskId, Vec<TaskEvent>>>,
    closed: Mutex<Vec<(TaskId, Seq, Seq)>>,
}

impl Store {
    fn put(&self, events: &[TaskEvent]) {
        let closed = self.closed.lock().expect("nobody panics");
        let is_closed = |event: &TaskEvent| {
            closed
                .iter()
                .any(|(task, after, end)| (event.task, *after < event.seq, event.seq < *end) == (*task, true, true))
        };
        let mut stored = self.facts.lock().expect("nobody panics");
        let events = events.iter().filter(|event| !is_closed(event));
        events.for_each(|event| stored.entry(event.task).or_default().push(event.clone()));
    }
}

#[async_trait]
impl FactStore for Store {
    async fn read_task(&self, task: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        let stored = self.facts.lock().expect("nobody panics");
        let facts = stored.get(&task).into_iter().flatten();
        Ok(facts.filter(|event| after.is_none_or(|after| event.seq > after)).take(limit).cloned().collect())
    }

    async fn close(&self, task: TaskId, after: Seq, end: Seq) -> Result<bool, PortError> {
        let mut closed = self.closed.lock().expect("nobody panics");
        let stored = self.facts.lock().expect("nobody panics");
        let between = stored[&task].iter().map(|event| event.seq).filter(|seq| after < *seq && *seq < end);
        let last = between.max();
        closed.push((task, last.unwrap_or(after), end));
        Ok(last.is_some())
    }
}

fn start(config: &KafkaConfig, ring: Option<usize>) -> KafkaFacts {
    KafkaFacts::start(open(config), Arc::new(Store::default()), ring)
}

async fn connected(facts: &KafkaFacts) {
    eventually("the reader is connected", async || facts.is_connected()).await;
}

/// Everything from `after` to where it ends.
async fn read_to_end(facts: &KafkaFacts, after: Position, limit: usize) -> Vec<LogEntry> {
    let (mut entries, mut after): (Vec<LogEntry>, _) = (Vec::new(), after);
    loop {
        let page = facts.read_all(&after, limit).await.expect("kafka answers");
        assert!(!page.gap);
        let Some(last) = page.entries.last() else { return entries };
        after = last.position.clone();
        entries.extend(page.entries);
    }
}

fn events(entries: &[LogEntry], task: TaskId) -> Vec<TaskEvent> {
    entries.iter().filter(|entry| entry.event.task == task).map(|entry| entry.event.clone()).collect()
}

fn facts_of(tasks: &[TaskId], count: u64) -> Vec<TaskEvent> {
    (0..count).flat_map(|n| tasks.iter().map(move |task| samples::fact(*task, 1, n))).collect()
}

#[tokio::test]
async fn facts_reach_every_reader_in_each_tasks_order_and_once() {
    let config = system().await;
    let (writer, one, other) = (start(&config, None), start(&config, Some(1_000)), start(&config, Some(1_000)));
    connected(&one).await;
    connected(&other).await;
    let tasks: Vec<TaskId> = (0..5).map(|_| TaskId::fresh()).collect();
    let sent = facts_of(&tasks, 20);
    writer.publish(&sent);
    writer.publish(&sent[..30]);
    taken(&writer, &sent[..10]).await;
    for reader in [&one, &other] {
        eventually("all are heard", async || read_to_end(reader, Position::default(), 7).await.len() == sent.len())
            .await;
        let entries = read_to_end(reader, Position::default(), 1_000).await;
        for task in &tasks {
            assert_eq!(events(&entries, *task), facts_of(&[*task], 20));
        }
        let head = reader.head().borrow().clone();
        assert!(head.covers(&entries.last().expect("there are some").position));
        assert!(reader.read_all(&head, 10).await.expect("it is the end").entries.is_empty());
    }
    let of_one = read_to_end(&one, Position::default(), 1_000).await;
    for entry in of_one.iter().step_by(9) {
        let rest = read_to_end(&other, entry.position.clone(), 1_000).await;
        let unread = of_one.iter().filter(|later| !entry.position.includes(later.place)).count();
        assert_eq!(rest.len(), unread, "a position of one reader is understood by another");
    }
}

#[tokio::test]
async fn what_memory_has_dropped_is_read_from_kafka() {
    let config = system().await;
    let (writer, reader) = (start(&config, None), start(&config, Some(8)));
    connected(&reader).await;
    let tasks: Vec<TaskId> = (0..4).map(|_| TaskId::fresh()).collect();
    let sent = facts_of(&tasks, 25);
    writer.publish(&sent);
    taken(&writer, &sent[..20]).await;
    let mut head = reader.head();
    let places = |position: &Position| position.0.iter().sum::<u64>();
    timeout(SOON, head.wait_for(|head| places(head) >= 100)).await.expect("they are heard").expect("it lives");
    let entries = read_to_end(&reader, Position::default(), 30).await;
    assert_eq!(entries.len(), sent.len());
    for task in &tasks {
        assert_eq!(events(&entries, *task), facts_of(&[*task], 25));
    }
    let places: HashSet<_> = entries.iter().map(|entry| entry.place).collect();
    assert_eq!(places.len(), sent.len());
}

#[tokio::test]
async fn a_reader_that_starts_again_knows_the_recent_past_and_old_positions() {
    let config = system().await;
    let (writer, first) = (start(&config, None), start(&config, Some(100)));
    connected(&first).await;
    let task = TaskId::fresh();
    let sent = facts_of(&[task], 40);
    taken(&writer, &sent[..20]).await;
    eventually("they are heard", async || read_to_end(&first, Position::default(), 100).await.len() == 20).await;
    let after = read_to_end(&first, Position::default(), 100).await[9].position.clone();
    drop(first);
    taken(&writer, &sent[20..]).await;
    let second = start(&config, Some(100));
    connected(&second).await;
    assert_eq!(events(&read_to_end(&second, after, 100).await, task), sent[10..]);
    let beyond = Position(vec![1 << 40, 1 << 40]);
    assert!(read_to_end(&second, beyond, 100).await.is_empty(), "a position from a topic that was replaced");
}

#[tokio::test]
async fn facts_that_kafka_did_not_take_are_sent_again_from_the_store() {
    // Its topics are created only after the facts were sent: until then nothing is taken.
    let config = config();
    let impatient = KafkaConfig {
        client: [("message.timeout.ms", "500"), ("topic.metadata.propagation.max.ms", "100")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..config.clone()
    };
    let store = Arc::new(Store::default());
    let writer = KafkaFacts::start(open(&impatient), store.clone(), None);
    let task = TaskId::fresh();
    let sent = facts_of(&[task], 300);
    store.put(&sent[..200]);
    writer.publish(&sent[..200]);
    eventually("nothing is taken", async || writer.delivered(&sent[..1]).await.is_err()).await;
    init(&config, &drop).await.expect("topics are created");
    store.put(&sent[200..]);
    writer.publish(&sent[200..]);
    eventually("the last has arrived", async || writer.delivered(&sent[299..]).await.is_ok()).await;
    let reader = start(&config, Some(1_000));
    connected(&reader).await;
    assert_eq!(events(&read_to_end(&reader, Position::default(), 1_000).await, task), sent);
}

/// Two nodes over one store, and who hears them.
struct Two {
    store: Arc<Store>,
    owner: KafkaFacts,
    other: KafkaFacts,
    reader: KafkaFacts,
}

impl Two {
    async fn start() -> Self {
        let config = system().await;
        let store = Arc::new(Store::default());
        let node = || KafkaFacts::start(open(&config), store.clone(), None);
        let (owner, other, reader) = (node(), node(), start(&config, Some(100)));
        connected(&reader).await;
        Self { store, owner, other, reader }
    }

    /// Of a task, when the last is heard; without a gap.
    async fn assert_heard(&self, told: &[TaskEvent]) {
        let heard = async || events(&read_to_end(&self.reader, Position::default(), 100).await, told[0].task);
        eventually("the newest is heard", async || heard().await.last() == told.last()).await;
        assert_eq!(heard().await, told);
    }
}

#[tokio::test]
async fn what_a_dead_owner_had_stored_is_told_by_whoever_ends_its_attempt() {
    let nodes = Two::start().await;
    let Two { store, owner, other, .. } = &nodes;
    let task = TaskId::fresh();
    let end = TaskEvent { seq: Seq::attempt_end(1), ..samples::fact(task, 1, 5) };
    let told: Vec<TaskEvent> =
        (0..5).map(|n| samples::fact(task, 1, n)).chain([end, samples::fact(task, 2, 0)]).collect();
    store.put(&told[..5]);
    // It dies before it tells the last two.
    owner.publish(&told[..3]);
    taken(&owner, &told[2..3]).await;
    // Who changes the task next may find a transition's facts in its row: the newest, which the owner has not told either.
    other.publish_found(&told[4..5]);
    store.put(&told[5..]);
    other.publish(&told[5..6]);
    other.publish(&told[6..]);
    nodes.assert_heard(&told).await;
}

#[tokio::test]
async fn who_finds_a_fact_does_not_tell_it_before_those_that_its_owner_is_about_to_tell() {
    let nodes = Two::start().await;
    let Two { store, owner, other, .. } = &nodes;
    let task = TaskId::fresh();
    let told: Vec<TaskEvent> = iter::once(samples::fact(task, 0, 0))
        .chain((0..4).map(|n| samples::fact(task, 1, n)))
        .chain([TaskEvent { seq: Seq::attempt_end(1), ..samples::fact(task, 1, 4) }])
        .chain((0..2).map(|n| samples::fact(task, 2, n)))
        .collect();
    store.put(&told);
    other.publish_found(&told[4..5]);
    taken(&other, &told[4..5]).await;
    owner.publish(&told[..5]);
    taken(&owner, &told[4..5]).await;
    nodes.assert_heard(&told).await;
}

#[tokio::test]
async fn what_arrives_in_the_store_after_its_attempts_end_was_told_is_never_told() {
    let nodes = Two::start().await;
    let Two { store, owner, other, .. } = &nodes;
    let task = TaskId::fresh();
    let late = samples::fact(task, 1, 2);
    let end = |attempt| TaskEvent { seq: Seq::attempt_end(attempt), ..samples::fact(task, attempt, 3) };
    let told = [samples::fact(task, 1, 0), samples::fact(task, 1, 1), end(1), end(2), samples::fact(task, 3, 0)];
    store.put(&told[..2]);
    owner.publish(&told[..2]);
    // Whoever changes the task meanwhile has inherited the attempt once already when it ends.
    other.publish_found(&told[1..2]);
    taken(&other, &told[1..2]).await;
    store.put(&told[2..3]);
    other.publish(&told[2..3]);
    taken(&other, &told[2..3]).await;
    // The owner's write has an answer at last, after nobody waited for it any more.
    store.put(&[late.clone()]);
    owner.publish(&[late]);
    // An owner that dies before its first fact.
    store.put(&told[3..4]);
    other.publish(&told[3..4]);
    taken(&other, &told[3..4]).await;
    store.put(&[samples::fact(task, 2, 0)]);
    store.put(&told[4..]);
    other.publish(&told[4..]);
    nodes.assert_heard(&told).await;
    assert_eq!(store.read_task(task, None, 10).await, Ok(told.to_vec()));
}

#[tokio::test]
async fn an_end_closes_what_its_own_node_does_not_know_to_be_written() {
    let nodes = Two::start().await;
    let Two { store, owner, .. } = &nodes;
    let task = TaskId::fresh();
    let told = [samples::fact(task, 1, 0), TaskEvent { seq: Seq::attempt_end(1), ..samples::fact(task, 1, 2) }];
    let lost = samples::fact(task, 1, 1);
    store.put(&told[..1]);
    owner.publish(&told[..1]);
    owner.owe(std::slice::from_ref(&lost));
    taken(&owner, &told[..1]).await;
    store.put(&told[1..]);
    owner.publish(&told[1..]);
    taken(&owner, &told[1..]).await;
    store.put(&[lost]);
    nodes.assert_heard(&told).await;
    assert_eq!(store.read_task(task, None, 10).await, Ok(told.to_vec()));
}

#[tokio::test]
async fn a_fact_is_heard_at_once() {
    let config = system().await;
    let (writer, reader) = (start(&config, None), start(&config, Some(2_000)));
    connected(&reader).await;
    let task = TaskId::fresh();
    taken(&writer, &[samples::fact(task, 0, 0)]).await;
    let mut head = reader.head();
    let mut took = Vec::new();
    for n in 0..1_000 {
        let before = Instant::now();
        head.mark_unchanged();
        writer.publish(&[samples::fact(task, 1, n)]);
        timeout(SOON, head.changed()).await.expect("it is heard").expect("it lives");
        took.push(before.elapsed());
    }
    took.sort();
    println!("publish to another reader's head: p50 {:?}, p99 {:?}, max {:?}", took[500], took[990], took[999]);
}
