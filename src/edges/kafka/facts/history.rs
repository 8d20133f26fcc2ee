//! Reads facts from Kafka itself that are no longer in memory.

use std::time::{Duration, Instant};

use kubeml_actors::ports::{LogEntry, LogPage, Place, PortError, Position};
use rdkafka::{Message, Offset, TopicPartitionList, client::Client, consumer::Consumer, error::KafkaError};

use super::{
    super::{
        Kafka,
        client::{Context, is_fatal},
        producer::unavailable,
        topics,
    },
    heard::{Heard, News},
    message::told,
};

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages of each partition read before those that are asked for, to know what has been heard.
const BEFORE: u64 = 1_000;

/// Where each partition begins and ends.
pub struct Partitions(Vec<(u64, u64)>);

impl Partitions {
    /// Blocks.
    pub fn ask(client: &Client<Context>, topic: &str) -> Result<Self, PortError> {
        Self::of(client, topic, topics::partitions(client, topic, ASK_TIMEOUT)?)
    }

    /// Like `ask`; `None` when there is no such topic.
    pub fn find(client: &Client<Context>, topic: &str) -> Result<Option<Self>, PortError> {
        topics::find(client, topic, ASK_TIMEOUT)?.map(|partitions| Self::of(client, topic, partitions)).transpose()
    }

    fn of(client: &Client<Context>, topic: &str, count: usize) -> Result<Self, PortError> {
        let mut partitions = Vec::new();
        for partition in 0..count {
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            let watermarks = client.fetch_watermarks(topic, partition, ASK_TIMEOUT);
            let (low, high) = watermarks.map_err(|error| unavailable(&error))?;
            partitions.push((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)));
        }
        Ok(Self(partitions))
    }

    pub fn end(&self) -> Position {
        Position(self.0.iter().map(|(_, end)| *end).collect())
    }

    pub fn shortly_before_the_end(&self) -> Position {
        Position(self.0.iter().map(|(begin, end)| end.saturating_sub(BEFORE).max(*begin)).collect())
    }

    /// `position` within what there is: beyond the end is the end.
    pub fn bounded(&self, position: &Position) -> Position {
        let within = |(partition, (begin, end)): (u32, &(u64, u64))| position.counter(partition).clamp(*begin, *end);
        Position((0..).zip(&self.0).map(within).collect())
    }

    /// Whether something after `position` has been removed.
    fn lack_after(&self, position: &Position) -> bool {
        (0..).zip(&self.0).any(|(partition, (begin, _))| position.counter(partition) < *begin)
    }

    /// Has `consumer` read every partition from its counter in `start` on.
    pub fn assign<C: Consumer<Context>>(&self, consumer: &C, topic: &str, start: &Position) -> Result<(), PortError> {
        let failed = |error: KafkaError| unavailable(&error);
        let mut list = TopicPartitionList::new();
        for (partition, counter) in (0_i32..).zip(&start.0) {
            let offset = Offset::Offset(i64::try_from(*counter).unwrap_or(i64::MAX));
            list.add_partition_offset(topic, partition, offset).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)
    }
}

/// The facts after a position, in some order that keeps each partition's, up to `head`. Blocks.
pub fn read(kafka: &Kafka, topic: &str, after: &Position, head: &Position, limit: usize) -> Result<LogPage, PortError> {
    let context = Context { client: "history", metrics: kafka.metrics.clone(), revoked: None };
    let consumer = kafka.consumer(&kafka.config.reader()?, context)?;
    let partitions = Partitions::ask(consumer.client(), topic)?;
    let before = Position(after.0.iter().map(|counter| counter.saturating_sub(BEFORE)).collect());
    let mut read = partitions.bounded(&before);
    let end = partitions.bounded(head);
    partitions.assign(&*consumer, topic, &read)?;

    let deadline = Instant::now() + READ_TIMEOUT;
    let mut pages = Pages { heard: Heard::new(), after, position: after.clone(), entries: Vec::new(), has_hole: false };
    while !read.covers(&end) && pages.entries.len() < limit {
        match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(message)) => {
                let Some(place) = place(&message) else { continue };
                read.advance(place);
                // Beyond the head lies what the tail will tell.
                if end.includes(place) {
                    pages.take(place, &message);
                }
            }
            Some(Err(error)) if is_fatal(&error) => return Err(unavailable(&error)),
            Some(Err(_)) | None if Instant::now() > deadline => break,
            Some(Err(_)) | None => {}
        }
    }
    if pages.entries.is_empty() && !read.covers(&end) {
        return Err(PortError::Unavailable(format!("kafka sent no facts within {READ_TIMEOUT:?}")));
    }
    Ok(LogPage { gap: pages.has_hole || partitions.lack_after(after), entries: pages.entries })
}

fn place(message: &impl Message) -> Option<Place> {
    let counter = u64::try_from(message.offset()).ok()? + 1;
    Some(Place { partition: u32::try_from(message.partition()).ok()?, counter })
}

struct Pages<'a> {
    heard: Heard,
    after: &'a Position,
    position: Position,
    entries: Vec<LogEntry>,
    has_hole: bool,
}

impl Pages<'_> {
    fn take(&mut self, place: Place, message: &impl Message) {
        let Some(event) = told(message) else { return };
        let news = self.heard.hear(&event);
        if news != News::Old && !self.after.includes(place) {
            self.has_hole |= news == News::AfterHole;
            self.position.advance(place);
            self.entries.push(LogEntry { position: self.position.clone(), place, event });
        }
    }
}
