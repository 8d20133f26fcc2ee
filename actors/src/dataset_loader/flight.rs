//! One dataset's way into memory: from the source into the store if it is not there yet, from the cache or the store
//! chunk by chunk, each verified.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{interval, sleep},
};

use crate::{
    context::Context,
    dataset::{ChunkHash, Dataset, Manifest, RawDataset},
    event::LogLevel,
    handle::AskError,
    patience::{PATIENCE, patiently},
    ports::{DatasetNews, FetchProgress, Fetching, PortError},
    task::{Failure, FailureKind},
};

/// Chunks written to the store at a time.
const PUT_BATCH: usize = 8;
/// Batches on their way to the store: while one is being written, the next is packed.
const PUTS_AT_ONCE: usize = 2;
/// Chunks read at a time: while one is waited for, another is unpacked and checked.
const CHUNKS_AT_ONCE: usize = 4;
/// How often an import says in the log how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no such dataset, or it is to be had nowhere just now.
    #[error("{0}")]
    Absent(String),
    /// Trying again cannot help.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
}

impl LoadError {
    /// What it means for a task that needs the dataset.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::Absent(_) | Self::Refused(_) => FailureKind::Permanent,
            Self::Unavailable(_) => FailureKind::Infrastructure,
        };
        Failure::new(kind, self.to_string())
    }
}

impl From<PortError> for LoadError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::NotFound(message) => Self::Absent(message),
            PortError::Rejected(message) => Self::Refused(message),
            PortError::Unavailable(message) | PortError::Corrupt(message) => Self::Unavailable(message),
        }
    }
}

impl From<AskError> for LoadError {
    fn from(error: AskError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Loads the dataset whole, importing it first if it is not stored, or again if what is stored is damaged.
pub async fn fly(context: &Context, name: &str) -> Result<Arc<Dataset>, LoadError> {
    let found = match stored(context, name).await {
        Ok(Some(dataset)) => Ok(dataset),
        Ok(None) => match import(context, name).await? {
            Imported::Here(dataset) => Ok(dataset),
            Imported::Elsewhere(manifest) => read(context, manifest).await,
        },
        Err(error) => Err(error),
    };
    match found {
        Ok(dataset) => Ok(dataset.into()),
        Err(damage @ (PortError::Corrupt(_) | PortError::NotFound(_))) => repair(context, name, &damage).await,
        Err(error) => Err(error.into()),
    }
}

async fn stored(context: &Context, name: &str) -> Result<Option<Dataset>, PortError> {
    match patiently(PATIENCE, || context.ports.datasets.manifest(name)).await? {
        Some(manifest) => read(context, manifest).await.map(Some),
        None => Ok(None),
    }
}

/// Makes sure that every chunk is in the cache. `true` when all of them were there before.
pub async fn fill_cache(context: &Context, manifest: &Manifest) -> Result<bool, PortError> {
    let filling = manifest.chunks().map(|hash| fill_chunk(context, hash));
    let was_cached = stream::iter(filling).buffer_unordered(CHUNKS_AT_ONCE);
    was_cached.try_fold(true, async |all, one| Ok(all && one)).await
}

/// `true` when it was there before.
async fn fill_chunk(context: &Context, hash: ChunkHash) -> Result<bool, PortError> {
    if cached_chunk(context, hash).await.is_some() {
        return Ok(true);
    }
    let bytes = context.ports.datasets.get_chunk(hash).await?;
    context.ports.cache.put(hash, bytes).await?;
    Ok(false)
}

enum Imported {
    /// By this node, which has it in memory.
    Here(Dataset),
    Elsewhere(Manifest),
}

/// One node imports, the others wait for what it brings.
async fn import(context: &Context, name: &str) -> Result<Imported, PortError> {
    let datasets = &context.ports.datasets;
    // A mark that was set without a reply is waited for like another node's, until it is forgotten.
    while !patiently(PATIENCE, || datasets.begin_import(name)).await? {
        sleep(PROGRESS_INTERVAL).await;
        if let Some(manifest) = patiently(PATIENCE, || datasets.manifest(name)).await? {
            return Ok(Imported::Elsewhere(manifest));
        }
    }
    let imported = import_alone(context, name).await;
    end_import(context, name).await;
    imported.map(Imported::Here)
}

async fn end_import(context: &Context, name: &str) {
    if let Err(error) = context.ports.datasets.end_import(name).await {
        tracing::debug!(name, %error, "others may import it a little later only");
    }
}

/// Imports what the store has lost or holds damaged, unless another node has done so by then.
async fn repair(context: &Context, name: &str, damage: &PortError) -> Result<Arc<Dataset>, LoadError> {
    say(context, format!("{name} is stored damaged, and is imported again: {damage}")).await;
    while !patiently(PATIENCE, || context.ports.datasets.begin_import(name)).await? {
        sleep(PROGRESS_INTERVAL).await;
    }
    let repaired = match stored(context, name).await {
        Ok(Some(dataset)) => Ok(dataset),
        Ok(None) | Err(PortError::Corrupt(_) | PortError::NotFound(_)) => import_alone(context, name).await,
        Err(error) => Err(error),
    };
    end_import(context, name).await;
    repaired.map(Arc::new).map_err(|error| {
        let text = format!("{damage}; it cannot be imported again: {error}");
        // Where its files are missing whoever needs it waits until they are brought: it had been there.
        if matches!(error, PortError::Rejected(_)) { LoadError::Refused(text) } else { LoadError::Unavailable(text) }
    })
}

async fn import_alone(context: &Context, name: &str) -> Result<Dataset, PortError> {
    let _timer = context.metrics.dataset_import_seconds.start_timer();
    say(context, format!("loading {name}")).await;
    let raw = fetch(context, name).await?;
    raw.check().map_err(|error| PortError::Rejected(error.to_string()))?;
    let (dataset, chunks) = cut(raw).await?;
    let manifest = &dataset.manifest;
    let bytes = chunks.iter().map(|(_, chunk)| chunk.len() as u64).sum();
    let news = |completed| DatasetNews { dataset: name.to_owned(), completed, chunks: chunks.len(), bytes };
    context.ports.bus.note_dataset(news(false));
    let put = |batch| patiently(PATIENCE, move || context.ports.datasets.put_chunks(batch)).map_ok(|()| batch.len());
    let puts: Vec<_> = chunks.chunks(PUT_BATCH).map(put).collect();
    let mut puts = stream::iter(puts).buffer_unordered(PUTS_AT_ONCE);
    let mut stored = 0;
    while let Some(count) = puts.try_next().await? {
        stored += count;
        tracing::debug!(dataset = name, stored, of = chunks.len(), "storing chunks");
    }
    patiently(PATIENCE, || context.ports.datasets.put_manifest(manifest)).await?;
    context.ports.bus.note_dataset(news(true));
    let (train, test) = (manifest.train.samples, manifest.test.samples);
    say(context, format!("loaded {name}: {train} training and {test} test samples in {} chunks", chunks.len())).await;
    Ok(dataset)
}

/// Fetches from the source, and says in the log how far it is.
async fn fetch(context: &Context, name: &str) -> Result<RawDataset, PortError> {
    let (sender, mut receiver) = watch::channel(None);
    let progress = FetchProgress::new(move |fetching| {
        sender.send_replace(Some(fetching));
    });
    let mut fetching = context.ports.source.fetch(name, &progress);
    let mut ticks = interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            raw = &mut fetching => return raw,
            _ = ticks.tick() => {
                let news = receiver.has_changed().unwrap_or(false).then(|| receiver.borrow_and_update().clone()).flatten();
                if let Some(news) = news {
                    say(context, describe(name, &news)).await;
                }
            }
        }
    }
}

