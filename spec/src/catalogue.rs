//! The tables as data: `GET /api/v1/catalogue`, `kubeml catalogue`, JSON Schema, the table in `docs/models.md`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    field::Field,
    model::ModelKind,
    outcome::{EPOCH_METRICS, Metric, StopReason},
    task_spec::DEFAULT_DATASET,
    training,
};

/// Everything that a form, a completion or a reader needs to know.
pub fn catalogue() -> Value {
    let models = ModelKind::all().map(|model| {
        let row = model.row();
        let defaults: BTreeMap<&str, Value> =
            row.defaults.iter().map(|(name, setting)| (*name, setting.to_json())).collect();
        json!({
            "name": row.name,
            "help": row.help,
            "fields": row.fields.iter().map(Field::to_json).collect::<Vec<_>>(),
            "defaults": defaults,
        })
    });
    json!({
        "models": models.collect::<Vec<_>>(),
        "hyperparameters": training::fields().iter().map(Field::to_json).collect::<Vec<_>>(),
        "metrics": EPOCH_METRICS.iter().map(Metric::to_json).collect::<Vec<_>>(),
        "stop_reasons": StopReason::NAMES,
        "default_dataset": DEFAULT_DATASET,
    })
}

/// Every field that some training has: those of all, then those of single models, each name once.
pub fn all_fields() -> Vec<&'static Field> {
    let mut fields: Vec<&Field> = training::fields().iter().collect();
    for field in ModelKind::all().flat_map(|model| &model.row().fields) {
        if fields.iter().all(|known| known.name != field.name) {
            fields.push(field);
        }
    }
    fields
}

/// The hyperparameters of a task's body as JSON Schema (draft 2020-12).
pub fn hyperparameters_schema() -> Value {
    let properties: Map<String, Value> =
        all_fields().into_iter().map(|field| (field.name.to_owned(), field.schema())).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Where a field applies, in words; empty if it always does.
pub fn applies_in_words(field: &Field) -> String {
    let owners: Vec<&str> = ModelKind::all()
        .filter(|model| model.row().fields.iter().any(|own| own.name == field.name))
        .map(ModelKind::as_str)
        .collect();
    match field.applies_when {
        Some((owner, is)) => format!("{owner} {is}"),
        None if owners.is_empty() => String::new(),
        None => owners.join(", "),
    }
}

/// The default in words, with the models that have another one.
pub fn default_in_words(field: &Field) -> String {
    let shown = |value: Value| match value {
        Value::Null => "off".to_owned(),
        Value::String(text) => text,
        Value::Array(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    let mut words = shown(field.default.to_json());
    for model in ModelKind::all() {
        if let Some((_, own)) = model.row().defaults.iter().find(|(name, _)| *name == field.name) {
            words.push_str(&format!(", {model} {}", shown(own.to_json())));
        }
    }
    words
}

/// The tables of models, hyperparameters and metrics as Markdown.
pub fn markdown() -> String {
    let mut text = String::from("## Models\n\n| model | |\n|---|---|\n");
    for model in ModelKind::all() {
        text.push_str(&format!("| `{model}` | {} |\n", model.row().help));
    }
    text.push_str("\n## Hyperparameters\n\n| field | values | default | applies to | |\n|---|---|---|---|---|\n");
    for field in all_fields() {
        let (name, values, help) = (field.name, field.values(), field.help);
        let (default, applies) = (default_in_words(field), applies_in_words(field));
        text.push_str(&format!("| `{name}` | {values} | {default} | {applies} | {help} |\n"));
    }
    text.push_str("\n## Metrics of an epoch\n\n| metric | unit | better | |\n|---|---|---|---|\n");
    for row in EPOCH_METRICS.iter().map(Metric::to_json) {
        let cell = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", cell("name"), cell("unit"), cell("better"), cell("help")));
    }
    text
}
