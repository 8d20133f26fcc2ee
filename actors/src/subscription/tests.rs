//! Whatever the speeds of log, relay and reader: each subscriber hears exactly the log, in order.

use std::collections::HashSet;

use proptest::prelude::*;
use tokio::{runtime, time::Instant};
use uuid::Uuid;

use super::*;
use crate::{
    event::EventKind,
    in_memory::InMemoryState,
    ports::{Inserted, TaskStore},
    task::TaskRecord,
    testing::{contracts::samples, faulty::FaultyLog},
    timestamp::Timestamp,
};

const TASKS: usize = 3;
/// More virtual time than a subscriber needs to notice that the relay is not coming.
const LONG: Duration = Duration::from_secs(1);

fn task(number: usize) -> TaskId {
    TaskId(Uuid::from_u128(number as u128 + 1))
}

/// A log, a ring, and a relay that works when it is told to.
struct Bench {
    state: Arc<InMemoryState>,
    live: Arc<Live>,
    open: IntGauge,
    told: [u64; TASKS],
}

impl Bench {
    fn new(ring: usize) -> Self {
        let state = Arc::new(InMemoryState::new());
        let live = Arc::new(Live::new(state.head().borrow().clone(), ring));
        Self { state, live, open: IntGauge::new("open", "open").expect("a good name"), told: [0; TASKS] }
    }

    fn source(&self) -> Source {
        Feed { events: self.state.clone(), live: self.live.clone(), open: self.open.clone() }.open()
    }

    fn all(&self, after: Option<u64>) -> AllEvents {
        AllEvents::new(self.source(), after.map(Position::single))
    }

    fn task(&self, number: usize, after: Option<Seq>) -> TaskEvents {
        TaskEvents::new(self.source(), task(number), after)
    }

    async fn append(&mut self, number: usize, facts: u64) {
        for _ in 0..facts {
            let fact = samples::fact(task(number), 1, self.told[number]);
            self.told[number] += 1;
            self.state.append(&[fact]).await.expect("the log takes it");
        }
    }

    async fn end(&self, number: usize) {
        let fact = TaskEvent { kind: EventKind::Cancelled, ..samples::fact(task(number), 1, 0) };
        self.state.append(&[TaskEvent { seq: Seq::terminal(1), ..fact }]).await.expect("the log takes it");
    }

    /// The relay reads a page.
    async fn relay(&self, limit: usize) {
        let read = self.live.newest().borrow().clone();
        self.live.push(self.state.read_all(&read, limit).await.expect("the log answers").entries);
    }

    async fn log(&self, after: u64) -> Vec<TaskEvent> {
        let page = self.state.read_all(&Position::single(after), usize::MAX).await.expect("the log answers");
        page.entries.into_iter().map(|entry| entry.event).collect()
    }
}

enum Kind {
    All(AllEvents, u64),
    Task(TaskEvents, Option<Seq>),
}

struct Subscriber {
    kind: Kind,
    heard: Vec<TaskEvent>,
}

