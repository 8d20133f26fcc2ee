//! The older system's routes, with its bodies to the letter; its clients go on working.
//!
//! "Kafka", "Cassandra" and "Redis" in a route or a text mean the bus, the store and the cache that are configured.

use std::fmt::Display;

use kubeml_actors::{event::LogLevel, task::TaskId};
use kubeml_spec::{DEFAULT_DATASET, Draft, ModelKind};
use serde::Serialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::{
    call::{Answer, Call, Text, json as answer, json_text},
    error::{Code, Problem},
    ops::{Checks, is_ok},
    tasks::turn_away_while_draining,
};
use crate::wire::{TEST_LINE, TaskBody};

const KEY_BYTES_MAX: usize = 512;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    db_status: String,
    checks: Checks,
}

/// `GET /health`: what it says is so.
pub async fn health(call: Call) -> Answer {
    health_of(&call, "KubeML is running", "Cassandra  and Redis is connected").await
}

/// `GET /health` of a worker.
pub async fn worker_health(call: Call) -> Answer {
    health_of(&call, "Service running", "Cassandra and Redis connected").await
}

async fn health_of(call: &Call, status: &'static str, good: &str) -> Answer {
    let checks = Checks::make(call).await;
    let parts = [("Cassandra", &checks.store), ("Redis", &checks.cache)];
    let down = parts.into_iter().filter(|(_, check)| !is_ok(check));
    let down: Vec<String> = down.map(|(name, why)| format!("{name} is not reachable: {why}")).collect();
    let db_status = if down.is_empty() { good.to_owned() } else { down.join("; ") };
    answer(StatusCode::OK, &Health { status, db_status, checks })
}

#[derive(Serialize)]
struct Sent {
    message: String,
    task_id: TaskId,
}

/// `POST /send_task/{model}`: a task with every default, on the default dataset.
pub async fn send_task(model: Text, call: Call) -> Answer {
    let kind = model.to_string().parse::<ModelKind>();
    let kind = kind.map_err(|_| Problem::new(Code::BadRequest, "Invalid task type"))?;
    turn_away_while_draining(&call)?;
    let spec = Draft::new(kind.as_str()).build().map_err(Problem::invalid_task)?;
    let submission = TaskBody::from(spec).submission(TaskId::fresh(), None);
    let submitted = call.api.handles.dispatcher.submit(submission).await?;
    let task_id = submitted.record().id;
    answer(StatusCode::OK, &Sent { message: format!("Task {kind} sent to Kafka"), task_id })
}

/// `POST /store_mnist_dataset_to_cassandra`: its progress is on the stream; what is stored already is left alone.
pub async fn store_mnist(call: Call) -> Answer {
    let imported = call.api.handles.loader.import(DEFAULT_DATASET.to_owned()).await;
    imported.map_err(failed)?;
    answer(StatusCode::OK, &json!({ "status": "mnist data successfully stored." }))
}

#[derive(Serialize)]
struct Fetched {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    cached: bool,
}

/// `GET /store_data_from_cassandra_to_redis`
pub async fn warm_mnist(call: Call) -> Answer {
    let warmed = call.api.handles.warmer.warm(DEFAULT_DATASET.to_owned()).await;
    let warmed = warmed.map_err(|error| failed(format!("Failed to fetch data: {error}")))?;
    let status = (!warmed.already).then_some("Data fetched from Redis cache");
    answer(StatusCode::OK, &Fetched { status, cached: true })
}

/// `POST /cache_to_redis/{key}`: the whole body is the value.
pub async fn put_value(key: Text, mut call: Call) -> Answer {
    let key = checked(&key)?;
    let body = call.body().await?;
    let value = match serde_json::from_slice::<Value>(&body) {
        Ok(value @ Value::Object(_)) => value.to_string(),
        Ok(_) => return Ok(unusable(json!(["body"]), "value is not a valid dict", "type_error.dict")),
        Err(error) => {
            let place = json!(["body", error.column()]);
            return Ok(unusable(place, &error.to_string(), "value_error.jsondecode"));
        }
    };
    let stored = call.api.context.ports.cache.put_value(&key, value.clone()).await;
    stored.map_err(|error| failed(format!("Failed to cache data: {error}")))?;
    Ok(keyed("Data cached successfully", &key, &value))
}

/// `GET /get_from_redis/{key}`
pub async fn get_value(key: Text, call: Call) -> Answer {
    let key = checked(&key)?;
    match call.api.context.ports.cache.get_value(&key).await {
        Ok(Some(value)) => Ok(keyed("Data fetched successfully", &key, &value)),
        Ok(None) => Err(failed("Failed to fetch data from Redis cache.")),
        Err(error) => Err(failed(format!("Failed to fetch data from Redis cache: {error}"))),
    }
}

/// `GET /get_from_redis/{key}` of a worker: an unknown key has the value `null`.
pub async fn get_value_or_null(key: Text, call: Call) -> Answer {
    let key = checked(&key)?;
    let value = call.api.context.ports.cache.get_value(&key).await;
    let value = value.map_err(|error| failed(format!("Failed to fetch data from Redis cache: {error}")))?;
    Ok(keyed("Data fetched successfully", &key, value.as_deref().unwrap_or("null")))
}

/// `GET /kafka-status`: the bus of an embedded node is part of it, so it is there when somebody answers.
pub async fn bus_status(call: Call) -> Answer {
    call.api.context.ports.bus.check().await.map_err(|error| {
        tracing::debug!(%error, "the bus does not answer");
        failed("Kafka is not reachable")
    })?;
    answer(StatusCode::OK, &json!({ "status": "Kafka is reachable" }))
}

/// `POST /test_send_training_log` of a worker: a line on everybody's stream.
pub async fn test_training_log(call: Call) -> Answer {
    let sent = call.api.context.log_line(LogLevel::Info, TEST_LINE.to_owned()).await;
    sent.map_err(|error| failed(format!("Failed to send message: {error}")))?;
    answer(StatusCode::OK, &json!({ "status": "Message sent" }))
}

/// `GET /test-producer`: goes where nobody trains.
pub async fn test_producer(call: Call) -> Answer {
    let sent = call.api.context.ports.bus.send_test().await;
    sent.map_err(|error| failed(format!("Failed to send message: {error}")))?;
    let message = r#"{"status":"Message sent","message":{"task_type":"mlp","data":"Hello from Master"}}"#;
    Ok(json_text(StatusCode::OK, message.to_owned()))
}

fn failed(reason: impl Display) -> Problem {
    Problem::new(Code::Internal, reason.to_string())
}

fn checked(key: &Text) -> Result<String, Problem> {
    let key = key.to_string();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
        let detail = format!("the key must have 1 to {KEY_BYTES_MAX} bytes and no control characters");
        return Err(Problem::new(Code::BadRequest, detail));
    }
    Ok(key)
}

/// `value` is JSON already.
fn keyed(status: &str, key: &str, value: &str) -> warp::reply::Response {
    let text = format!(r#"{{"status":"{status}","key":{},"value":{value}}}"#, Value::from(key));
    json_text(StatusCode::OK, text)
}

/// As the older system's framework says it.
fn unusable(place: Value, message: &str, kind: &str) -> warp::reply::Response {
    let (message, kind) = (Value::from(message), Value::from(kind));
    let text = format!(r#"{{"detail":[{{"loc":{place},"msg":{message},"type":{kind}}}]}}"#);
    json_text(StatusCode::UNPROCESSABLE_ENTITY, text)
}
