//! What a person asks for, as written: a model, a dataset and some hyperparameters, all of them JSON values.
//!
//! [`Draft::build`] makes a [`TaskSpec`] of it or names every problem at once.

use serde_json::{Map, Value};

use crate::{
    field::{Field, Setting},
    model::{Architecture, ModelKind, UnknownModel},
    problem::{Problem, pointer_token},
    suggest::did_you_mean,
    task_spec::{DEFAULT_DATASET, DatasetChoice, TaskSpec, valid_dataset_name},
    training::{self, Hyperparameters},
};

/// The parts of a task's body that say what to train. `null` is as good as left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    model: Value,
    dataset: Value,
    hyperparameters: Value,
}

impl Draft {
    /// The reference settings of a model.
    pub fn new(model: &str) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Takes its parts out of a body.
    pub fn take_from(body: &mut Map<String, Value>) -> Self {
        let mut take = |name: &str| body.remove(name).unwrap_or_default();
        Self { model: take("model"), dataset: take("dataset"), hyperparameters: take("hyperparameters") }
    }

    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        if !self.hyperparameters.is_object() {
            self.hyperparameters = Value::Object(Map::new());
        }
        self.hyperparameters[field] = value.into();
        self
    }

    #[must_use]
    pub fn on(self, dataset: &str) -> Self {
        Self { dataset: dataset.into(), ..self }
    }

    /// A spec, or every problem with the draft.
    pub fn build(&self) -> Result<TaskSpec, Vec<Problem>> {
        let mut problems = Vec::new();
        let model = self.read_model().map_err(|problem| problems.push(problem)).ok();
        let dataset = self.read_dataset().map_err(|problem| problems.push(problem)).ok();
        let empty = Map::new();
        let given = match &self.hyperparameters {
            Value::Object(given) => given,
            Value::Null => &empty,
            other => {
                problems.push(Problem::wrong_type("/hyperparameters", "an object", other));
                &empty
            }
        };
        let reading = Reading { given, model };
        let trained = reading.training(&mut problems);
        let own = reading.own(&mut problems);
        reading.others(&mut problems);
        match (model, dataset) {
            (Some(model), Some(dataset)) if problems.is_empty() => {
                let hyperparameters = Hyperparameters::from_settings(&trained);
                Ok(TaskSpec::new(model, Architecture::new(model, own), dataset, hyperparameters))
            }
            _ => Err(problems),
        }
    }

    fn read_model(&self) -> Result<ModelKind, Problem> {
        match &self.model {
            Value::Null => {
                let names: Vec<&str> = ModelKind::names().collect();
                Err(Problem::new("/model", format!("missing: expected one of {}", names.join(", "))))
            }
            Value::String(name) => {
                name.parse().map_err(|error: UnknownModel| Problem::new("/model", error.to_string()))
            }
            other => Err(Problem::wrong_type("/model", "a string", other)),
        }
    }

    fn read_dataset(&self) -> Result<DatasetChoice, Problem> {
        match &self.dataset {
            Value::Null => Ok(DatasetChoice { name: DEFAULT_DATASET.to_owned(), explicit: false }),
            Value::String(name) => match valid_dataset_name(name) {
                Ok(()) => Ok(DatasetChoice { name: name.clone(), explicit: true }),
                Err(message) => Err(Problem::new("/dataset", message)),
            },
            other => Err(Problem::wrong_type("/dataset", "a string", other)),
        }
    }
}

/// The hyperparameters of a draft against the tables. An unknown model has every model's own fields, so that the rest of
/// the draft is checked as well.
struct Reading<'a> {
    given: &'a Map<String, Value>,
    model: Option<ModelKind>,
}

impl Reading<'_> {
    /// A setting for each row of the training's table.
    fn training(&self, problems: &mut Vec<Problem>) -> Vec<Setting> {
        let of_model = self.model.map_or(&[][..], |model| &model.row().defaults);
        let read = training::fields().iter().map(|field| {
            let default = of_model.iter().find(|(name, _)| *name == field.name).map_or(&field.default, |(_, own)| own);
            let setting = self.read(field, default, problems);
            if let (Some((owner, is)), true) = (field.applies_when, self.is_given(field.name))
                && self.choice(owner) != is
            {
                problems.push(only(field, &format!("{owner} {is}")));
            }
            setting
        });
        read.collect()
    }

    /// A setting for each of the model's own fields.
    fn own(&self, problems: &mut Vec<Problem>) -> Vec<Setting> {
        let own = self.model.map_or(&[][..], |model| &model.row().fields);
        own.iter().map(|field| self.read(field, &field.default, problems)).collect()
    }

    /// Fields that only other models have, and fields that nothing has.
    fn others(&self, problems: &mut Vec<Problem>) {
        let mine = self.model.map_or(&[][..], |model| &model.row().fields);
        let is_known = |name: &str| training::fields().iter().chain(mine).any(|field| field.name == name);
        for (name, value) in self.given.iter().filter(|(name, _)| !is_known(name)) {
            let owners = ModelKind::all().filter(|model| model.row().fields.iter().any(|field| field.name == name));
            let owners: Vec<ModelKind> = owners.collect();
            match owners.first().and_then(|owner| owner.row().fields.iter().find(|field| field.name == name)) {
                None => problems.push(self.unknown(name)),
                Some(_) if value.is_null() => {}
                Some(field) if self.model.is_some() => {
                    let owners: Vec<&str> = owners.iter().map(|owner| owner.as_str()).collect();
                    problems.push(only(field, &format!("model {}", owners.join(" or "))));
                }
                Some(field) => {
                    field.read(value, problems);
                }
            }
        }
    }

    fn unknown(&self, name: &str) -> Problem {
        let own = ModelKind::all().filter(|model| self.model.is_none_or(|mine| mine == *model));
        let known = training::fields().iter().chain(own.flat_map(|model| &model.row().fields));
        let hint = did_you_mean(name, known.map(|field| field.name));
        Problem::new(format!("/hyperparameters/{}", pointer_token(name)), format!("unknown field{hint}"))
    }

    fn read(&self, field: &Field, default: &Setting, problems: &mut Vec<Problem>) -> Setting {
        let given = self.given.get(field.name).filter(|value| !value.is_null());
        given.and_then(|value| field.read(value, problems)).unwrap_or_else(|| default.clone())
    }

    fn is_given(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|value| !value.is_null())
    }

    /// The choice in force of a field, as it was written.
    fn choice(&self, name: &str) -> &str {
        let default = training::fields().iter().find(|field| field.name == name).map(|field| &field.default);
        match (self.given.get(name), default) {
            (Some(Value::String(given)), _) => given,
            (_, Some(Setting::Choice(default))) => default,
            _ => "",
        }
    }
}

fn only(field: &Field, owner: &str) -> Problem {
    Problem::new(format!("/hyperparameters/{}", field.name), format!("only {owner} has it"))
}

#[cfg(test)]
mod tests;
