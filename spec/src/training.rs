//! The table of hyperparameters that every model has. A new one is a row here and the place where training uses it.

use crate::field::{Field, Setting, Typed, choices};

/// Seeds travel as JSON numbers, which are exact up to this.
const SEED_MAX: u64 = (1 << 53) - 1;

choices! {
    /// How a step's gradient changes the weights.
    pub enum OptimizerKind {
        /// Kingma & Ba 2015, algorithm 1, with beta 0.9 and 0.999 and epsilon 1e-7 as in Keras.
        Adam = "adam",
        /// Loshchilov & Hutter 2019: the weights decay by `learning_rate * weight_decay` beside Adam's step.
        AdamW = "adamw",
        /// `v = momentum * v - learning_rate * gradient; w += v`, as in Keras.
        Sgd = "sgd",
    }
}

choices! {
    /// How the learning rate changes over a training.
    pub enum Schedule {
        Constant = "constant",
        /// Multiplied by `schedule_factor` after every `schedule_every` epochs.
        Step = "step",
        /// Half a cosine down to 0 over all steps (Loshchilov & Hutter 2017, without restarts).
        Cosine = "cosine",
    }
}

macro_rules! hyperparameters {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty = $field:expr;)+) => {
        /// The values in force for one training; a field that does not apply has its default and no effect.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Hyperparameters {
            $($(#[doc = $help])+ pub $name: $type,)+
        }

        impl Hyperparameters {
            /// The rows of the table.
            pub fn fields() -> Vec<Field> {
                vec![$($field.named(stringify!($name), concat!($($help),+))),+]
            }

            /// From a setting for each row, in the order of the rows. A test holds every row's kind to its type.
            pub(crate) fn from_settings(settings: &[Setting]) -> Self {
                let mut settings = settings.iter();
                Self {
                    $($name: settings.next().and_then(Typed::of).unwrap_or_else(|| {
                        unreachable!(concat!(stringify!($name), " has a setting of its kind"))
                    }),)+
                }
            }

            /// A setting for each row, in the order of the rows.
            pub fn settings(&self) -> Vec<Setting> {
                vec![$(self.$name.setting()),+]
            }
        }
    };
}

hyperparameters! {
    /// Passes over the training data.
    epochs: u32 = Field::whole(1, 10_000).or(5_u32);
    /// Samples per step; the last batch of an epoch may be smaller.
    batch_size: u32 = Field::whole(1, 8_192).or(128_u32);
    /// Learning rate at step 0.
    learning_rate: f64 = Field::real(1e-8, 10.0).or(1e-3);
    /// How a step's gradient changes the weights.
    optimizer: OptimizerKind = Field::choice(OptimizerKind::NAMES).or(OptimizerKind::Adam);
    /// Decay of the weights per step, as a share of the learning rate.
    weight_decay: f64 = Field::real(0.0, 1.0).or(0.01).when("optimizer", "adamw");
    /// Share of the last step's change that is added to the next.
    momentum: f64 = Field::real(0.0, 0.9999).or(0.9).when("optimizer", "sgd");
    /// How the learning rate changes over the training.
    schedule: Schedule = Field::choice(Schedule::NAMES).or(Schedule::Constant);
    /// Epochs between two changes of the learning rate.
    schedule_every: u32 = Field::whole(1, 10_000).or(1_u32).when("schedule", "step");
    /// Factor of each change of the learning rate.
    schedule_factor: f64 = Field::real(1e-6, 1.0).or(0.5).when("schedule", "step");
    /// Seed of everything random: the same seed gives the same weights, bit for bit.
    seed: u64 = Field::whole(0, SEED_MAX).or(1_u64);
    /// Share of units silenced in training.
    dropout: f64 = Field::real(0.0, 0.95).or(0.2);
    /// Share of the training data held out for validation; 0 validates on the test split.
    validation_fraction: f64 = Field::real(0.0, 0.9).or(0.0);
    /// End after the epoch whose validation accuracy reaches this.
    target_accuracy: Option<f64> = Field::real(0.0, 1.0);
    /// End after this many epochs in a row without a better validation accuracy.
    patience: Option<u32> = Field::whole(1, 10_000);
    /// End at the first batch after this many seconds of training.
    max_seconds: Option<u32> = Field::whole(1, 31_536_000);
}

/// The rows of [`Hyperparameters`], made once.
pub fn fields() -> &'static [Field] {
    static FIELDS: std::sync::LazyLock<Vec<Field>> = std::sync::LazyLock::new(Hyperparameters::fields);
    &FIELDS
}
