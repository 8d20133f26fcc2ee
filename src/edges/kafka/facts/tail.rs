//! The newest facts in memory, in the order in which this node heard them.

use std::collections::VecDeque;

use kubeml_actors::{
    event::TaskEvent,
    ports::{LogEntry, LogPage, Place, Position},
};

#[cfg(test)]
mod tests;

pub struct Tail {
    entries: VecDeque<(Place, TaskEvent)>,
    /// Everything heard after this is here.
    start: Position,
    capacity: usize,
}

impl Tail {
    pub fn new(start: Position, capacity: usize) -> Self {
        Self { entries: VecDeque::new(), start, capacity: capacity.max(1) }
    }

    pub fn push(&mut self, place: Place, event: TaskEvent) {
        self.entries.push_back((place, event));
        while self.entries.len() > self.capacity {
            if let Some((place, _)) = self.entries.pop_front() {
                self.start.advance(place);
            }
        }
    }

    /// What follows a position, or `None` when that lies before the start.
    pub fn page(&self, after: &Position, limit: usize) -> Option<LogPage> {
        if !after.covers(&self.start) {
            return None;
        }
        let mut position = after.clone();
        let unread = self.entries.iter().filter(|(place, _)| !after.includes(*place)).take(limit);
        let entries = unread.map(|(place, event)| {
            position.advance(*place);
            LogEntry { position: position.clone(), place: *place, event: event.clone() }
        });
        Some(LogPage { entries: entries.collect(), gap: false })
    }
}
