//! A task's trained weights, as safetensors.

use std::str::FromStr;

use kubeml_actors::task::{ArtifactRef, TaskRecord, TaskResult};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    call::{Answer, Call, Id, empty, header_value},
    error::{Code, Problem},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Final,
    Best,
}

impl FromStr for Which {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "final" => Ok(Self::Final),
            "best" => Ok(Self::Best),
            _ => Err(()),
        }
    }
}

/// `GET /api/v1/tasks/{id}/model?which=final|best`
pub async fn download(id: Id, call: Call) -> Answer {
    let mut query = call.query(&["which"]);
    let which = query.get("which", "final or best").unwrap_or(Which::Final);
    query.finish()?;
    let record = call.api.handles.dispatcher.get(id.task()?).await?;
    let result = result_of(&record)?;
    let (artifact, tag, suffix) = match which {
        Which::Final => (&result.model, result.outcome.weights_sha256.clone(), ""),
        Which::Best => (&result.best_model, hash_of(&result.best_model), "-best"),
    };
    let etag = format!("\"{tag}\"");
    let known = call.header("if-none-match")?.is_some_and(|tags| names(tags, &etag));
    let mut response = if known {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(call.api.context.ports.artifacts.get(artifact).await?.into())
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, header_value(&etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !known {
        let file = format!("attachment; filename=\"{}-{}{suffix}.safetensors\"", record.spec.model(), record.id);
        headers.insert(header::CONTENT_DISPOSITION, header_value(&file));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(response)
}

fn result_of(record: &TaskRecord) -> Result<&TaskResult, Problem> {
    let (id, state) = (record.id, record.state);
    match &record.result {
        Some(result) => Ok(result),
        None if state.is_terminal() => {
            Err(Problem::new(Code::NoModel, format!("task {id} was {state}: it has no model")))
        }
        None => {
            Err(Problem::new(Code::TaskNotEnded, format!("task {id} is {state}: its model is there once it succeeded")))
        }
    }
}

fn hash_of(artifact: &ArtifactRef) -> String {
    artifact.hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an `If-None-Match` names `etag`.
fn names(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
