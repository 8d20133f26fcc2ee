//! What a training reports: the metrics of an epoch, an evaluation, and how it ended.
//!
//! A new metric of an epoch is a row here and its computation in `kubeml-train`. Numbers that are not finite are exact
//! where they are stored and `null` in JSON.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// A row of the table of metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Natural units of information: a cross-entropy.
    Nats,
    /// 0 to 1.
    Share,
    SamplesPerSecond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

impl Metric {
    /// What the row says, as data.
    pub fn to_json(&self) -> Value {
        let unit = match self.unit {
            Unit::Nats => "nats",
            Unit::Share => "share",
            Unit::SamplesPerSecond => "samples/s",
        };
        let better = match self.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        };
        json!({ "name": self.name, "unit": unit, "better": better, "help": self.help })
    }
}

macro_rules! epoch_metrics {
    (
        $($(#[doc = $doc:literal])+ $fact:ident: $fact_type:ty;)+
        metrics: $($(#[doc = $help:literal])+ $name:ident: $unit:ident, $better:ident;)+
    ) => {
        /// One finished epoch.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct EpochMetrics {
            $($(#[doc = $doc])+ #[serde(deserialize_with = "Nullable::read")] pub $fact: $fact_type,)+
            $($(#[doc = $help])+ #[serde(deserialize_with = "Nullable::read")] pub $name: f64,)+
        }

        /// The metrics of an epoch, in the order in which they are shown.
        pub const EPOCH_METRICS: &[Metric] = &[$(Metric {
            name: stringify!($name),
            unit: Unit::$unit,
            better: Better::$better,
            help: concat!($($help),+).trim_ascii(),
        }),+];

        impl EpochMetrics {
            /// The metrics with their values, in the order of the table.
            pub fn values(&self) -> impl Iterator<Item = (&'static Metric, f64)> {
                EPOCH_METRICS.iter().zip([$(self.$name),+])
            }
        }

        /// Epochs as a column for each field: the names are stored once.
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct Columns {
            $($fact: Vec<$fact_type>,)+
            $($name: Vec<f64>,)+
            #[serde(flatten)]
            pub(crate) unknown: crate::unknown::Unknown,
        }

        impl Columns {
            pub(crate) fn of(epochs: &[EpochMetrics]) -> Self {
                Self {
                    $($fact: epochs.iter().map(|epoch| epoch.$fact).collect(),)+
                    $($name: epochs.iter().map(|epoch| epoch.$name).collect(),)+
                    unknown: Default::default(),
                }
            }

            /// As many epochs as the column `epoch` has. A column that an older version left short is filled up with
            /// defaults.
            pub(crate) fn epochs(&self) -> Vec<EpochMetrics> {
                let row = |at: usize| EpochMetrics {
                    $($fact: self.$fact.get(at).copied().unwrap_or_default(),)+
                    $($name: self.$name.get(at).copied().unwrap_or_default(),)+
                };
                (0..self.epoch.len()).map(row).collect()
            }
        }
    };
}

epoch_metrics! {
    /// From 1.
    epoch: u32;
    /// Steps done of all epochs.
    step: u64;
    /// Samples trained on in this epoch.
    samples: u64;
    /// Seconds of training in this epoch, without evaluation, over all attempts.
    train_seconds: f64;
    /// Whether this epoch has the best `val_accuracy` so far; among equals, the lower `val_loss`.
    is_best: bool;

    metrics:
    /// Mean cross-entropy over the epoch's batches as they were trained, with dropout on.
    loss: Nats, Lower;
    /// Share of right answers over the epoch's batches as they were trained, with dropout on.
    accuracy: Share, Higher;
    /// Mean cross-entropy after the epoch, on the test split or on the held-out share of the training split.
    val_loss: Nats, Lower;
    /// Share of right answers after the epoch, on the same samples as `val_loss`.
    val_accuracy: Share, Higher;
    /// Samples trained on per second, without evaluation.
    samples_per_second: SamplesPerSecond, Higher;
}

impl EpochMetrics {
    /// What a repeated training has again: all but what the clock says.
    #[must_use]
    pub fn without_clock(self) -> Self {
        Self { train_seconds: 0.0, samples_per_second: 0.0, ..self }
    }

    /// Whether this epoch's model is better than another's.
    pub fn beats(&self, other: &Self) -> bool {
        self.val_accuracy > other.val_accuracy
            || (self.val_accuracy == other.val_accuracy && self.val_loss < other.val_loss)
    }
}

/// A model's answers on one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// Mean cross-entropy in nats.
    #[serde(deserialize_with = "Nullable::read")]
    pub loss: f64,
    /// Share of right answers, 0 to 1.
    #[serde(deserialize_with = "Nullable::read")]
    pub accuracy: f64,
}

crate::field::choices! {
    /// Why a finished training ended when it did.
    pub enum StopReason {
        /// All epochs are trained.
        Completed = "completed",
        /// The validation accuracy reached `target_accuracy`.
        TargetAccuracy = "target_accuracy",
        /// `patience` epochs in a row were no better.
        Patience = "patience",
        /// `max_seconds` of training are over.
        MaxSeconds = "max_seconds",
    }
}

impl Serialize for StopReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for StopReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::unknown_variant(&name, Self::NAMES))
    }
}

/// How a training ended, without its models' bytes. The metrics of its epochs have been reported one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub stop_reason: StopReason,
    pub epochs: u32,
    pub steps: u64,
    /// Seconds of training over all attempts, without evaluation.
    pub train_seconds: f64,
    /// The epoch of the best model.
    pub best_epoch: u32,
    /// The final model on the test split.
    pub test: Evaluation,
    /// The best model on the test split.
    pub best_test: Evaluation,
    /// Test samples by true class (rows) and the final model's answer (columns).
    pub confusion: Vec<Vec<u64>>,
    /// SHA-256 over (name, dtype, shape, little-endian bytes) of the final parameters sorted by name, in hex.
    pub weights_sha256: String,
    /// The same of the best model.
    pub best_weights_sha256: String,
    /// The code that computed it, as far as it may change bits: of all attempts, joined by `+`.
    pub kernel_set: String,
}

/// Reads `null`, which JSON has for a number that is not finite, as NaN.
trait Nullable: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl Nullable for f64 {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

macro_rules! not_nullable {
    ($($type:ty),+) => {
        $(impl Nullable for $type {
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        })+
    };
}

not_nullable!(u32, u64, bool);

#[cfg(test)]
mod tests;
