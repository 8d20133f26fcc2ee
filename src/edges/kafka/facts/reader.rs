//! Listens to every partition of `training_log`, from a little before its end, and keeps the newest facts in memory.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kubeml_actors::{
    background::AbortOnDrop,
    event::TaskEvent,
    ports::{LogPage, Place, PortError, Position},
};
use rdkafka::{Message, consumer::StreamConsumer, producer::Producer as _};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    super::{
        Kafka,
        client::{Context, Detached, is_fatal},
    },
    heard::Heard,
    history::{self, Partitions},
    message::fact,
    tail::Tail,
};

const PULSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// New partitions are noticed after this long.
const PARTITIONS_CHECK: Duration = Duration::from_secs(30);
/// Readers of history side by side: each has a client of its own.
const HISTORIANS_MAX: usize = 4;

pub struct Reader {
    heard: Arc<Live>,
    historians: Semaphore,
    _tasks: [AbortOnDrop; 2],
}

/// What is known of the topic's end.
struct Live {
    kafka: Arc<Kafka>,
    topic: String,
    /// `None` until the first connection.
    tail: Mutex<Option<Tail>>,
    head: watch::Sender<Position>,
    is_reachable: AtomicBool,
    has_caught_up: AtomicBool,
    ring: usize,
}

impl Reader {
    pub fn start(kafka: Arc<Kafka>, topic: String, ring: usize) -> Self {
        let live = Arc::new(Live {
            kafka,
            topic,
            tail: Mutex::new(None),
            head: watch::channel(Position::default()).0,
            is_reachable: AtomicBool::new(false),
            has_caught_up: AtomicBool::new(false),
            ring,
        });
        let tasks = [tokio::spawn(listen(live.clone())), tokio::spawn(pulse(live.clone()))];
        Self { heard: live, historians: Semaphore::new(HISTORIANS_MAX), _tasks: tasks.map(AbortOnDrop) }
    }

    pub fn head(&self) -> watch::Receiver<Position> {
        self.heard.head.subscribe()
    }

    pub fn is_connected(&self) -> bool {
        self.heard.is_reachable.load(Ordering::Relaxed) && self.heard.has_caught_up.load(Ordering::Relaxed)
    }

    pub async fn read_all(&self, after: &Position, limit: usize) -> Result<LogPage, PortError> {
        let live = &self.heard;
        let page = match &*live.tail() {
            Some(tail) => tail.page(after, limit),
            None => return Err(PortError::Unavailable("kafka: the log of facts has not been reached yet".to_owned())),
        };
        if let Some(page) = page {
            return Ok(page);
        }
        let closed = |_| PortError::Unavailable("kafka: the log of facts is closed".to_owned());
        let _permit = self.historians.acquire().await.map_err(closed)?;
        let (kafka, topic, after) = (live.kafka.clone(), live.topic.clone(), after.clone());
        let head = self.heard.head.borrow().clone();
        let read = spawn_blocking(move || history::read(&kafka, &topic, &after, &head, limit)).await;
        read.unwrap_or_else(|error| Err(PortError::Unavailable(format!("kafka: {error}"))))
    }
}

/// Says when Kafka goes and comes.
async fn pulse(live: Arc<Live>) {
    let mut due = interval(PULSE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let answer = live.kafka.check().await;
        let was = live.is_reachable.swap(answer.is_ok(), Ordering::Relaxed);
        match answer {
            Ok(()) if !was => tracing::info!("kafka answers"),
            Err(error) if was => {
                tracing::warn!(%error, "kafka is away: facts are read from the store until it answers");
            }
            _ => {}
        }
    }
}

