//! Checkpoints and models in memory.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::lock;
use crate::{
    ports::{ArtifactStore, PortError},
    task::{ArtifactKey, ArtifactRef, TaskId},
};

#[derive(Debug, Default)]
pub struct InMemoryArtifactStore {
    artifacts: Mutex<BTreeMap<ArtifactKey, Bytes>>,
}

impl InMemoryArtifactStore {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn keys(&self) -> Vec<ArtifactKey> {
        lock(&self.artifacts).keys().copied().collect()
    }
}

#[async_trait]
impl ArtifactStore for InMemoryArtifactStore {
    async fn put(&self, key: ArtifactKey, bytes: Bytes) -> Result<ArtifactRef, PortError> {
        let artifact = ArtifactRef { key, hash: *blake3::hash(&bytes).as_bytes(), bytes: bytes.len() as u64 };
        let mut artifacts = lock(&self.artifacts);
        if artifacts.get(&key).is_some_and(|stored| *stored != bytes) {
            return Err(PortError::Rejected(format!("{key:?} is already stored with other bytes")));
        }
        artifacts.insert(key, bytes);
        Ok(artifact)
    }

    async fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, PortError> {
        let key = artifact.key;
        let found = lock(&self.artifacts).get(&key).cloned();
        let bytes = found.ok_or_else(|| PortError::NotFound(format!("{key:?} is not stored")))?;
        if bytes.len() as u64 != artifact.bytes || *blake3::hash(&bytes).as_bytes() != artifact.hash {
            return Err(PortError::Corrupt(format!("the bytes of {key:?} are not those that were asked for")));
        }
        Ok(bytes)
    }

    async fn prune(&self, task: TaskId, attempt: u32, keep: &[ArtifactKey]) -> Result<(), PortError> {
        let is_pruned = |key: &ArtifactKey| key.task == task && key.attempt <= attempt && !keep.contains(key);
        lock(&self.artifacts).retain(|key, _| !is_pruned(key));
        Ok(())
    }
}
