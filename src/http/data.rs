//! Datasets and the cache in front of them.

use kubeml_actors::dataset::Manifest;
use serde::Serialize;
use warp::http::StatusCode;

use super::{
    call::{Answer, Call, Text, empty, json},
    error::{Code, Problem},
};

#[derive(Serialize)]
struct Listed<T> {
    items: Vec<T>,
    next: Option<String>,
}

#[derive(Serialize)]
struct DatasetView {
    name: String,
    version: String,
    sha256: String,
    classes: u32,
    height: u32,
    width: u32,
    train_samples: u64,
    test_samples: u64,
    bytes: u64,
}

impl From<Manifest> for DatasetView {
    fn from(manifest: Manifest) -> Self {
        Self {
            bytes: manifest.bytes(),
            train_samples: manifest.train.samples,
            test_samples: manifest.test.samples,
            name: manifest.name,
            version: manifest.version,
            sha256: manifest.sha256,
            classes: manifest.classes,
            height: manifest.height,
            width: manifest.width,
        }
    }
}

/// `GET /api/v1/datasets`: those that are stored.
pub async fn datasets(call: Call) -> Answer {
    call.query(&[]).finish()?;
    let manifests = call.api.context.ports.datasets.manifests().await?;
    let items = manifests.into_iter().map(DatasetView::from).collect();
    json(StatusCode::OK, &Listed { items, next: None })
}

/// `GET /api/v1/datasets/{name}`
pub async fn dataset(name: Text, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let manifest = call.api.context.ports.datasets.manifest(&name.to_string()).await?;
    let manifest = manifest.ok_or_else(|| {
        Problem::new(
            Code::NotFound,
            format!("no dataset {:?} is stored: a task that names it brings it in", name.to_string()),
        )
    })?;
    json(StatusCode::OK, &DatasetView::from(manifest))
}

#[derive(Serialize)]
struct WarmedView {
    dataset: String,
    /// It was in the cache before.
    already: bool,
}

/// `POST /api/v1/datasets/{name}/warm`
pub async fn warm(name: Text, call: Call) -> Answer {
    call.query(&[]).finish()?;
    let dataset = name.to_string();
    let warmed = call.api.handles.warmer.warm(dataset.clone()).await?;
    json(StatusCode::OK, &WarmedView { dataset, already: warmed.already })
}

#[derive(Serialize)]
struct CacheView {
    entries: u64,
    bytes: u64,
    hits: u64,
    misses: u64,
}

/// `GET /api/v1/catalogue`: models, hyperparameters and metrics, with bounds, defaults and help.
pub async fn catalogue(call: Call) -> Answer {
    call.query(&[]).finish()?;
    json(StatusCode::OK, &kubeml_spec::catalogue::catalogue())
}

/// `GET /api/v1/cache`
pub async fn cache(call: Call) -> Answer {
    call.query(&[]).finish()?;
    let stats = call.api.context.ports.cache.stats().await?;
    let (entries, bytes, hits, misses) = (stats.entries, stats.bytes, stats.hits, stats.misses);
    json(StatusCode::OK, &CacheView { entries, bytes, hits, misses })
}

/// `DELETE /api/v1/cache`: nothing is lost; what is needed next is read from the store.
pub async fn clear_cache(call: Call) -> Answer {
    call.query(&[]).finish()?;
    call.api.context.ports.cache.clear().await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
