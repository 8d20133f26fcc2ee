//! What a task shall train: model, dataset, hyperparameters. A `TaskSpec` is valid by construction.
//!
//! A [`SpecDraft`] is what a person sent, every field optional; [`TaskSpec::build`] turns it into a spec or names every
//! problem at once. The bounds below are the only copy of them.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// The dataset of a task that names none.
pub const DEFAULT_DATASET: &str = "mnist";
/// The built-in dataset that stands in for [`DEFAULT_DATASET`] where that cannot be had.
pub const FALLBACK_DATASET: &str = "mnist-10k";

pub const EPOCHS: RangeInclusive<u32> = 1..=10_000;
pub const BATCH_SIZE: RangeInclusive<u32> = 1..=8_192;
/// Steps are counted over a whole task; also the seed's range in JSON, where integers are exact only up to 2^53.
pub const SEED_MAX: u64 = (1 << 53) - 1;
/// Units of a dense layer.
pub const WIDTH: RangeInclusive<u32> = 1..=4_096;
/// Channels of a convolution.
pub const CHANNELS: RangeInclusive<u32> = 1..=512;
/// Units of an LSTM.
pub const UNITS: RangeInclusive<u32> = 1..=512;
/// Hidden layers of an MLP.
pub const LAYERS_MAX: usize = 8;
/// Convolutions of a CNN.
pub const BLOCKS_MAX: usize = 4;
pub const NAME_LENGTH_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ModelKind {
    Mlp,
    Cnn,
    Lstm,
}

impl ModelKind {
    pub const ALL: [Self; 3] = [Self::Mlp, Self::Cnn, Self::Lstm];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Cnn => "cnn",
            Self::Lstm => "lstm",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown model {0:?}: expected one of mlp, cnn, lstm")]
pub struct UnknownModel(pub String);

impl FromStr for ModelKind {
    type Err = UnknownModel;

    fn from_str(text: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownModel(text.to_owned()))
    }
}

/// Widths of the layers before the ten-way output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Architecture {
    Mlp { hidden: Vec<u32> },
    Cnn { channels: Vec<u32>, dense: u32 },
    Lstm { units: u32, dense: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    Adam,
    AdamW { weight_decay: f64 },
    Sgd { momentum: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    Constant,
    /// The learning rate times `factor` after every `every` epochs.
    Step {
        every: u32,
        factor: f64,
    },
    /// From the learning rate to zero along half a cosine over the whole task.
    Cosine,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    pub epochs: u32,
    pub batch_size: u32,
    pub learning_rate: f64,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub seed: u64,
    pub dropout: f64,
    /// Share of the training split held out for `val_*` metrics; 0 takes the test split for them.
    pub validation_fraction: f64,
    pub target_accuracy: Option<f64>,
    /// Epochs without a better validation accuracy before training ends early.
    pub patience: Option<u32>,
    pub max_seconds: Option<u32>,
    pub architecture: Architecture,
}

/// Which dataset, and whether the person named it: only an unnamed one may fall back to the built-in digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetChoice {
    pub name: String,
    pub explicit: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub model: ModelKind,
    pub dataset: DatasetChoice,
    pub hyperparameters: Hyperparameters,
}

/// A spec as somebody wrote it. `None` takes the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpecDraft {
    pub model: Option<String>,
    pub dataset: Option<String>,
    pub epochs: Option<u32>,
    pub batch_size: Option<u32>,
    pub learning_rate: Option<f64>,
    pub optimizer: Option<String>,
    pub weight_decay: Option<f64>,
    pub momentum: Option<f64>,
    pub schedule: Option<String>,
    pub schedule_every: Option<u32>,
    pub schedule_factor: Option<f64>,
    pub seed: Option<u64>,
    pub dropout: Option<f64>,
    pub validation_fraction: Option<f64>,
    pub target_accuracy: Option<f64>,
    pub patience: Option<u32>,
    pub max_seconds: Option<u32>,
    pub hidden: Option<Vec<u32>>,
    pub channels: Option<Vec<u32>>,
    pub units: Option<u32>,
    pub dense: Option<u32>,
}

/// One thing wrong with a draft: where (a JSON pointer into the task's body) and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

