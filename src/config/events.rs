//! `[events]`: the tasks' logs.

use super::reader::Table;
use super::value::Retention;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// How long an event is kept.
    pub retention: Retention,
    /// Newest events held in memory for live readers; older ones are read from the store.
    pub ring: usize,
}

impl Events {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            retention: table.key("retention").get(),
            // At least what a few tasks tell in a second, at most what fits into memory.
            ring: table.key("ring").within(64..=1 << 20).get(),
        }
    }
}
