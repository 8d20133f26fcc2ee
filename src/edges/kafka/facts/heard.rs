//! How far each task has been heard of, so that what is told twice or by a replaced writer is heard once or not at all.

use kubeml_actors::{
    event::{Seq, TaskEvent},
    task::TaskId,
};

use super::super::generations::Generations;

#[cfg(test)]
mod tests;

/// Tasks remembered, at least.
const TASKS: usize = 32_768;
/// Lines without a task remembered, at least.
const LINES: usize = 1_024;

pub struct Heard {
    newest: Generations<TaskId, Seq>,
    /// Lines of no task come from several writers at a time, in no order.
    lines: Generations<Seq, ()>,
}

impl Heard {
    pub fn new() -> Self {
        Self { newest: Generations::new(TASKS), lines: Generations::new(LINES) }
    }

    /// Whether a fact is newer than all that was heard of its task; it is heard now.
    pub fn is_news(&mut self, event: &TaskEvent) -> bool {
        if event.task == TaskId::NONE {
            let is_news = self.lines.get(&event.seq).is_none();
            self.lines.insert(event.seq, ());
            return is_news;
        }
        let is_news = self.newest.get(&event.task).is_none_or(|newest| event.seq > *newest);
        if is_news {
            self.newest.insert(event.task, event.seq);
        }
        is_news
    }
}
