//! Datasets in `datasets.redb`: lz4 chunks by hash, manifests by name.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    dataset::{CHUNK_BYTES, ChunkHash, Manifest},
    ports::{DatasetStore, PortError},
};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::file::{Commit, Fault, Format, StoreFile};
use crate::codec;

const CHUNKS: TableDefinition<'static, [u8; 32], &[u8]> = TableDefinition::new("chunks");
const MANIFESTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("manifests");

const DATASETS: Format = Format { name: "datasets", version: 2, create_tables: create };

fn create(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(CHUNKS)?;
    transaction.open_table(MANIFESTS)?;
    Ok(())
}

/// The dataset store of an embedded node.
pub struct RedbDatasets {
    file: Arc<StoreFile>,
}

impl RedbDatasets {
    /// Opens the file or creates it. Blocks.
    pub fn open(path: &Path) -> Result<Self, PortError> {
        Ok(Self { file: Arc::new(StoreFile::open(path, DATASETS)?) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreFile) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let file = self.file.clone();
        let done = tokio::task::spawn_blocking(move || work(&file)).await;
        done.unwrap_or_else(|error| Err(PortError::Unavailable(format!("{}: {error}", self.file.place()))))
    }
}

#[async_trait]
impl DatasetStore for RedbDatasets {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError> {
        let chunks = chunks.to_vec();
        self.blocking(move |file| put_chunks(file, &chunks)).await
    }

    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError> {
        self.blocking(move |file| get_chunk(file, hash)).await
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError> {
        let manifest = manifest.clone();
        self.blocking(move |file| put_manifest(file, &manifest)).await
    }

    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError> {
        let name = name.to_owned();
        self.blocking(move |file| {
            file.read(|transaction| {
                let manifests = transaction.open_table(MANIFESTS)?;
                let stored = manifests.get(name.as_str())?;
                stored.map(|bytes| decoded(file, &name, bytes.value())).transpose()
            })
        })
        .await
    }

    async fn manifests(&self) -> Result<Vec<Manifest>, PortError> {
        self.blocking(move |file| {
            file.read(|transaction| {
                let manifests = transaction.open_table(MANIFESTS)?;
                let rows = manifests.iter()?.map(|row| {
                    let (name, bytes) = row?;
                    decoded(file, name.value(), bytes.value())
                });
                rows.collect()
            })
        })
        .await
    }

    /// One process has it to itself, and its loader flies once at a time.
    async fn begin_import(&self, _: &str) -> Result<bool, PortError> {
        Ok(true)
    }

    async fn end_import(&self, _: &str) -> Result<(), PortError> {
        Ok(())
    }
}

fn put_chunks(file: &StoreFile, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError> {
    let mut packed = Vec::with_capacity(chunks.len());
    for (hash, bytes) in chunks {
        if bytes.len() > CHUNK_BYTES {
            let length = bytes.len();
            return Err(PortError::Rejected(format!("chunk {hash} has {length} bytes, more than {CHUNK_BYTES}")));
        }
        if ChunkHash::of(bytes) != *hash {
            return Err(PortError::Rejected(format!("the bytes given as chunk {hash} have another hash")));
        }
        packed.push((hash, codec::pack(bytes).map_err(|error| error.at(&chunk_place(file, *hash)))?));
    }
    file.write(|transaction| {
        let mut stored = transaction.open_table(CHUNKS)?;
        for (hash, bytes) in &packed {
            stored.insert(hash.0, bytes.as_slice())?;
        }
        Ok(((), Commit::Needed))
    })
}

fn get_chunk(file: &StoreFile, hash: ChunkHash) -> Result<Bytes, PortError> {
    let place = chunk_place(file, hash);
    let bytes = file.read(|transaction| match transaction.open_table(CHUNKS)?.get(hash.0)? {
        Some(packed) => Ok(codec::unpack(packed.value(), CHUNK_BYTES).map_err(|error| error.at(&place))?),
        None => Err(PortError::NotFound(format!("{place} is not stored")).into()),
    })?;
    if ChunkHash::of(&bytes) != hash {
        return Err(PortError::Corrupt(format!("{place} has the bytes of another; import the dataset again")));
    }
    Ok(bytes.into())
}

fn put_manifest(file: &StoreFile, manifest: &Manifest) -> Result<(), PortError> {
    let name = &manifest.name;
    let bytes = codec::encode(manifest).map_err(|error| error.at(&format!("dataset {name}")))?;
    file.write(|transaction| {
        let chunks = transaction.open_table(CHUNKS)?;
        for hash in manifest.chunks() {
            if chunks.get(hash.0)?.is_none() {
                return Err(PortError::Rejected(format!("dataset {name}: its chunk {hash} is not stored")).into());
            }
        }
        transaction.open_table(MANIFESTS)?.insert(name.as_str(), bytes.as_slice())?;
        Ok(((), Commit::Needed))
    })
}

fn decoded(file: &StoreFile, name: &str, bytes: &[u8]) -> Result<Manifest, Fault> {
    let manifest = codec::decode(bytes);
    Ok(manifest.map_err(|error| error.at(&format!("{}, dataset {name}", file.place())))?)
}

fn chunk_place(file: &StoreFile, hash: ChunkHash) -> String {
    format!("{}, chunk {hash}", file.place())
}