impl TaskSpec {
    pub fn build(draft: &SpecDraft) -> Result<Self, Vec<Problem>> {
        let mut check = Check::default();
        let model = check.model(draft.model.as_deref());
        let dataset = check.dataset(draft.dataset.as_deref());
        let hyperparameters = check.hyperparameters(draft, model.unwrap_or(ModelKind::Mlp));
        match model {
            Some(model) if check.problems.is_empty() => Ok(Self { model, dataset, hyperparameters }),
            _ => Err(check.problems),
        }
    }

    /// Two specs with the same hash ask for the same training.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.canonical().as_bytes()).into()
    }

    /// One line that says everything; stable, since hashes of it are stored.
    pub fn canonical(&self) -> String {
        let h = &self.hyperparameters;
        format!(
            "v1 model={} architecture={:?} dataset={:?}/{} epochs={} batch_size={} learning_rate={:?} optimizer={:?} \
             schedule={:?} seed={} dropout={:?} validation_fraction={:?} target_accuracy={:?} patience={:?} max_seconds={:?}",
            self.model,
            h.architecture,
            self.dataset.name,
            self.dataset.explicit,
            h.epochs,
            h.batch_size,
            h.learning_rate,
            h.optimizer,
            h.schedule,
            h.seed,
            h.dropout,
            h.validation_fraction,
            h.target_accuracy,
            h.patience,
            h.max_seconds
        )
    }
}

