//! What a task trains: valid by construction, with one canonical text that is its identity.
//!
//! The canonical text is `1` and a JSON object with sorted keys. It holds every field of the first release that applies,
//! with its default filled in, and a later field only where it differs from its neutral value. So the hash of a spec is
//! the same in every version that can express it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    draft::Draft,
    field::{Field, Setting},
    model::{Architecture, Layer, ModelKind},
    problem::{Problem, on_one_line},
    training::{self, Hyperparameters},
};

/// The dataset of a task that names none.
pub const DEFAULT_DATASET: &str = "mnist";
/// The built-in dataset that stands in for [`DEFAULT_DATASET`] where that cannot be had.
pub const FALLBACK_DATASET: &str = "mnist-10k";

/// The first character of every canonical text. It never changes.
const PREFIX: char = '1';

/// Which dataset, and whether the person named it: only an unnamed one may fall back to the built-in digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetChoice {
    pub explicit: bool,
    pub name: String,
}

/// A model, a dataset and hyperparameters, each within its bounds.
#[derive(Clone, PartialEq)]
pub struct TaskSpec {
    model: ModelKind,
    architecture: Architecture,
    dataset: DatasetChoice,
    hyperparameters: Hyperparameters,
    hash: [u8; 32],
}

/// A stored spec that this version cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("it is not the canonical text of a spec: {0}")]
    Malformed(String),
    #[error("this version of kubeml cannot train it: {}", on_one_line(.0))]
    Unknown(Vec<Problem>),
}

impl TaskSpec {
    pub(crate) fn new(
        model: ModelKind,
        architecture: Architecture,
        dataset: DatasetChoice,
        hyperparameters: Hyperparameters,
    ) -> Self {
        let mut spec = Self { model, architecture, dataset, hyperparameters, hash: [0; 32] };
        spec.hash = Sha256::digest(spec.canonical()).into();
        spec
    }

    pub fn model(&self) -> ModelKind {
        self.model
    }

    pub fn dataset(&self) -> &DatasetChoice {
        &self.dataset
    }

    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// The network, from the image to the logits.
    pub fn layers(&self) -> Vec<Layer> {
        self.architecture.layers(self.hyperparameters.dropout)
    }

    /// SHA-256 of the canonical text. Two specs with the same hash ask for the same training.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Every field that applies, with its value.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Field, Setting)> {
        let trained: Vec<_> = training::fields().iter().zip(self.hyperparameters.settings()).collect();
        let choices: BTreeMap<&str, Setting> =
            trained.iter().map(|(field, setting)| (field.name, setting.clone())).collect();
        let applies = move |field: &Field| {
            field.applies_when.is_none_or(|(owner, is)| choices.get(owner) == Some(&Setting::Choice(is)))
        };
        let own: Vec<_> = self.architecture.fields().map(|(field, setting)| (field, setting.clone())).collect();
        trained.into_iter().filter(move |(field, _)| applies(field)).chain(own)
    }

    /// The fields that `POST /api/v1/tasks` takes under `hyperparameters`, with the values in force.
    pub fn hyperparameters_json(&self) -> Map<String, Value> {
        self.settings().map(|(field, setting)| (field.name.to_owned(), setting.to_json())).collect()
    }

    /// The body that asks for this training.
    pub fn to_json(&self) -> Value {
        let given = self.hyperparameters_json().into_iter().filter(|(_, value)| !value.is_null());
        let mut body = json!({ "model": self.model, "hyperparameters": given.collect::<Map<_, _>>() });
        if self.dataset.explicit {
            body["dataset"] = json!(self.dataset.name);
        }
        body
    }

    /// The lowest stored format that can express the spec.
    pub fn format(&self) -> u8 {
        let later = self.settings().filter_map(|(field, setting)| match &field.since {
            Some((format, neutral)) if *neutral != setting => Some(*format),
            _ => None,
        });
        later.chain([self.model.row().since]).max().unwrap_or(1)
    }

    /// The newest format that any spec of this version may have.
    pub fn newest_format() -> u8 {
        let own = ModelKind::all().flat_map(|model| &model.row().fields);
        let fields = training::fields().iter().chain(own).filter_map(|field| field.since.as_ref());
        fields.map(|(format, _)| *format).chain(ModelKind::all().map(|model| model.row().since)).max().unwrap_or(1)
    }

    pub fn canonical(&self) -> String {
        let neutral = |field: &Field, setting: &Setting| field.since.as_ref().is_some_and(|(_, off)| off == setting);
        let kept = self.settings().filter(|(field, setting)| !neutral(field, setting));
        let hyperparameters: BTreeMap<&str, Value> =
            kept.map(|(field, setting)| (field.name, setting.to_json())).collect();
        let canonical = Canonical { dataset: &self.dataset, hyperparameters, model: self.model };
        // Strings, numbers and lists of them are always JSON: bounds keep floats finite.
        format!("{PREFIX}{}", serde_json::to_string(&canonical).unwrap_or_default())
    }

    /// Reads what [`canonical`](Self::canonical) wrote, here or in another version. A field that the text does not have
    /// takes its neutral value, which need not be its default.
    pub fn from_canonical(text: &str) -> Result<Self, SpecError> {
        let malformed = |reason: String| SpecError::Malformed(reason);
        let json = text.strip_prefix(PREFIX).ok_or_else(|| malformed(format!("it does not begin with {PREFIX}")))?;
        let stored: Stored = serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
        let mut draft = Draft::new(&stored.model).on(&stored.dataset.name);
        let model: Option<ModelKind> = stored.model.parse().ok();
        let own = model.into_iter().flat_map(|model| &model.row().fields);
        for field in training::fields().iter().chain(own) {
            if let Some((_, neutral)) = &field.since {
                draft = draft.with(field.name, neutral.to_json());
            }
        }
        for (name, value) in &stored.hyperparameters {
            draft = draft.with(name, value.clone());
        }
        let spec = draft.build().map_err(SpecError::Unknown)?;
        for (field, _) in spec.settings() {
            if field.since.is_none() && !stored.hyperparameters.contains_key(field.name) {
                return Err(malformed(format!("it has no {}", field.name)));
            }
        }
        Ok(Self::new(spec.model, spec.architecture, stored.dataset, spec.hyperparameters))
    }
}

/// The order of the fields is that of the text's keys.
#[derive(Serialize)]
struct Canonical<'a> {
    dataset: &'a DatasetChoice,
    hyperparameters: BTreeMap<&'a str, Value>,
    model: ModelKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    dataset: DatasetChoice,
    hyperparameters: Map<String, Value>,
    model: String,
}

impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// Stored as its canonical text.
impl Serialize for TaskSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

impl<'de> Deserialize<'de> for TaskSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_canonical(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Names go into keys, paths and topics: lower case letters, digits, dot, dash and underscore.
pub fn valid_dataset_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with('.') {
        return Err(format!(
            "{name:?} is not a dataset name: expected 1 to 64 of a to z, 0 to 9, '.', '-', '_', not starting with '.'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
