//! Datasets whose source misbehaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    context::Settings,
    dataset::{ChunkHash, Manifest, RawDataset},
    dataset_loader::LoadError,
    handle::Crash,
    in_memory::NoCache,
    ports::{DatasetSource, DatasetStore, FetchProgress, PortError},
    testing::test_tree::{TestTree, World, digits, draft},
};
use tokio::time::timeout;

/// Panics, then fails, then takes its time and delivers.
struct Shaky {
    fetches: AtomicU32,
    panics: u32,
    failures: u32,
}

#[async_trait]
impl DatasetSource for Shaky {
    fn names(&self) -> Vec<String> {
        vec!["mnist".to_owned()]
    }

    async fn fetch(&self, name: &str, _: &FetchProgress) -> Result<RawDataset, PortError> {
        let before = self.fetches.fetch_add(1, Ordering::SeqCst);
        assert!(before >= self.panics, "scripted panic of the source");
        if before < self.panics + self.failures {
            return Err(PortError::Unavailable("scripted outage of the source".to_owned()));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(digits(name))
    }
}

async fn over_shaky_source(panics: u32, failures: u32) -> (Arc<Shaky>, TestTree) {
    let mut world = World::new();
    let source = Arc::new(Shaky { fetches: AtomicU32::new(0), panics, failures });
    world.ports.source = source.clone();
    (source, world.start(Settings { slots: 3, ..Settings::default() }).await)
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_fails_its_askers_and_not_those_after_them() {
    let (_, node) = over_shaky_source(1, 0).await;
    let loader = &node.tree.handles.loader;
    let first = timeout(Duration::from_secs(60), loader.import("mnist".to_owned())).await.expect("it is told");
    assert!(matches!(first, Err(LoadError::Unavailable(_))), "{first:?}");
    assert!(loader.import("mnist".to_owned()).await.is_ok());
    assert_eq!(node.restarts("dataset_loader"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_costs_a_task_time_and_no_charge() {
    let (_, node) = over_shaky_source(1, 3).await;
    let id = node.submit(draft().on("mnist")).await;
    let record = node.expect_success(id).await;
    assert!(record.attempt >= 2, "{}", record.attempt);
    assert_eq!(record.no_progress, 0);
    assert_eq!(node.restarts("trainer"), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_a_dataset_at_the_same_time_shares_one_fetch() {
    let (source, node) = over_shaky_source(0, 0).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(node.submit(draft().on("mnist")).await);
    }
    for id in ids {
        node.expect_success(id).await;
    }
    assert_eq!(source.fetches.load(Ordering::SeqCst), 1);
}

/// A store that is away, two times of three or always.
struct Moody {
    inner: Arc<dyn DatasetStore>,
    calls: AtomicU32,
    is_gone: bool,
}

impl Moody {
    fn ask(&self) -> Result<&dyn DatasetStore, PortError> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_gone || calls % 3 < 2 {
            return Err(PortError::Unavailable("scripted outage of the store".to_owned()));
        }
        Ok(self.inner.as_ref())
    }
}

#[async_trait]
impl DatasetStore for Moody {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError> {
        self.ask()?.put_chunks(chunks).await
    }

    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError> {
        self.ask()?.get_chunk(hash).await
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError> {
        self.ask()?.put_manifest(manifest).await
    }

    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError> {
        self.ask()?.manifest(name).await
    }

    async fn manifests(&self) -> Result<Vec<Manifest>, PortError> {
        self.ask()?.manifests().await
    }

    async fn begin_import(&self, name: &str) -> Result<bool, PortError> {
        self.ask()?.begin_import(name).await
    }

    async fn end_import(&self, name: &str) -> Result<(), PortError> {
        self.ask()?.end_import(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_outlasts_moments_without_the_store_and_says_so_of_a_longer_one() {
    for is_gone in [false, true] {
        let mut world = World::new();
        let source = Arc::new(Shaky { fetches: AtomicU32::new(0), panics: 0, failures: 0 });
        world.ports.source = source.clone();
        let inner = world.ports.datasets.clone();
        world.ports.datasets = Arc::new(Moody { inner: inner.clone(), calls: AtomicU32::new(0), is_gone });
        let node = world.start(Settings::default()).await;
        let imported = node.tree.handles.loader.import("mnist".to_owned()).await;
        if is_gone {
            assert!(matches!(imported, Err(LoadError::Unavailable(_))), "{imported:?}");
        } else {
            assert!(imported.is_ok(), "{imported:?}");
            assert!(inner.manifest("mnist").await.is_ok_and(|manifest| manifest.is_some()));
        }
        assert_eq!(source.fetches.load(Ordering::SeqCst), u32::from(!is_gone));
    }
}

/// A store in which the chunks of before are damaged, or lost, until they are put again.
struct Damaged {
    inner: Arc<dyn DatasetStore>,
    is_damaged: AtomicBool,
    damage: PortError,
    is_imported: AtomicBool,
}

impl Damaged {
    /// With MNIST.
    async fn over(inner: Arc<dyn DatasetStore>, damage: PortError) -> Arc<Self> {
        let (manifest, chunks) = digits("mnist").cut();
        inner.put_chunks(&chunks).await.unwrap();
        inner.put_manifest(&manifest).await.unwrap();
        Arc::new(Self { inner, is_damaged: AtomicBool::new(true), damage, is_imported: AtomicBool::new(false) })
    }
}

#[async_trait]
impl DatasetStore for Damaged {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError> {
        self.is_damaged.store(false, Ordering::SeqCst);
        self.inner.put_chunks(chunks).await
    }

    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError> {
        if self.is_damaged.load(Ordering::SeqCst) {
            return Err(self.damage.clone());
        }
        self.inner.get_chunk(hash).await
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError> {
        self.inner.put_manifest(manifest).await
    }

    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError> {
        self.inner.manifest(name).await
    }

    async fn manifests(&self) -> Result<Vec<Manifest>, PortError> {
        self.inner.manifests().await
    }

    async fn begin_import(&self, _: &str) -> Result<bool, PortError> {
        Ok(!self.is_imported.swap(true, Ordering::SeqCst))
    }

    async fn end_import(&self, _: &str) -> Result<(), PortError> {
        self.is_imported.store(false, Ordering::SeqCst);
        Ok(())
    }
}

fn damages() -> [PortError; 2] {
    [PortError::Corrupt("other bytes".to_owned()), PortError::NotFound("a chunk".to_owned())]
}

#[tokio::test(start_paused = true)]
async fn a_dataset_that_is_stored_damaged_is_imported_again_if_its_source_has_it() {
    for (damage, failures) in damages().into_iter().flat_map(|damage| [(damage.clone(), 0), (damage, u32::MAX)]) {
        let mut world = World::new();
        let source = Arc::new(Shaky { fetches: AtomicU32::new(0), panics: 0, failures });
        let store = Damaged::over(world.ports.datasets.clone(), damage.clone()).await;
        (world.ports.source, world.ports.datasets) = (source.clone(), store.clone());
        world.ports.cache = Arc::new(NoCache);
        let node = world.start(Settings::default()).await;
        match node.tree.handles.loader.import("mnist".to_owned()).await {
            Ok(_) => assert_eq!(failures, 0),
            Err(LoadError::Unavailable(text)) => {
                assert!(failures > 0 && text.starts_with(&damage.to_string()) && text.contains("outage"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(source.fetches.load(Ordering::SeqCst), 1);
        assert!(!store.is_imported.load(Ordering::SeqCst), "the import has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dataset_that_another_node_is_importing_again_is_waited_for() {
    for damage in damages() {
        let mut world = World::new();
        let source = Arc::new(Shaky { fetches: AtomicU32::new(0), panics: 0, failures: 0 });
        let store = Damaged::over(world.ports.datasets.clone(), damage).await;
        (world.ports.source, world.ports.datasets) = (source.clone(), store.clone());
        world.ports.cache = Arc::new(NoCache);
        let node = world.start(Settings::default()).await;
        assert!(store.begin_import("mnist").await.unwrap());
        let others = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(store.is_imported.load(Ordering::SeqCst), "nobody has taken the mark away");
            store.is_damaged.store(false, Ordering::SeqCst);
            store.end_import("mnist").await.unwrap();
        };
        let (imported, ()) = tokio::join!(node.tree.handles.loader.import("mnist".to_owned()), others);
        assert!(imported.is_ok(), "{imported:?}");
        assert_eq!(source.fetches.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_cancelled_while_its_dataset_is_on_its_way() {
    let (_, node) = over_shaky_source(0, 0).await;
    let id = node.submit(draft().on("mnist")).await;
    node.wait_for_kind(id, "claimed").await;
    node.tree.handles.dispatcher.cancel(id).await.unwrap();
    let record = node.wait_for_end(id).await;
    assert!(record.finished_at.unwrap().since(record.created_at) < Duration::from_secs(2), "it does not wait for it");
    assert_eq!(record.state.as_str(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_dies_is_asked_again_and_costs_no_attempt() {
    let (source, node) = over_shaky_source(0, 0).await;
    let id = node.submit(draft().on("mnist")).await;
    node.wait_for_kind(id, "claimed").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(node.tree.handles.crash("dataset_loader").await, Ok(Crash::Sent));
    assert_eq!(node.expect_success(id).await.attempt, 1);
    assert_eq!(source.fetches.load(Ordering::SeqCst), 2);
}
