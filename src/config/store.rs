//! `[store]`: which adapter keeps tasks, events, datasets and artifacts.

use super::reader::{Kind, Table};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Files in the node's data directory.
    Embedded,
}

const KINDS: &[Kind<Store>] = &[
    Kind { name: "embedded", table: "embedded", read: Some(|_| Store::Embedded) },
    Kind { name: "cassandra", table: "cassandra", read: None },
];

impl Store {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        table.kind(KINDS)
    }
}
