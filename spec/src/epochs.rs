//! The epochs of a task, for as long as its record is kept.
//!
//! Up to [`Epochs::KEPT_MAX`] epochs are kept; beyond that every second one of the older half goes, but never the best.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    outcome::{Columns, EpochMetrics},
    unknown::{Any, Unknown},
};

/// Finished epochs in order. Columns that a newer version has written are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epochs {
    rows: Vec<EpochMetrics>,
    unknown: Unknown,
}

impl Epochs {
    /// 56 KiB of a stored record.
    pub const KEPT_MAX: usize = 1_024;

    pub fn rows(&self) -> &[EpochMetrics] {
        &self.rows
    }

    /// The epoch that was finished last.
    pub fn last(&self) -> Option<&EpochMetrics> {
        self.rows.last()
    }

    pub fn best(&self) -> Option<&EpochMetrics> {
        self.rows.iter().rev().find(|epoch| epoch.is_best)
    }

    /// Adds an epoch after the others. One that is there already stays: a repeated epoch is the same.
    pub fn push(&mut self, epoch: EpochMetrics) {
        if self.last().is_some_and(|last| last.epoch >= epoch.epoch) {
            return;
        }
        self.rows.push(epoch);
        if self.rows.len() > Self::KEPT_MAX {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let best = self.best().map(|best| best.epoch);
        let kept: Vec<bool> = self
            .rows
            .iter()
            .enumerate()
            .map(|(at, row)| at % 2 == 1 || at >= Self::KEPT_MAX / 2 || Some(row.epoch) == best)
            .collect();
        retain(&mut self.rows, &kept);
        for column in self.unknown.values_mut() {
            if let Any::List(column) = column {
                retain(column, &kept);
            }
        }
    }
}

fn retain<T>(column: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    column.retain(|_| kept.next().copied().unwrap_or(true));
}

impl Serialize for Epochs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = Columns::of(&self.rows);
        columns.unknown = self.unknown.clone();
        columns.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Epochs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let columns = Columns::deserialize(deserializer)?;
        Ok(Self { rows: columns.epochs(), unknown: columns.unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: u32, is_best: bool) -> EpochMetrics {
        EpochMetrics { epoch, is_best, ..EpochMetrics::default() }
    }

    #[test]
    fn a_repeated_epoch_changes_nothing() {
        let mut epochs = Epochs::default();
        epochs.push(epoch(1, true));
        epochs.push(epoch(2, false));
        epochs.push(epoch(2, true));
        epochs.push(epoch(1, true));
        assert_eq!(epochs.rows(), [epoch(1, true), epoch(2, false)]);
    }

    #[test]
    fn a_long_task_keeps_its_best_and_its_newest_epochs() {
        let mut epochs = Epochs::default();
        for number in 1..=10_000 {
            epochs.push(epoch(number, number == 7));
            assert!(epochs.rows().len() <= Epochs::KEPT_MAX);
            assert_eq!(epochs.last(), Some(&epoch(number, number == 7)));
        }
        assert_eq!(epochs.best(), Some(&epoch(7, true)));
        let numbers: Vec<u32> = epochs.rows().iter().map(|row| row.epoch).collect();
        assert!(numbers.is_sorted());
        assert!(numbers.ends_with(&[9_998, 9_999, 10_000]));
    }
}
