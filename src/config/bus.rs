//! `[bus]`: which adapter carries hints and facts between nodes.

use super::reader::{Kind, Table};
use crate::edges::kafka::KafkaConfig;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Inside this process.
    Embedded,
    /// Between nodes.
    Kafka(KafkaConfig),
}

const KINDS: &[Kind<Bus>] = &[
    Kind { name: "embedded", table: "embedded", read: |_| Bus::Embedded },
    Kind { name: "kafka", table: "kafka", read: |table| Bus::Kafka(KafkaConfig::read(table)) },
];

impl Bus {
    /// Its name in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka(_) => "kafka",
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Self {
        table.kind(KINDS)
    }
}
