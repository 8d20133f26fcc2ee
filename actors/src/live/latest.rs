//! How far each running task is.

use std::collections::HashMap;

use crate::{
    event::{EventKind, TaskEvent},
    task::{Progress, TaskId},
};

/// Tasks whose progress is kept. The one heard of longest ago is forgotten for a new one: it has ended while the log had
/// a gap, or its next progress brings it back.
pub const LATEST_MAX: usize = 4_096;

#[derive(Default)]
pub struct Latest {
    heard: HashMap<TaskId, Heard>,
    /// Progress facts so far.
    count: u64,
}

struct Heard {
    attempt: u32,
    progress: Progress,
    /// Which of all progress facts it is.
    nth: u64,
}

impl Latest {
    pub fn note(&mut self, event: &TaskEvent) {
        match &event.kind {
            EventKind::Progress(progress) => {
                self.count += 1;
                let heard = Heard { attempt: event.seq.attempt(), progress: *progress, nth: self.count };
                self.heard.insert(event.task, heard);
                if self.heard.len() > LATEST_MAX {
                    self.forget_oldest();
                }
            }
            kind if kind.is_terminal() => {
                self.heard.remove(&event.task);
            }
            _ => {}
        }
    }

    pub fn progress(&self, task: TaskId, attempt: u32) -> Option<Progress> {
        self.heard.get(&task).filter(|heard| heard.attempt == attempt).map(|heard| heard.progress)
    }

    fn forget_oldest(&mut self) {
        if let Some(task) = self.heard.iter().min_by_key(|(_, heard)| heard.nth).map(|(task, _)| *task) {
            self.heard.remove(&task);
        }
    }
}
