//! A consumer on a thread of its own, which alone calls it.
//!
//! A call into librdkafka waits for its locks and for its own threads, however short a timeout it is given; and when a
//! broker goes, those have waited for each other for ever (its issues 5304 and 5476). On a thread that others need, one
//! such client holds up the whole node. Here it costs its own thread: who reads from it is told, and goes on with another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::BorrowedMessage,
};
use tokio::{
    sync::{mpsc as channel, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::client::{Context, is_fatal};

/// An order waits no longer.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Messages read ahead.
const AHEAD: usize = 64;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Without a sign of life; none of its calls may take that long.
const STUCK: Duration = Duration::from_secs(20);

/// Gives what its thread has made of each message. Dropping it ends the thread and closes the consumer there.
pub struct Polled<T> {
    read: channel::Receiver<Read<T>>,
    orders: Sender<Order>,
    /// Grows when it goes back: what was read before that is not given any more.
    era: u64,
    /// Counted by the thread.
    turns: Arc<AtomicU64>,
    look: Interval,
    seen: (u64, Instant),
}

struct Read<T> {
    era: u64,
    what: T,
}

enum Order {
    Commit(TopicPartitionList),
    GoBack {
        topic: String,
        partition: i32,
        offset: i64,
        era: u64,
    },
    /// After the last commit; told when the consumer is closed.
    End(Option<TopicPartitionList>, oneshot::Sender<()>),
}

impl<T: Send + 'static> Polled<T> {
    /// `take` is called with every message, on the thread. Must be called on a tokio runtime.
    pub fn start(
        consumer: BaseConsumer<Context>,
        take: impl FnMut(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> Result<Self, PortError> {
        let (sender, read) = channel::channel(AHEAD);
        let (orders, obeyed) = mpsc::channel();
        let turns = Arc::new(AtomicU64::new(0));
        let thread = Thread { consumer, take, sender, orders: obeyed, turns: turns.clone(), era: 0 };
        let started = thread::Builder::new().name("kafka-poll".to_owned()).spawn(move || thread.run());
        started.map_err(|error| PortError::Unavailable(format!("kafka: cannot start a thread: {error}")))?;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { read, orders, era: 0, turns, look, seen: (0, Instant::now()) })
    }

    /// The next message; `None` when the consumer is of no use any more. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                read = self.read.recv() => {
                    let Read { era, what } = read?;
                    self.seen.1 = Instant::now();
                    if era == self.era {
                        return Some(what);
                    }
                }
                _ = self.look.tick() => if self.is_stuck() {
                    tracing::warn!("a client of Kafka has not come back from a call for {STUCK:?} and is given up");
                    return None;
                }
            }
        }
    }

    /// Commits soon.
    pub fn commit(&self, offsets: TopicPartitionList) {
        self.order(Order::Commit(offsets));
    }

    /// Has this message come again, and those after it. If its partition is another reader's by then, it comes there.
    pub fn go_back(&mut self, topic: String, partition: i32, offset: i64) {
        self.era += 1;
        self.order(Order::GoBack { topic, partition, offset, era: self.era });
    }

    /// Returns when the offsets are committed and the consumer is closed.
    pub async fn end(mut self, offsets: Option<TopicPartitionList>) {
        let (ended, end) = oneshot::channel();
        self.order(Order::End(offsets, ended));
        // Else the thread may wait for room.
        self.read.close();
        // An error means that the thread has ended by itself.
        let _ = end.await;
    }

    /// Nobody hears it when the thread has ended.
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    fn is_stuck(&mut self) -> bool {
        let turns = self.turns.load(Ordering::Relaxed);
        if turns != self.seen.0 {
            self.seen = (turns, Instant::now());
        }
        self.seen.1.elapsed() > STUCK
    }
}

struct Thread<T, F> {
    consumer: BaseConsumer<Context>,
    take: F,
    sender: channel::Sender<Read<T>>,
    orders: Receiver<Order>,
    turns: Arc<AtomicU64>,
    era: u64,
}

impl<T, F: FnMut(&BorrowedMessage<'_>) -> T> Thread<T, F> {
    fn run(mut self) {
        while !self.sender.is_closed() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            if let Some(ended) = self.obey() {
                return self.end(ended);
            }
            match self.consumer.poll(POLL_TIMEOUT) {
                None => {}
                Some(Ok(message)) => {
                    let read = Read { era: self.era, what: (self.take)(&message) };
                    // An error means that nobody reads any more.
                    let _ = self.sender.blocking_send(read);
                }
                Some(Err(error)) if is_fatal(&error) => return,
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading from kafka");
                    thread::sleep(ERROR_PAUSE);
                }
            }
        }
        if let Some(ended) = self.obey() {
            self.end(ended);
        }
    }

    /// Carries out what was ordered meanwhile; tells who waits for the end.
    fn obey(&mut self) -> Option<oneshot::Sender<()>> {
        for order in self.orders.try_iter() {
            let done = match order {
                Order::Commit(offsets) => self.consumer.commit(&offsets, CommitMode::Async),
                Order::GoBack { topic, partition, offset, era } => {
                    self.era = era;
                    self.consumer.seek(&topic, partition, Offset::Offset(offset), Duration::ZERO)
                }
                Order::End(offsets, ended) => {
                    // The last act of a client that is closed anyway.
                    let _ = offsets.map(|offsets| self.consumer.commit(&offsets, CommitMode::Sync));
                    return Some(ended);
                }
            };
            if let Err(error) = done {
                tracing::debug!(%error, "kafka does not do as it is told");
            }
        }
        None
    }

    fn end(self, ended: oneshot::Sender<()>) {
        drop(self.consumer);
        // Who waited may have gone away.
        let _ = ended.send(());
    }
}
