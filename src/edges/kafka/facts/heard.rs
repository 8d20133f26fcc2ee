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

/// What a fact is for those who listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Told twice, or by a writer that has been replaced.
    Old,
    Next,
    /// Facts between the last one of its task and this one have never been told.
    AfterHole,
}

pub struct Heard {
    newest: Generations<TaskId, Seq>,
    /// Lines of no task come from several writers at a time, in no order.
    lines: Generations<Seq, ()>,
}

impl Heard {
    pub fn new() -> Self {
        Self { newest: Generations::new(TASKS), lines: Generations::new(LINES) }
    }

    /// A fact that is newer than all that was heard of its task is heard now.
    pub fn hear(&mut self, event: &TaskEvent) -> News {
        if event.task == TaskId::NONE {
            let news = if self.lines.get(&event.seq).is_none() { News::Next } else { News::Old };
            self.lines.insert(event.seq, ());
            return news;
        }
        let newest = self.newest.get(&event.task).copied();
        if newest.is_some_and(|newest| event.seq <= newest) {
            return News::Old;
        }
        self.newest.insert(event.task, event.seq);
        // What came before the first that is heard may have been heard by whoever listens.
        if newest.is_none() || event.seq.follows(newest) { News::Next } else { News::AfterHole }
    }
}
