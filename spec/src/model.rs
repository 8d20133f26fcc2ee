//! The table of models: each kind's own fields, their defaults, and the layers that they describe.
//!
//! A new kind of known layers is a row and its function here. A new layer is a variant of [`Layer`] here and its
//! arithmetic in `kubeml-train`.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    field::{Field, Setting, Typed},
    suggest::did_you_mean,
};

/// A row of the table.
pub struct Model {
    pub name: &'static str,
    pub help: &'static str,
    /// The stored format that has it.
    pub since: u8,
    /// The fields that it has beside those of every training.
    pub fields: Vec<Field>,
    /// Defaults of a training's fields that differ for this model.
    pub defaults: Vec<(&'static str, Setting)>,
    layers: fn(&Architecture, f64) -> Vec<Layer>,
}

/// One step from an image to the logits. Images are `[batch, height, width]`, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// 3 x 3, without padding, then ReLU. Maps are channels-last.
    Conv2d {
        name: String,
        channels: usize,
    },
    /// 2 x 2 windows, side by side.
    MaxPool2d,
    Flatten,
    Dense {
        name: String,
        units: Units,
        activation: Activation,
    },
    /// Silences this share of units in training.
    Dropout {
        rate: f64,
    },
    /// Over the rows of the image; the last state goes on.
    Lstm {
        name: String,
        units: usize,
    },
}

impl Layer {
    /// The name under which its parameters are stored; `None` if it has none.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Conv2d { name, .. } | Self::Dense { name, .. } | Self::Lstm { name, .. } => Some(name),
            Self::MaxPool2d | Self::Flatten | Self::Dropout { .. } => None,
        }
    }
}

/// How many units a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    Count(usize),
    /// As many as the dataset has classes.
    Classes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
}

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let dense = || Field::whole(1, 4_096).or(128_u64).named("dense", "Units of the dense layer.");
    vec![
        Model {
            name: "mlp",
            help: "Multilayer perceptron: ReLU layers, each followed by dropout.",
            since: 1,
            fields: vec![Field::list(8, 1, 4_096).or(vec![128, 128]).named("hidden", "Units of each hidden layer.")],
            defaults: vec![],
            layers: mlp,
        },
        Model {
            name: "cnn",
            help: "Convolutional network: blocks of convolution and max-pooling, then a dense layer.",
            since: 1,
            fields: vec![Field::list(4, 1, 512).or(vec![32, 64]).named("channels", "Channels of each block."), dense()],
            defaults: vec![("dropout", Setting::Real(0.5))],
            layers: cnn,
        },
        Model {
            name: "lstm",
            help: "Recurrent network: an LSTM over the rows of the image, then a dense layer.",
            since: 1,
            fields: vec![Field::whole(1, 512).or(128_u64).named("units", "Units of the LSTM."), dense()],
            defaults: vec![],
            layers: lstm,
        },
    ]
});

fn mlp(own: &Architecture, dropout: f64) -> Vec<Layer> {
    let mut layers = vec![Layer::Flatten];
    for (at, units) in own.list("hidden").into_iter().enumerate() {
        layers.extend([relu(format!("hidden.{at}"), units), Layer::Dropout { rate: dropout }]);
    }
    layers.push(output());
    layers
}

fn cnn(own: &Architecture, dropout: f64) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (at, channels) in own.list("channels").into_iter().enumerate() {
        layers.extend([Layer::Conv2d { name: format!("conv.{at}"), channels }, Layer::MaxPool2d]);
    }
    let dense = relu("dense".to_owned(), own.whole("dense"));
    layers.extend([Layer::Flatten, dense, Layer::Dropout { rate: dropout }, output()]);
    layers
}

fn lstm(own: &Architecture, dropout: f64) -> Vec<Layer> {
    let silence = Layer::Dropout { rate: dropout };
    let lstm = Layer::Lstm { name: "lstm".to_owned(), units: own.whole("units") };
    vec![lstm, silence.clone(), relu("dense".to_owned(), own.whole("dense")), silence, output()]
}

fn relu(name: String, units: usize) -> Layer {
    Layer::Dense { name, units: Units::Count(units), activation: Activation::Relu }
}

fn output() -> Layer {
    Layer::Dense { name: "output".to_owned(), units: Units::Classes, activation: Activation::None }
}

/// The values of a model's own fields, in the order of its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    model: ModelKind,
    settings: Vec<Setting>,
}

impl Architecture {
    pub(crate) fn new(model: ModelKind, settings: Vec<Setting>) -> Self {
        Self { model, settings }
    }

    /// The model's own fields with their values.
    pub fn fields(&self) -> impl Iterator<Item = (&'static Field, &Setting)> {
        self.model.row().fields.iter().zip(&self.settings)
    }

    pub(crate) fn layers(&self, dropout: f64) -> Vec<Layer> {
        (self.model.row().layers)(self, dropout)
    }

    /// The table's own functions ask, each for the fields of its row: a test builds every model.
    fn get<T: Typed>(&self, name: &str) -> T {
        let found = self.fields().find(|(field, _)| field.name == name).and_then(|(_, setting)| T::of(setting));
        found.unwrap_or_else(|| unreachable!("model {} has a field {name} of this kind", self.model))
    }

    fn whole(&self, name: &str) -> usize {
        self.get::<u64>(name) as usize
    }

    fn list(&self, name: &str) -> Vec<usize> {
        self.get::<Vec<u64>>(name).into_iter().map(|item| item as usize).collect()
    }
}

/// A kind of model: a row of the table.
#[derive(Clone, Copy)]
pub struct ModelKind(&'static Model);

impl ModelKind {
    /// Every kind, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        MODELS.iter().map(Self)
    }

    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        MODELS.iter().map(|model| model.name)
    }

    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    pub fn row(self) -> &'static Model {
        self.0
    }
}

/// The names of all models, as a sentence lists them: `mlp, cnn or lstm`.
pub fn names_in_words() -> String {
    let names: Vec<&str> = ModelKind::names().collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.join(""),
    }
}

impl PartialEq for ModelKind {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ModelKind {}

impl std::hash::Hash for ModelKind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown model {0:?}: expected one of {names}{hint}", names = ModelKind::names().collect::<Vec<_>>().join(", "),
        hint = did_you_mean(.0, ModelKind::names()))]
pub struct UnknownModel(pub String);

impl FromStr for ModelKind {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        Self::all().find(|model| model.as_str() == name).ok_or_else(|| UnknownModel(name.to_owned()))
    }
}

impl Serialize for ModelKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ModelKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
