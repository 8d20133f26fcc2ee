//! Datasets and the cache in front of them.

use serde::Serialize;
use warp::http::StatusCode;

use super::call::{Answer, Call, Text, empty, json};

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

/// `GET /api/v1/datasets`: those that are stored.
pub async fn datasets(call: Call) -> Answer {
    call.query(&[]).finish()?;
    let manifests = call.api.context.ports.datasets.manifests().await?;
    let items = manifests.into_iter().map(|manifest| DatasetView {
        bytes: manifest.bytes(),
        train_samples: manifest.train.samples,
        test_samples: manifest.test.samples,
        name: manifest.name,
        version: manifest.version,
        sha256: manifest.sha256,
        classes: manifest.classes,
        height: manifest.height,
        width: manifest.width,
    });
    json(StatusCode::OK, &Listed { items: items.collect(), next: None })
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
