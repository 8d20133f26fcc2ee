//! The newest facts in memory, in the order in which this node heard them.

use std::collections::VecDeque;

use kubeml_actors::{
    event::TaskEvent,
    ports::{LogEntry, LogPage, Place, Position},
};

#[cfg(test)]
mod tests;

pub struct Tail {
    entries: VecDeque<Told>,
    /// Everything heard after this is here.
    start: Position,
    /// Everything heard up to here.
    end: Position,
    capacity: usize,
}

struct Told {
    place: Place,
    /// What was heard with it.
    end: Position,
    event: TaskEvent,
    is_after_hole: bool,
}

impl Tail {
    pub fn new(start: Position, capacity: usize) -> Self {
        Self { entries: VecDeque::new(), end: start.clone(), start, capacity: capacity.max(1) }
    }

    pub fn push(&mut self, place: Place, event: TaskEvent, is_after_hole: bool) {
        self.end.advance(place);
        self.entries.push_back(Told { place, end: self.end.clone(), event, is_after_hole });
        while self.entries.len() > self.capacity {
            if let Some(oldest) = self.entries.pop_front() {
                self.start = oldest.end;
            }
        }
    }

    /// What follows a position, or `None` when that lies before the start.
    pub fn page(&self, after: &Position, limit: usize) -> Option<LogPage> {
        if !after.covers(&self.start) {
            return None;
        }
        let mut position = after.clone();
        let mut gap = false;
        let read = self.entries.partition_point(|told| after.covers(&told.end));
        // Of those that follow, some may have been read elsewhere, where they were heard earlier.
        let unread = self.entries.range(read..).filter(|told| !after.includes(told.place)).take(limit);
        let entries = unread.map(|Told { place, event, is_after_hole, .. }| {
            position.advance(*place);
            gap |= is_after_hole;
            LogEntry { position: position.clone(), place: *place, event: event.clone() }
        });
        Some(LogPage { entries: entries.collect(), gap })
    }
}
