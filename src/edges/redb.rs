//! Storage in redb files: tasks and their log in `state.redb`, datasets in `datasets.redb`.
//!
//! Two files, so that an import never makes a task's write wait.

mod datasets;
mod file;
mod log;
mod state;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

pub use self::{datasets::RedbDatasets, state::RedbState};
