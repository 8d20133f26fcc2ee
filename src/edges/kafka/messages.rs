//! The messages of hints, submissions, datasets and dead letters, in the older system's JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kubeml_actors::{
    ports::{DatasetNews, DeadLetter, Hint},
    task::TaskId,
};
use kubeml_spec::{Draft, ModelKind, TaskSpec, model::names_in_words, problem::on_one_line};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::wire::python_json;

#[cfg(test)]
mod tests;

/// Nobody writes longer ones; they are not even looked into.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Of an unreadable value that is kept.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// The older system's own.
pub const TEST_MESSAGE: &str = r#"{"task_type": "mlp", "data": "Hello from Master"}"#;

/// A message on the topic `task`.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskMessage {
    Hint(Hint),
    /// The older system's: what should be trained.
    Submission(Map<String, Value>),
    Unreadable(String),
}

pub fn read_task(value: Option<&[u8]>) -> TaskMessage {
    let Some(value) = value else { return TaskMessage::Unreadable("it has no value".to_owned()) };
    if value.len() > VALUE_BYTES_MAX {
        return TaskMessage::Unreadable(format!("{} bytes are more than {VALUE_BYTES_MAX}", value.len()));
    }
    let fields: Map<String, Value> = match serde_json::from_slice(value) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return TaskMessage::Unreadable("it is no JSON object".to_owned()),
        Err(error) => return TaskMessage::Unreadable(format!("it is no JSON: {error}")),
    };
    match fields.get("task_id") {
        None | Some(Value::Null) => TaskMessage::Submission(fields),
        Some(id) => match id.as_str().and_then(|id| id.parse().ok()) {
            Some(task) => TaskMessage::Hint(Hint { task, model: model(&fields) }),
            None => TaskMessage::Unreadable("its task_id is no id".to_owned()),
        },
    }
}

fn model(fields: &Map<String, Value>) -> Option<ModelKind> {
    fields.get("task_type")?.as_str()?.parse().ok()
}

/// What a submission of the older kind asks for: a model, with every default.
pub fn spec(fields: &Map<String, Value>) -> Result<TaskSpec, String> {
    let Some(model) = model(fields) else {
        let found: String =
            fields.get("task_type").map_or("none".to_owned(), Value::to_string).chars().take(80).collect();
        return Err(format!("expected a task_type of {}, found {found}", names_in_words()));
    };
    Draft::new(model.as_str()).build().map_err(|problems| on_one_line(&problems))
}

#[derive(Serialize)]
struct HintValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    task_id: TaskId,
    v: u8,
}

pub fn hint(hint: Hint) -> String {
    python_json::to_string(&HintValue { task_type: hint.model.map(ModelKind::as_str), task_id: hint.task, v: 1 })
}

#[derive(Serialize)]
struct DatasetValue<'a> {
    dataset_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size_mb: Option<f64>,
    status: &'static str,
    total_chunks: usize,
    /// By partition; our store has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_distribution: Option<Distribution>,
}

#[derive(Serialize)]
struct Distribution {
    #[serde(rename = "0")]
    all: usize,
}

pub fn dataset(news: &DatasetNews) -> String {
    let megabytes = news.bytes as f64 / news.chunks.max(1) as f64 / 1e6;
    python_json::to_string(&DatasetValue {
        dataset_name: &news.dataset,
        batch_size_mb: (!news.completed).then_some((megabytes * 100.0).round() / 100.0),
        status: if news.completed { "completed" } else { "loading" },
        total_chunks: news.chunks,
        chunk_distribution: news.completed.then_some(Distribution { all: news.chunks }),
    })
}

#[derive(Serialize)]
struct LetterValue<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

pub fn letter(letter: &DeadLetter) -> String {
    let DeadLetter { topic, reason, detail } = letter;
    python_json::to_string(&LetterValue { topic, partition: None, offset: None, reason, detail, value_base64: None })
}

/// Of a message that nobody can act on.
#[derive(Clone, Copy, Debug)]
pub struct Dead<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub reason: &'a str,
    pub detail: &'a str,
    pub value: Option<&'a [u8]>,
}

pub fn dead(dead: Dead<'_>) -> String {
    let Dead { topic, partition, offset, reason, detail, value } = dead;
    let value_base64 = value.map(|value| BASE64_STANDARD.encode(&value[..value.len().min(KEPT_BYTES_MAX)]));
    let (partition, offset) = (Some(partition), Some(offset));
    python_json::to_string(&LetterValue { topic, partition, offset, reason, detail, value_base64 })
}
