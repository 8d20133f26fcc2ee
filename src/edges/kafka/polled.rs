//! A consumer on a thread of its own, which alone calls it.
//!
//! A call into librdkafka waits for its locks and for its own threads, however short a timeout it is given; and when a
//! broker goes, those have waited for each other for ever (its issue 5476, its pull request 5304). On a thread that others
//! need, one such client holds up the whole node. Here it costs its own thread: who reads is told, and goes on with another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvError, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use kubeml_actors::ports::PortError;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{
    sync::{mpsc as channel, oneshot},
    time::{Interval, MissedTickBehavior, interval},
};

use super::client::{Context, Detached, is_fatal};

/// An order waits no longer.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
const ERROR_PAUSE: Duration = Duration::from_millis(100);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks without a sign of life. None of the thread's calls may take so long.
const LOOKS_MAX: u32 = 20;

/// Gives what its thread has made of each message. Dropping it ends the thread.
pub struct Polled<T> {
    read: channel::UnboundedReceiver<T>,
    orders: Sender<Order>,
    /// Messages ordered and not given yet: so many as may be read ahead.
    ordered: usize,
    ahead: usize,
    /// Counted by the thread.
    turns: Arc<AtomicU64>,
    seen: u64,
    look: Interval,
    looks: u32,
}

enum Order {
    Read,
    Commit(TopicPartitionList),
    GoBack {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// After the last commit; told when the consumer is closed.
    End(Option<TopicPartitionList>, oneshot::Sender<()>),
}

impl<T: Send + 'static> Polled<T> {
    /// `take` is called with every message, on the thread. `ahead` messages are read before they are asked for, and as long
    /// as nobody asks for more, partitions neither come nor go. Must be called on a tokio runtime.
    pub fn start(
        consumer: Detached<BaseConsumer<Context>>,
        ahead: usize,
        take: impl FnMut(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> Result<Self, PortError> {
        let (sender, read) = channel::unbounded_channel();
        let (orders, obeyed) = mpsc::channel();
        let turns = Arc::new(AtomicU64::new(0));
        let thread = Thread { consumer, take, sender, orders: obeyed, wanted: 0, turns: turns.clone() };
        let started = thread::Builder::new().name("kafka-poll".to_owned()).spawn(move || thread.run());
        started.map_err(|error| PortError::Unavailable(format!("kafka: cannot start a thread: {error}")))?;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { read, orders, ordered: 0, ahead, turns, seen: 0, look, looks: 0 })
    }

    /// The next message; `None` when the consumer is of no use any more. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        while self.ordered < self.ahead.max(1) {
            self.order(Order::Read);
            self.ordered += 1;
        }
        loop {
            tokio::select! {
                biased;
                read = self.read.recv() => {
                    (self.ordered, self.looks) = (self.ordered - 1, 0);
                    return read;
                }
                _ = self.look.tick() => if self.is_stuck() {
                    tracing::warn!("a client of Kafka has not come back from a call for {LOOKS_MAX} s and is given up");
                    return None;
                }
            }
        }
    }

    /// Commits soon.
    pub fn commit(&self, offsets: TopicPartitionList) {
        self.order(Order::Commit(offsets));
    }

    /// Has a message come again, and those of its partition after it; unless it was read ahead of others, which come first.
    pub fn go_back(&self, topic: String, partition: i32, offset: i64) {
        self.order(Order::GoBack { topic, partition, offset });
    }

    /// Returns when the offsets are committed and the consumer is closed.
    pub async fn end(self, offsets: Option<TopicPartitionList>) {
        let (ended, end) = oneshot::channel();
        self.order(Order::End(offsets, ended));
        // An error means that the thread has ended by itself.
        let _ = end.await;
    }

    /// Nobody hears it when the thread has ended.
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    fn is_stuck(&mut self) -> bool {
        let turns = self.turns.load(Ordering::Relaxed);
        self.looks = if turns == self.seen { self.looks + 1 } else { 0 };
        self.seen = turns;
        self.looks > LOOKS_MAX
    }
}

struct Thread<T, F> {
    consumer: Detached<BaseConsumer<Context>>,
    take: F,
    sender: channel::UnboundedSender<T>,
    orders: Receiver<Order>,
    /// Messages ordered and not read yet.
    wanted: usize,
    turns: Arc<AtomicU64>,
}

impl<T, F: FnMut(&BorrowedMessage<'_>) -> T> Thread<T, F> {
    /// Returns when nobody reads any more, or the client has failed for good.
    fn run(mut self) {
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let done = match self.order() {
                Err(RecvError) => return,
                Ok(None) => match self.poll() {
                    Ok(()) => continue,
                    Err(error) if is_fatal(&error) => return,
                    Err(error) => Err(error),
                },
                Ok(Some(Order::Read)) => {
                    self.wanted += 1;
                    continue;
                }
                Ok(Some(Order::Commit(offsets))) => self.consumer.commit(&offsets, CommitMode::Async),
                Ok(Some(Order::GoBack { topic, partition, offset })) => {
                    // Without waiting; if the partition is not ours any more, its new owner reads the message.
                    self.consumer.seek(&topic, partition, Offset::Offset(offset), Duration::ZERO)
                }
                Ok(Some(Order::End(offsets, ended))) => return self.end(offsets, ended),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a consumer of Kafka met an error");
                thread::sleep(ERROR_PAUSE);
            }
        }
    }

    /// The next order; waits for one while there is nothing to read for.
    fn order(&self) -> Result<Option<Order>, RecvError> {
        if self.wanted == 0 {
            return self.orders.recv().map(Some);
        }
        match self.orders.try_recv() {
            Ok(order) => Ok(Some(order)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(RecvError),
        }
    }

    fn poll(&mut self) -> Result<(), KafkaError> {
        if let Some(message) = self.consumer.poll(POLL_TIMEOUT) {
            let read = (self.take)(&message?);
            self.wanted -= 1;
            // An error means that nobody reads any more, which shows in the orders as well.
            let _ = self.sender.send(read);
        }
        Ok(())
    }

    fn end(self, offsets: Option<TopicPartitionList>, ended: oneshot::Sender<()>) {
        // The last act of a client that is closed anyway.
        let _ = offsets.map(|offsets| self.consumer.commit(&offsets, CommitMode::Sync));
        self.consumer.close();
        // Who waited may have gone away.
        let _ = ended.send(());
    }
}