async fn listen(live: Arc<Live>) {
    let mut listener = Listener { live: live.clone(), heard: Heard::new(), read: None, target: Position::default() };
    let mut was_told = false;
    loop {
        match listener.open().await {
            Ok((consumer, partitions)) => {
                was_told = false;
                listener.follow(&consumer, partitions).await;
            }
            Err(error) if !was_told => {
                tracing::warn!(%error, topic = live.topic, "cannot listen to facts yet");
                was_told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY_PAUSE).await;
    }
}

struct Listener {
    live: Arc<Live>,
    heard: Heard,
    /// Up to here everything was read, heard of or not.
    read: Option<Position>,
    /// What was there already when it began.
    target: Position,
}

type Stream = Detached<StreamConsumer<Context>>;

impl Listener {
    /// A consumer that goes on where the last one stopped, or begins a little before the end; and how many partitions
    /// there are.
    async fn open(&mut self) -> Result<(Stream, usize), PortError> {
        let (kafka, topic, read) = (self.live.kafka.clone(), self.live.topic.clone(), self.read.clone());
        let opened = spawn_blocking(move || open(&kafka, &topic, read.as_ref()));
        let opened = opened.await.map_err(|error| PortError::Unavailable(format!("kafka: {error}")))?;
        let (consumer, partitions, start) = opened?;
        if self.read.is_none() {
            self.target = partitions.end();
            *self.live.tail() = Some(Tail::new(start.clone(), self.live.ring));
        }
        self.read = Some(start);
        self.catch_up();
        Ok((consumer, partitions.count()))
    }

    /// Returns when the consumer is of no use any more.
    async fn follow(&mut self, consumer: &Stream, partitions: usize) {
        let mut check = interval(PARTITIONS_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            tokio::select! {
                message = consumer.recv() => match message {
                    Ok(message) => {
                        let (partition, offset) = (message.partition(), message.offset());
                        self.take(partition, offset, fact(message.headers()));
                    }
                    Err(error) if is_fatal(&error) => return,
                    Err(error) => tracing::debug!(%error, "listening to facts"),
                },
                _ = check.tick() => {
                    if self.has_grown(partitions).await {
                        return;
                    }
                }
            }
        }
    }

    async fn has_grown(&self, partitions: usize) -> bool {
        let (kafka, topic) = (self.live.kafka.clone(), self.live.topic.clone());
        let now = spawn_blocking(move || Partitions::number(kafka.producer.client().client(), &topic)).await;
        matches!(now, Ok(Ok(now)) if now > partitions)
    }

    fn take(&mut self, partition: i32, offset: i64, event: Option<TaskEvent>) {
        let (Ok(partition), Ok(offset)) = (u32::try_from(partition), u64::try_from(offset)) else { return };
        let place = Place { partition, counter: offset + 1 };
        if let Some(read) = &mut self.read {
            read.advance(place);
        }
        let topic = &self.live.topic;
        let Some(event) = event else { return self.passed(topic, "unreadable") };
        if !self.heard.is_news(&event) {
            return self.passed(topic, "old");
        }
        self.live.kafka.metrics.count("in", topic, "ok");
        if let Some(tail) = &mut *self.live.tail() {
            tail.push(place, event);
        }
        if self.live.has_caught_up.load(Ordering::Relaxed) {
            self.live.head.send_modify(|head| head.advance(place));
        } else {
            self.catch_up();
        }
    }

    fn passed(&self, topic: &str, outcome: &str) {
        self.live.kafka.metrics.count("in", topic, outcome);
        self.catch_up();
    }

    /// The head is not told while it runs through what had been there before: that is no news.
    fn catch_up(&self) {
        let Some(read) = &self.read else { return };
        if read.covers(&self.target) && !self.live.has_caught_up.swap(true, Ordering::Relaxed) {
            self.live.head.send_replace(read.clone());
        }
    }
}

fn open(kafka: &Kafka, topic: &str, read: Option<&Position>) -> Result<(Stream, Partitions, Position), PortError> {
    let context = Context { client: "facts", metrics: kafka.metrics.clone(), revoked: None };
    let consumer = kafka.stream(&kafka.reader()?, context)?;
    let partitions = Partitions::ask(&*consumer, topic)?;
    let start = read.map_or_else(|| partitions.shortly_before_the_end(), |read| partitions.bounded(read));
    partitions.assign(&*consumer, topic, &start)?;
    Ok((consumer, partitions, start))
}

impl Live {
    fn tail(&self) -> MutexGuard<'_, Option<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
