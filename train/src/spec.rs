//! What a user may ask for: the model, its hyperparameters and how long to train, with bounds and defaults.
//!
//! Everything here is part of the result's meaning and of [`FitSpec::hash`]; the number of threads is not.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::data::Data;
use crate::size::{ACTIVATIONS_MAX, PARAMETERS_MAX, Size};

/// Convolutions are 3 x 3 without padding, each followed by 2 x 2 max-pooling, as in the reference model.
pub const KERNEL: usize = 3;
/// Side and stride of the pooling window.
pub const POOL: usize = 2;

/// One training, as data. Two equal specs on equal data give equal bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct FitSpec {
    pub model: ModelSpec,
    /// Passes over the training data, 1 to 10,000.
    pub epochs: u32,
    /// Samples of one step, 1 to 8,192. The last batch of an epoch may be smaller, as in Keras.
    pub batch_size: usize,
    pub optimizer: OptimizerKind,
    /// Above 0, at most 10.
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Share of a layer's units silenced in training, 0 to 0.95.
    pub dropout: f64,
    pub seed: u64,
    /// Share of the training data held out for `val_*`, 0 to 0.9. At 0, `val_*` are computed on the test split.
    pub validation_fraction: f64,
    /// Stop after the epoch whose `val_accuracy` reaches this, 0 to 1.
    pub target_accuracy: Option<f64>,
    /// Stop after this many epochs in a row without a new best `val_accuracy`, at least 1.
    pub patience: Option<u32>,
    /// Stop at the first batch boundary after this many seconds of training, by the observer's clock. The only
    /// wish whose result depends on time.
    pub max_seconds: Option<f64>,
}

/// The network. Widths are data; the reference models are [`ModelSpec::mlp`], [`ModelSpec::cnn`], [`ModelSpec::lstm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSpec {
    /// Flattened pixels, then ReLU layers of these widths (1 to 8 layers of 1 to 4,096), each followed by dropout.
    Mlp { hidden: Vec<usize> },
    /// Blocks of 3 x 3 convolution, ReLU and 2 x 2 max-pooling (1 to 4 of 1 to 512 channels), a ReLU layer, dropout.
    Cnn { channels: Vec<usize>, dense: usize },
    /// One LSTM over the image's rows (1 to 512 units), dropout, a ReLU layer, dropout.
    Lstm { units: usize, dense: usize },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerKind {
    /// Kingma & Ba 2015, algorithm 1, with beta 0.9 and 0.999 and epsilon 1e-7 as in Keras.
    Adam,
    /// Loshchilov & Hutter 2019: the weights decay by `learning_rate * weight_decay` beside Adam's step.
    AdamW { weight_decay: f64 },
    /// `v = momentum * v - learning_rate * gradient; w += v`, as in Keras.
    Sgd { momentum: f64 },
}

/// How the learning rate changes, from `FitSpec::learning_rate` at step 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    Constant,
    /// Multiplied by `factor` after every `every` epochs.
    Step {
        every: u32,
        factor: f64,
    },
    /// Half a cosine down to 0 over all steps (Loshchilov & Hutter 2017, without restarts).
    Cosine,
}

/// One thing wrong with a spec: which field, and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The field's path, as in `model.channels`.
    pub field: &'static str,
    pub message: String,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl ModelSpec {
    /// 784-128-128-10 on MNIST.
    pub fn mlp() -> Self {
        ModelSpec::Mlp { hidden: vec![128, 128] }
    }

    /// Convolutions of 32 and 64 channels, dense 128.
    pub fn cnn() -> Self {
        ModelSpec::Cnn { channels: vec![32, 64], dense: 128 }
    }

    /// 128 units over the rows, dense 128.
    pub fn lstm() -> Self {
        ModelSpec::Lstm { units: 128, dense: 128 }
    }

    /// `mlp`, `cnn` or `lstm`.
    pub fn kind(&self) -> &'static str {
        match self {
            ModelSpec::Mlp { .. } => "mlp",
            ModelSpec::Cnn { .. } => "cnn",
            ModelSpec::Lstm { .. } => "lstm",
        }
    }

    /// The reference model's dropout: 0.5 for the CNN, 0.2 otherwise.
    pub fn default_dropout(&self) -> f64 {
        if matches!(self, ModelSpec::Cnn { .. }) { 0.5 } else { 0.2 }
    }

    /// Height and width after each convolution block, or `None` where the image gets too small.
    pub(crate) fn pooled_sizes(blocks: usize, height: usize, width: usize) -> Option<Vec<(usize, usize)>> {
        let halve = |side: usize| side.checked_sub(KERNEL - 1).map(|side| side / POOL).filter(|&side| side > 0);
        let mut size = (height, width);
        (0..blocks)
            .map(|_| {
                size = (halve(size.0)?, halve(size.1)?);
                Some(size)
            })
            .collect()
    }
}

impl FitSpec {
    /// The reference settings: 5 epochs of batch 128, Adam at 1e-3, seed 0.
    pub fn new(model: ModelSpec) -> Self {
        let dropout = model.default_dropout();
        FitSpec {
            model,
            epochs: 5,
            batch_size: 128,
            optimizer: OptimizerKind::Adam,
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            dropout,
            seed: 0,
            validation_fraction: 0.0,
            target_accuracy: None,
            patience: None,
            max_seconds: None,
        }
    }

