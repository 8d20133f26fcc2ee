//! Hints between the parts of one process.

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::lock;
use crate::{
    ports::{DatasetNews, DeadLetter, Hint, PortError, TaskBus},
    task::TaskId,
};

/// Holds each waiting hint once and at most `capacity` of them; what does not fit is dropped, and found by scanning.
#[derive(Debug)]
pub struct InProcessBus {
    capacity: usize,
    waiting: Mutex<Waiting>,
    arrival: Notify,
    /// The newest, at most `capacity`.
    letters: Mutex<VecDeque<DeadLetter>>,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Hint>,
    present: HashSet<TaskId>,
}

impl InProcessBus {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, waiting: Mutex::default(), arrival: Notify::new(), letters: Mutex::default() }
    }

    /// The newest buried letters, oldest first.
    pub fn letters(&self) -> Vec<DeadLetter> {
        lock(&self.letters).iter().cloned().collect()
    }

    fn next_waiting(&self) -> Option<Hint> {
        let mut waiting = lock(&self.waiting);
        let hint = waiting.order.pop_front()?;
        waiting.present.remove(&hint.task);
        // A wake-up that found nobody waiting is kept once only: whoever takes one of several passes it on.
        if !waiting.order.is_empty() {
            self.arrival.notify_one();
        }
        Some(hint)
    }
}

#[async_trait]
impl TaskBus for InProcessBus {
    fn publish(&self, hint: Hint) {
        let mut waiting = lock(&self.waiting);
        if waiting.present.contains(&hint.task) {
            return;
        }
        if waiting.order.len() >= self.capacity {
            tracing::debug!(task = %hint.task, capacity = self.capacity, "the bus is full, a hint is dropped");
            return;
        }
        waiting.present.insert(hint.task);
        waiting.order.push_back(hint);
        drop(waiting);
        self.arrival.notify_one();
    }

    async fn receive(&self) -> Result<Hint, PortError> {
        loop {
            if let Some(hint) = self.next_waiting() {
                return Ok(hint);
            }
            self.arrival.notified().await;
        }
    }

    fn acknowledge(&self, _hint: Hint) {}

    fn bury(&self, letter: DeadLetter) {
        tracing::warn!(topic = letter.topic, reason = letter.reason, detail = letter.detail, "a dead letter");
        let mut letters = lock(&self.letters);
        letters.push_back(letter);
        if letters.len() > self.capacity {
            letters.pop_front();
        }
    }

    fn note_dataset(&self, news: DatasetNews) {
        tracing::debug!(dataset = news.dataset, completed = news.completed, chunks = news.chunks, "dataset news");
    }

    /// It is a part of whoever asks.
    async fn check(&self) -> Result<(), PortError> {
        Ok(())
    }

    async fn send_test(&self) -> Result<(), PortError> {
        Ok(())
    }
}