/// Collects problems while values are read; a bad value is replaced by its default so that the rest is checked too.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn problem(&mut self, pointer: &str, message: String) {
        self.problems.push(Problem { pointer: pointer.to_owned(), message });
    }

    fn field(&mut self, field: &str, message: String) {
        self.problem(&format!("/hyperparameters/{field}"), message);
    }

    fn within<T: PartialOrd + Copy + fmt::Display>(
        &mut self,
        field: &str,
        value: Option<T>,
        range: &RangeInclusive<T>,
        default: T,
    ) -> T {
        match value {
            None => default,
            Some(value) if range.contains(&value) => value,
            Some(value) => {
                self.field(field, format!("{value} is outside {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn optional<T: PartialOrd + Copy + fmt::Display>(
        &mut self,
        field: &str,
        value: Option<T>,
        range: &RangeInclusive<T>,
    ) -> Option<T> {
        value.map(|value| self.within(field, Some(value), range, value))
    }

    fn model(&mut self, text: Option<&str>) -> Option<ModelKind> {
        let Some(text) = text else {
            self.problem("/model", "missing: expected one of mlp, cnn, lstm".to_owned());
            return None;
        };
        text.parse().map_err(|error: UnknownModel| self.problem("/model", error.to_string())).ok()
    }

    fn dataset(&mut self, name: Option<&str>) -> DatasetChoice {
        if let Some(name) = name
            && let Err(message) = valid_dataset_name(name)
        {
            self.problem("/dataset", message);
        }
        DatasetChoice { name: name.unwrap_or(DEFAULT_DATASET).to_owned(), explicit: name.is_some() }
    }

    fn hyperparameters(&mut self, draft: &SpecDraft, model: ModelKind) -> Hyperparameters {
        let default_dropout = if model == ModelKind::Cnn { 0.5 } else { 0.2 };
        Hyperparameters {
            epochs: self.within("epochs", draft.epochs, &EPOCHS, 5),
            batch_size: self.within("batch_size", draft.batch_size, &BATCH_SIZE, 128),
            learning_rate: self.within("learning_rate", draft.learning_rate, &(1e-8..=10.0), 1e-3),
            optimizer: self.optimizer(draft),
            schedule: self.schedule(draft),
            seed: self.within("seed", draft.seed, &(0..=SEED_MAX), 1),
            dropout: self.within("dropout", draft.dropout, &(0.0..=0.95), default_dropout),
            validation_fraction: self.within("validation_fraction", draft.validation_fraction, &(0.0..=0.9), 0.0),
            target_accuracy: self.optional("target_accuracy", draft.target_accuracy, &(0.0..=1.0)),
            patience: self.optional("patience", draft.patience, &(1..=10_000)),
            max_seconds: self.optional("max_seconds", draft.max_seconds, &(1..=31_536_000)),
            architecture: self.architecture(draft, model),
        }
    }

    fn optimizer(&mut self, draft: &SpecDraft) -> Optimizer {
        let kind = draft.optimizer.as_deref().unwrap_or("adam");
        if !["adam", "adamw", "sgd"].contains(&kind) {
            self.field("optimizer", format!("unknown optimizer {kind:?}: expected one of adam, adamw, sgd"));
        }
        self.only_for(draft.weight_decay.is_some(), "weight_decay", kind == "adamw", "optimizer adamw");
        self.only_for(draft.momentum.is_some(), "momentum", kind == "sgd", "optimizer sgd");
        let weight_decay = self.within("weight_decay", draft.weight_decay, &(0.0..=1.0), 0.01);
        let momentum = self.within("momentum", draft.momentum, &(0.0..=0.9999), 0.9);
        match kind {
            "adamw" => Optimizer::AdamW { weight_decay },
            "sgd" => Optimizer::Sgd { momentum },
            _ => Optimizer::Adam,
        }
    }

    fn schedule(&mut self, draft: &SpecDraft) -> Schedule {
        let kind = draft.schedule.as_deref().unwrap_or("constant");
        if !["constant", "step", "cosine"].contains(&kind) {
            self.field("schedule", format!("unknown schedule {kind:?}: expected one of constant, step, cosine"));
        }
        self.only_for(draft.schedule_every.is_some(), "schedule_every", kind == "step", "schedule step");
        self.only_for(draft.schedule_factor.is_some(), "schedule_factor", kind == "step", "schedule step");
        let every = self.within("schedule_every", draft.schedule_every, &EPOCHS, 1);
        let factor = self.within("schedule_factor", draft.schedule_factor, &(1e-6..=1.0), 0.5);
        match kind {
            "step" => Schedule::Step { every, factor },
            "cosine" => Schedule::Cosine,
            _ => Schedule::Constant,
        }
    }

    fn architecture(&mut self, draft: &SpecDraft, model: ModelKind) -> Architecture {
        self.only_for(draft.hidden.is_some(), "hidden", model == ModelKind::Mlp, "model mlp");
        self.only_for(draft.channels.is_some(), "channels", model == ModelKind::Cnn, "model cnn");
        self.only_for(draft.units.is_some(), "units", model == ModelKind::Lstm, "model lstm");
        self.only_for(draft.dense.is_some(), "dense", model != ModelKind::Mlp, "model cnn or lstm");
        let dense = self.within("dense", draft.dense, &WIDTH, 128);
        match model {
            ModelKind::Mlp => {
                let hidden = draft.hidden.as_deref().unwrap_or(&[128, 128]);
                Architecture::Mlp { hidden: self.widths("hidden", hidden, LAYERS_MAX, &WIDTH) }
            }
            ModelKind::Cnn => {
                let channels = draft.channels.as_deref().unwrap_or(&[32, 64]);
                Architecture::Cnn { channels: self.widths("channels", channels, BLOCKS_MAX, &CHANNELS), dense }
            }
            ModelKind::Lstm => Architecture::Lstm { units: self.within("units", draft.units, &UNITS, 128), dense },
        }
    }

    fn widths(&mut self, field: &str, widths: &[u32], layers_max: usize, range: &RangeInclusive<u32>) -> Vec<u32> {
        if widths.is_empty() || widths.len() > layers_max {
            self.field(field, format!("{} layers are outside 1 to {layers_max}", widths.len()));
        }
        for (index, width) in widths.iter().enumerate() {
            self.within(&format!("{field}/{index}"), Some(*width), range, 1);
        }
        widths.to_vec()
    }

    fn only_for(&mut self, given: bool, field: &str, fits: bool, owner: &str) {
        if given && !fits {
            self.field(field, format!("only {owner} has it"));
        }
    }
}

/// Names go into keys, paths and topics: lower case letters, digits, dot, dash and underscore.
pub fn valid_dataset_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with('.') {
        return Err(format!(
            "{name:?} is no dataset name: expected 1 to 64 of a to z, 0 to 9, '.', '-', '_', not starting with '.'"
        ));
    }
    Ok(())
}
