//! `[bus]`: which adapter carries hints and facts between nodes.

use super::reader::{Kind, Table};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Inside this process.
    Embedded,
}

const KINDS: &[Kind<Bus>] = &[
    Kind { name: "embedded", table: "embedded", read: Some(|_| Bus::Embedded) },
    Kind { name: "kafka", table: "kafka", read: None },
];

impl Bus {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        table.kind(KINDS)
    }
}