impl Subscriber {
    /// Reads once, or gives up; giving up must lose nothing. `false` when there was nothing.
    async fn read(&mut self, patience: Duration) -> bool {
        match &mut self.kind {
            Kind::All(events, _) => match timeout(patience, events.next()).await {
                Ok(Ok(Delivery::Entries(entries))) => {
                    self.heard.extend(entries.into_iter().map(|entry| entry.event));
                    true
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => false,
            },
            Kind::Task(events, _) => match timeout(patience, events.next()).await {
                Ok(Ok(Some(facts))) => {
                    self.heard.extend(facts);
                    true
                }
                Ok(Ok(None)) => false,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => false,
            },
        }
    }

    async fn expected(&self, bench: &Bench) -> Vec<TaskEvent> {
        match &self.kind {
            Kind::All(_, after) => bench.log(*after).await,
            Kind::Task(events, after) => {
                let mut facts = bench.log(0).await;
                facts.retain(|fact| fact.task == events.task && after.is_none_or(|after| fact.seq > after));
                facts
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append { task: usize, facts: u64 },
    Relay { limit: usize },
    OpenAll { back: Option<u64> },
    OpenTask { task: usize, after: Option<u64> },
    Read { subscriber: usize, patience_ms: u64 },
    End { task: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let few = (0..TASKS, 1_u64..5).prop_map(|(task, facts)| Op::Append { task, facts });
    let many = (0..TASKS, 200_u64..600).prop_map(|(task, facts)| Op::Append { task, facts });
    let relay = prop_oneof![1_usize..4, Just(600)].prop_map(|limit| Op::Relay { limit });
    let all = prop::option::of(0_u64..20).prop_map(|back| Op::OpenAll { back });
    let one = (0..TASKS, prop::option::of(0_u64..20)).prop_map(|(task, after)| Op::OpenTask { task, after });
    let read = (0_usize..8, prop_oneof![Just(0_u64), Just(50), Just(150), Just(1_000)])
        .prop_map(|(subscriber, patience_ms)| Op::Read { subscriber, patience_ms });
    let end = (0..TASKS).prop_map(|task| Op::End { task });
    prop_oneof![6 => few, 1 => many, 4 => relay, 1 => all, 1 => one, 8 => read, 1 => end]
}

async fn play(ring: usize, ops: Vec<Op>) {
    let mut bench = Bench::new(ring);
    let mut subscribers: Vec<Subscriber> = Vec::new();
    let mut ended = HashSet::new();
    for op in ops {
        match op {
            Op::Append { task, facts } if !ended.contains(&task) => bench.append(task, facts).await,
            Op::Append { .. } => {}
            Op::Relay { limit } => bench.relay(limit).await,
            Op::OpenAll { back } => {
                let head = bench.state.head().borrow().counter(0);
                let after = back.map(|back| head.saturating_sub(back));
                let kind = Kind::All(bench.all(after), after.unwrap_or(head));
                subscribers.push(Subscriber { kind, heard: Vec::new() });
            }
            Op::OpenTask { task, after } => {
                let after = after.map(|n| Seq::new(1, n));
                subscribers.push(Subscriber { kind: Kind::Task(bench.task(task, after), after), heard: Vec::new() });
            }
            Op::Read { subscriber, patience_ms } => {
                if let Some(subscriber) = subscribers.get_mut(subscriber) {
                    subscriber.read(Duration::from_millis(patience_ms)).await;
                }
            }
            Op::End { task } => {
                if ended.insert(task) {
                    bench.end(task).await;
                }
            }
        }
    }
    assert_eq!(bench.open.get(), subscribers.len() as i64);
    for mut subscriber in subscribers {
        while subscriber.read(LONG).await {}
        assert_eq!(subscriber.heard, subscriber.expected(&bench).await);
    }
    assert_eq!(bench.open.get(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn each_subscriber_hears_exactly_the_log_in_order(
        ring in 1_usize..12,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(play(ring, ops));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_relay_costs_a_little_time_and_nothing_else() {
    let mut bench = Bench::new(16);
    let (mut all, mut one) = (bench.all(None), bench.task(1, None));
    for round in 0..10_u64 {
        bench.append(1, 1).await;
        let begun = Instant::now();
        let Delivery::Entries(entries) = all.next().await.unwrap() else { panic!("there is no gap") };
        assert_eq!(entries.len(), 1);
        assert_eq!(one.next().await.unwrap().unwrap()[0].seq, Seq::new(1, round));
        assert!(begun.elapsed() <= 2 * RELAY_PATIENCE + Duration::from_millis(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_relay_has_is_heard_at_once_and_without_the_store() {
    let mut bench = Bench::new(16);
    let log = Arc::new(FaultyLog::new(bench.state.clone()));
    let feed = || Feed { events: log.clone(), live: bench.live.clone(), open: bench.open.clone() };
    let mut all = AllEvents::new(feed().open(), None);
    let mut one = TaskEvents::new(feed().open(), task(0), Some(Seq::QUEUED));
    assert!(timeout(LONG, one.next()).await.is_err(), "it has looked once");
    assert!(timeout(LONG, all.next()).await.is_err());
    bench.append(0, 3).await;
    bench.relay(10).await;
    let begun = Instant::now();
    log.unread.set(u32::MAX);
    assert!(matches!(all.next().await, Ok(Delivery::Entries(entries)) if entries.len() == 3));
    assert!(matches!(one.next().await, Ok(Some(facts)) if facts.len() == 3));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_and_asked_again_without_loss() {
    let mut bench = Bench::new(1);
    let log = Arc::new(FaultyLog::new(bench.state.clone()));
    let feed = || Feed { events: log.clone(), live: bench.live.clone(), open: bench.open.clone() };
    let mut all = AllEvents::new(feed().open(), None);
    let mut one = TaskEvents::new(feed().open(), task(0), None);
    bench.append(0, 5).await;
    bench.relay(10).await;
    log.unread.set(2);
    assert!(all.next().await.is_err());
    assert!(one.next().await.is_err());
    assert!(matches!(all.next().await, Ok(Delivery::Entries(entries)) if entries.len() == 5));
    assert!(matches!(one.next().await, Ok(Some(facts)) if facts.len() == 5));
}

#[tokio::test(start_paused = true)]
async fn a_tasks_stream_ends_with_its_terminal_fact() {
    let mut bench = Bench::new(4);
    bench.append(0, 2).await;
    bench.end(0).await;
    let mut one = bench.task(0, None);
    assert_eq!(one.next().await.unwrap().unwrap().len(), 3);
    assert_eq!(one.next().await, Ok(None));
    assert_eq!(one.next().await, Ok(None));
    let mut reconnected = bench.task(0, Some(Seq::terminal(1)));
    assert_eq!(timeout(LONG, reconnected.next()).await, Ok(Ok(None)), "who has heard the end waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn trimmed_history_is_told_as_a_gap_once() {
    let mut bench = Bench::new(2);
    bench.append(0, 5).await;
    bench.relay(10).await;
    assert_eq!(bench.state.trim(Timestamp(2_000)).await, Ok(5));
    let mut all = bench.all(Some(1));
    assert!(timeout(LONG, all.next()).await.is_err(), "there is nothing after the hole yet");
    bench.append(1, 2).await;
    assert!(matches!(all.next().await, Ok(Delivery::Gap(entries)) if entries.len() == 2));
    bench.append(1, 1).await;
    assert!(matches!(all.next().await, Ok(Delivery::Entries(entries)) if entries.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_tasks_facts_leave_a_gap_and_its_neighbours_whole() {
    let mut bench = Bench::new(2);
    let record = TaskRecord { id: task(0), announced: true, ..samples::record(1) };
    assert_eq!(bench.state.insert(&record, &[]).await, Ok(Inserted::Fresh));
    bench.append(1, 2).await;
    bench.append(0, 2).await;
    bench.append(1, 2).await;
    bench.state.delete(record.id).await.unwrap();
    let mut all = bench.all(Some(0));
    assert!(matches!(all.next().await, Ok(Delivery::Gap(entries)) if entries.len() == 4));
    let mut other = bench.task(1, None);
    assert_eq!(other.next().await.unwrap().map(|facts| facts.len()), Some(4));
}