fn describe(name: &str, Fetching { item, bytes_done, bytes_total }: &Fetching) -> String {
    const MB: f64 = 1e6;
    let done = *bytes_done as f64 / MB;
    match bytes_total {
        Some(total) => format!("loading {name}: {item}, {done:.1} of {:.1} MB", *total as f64 / MB),
        None => format!("loading {name}: {item}, {done:.1} MB"),
    }
}

/// Hashing takes a fraction of a second for MNIST: too long for an async thread.
async fn cut(raw: RawDataset) -> Result<(Dataset, Vec<(ChunkHash, Bytes)>), PortError> {
    let cutting = spawn_blocking(move || {
        let (manifest, chunks) = raw.cut();
        (Dataset { manifest, train: raw.train, test: raw.test }, chunks)
    });
    cutting.await.map_err(|error| PortError::Unavailable(format!("cutting the dataset into chunks failed: {error}")))
}

async fn read(context: &Context, manifest: Manifest) -> Result<Dataset, PortError> {
    let reading: Vec<_> =
        manifest.chunks().map(|hash| chunk(context, hash).map_ok(move |bytes| (hash, bytes))).collect();
    let chunks: Vec<_> = stream::iter(reading).buffered(CHUNKS_AT_ONCE).try_collect().await?;
    let assembling = spawn_blocking(move || manifest.assemble(&chunks));
    assembling
        .await
        .map_err(|error| PortError::Unavailable(format!("assembling the dataset failed: {error}")))?
        .map_err(|error| PortError::Corrupt(error.to_string()))
}

/// From the cache if it has it and does not lie, else from the store; a miss fills the cache.
async fn chunk(context: &Context, hash: ChunkHash) -> Result<Bytes, PortError> {
    if let Some(bytes) = cached_chunk(context, hash).await {
        return Ok(bytes);
    }
    let bytes = context.ports.datasets.get_chunk(hash).await?;
    if let Err(error) = context.ports.cache.put(hash, bytes.clone()).await {
        tracing::debug!(%error, "chunk not cached");
    }
    Ok(bytes)
}

async fn cached_chunk(context: &Context, hash: ChunkHash) -> Option<Bytes> {
    let (result, bytes) = match context.ports.cache.get(hash).await {
        Ok(Some(bytes)) if ChunkHash::of(&bytes) == hash => ("hit", Some(bytes)),
        Ok(Some(_)) => ("stale", None),
        Ok(None) => ("miss", None),
        Err(_) => ("error", None),
    };
    context.metrics.cache_requests.with_label_values(&[result]).inc();
    bytes
}

async fn say(context: &Context, message: String) {
    tracing::info!("{message}");
    if let Err(error) = context.log_line(LogLevel::Info, message).await {
        tracing::debug!(%error, "line not logged");
    }
}
