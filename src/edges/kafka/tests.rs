//! Brokers that fail, in this process: no server needed.

use std::{future::Future, ops::Range, sync::Mutex as StdMutex};

use async_trait::async_trait;
use kubeml_actors::{
    event::{Seq, TaskEvent},
    metrics::Metrics,
    ports::{Hint, Position, TaskBus as _},
    task::TaskId,
    testing::contracts::samples,
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::{sleep, timeout};

use super::{
    group::{Handler, Incoming, Member, Verdict},
    ledger::Receipt,
    polled::Polled,
    producer::Message,
    *,
};

const SOON: Duration = Duration::from_secs(60);
const GIVEN_AGAIN: Duration = Duration::from_secs(2);

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers(client: &[(&str, &str)]) -> (Brokers, Arc<Kafka>) {
    let brokers = MockCluster::new(1).expect("it starts");
    for topic in Topic::ALL {
        brokers.create_topic(topic.name(), 2, 1).expect("it is new");
    }
    let kafka = open(&brokers, client);
    (brokers, kafka)
}

fn open(brokers: &Brokers, client: &[(&str, &str)]) -> Arc<Kafka> {
    let config = KafkaConfig {
        brokers: brokers.bootstrap_servers().split(',').map(str::to_owned).collect(),
        topic_prefix: String::new(),
        username: None,
        password_file: None,
        client: client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let metrics = KafkaMetrics::new(&Metrics::new()).expect("the registry is empty");
    Kafka::open(config, Arc::new(metrics)).expect("the settings are good")
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// One task's facts.
#[derive(Default)]
struct Store {
    facts: StdMutex<Vec<TaskEvent>>,
    /// Gets there just before its attempt is closed.
    late: StdMutex<Option<TaskEvent>>,
}

#[async_trait]
impl FactStore for Store {
    async fn read_task(&self, _: TaskId, after: Option<Seq>, limit: usize) -> Result<Vec<TaskEvent>, PortError> {
        let stored = self.facts.lock().expect("nobody panics");
        let newer = stored.iter().filter(|event| after.is_none_or(|after| event.seq > after));
        Ok(newer.take(limit).cloned().collect())
    }

    async fn close(&self, _: TaskId, _: Seq, _: Seq) -> Result<bool, PortError> {
        let late = self.late.lock().expect("nobody panics").take();
        let mut stored = self.facts.lock().expect("nobody panics");
        stored.extend(late.clone());
        stored.sort_by_key(|event| event.seq);
        Ok(late.is_some())
    }
}

async fn heard(facts: &KafkaFacts) -> Vec<TaskEvent> {
    let page = facts.read_all(&Position::default(), 1_000).await;
    page.map(|page| page.entries.into_iter().map(|entry| entry.event).collect()).unwrap_or_default()
}

/// A writer and listener, and what it has stored.
struct Bench {
    brokers: Brokers,
    kafka: Arc<Kafka>,
    store: Arc<Store>,
    facts: KafkaFacts,
    task: TaskId,
}

impl Bench {
    async fn start(client: &[(&str, &str)]) -> Self {
        let (brokers, kafka) = brokers(client);
        let store = Arc::new(Store::default());
        let facts = KafkaFacts::start(kafka.clone(), store.clone(), Some(1_000));
        eventually("it is connected", async || facts.is_connected()).await;
        Self { brokers, kafka, store, facts, task: TaskId::fresh() }
    }

    fn write(&self, numbers: Range<u64>) {
        self.write_by(&self.facts, numbers.map(|n| Seq::new(1, n)));
    }

    fn write_by(&self, writer: &KafkaFacts, seqs: impl IntoIterator<Item = Seq>) {
        for seq in seqs {
            let fact = TaskEvent { seq, ..samples::fact(self.task, seq.attempt(), 0) };
            self.store.facts.lock().expect("nobody panics").push(fact.clone());
            writer.publish(&[fact]);
        }
    }

    async fn go_down(&self) {
        self.brokers.broker_down(1).expect("it was up");
        eventually("the outage is seen", async || !self.facts.is_connected()).await;
    }

    fn owed(&self) -> i64 {
        self.kafka.metrics.facts_owed.get()
    }

    /// Whatever was stored, in its order.
    async fn all_are_heard(&self) {
        let stored = self.store.facts.lock().expect("nobody panics").clone();
        eventually("all are heard", async || heard(&self.facts).await.len() >= stored.len()).await;
        assert_eq!(heard(&self.facts).await, stored);
        eventually("nothing is owed", async || self.owed() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_wait_for_an_outage_to_end_however_long_and_are_heard_in_order() {
    // As if the outage took longer than messages may wait by default.
    let bench = Bench::start(&[("message.timeout.ms", "1500")]).await;
    bench.write(0..10);
    bench.all_are_heard().await;
    bench.go_down().await;
    for wave in 1..4 {
        bench.write(wave * 10..wave * 10 + 10);
        assert!(bench.facts.delivered(&[samples::fact(bench.task, 1, 0)]).await.is_err(), "nobody takes it");
    }
    assert_eq!(bench.owed(), 0, "nothing was given up");
    bench.brokers.broker_up(1).expect("it was down");
    bench.all_are_heard().await;
    eventually("it is connected again", async || bench.facts.is_connected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_for_which_the_queue_has_no_room_are_sent_from_the_store_in_order() {
    let bench = Bench::start(&[("queue.buffering.max.messages", "300")]).await;
    bench.go_down().await;
    bench.write(0..700);
    assert_eq!(bench.owed(), 1);
    bench.brokers.broker_up(1).expect("it was down");
    bench.write(700..710);
    bench.all_are_heard().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_with_a_task_tells_what_the_dead_could_not() {
    let bench = Bench::start(&[]).await;
    let dead = KafkaFacts::start(open(&bench.brokers, &[]), bench.store.clone(), None);
    bench.write_by(&dead, (0..10).map(|n| Seq::new(1, n)));
    bench.all_are_heard().await;
    bench.go_down().await;
    bench.write_by(&dead, (10..30).map(|n| Seq::new(1, n)));
    drop(dead);
    let taken_over = [Seq::attempt_end(1)].into_iter().chain((0..10).map(|n| Seq::new(2, n)));
    bench.write_by(&bench.facts, taken_over);
    bench.brokers.broker_up(1).expect("it was down");
    bench.all_are_heard().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_into_the_store_before_its_attempt_is_closed_is_told_before_the_end() {
    let bench = Bench::start(&[]).await;
    let dead = KafkaFacts::start(open(&bench.brokers, &[]), bench.store.clone(), None);
    bench.write_by(&dead, (0..3).map(|n| Seq::new(1, n)));
    bench.all_are_heard().await;
    *bench.store.late.lock().expect("nobody panics") = Some(samples::fact(bench.task, 1, 3));
    bench.write_by(&bench.facts, [Seq::attempt_end(1), Seq::new(2, 0)]);
    let stored = || bench.store.facts.lock().expect("nobody panics").len();
    eventually("the attempt is closed", async || stored() == 6).await;
    bench.all_are_heard().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_tells_any_more_is_a_gap() {
    let bench = Bench::start(&[]).await;
    bench.write(0..10);
    bench.all_are_heard().await;
    // More than is told for the dead.
    let dead = 10..1_000;
    let facts = dead.clone().map(|n| samples::fact(bench.task, 1, n));
    bench.store.facts.lock().expect("nobody panics").extend(facts);
    let other = KafkaFacts::start(open(&bench.brokers, &[]), bench.store.clone(), None);
    bench.write_by(&other, [Seq::attempt_end(1)]);
    eventually("the end is heard", async || {
        heard(&bench.facts).await.last().is_some_and(|last| last.seq == Seq::attempt_end(1))
    })
    .await;
    let page = bench.facts.read_all(&Position::default(), 1_000).await.expect("it is in memory");
    assert_eq!((page.entries.len(), page.gap), (10 + 512, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_failed_for_good_is_replaced_and_the_order_is_kept() {
    let bench = Bench::start(&[]).await;
    bench.write(0..10);
    bench.all_are_heard().await;
    let out_of_order = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // A broker that refuses one refuses whatever comes after it.
    bench.brokers.request_errors(RDKafkaApiKey::Produce, &[out_of_order; 1_000]);
    let first = bench.kafka.producer.client();
    bench.write(10..30);
    eventually("it is replaced", async || {
        // Whoever writes meets the failure.
        bench.kafka.producer.send_and_forget(Message { topic: "task", key: None, value: b"{}", headers: None });
        !Arc::ptr_eq(&first, &bench.kafka.producer.client())
    })
    .await;
    bench.brokers.clear_request_errors(RDKafkaApiKey::Produce);
    bench.write(30..40);
    bench.all_are_heard().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_flow_again_after_an_outage() {
    let (brokers, kafka) = brokers(&[]);
    let bus = KafkaBus::start(kafka, true);
    // A hint may be lost, so it is given until it is received.
    let received = async |hint: Hint| loop {
        bus.publish(hint);
        if let Ok(received) = timeout(GIVEN_AGAIN, bus.receive()).await {
            let received = received.expect("it is open");
            bus.acknowledge(received);
            // An earlier one may have been given twice.
            if received == hint {
                return;
            }
        }
    };
    let hint = || Hint { task: TaskId::fresh(), model: None };
    timeout(SOON, received(hint())).await.expect("it arrives");
    brokers.broker_down(1).expect("it was up");
    eventually("the outage is seen", async || bus.check().await.is_err()).await;
    brokers.broker_up(1).expect("it was down");
    eventually("the end of it too", async || bus.check().await.is_ok()).await;
    timeout(SOON, received(hint())).await.expect("it arrives");
    bus.close(SOON).await;
}

/// Brokers make what a producer asks for, unless it says no.
#[tokio::test]
async fn looking_for_topics_makes_none() {
    let brokers: Brokers = MockCluster::new(1).expect("it starts");
    let kafka = open(&brokers, &[]);
    let is_missing = async || {
        let answer = kafka.has(&Topic::ALL).await;
        answer.is_err_and(|error| error.to_string().contains("no topic task"))
    };
    eventually("brokers answer", is_missing).await;
    // Asking has made none.
    for _ in 0..3 {
        assert!(is_missing().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_settled_when_its_dead_letter_has_arrived() {
    let (brokers, kafka) = brokers(&[("topic.metadata.propagation.max.ms", "100")]);
    let outcomes = |outcome| kafka.metrics.messages.with_label_values(&["out", "task_dead_letter", outcome]).get();
    let letters = || kafka.metrics.dead_letters.with_label_values(&["task", "unreadable"]).get();
    let missing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    brokers.topic_error("task_dead_letter", missing).expect("there is such a topic");
    let garbage = Message { topic: "task", key: None, value: b"garbage", headers: None };
    kafka.producer.deliver([garbage]).await.expect("it arrives");
    let bus = KafkaBus::start(kafka.clone(), true);
    eventually("its letter is refused", async || outcomes("failed") > 0).await;
    bus.close(SOON).await;
    drop(bus);
    assert_eq!((outcomes("ok"), letters()), (0, 0));
    brokers.topic_error("task_dead_letter", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("there is one");
    let bus = KafkaBus::start(kafka.clone(), true);
    eventually("it was not settled", async || letters() == 1).await;
    let hint = Hint { task: TaskId::fresh(), model: None };
    bus.publish(hint);
    let received = timeout(SOON, bus.receive()).await.expect("it holds nothing up");
    assert_eq!((received, outcomes("ok")), (Ok(hint), 1));
    bus.close(SOON).await;
}

#[tokio::test]
async fn a_client_that_does_not_come_back_from_a_call_is_given_up_and_one_with_nothing_to_read_is_not() {
    let (_brokers, kafka) = brokers(&[]);
    let reader = |topic: Topic| {
        let context = Context { client: "test", metrics: kafka.metrics.clone(), revoked: None };
        let consumer = kafka.consumer(&kafka.config.reader().expect("good settings"), context).expect("a consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..2 {
            partitions.add_partition_offset(topic.name(), partition, Offset::Beginning).expect("it can be read from");
        }
        consumer.assign(&partitions).expect("they are there");
        consumer
    };
    let (_hold, held) = std::sync::mpsc::channel::<()>();
    let mut stuck = Polled::start(reader(Topic::Test), 1, move |_| held.recv()).expect("a thread");
    let mut quiet = Polled::start(reader(Topic::LoadData), 1, |_| ()).expect("a thread");
    KafkaBus::start(kafka.clone(), false).send_test().await.expect("it arrives");
    tokio::select! {
        read = stuck.next() => assert!(read.is_none()),
        _ = quiet.next() => panic!("there is nothing to read, and nothing wrong"),
        () = sleep(SOON) => panic!("in time"),
    }
}

/// Says of the first message that it shall come again, and keeps all that are settled: partition, offset, value.
struct Hesitant {
    hesitates: bool,
    settled: Arc<StdMutex<Vec<(i32, i64, String)>>>,
}

impl Handler for Hesitant {
    async fn handle(&mut self, message: Incoming<'_>) -> Verdict {
        if std::mem::take(&mut self.hesitates) {
            return Verdict::Again(Duration::from_millis(10));
        }
        let value = String::from_utf8_lossy(message.value.unwrap_or_default()).into_owned();
        let Receipt { partition, offset, .. } = message.receipt;
        self.settled.lock().expect("nobody panicked").push((partition, offset, value));
        Verdict::Settled
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_again_comes_before_those_after_it_and_costs_no_other_partition_any() {
    let (_brokers, kafka) = brokers(&[]);
    let values: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
    let messages =
        values.iter().map(|value| Message { topic: "task", key: Some(value), value: value.as_bytes(), headers: None });
    kafka.producer.deliver(messages).await.expect("they arrive");
    let settled = Arc::new(StdMutex::new(Vec::new()));
    let member = Member { kafka, client: "test", group: "test", ledger: Arc::default() };
    let running = member.start(Hesitant { hesitates: true, settled: settled.clone() });
    eventually("all are settled", async || settled.lock().expect("nobody panicked").len() >= values.len()).await;
    running.close(SOON).await;
    let settled = settled.lock().expect("nobody panicked").clone();
    for partition in 0..2 {
        let of_partition = settled.iter().filter(|(of, ..)| *of == partition);
        assert!(of_partition.map(|(_, offset, _)| offset).is_sorted(), "{settled:?}");
    }
    let mut all: Vec<String> = settled.into_iter().map(|(_, _, value)| value).collect();
    all.sort();
    assert_eq!(all, values);
}