    /// Everything wrong with the spec itself, all at once.
    pub fn problems(&self) -> Vec<SpecProblem> {
        let mut found = Problems(Vec::new());
        self.check_model(&mut found);
        found.whole("epochs", u64::from(self.epochs), 1, 10_000);
        found.whole("batch_size", self.batch_size as u64, 1, 8_192);
        found.real("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 10.0);
        found.real("dropout", self.dropout, 0.0, 0.95);
        found.real("validation_fraction", self.validation_fraction, 0.0, 0.9);
        match self.optimizer {
            OptimizerKind::Adam => {}
            OptimizerKind::AdamW { weight_decay } => found.real("optimizer.weight_decay", weight_decay, 0.0, 10.0),
            OptimizerKind::Sgd { momentum } => found.real("optimizer.momentum", momentum, 0.0, 0.9999),
        }
        if let Schedule::Step { every, factor } = self.schedule {
            found.whole("schedule.every", u64::from(every), 1, 10_000);
            found.real("schedule.factor", factor, f64::MIN_POSITIVE, 10.0);
        }
        self.target_accuracy.into_iter().for_each(|target| found.real("target_accuracy", target, 0.0, 1.0));
        self.patience.into_iter().for_each(|patience| found.whole("patience", u64::from(patience), 1, 10_000));
        self.max_seconds.into_iter().for_each(|limit| found.real("max_seconds", limit, f64::MIN_POSITIVE, 1e9));
        found.0
    }

    /// [`FitSpec::problems`], and what does not fit this data.
    pub fn problems_with(&self, data: &Data) -> Vec<SpecProblem> {
        let mut found = Problems(self.problems());
        if let ModelSpec::Cnn { channels, .. } = &self.model
            && ModelSpec::pooled_sizes(channels.len(), data.height(), data.width()).is_none()
        {
            let (blocks, height, width) = (channels.len(), data.height(), data.width());
            found.add("model.channels", format!("{blocks} blocks do not fit an image of {height} x {width} pixels"));
        }
        let held_out = self.held_out(data.train().len());
        if self.validation_fraction > 0.0 && (held_out == 0 || held_out >= data.train().len()) {
            let samples = data.train().len();
            let fraction = self.validation_fraction;
            let message = format!("{fraction} of {samples} training samples leaves a side empty");
            found.add("validation_fraction", message);
        }
        if found.0.is_empty() {
            self.check_size(data, &mut found);
        }
        found.0
    }

    /// Training samples held out for validation, of `samples`.
    pub(crate) fn held_out(&self, samples: usize) -> usize {
        (samples as f64 * self.validation_fraction).round() as usize
    }

    /// SHA-256 over every field, in hex: what a checkpoint must agree on to be resumed.
    pub fn hash(&self) -> String {
        // Debug prints every field, and floats in the shortest form that reads back exactly.
        hex(&Sha256::digest(format!("kubeml-train spec 1 {self:?}").as_bytes()))
    }

    /// Only for a spec without other problems: its bounds keep the counts from overflowing.
    fn check_size(&self, data: &Data, found: &mut Problems) {
        let Size { parameters, activations } = Size::of(self, data);
        if parameters > PARAMETERS_MAX {
            found.add("model", format!("{parameters} parameters are more than {PARAMETERS_MAX}"));
        }
        if activations > ACTIVATIONS_MAX {
            let problem = format!(
                "{activations} activations at a time are more than {ACTIVATIONS_MAX}; lower it, or the model's sizes"
            );
            found.add("batch_size", problem);
        }
    }

    fn check_model(&self, found: &mut Problems) {
        match &self.model {
            ModelSpec::Mlp { hidden } => found.widths("model.hidden", hidden, 8, 4_096),
            ModelSpec::Cnn { channels, dense } => {
                found.widths("model.channels", channels, 4, 512);
                found.whole("model.dense", *dense as u64, 1, 4_096);
            }
            ModelSpec::Lstm { units, dense } => {
                found.whole("model.units", *units as u64, 1, 512);
                found.whole("model.dense", *dense as u64, 1, 4_096);
            }
        }
    }
}

struct Problems(Vec<SpecProblem>);

impl Problems {
    fn add(&mut self, field: &'static str, message: String) {
        self.0.push(SpecProblem { field, message });
    }

    fn whole(&mut self, field: &'static str, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.add(field, format!("{value} is not between {min} and {max}"));
        }
    }

    fn real(&mut self, field: &'static str, value: f64, min: f64, max: f64) {
        if (min..=max).contains(&value) {
            return;
        }
        let wish = if min > 0.0 { format!("above 0 and at most {max}") } else { format!("between {min} and {max}") };
        self.add(field, format!("{value} is not {wish}"));
    }

    fn widths(&mut self, field: &'static str, widths: &[usize], layers_max: usize, width_max: usize) {
        if widths.is_empty() || widths.len() > layers_max {
            self.add(field, format!("{} layers are not between 1 and {layers_max}", widths.len()));
        }
        if let Some(width) = widths.iter().find(|&&width| width == 0 || width > width_max) {
            self.add(field, format!("{width} is not between 1 and {width_max}"));
        }
    }
}

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
