//! Listens to every partition of `training_log`, from a little before its end, and keeps the newest facts in memory.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kubeml_actors::{
    background::AbortOnDrop,
    event::TaskEvent,
    ports::{LogPage, Place, PortError, Position},
};
use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer as _},
    producer::Producer as _,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    super::{
        Kafka,
        client::{Context, Detached, ask},
        polled::Polled,
    },
    heard::{Heard, News},
    history::{self, Partitions},
    message::told,
    standstill::Standstill,
    tail::Tail,
};

const PULSE: Duration = Duration::from_secs(1);
/// Time for listeners to see that the log is another one.
const NOTICE: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Facts read ahead.
const AHEAD: usize = 64;
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
    /// Up to here everything was read, heard of or not.
    read: Mutex<Option<Position>>,
    /// The topic is not as the listener knows it.
    has_changed: Notify,
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
            read: Mutex::new(None),
            has_changed: Notify::new(),
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
        ask(move || history::read(&kafka, &topic, &after, &head, limit)).await
    }
}

/// Says when Kafka goes and comes, and when the topic has more partitions or less in them.
async fn pulse(live: Arc<Live>) {
    let mut due = interval(PULSE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut standstill = Standstill::default();
    loop {
        due.tick().await;
        // Taken first: what is read meanwhile may lie beyond the answer.
        let read = live.read().clone().unwrap_or_default();
        let answer = live.end().await;
        let is_there = matches!(answer, Ok(Some(_)));
        let was = live.is_reachable.swap(is_there, Ordering::Relaxed);
        if !was {
            standstill = Standstill::default();
        }
        match answer {
            Ok(None) => {
                // Whatever is there next is another log, however far it has got when it is looked at.
                if live.read().take().is_some() {
                    tracing::warn!(topic = live.topic, "the topic is gone: facts are read from the store");
                    live.has_changed.notify_one();
                }
            }
            Ok(Some(end)) => {
                if !was {
                    tracing::info!("kafka answers");
                }
                if read.lies_beyond(&end) || (!read.is_unknown() && read.0.len() < end.0.len()) {
                    live.has_changed.notify_one();
                } else if standstill.look(&read, &end, Instant::now()) {
                    tracing::warn!(
                        topic = live.topic,
                        "facts are not heard although there are: reading on with another client"
                    );
                    live.has_changed.notify_one();
                }
            }
            Err(error) if was => {
                tracing::warn!(%error, "kafka is away: facts are read from the store until it answers");
            }
            Err(_) => {}
        }
    }
}

async fn listen(live: Arc<Live>) {
    let mut listener = Listener { live: live.clone(), heard: Heard::new(), target: Position::default() };
    let mut was_told = false;
    loop {
        match listener.open().await {
            Ok(consumer) => {
                was_told = false;
                listener.follow(consumer).await;
                // Until there is another, listeners ask the store.
                live.has_caught_up.store(false, Ordering::Relaxed);
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
    /// What was there already when it began.
    target: Position,
}

/// A message's partition and offset, and its fact.
type Told = (i32, i64, Option<TaskEvent>);

impl Listener {
    /// A consumer that goes on where the last one stopped, or begins a little before the end.
    async fn open(&mut self) -> Result<Polled<Told>, PortError> {
        let (kafka, topic, read) = (self.live.kafka.clone(), self.live.topic.clone(), self.live.read().clone());
        let Opened { consumer, start, end, goes_on } = ask(move || open(&kafka, &topic, read)).await?;
        let told = Polled::start(consumer, AHEAD, |message| (message.partition(), message.offset(), told(message)))?;
        if !goes_on && self.begin(&start, end) {
            sleep(NOTICE).await;
        }
        *self.live.read() = Some(start);
        self.catch_up();
        Ok(told)
    }

    /// At first, and when the topic is not the one that was read: then `true`, and listeners see the head fall before it
    /// grows again, however far the new log has got.
    fn begin(&mut self, start: &Position, end: Position) -> bool {
        let before = self.live.tail().replace(Tail::new(start.clone(), self.live.ring));
        self.heard = Heard::new();
        self.live.has_caught_up.store(false, Ordering::Relaxed);
        if before.is_some() {
            tracing::warn!(topic = self.live.topic, "the log of facts was replaced or has lost its end: a gap");
            self.live.head.send_replace(Position(vec![0; end.0.len()]));
        }
        self.target = end;
        before.is_some()
    }

    /// Returns when the consumer is of no use any more.
    async fn follow(&mut self, mut consumer: Polled<Told>) {
        loop {
            tokio::select! {
                told = consumer.next() => match told {
                    Some((partition, offset, event)) => if !self.take(partition, offset, event) {
                        return;
                    },
                    None => return,
                },
                () = self.live.has_changed.notified() => return,
            }
        }
    }

    /// `false` when this place has been read before: the topic begins anew.
    fn take(&mut self, partition: i32, offset: i64, event: Option<TaskEvent>) -> bool {
        let (Ok(partition), Ok(offset)) = (u32::try_from(partition), u64::try_from(offset)) else { return true };
        let place = Place { partition, counter: offset + 1 };
        {
            let mut read = self.live.read();
            if read.as_ref().is_some_and(|read| read.includes(place)) {
                *read = None;
                return false;
            }
            if let Some(read) = &mut *read {
                read.advance(place);
            }
        }
        self.hear(place, event);
        true
    }

    fn hear(&mut self, place: Place, event: Option<TaskEvent>) {
        let topic = &self.live.topic;
        let Some(event) = event else { return self.passed(topic, "unreadable") };
        let news = self.heard.hear(&event);
        if news == News::Old {
            return self.passed(topic, "old");
        }
        if news == News::AfterHole {
            tracing::warn!(task = %event.task, seq = %event.seq, "facts before this one were never told: a gap");
        }
        self.live.kafka.metrics.count("in", topic, "ok");
        let mut tail = self.live.tail();
        if let Some(tail) = &mut *tail {
            tail.push(place, event, news == News::AfterHole);
        }
        if self.live.has_caught_up.load(Ordering::Relaxed) {
            // Before anybody reads the fact: what was read never lies beyond the head.
            self.live.head.send_modify(|head| head.advance(place));
        } else {
            drop(tail);
            self.catch_up();
        }
    }

    fn passed(&self, topic: &str, outcome: &str) {
        self.live.kafka.metrics.count("in", topic, outcome);
        self.catch_up();
    }

    /// The head is not told while it runs through what had been there before: that is no news.
    fn catch_up(&self) {
        let Some(read) = self.live.read().clone() else { return };
        if read.covers(&self.target) && !self.live.has_caught_up.swap(true, Ordering::Relaxed) {
            self.live.head.send_replace(read);
        }
    }
}

struct Opened {
    consumer: Detached<BaseConsumer<Context>>,
    start: Position,
    end: Position,
    /// It starts where `read` was; otherwise the topic has not got so far.
    goes_on: bool,
}

fn open(kafka: &Kafka, topic: &str, read: Option<Position>) -> Result<Opened, PortError> {
    let context = Context { client: "facts", metrics: kafka.metrics.clone(), revoked: None };
    let consumer = kafka.consumer(&kafka.config.reader()?, context)?;
    let partitions = Partitions::ask(consumer.client(), topic)?;
    let end = partitions.end();
    let read = read.filter(|read| !read.lies_beyond(&end));
    let start = read.as_ref().map_or_else(|| partitions.shortly_before_the_end(), |read| partitions.bounded(read));
    partitions.assign(&*consumer, topic, &start)?;
    Ok(Opened { consumer, start, end, goes_on: read.is_some() })
}

impl Live {
    fn tail(&self) -> MutexGuard<'_, Option<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, Option<Position>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the topic ends just now, if there is one.
    async fn end(&self) -> Result<Option<Position>, PortError> {
        let (client, topic) = (self.kafka.producer.client(), self.topic.clone());
        ask(move || Ok(Partitions::find(client.client(), &topic)?.map(|partitions| partitions.end()))).await
    }
}
