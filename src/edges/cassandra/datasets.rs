//! Datasets: chunks by their hash, one a partition, and manifests that make their versions visible.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kubeml_actors::{
    dataset::{CHUNK_BYTES, ChunkHash, Manifest},
    ports::{DatasetStore, PortError},
};
use tokio::task::spawn_blocking;

use super::{
    chunks::ChunkPermits,
    query::{Kind, Query},
    session::Session,
};
use crate::codec;

const PUT_CHUNK: Query = Query::new(Kind::WriteChunk, "INSERT INTO $.dataset_chunk (hash, bytes) VALUES (?, ?)");
const CHUNK: &str = "SELECT bytes FROM $.dataset_chunk WHERE hash = ?";
const ANY_CHUNK: Query = Query::new(Kind::ReadAnyChunk, CHUNK);
const GET_CHUNK: Query = Query::new(Kind::ReadChunk, CHUNK);
const HAS_CHUNK: Query = Query::read("SELECT hash FROM $.dataset_chunk WHERE hash = ?");
/// One mutation: the version and the pointer to it.
const PUT_MANIFEST: Query =
    Query::write("INSERT INTO $.dataset (name, version, manifest, current) VALUES (?, ?, ?, ?)");
const CURRENT: Query = Query::read("SELECT DISTINCT name, current FROM $.dataset WHERE name = ?");
const ALL_CURRENT: Query = Query::read("SELECT DISTINCT name, current FROM $.dataset");
const MANIFEST: Query = Query::read("SELECT manifest FROM $.dataset WHERE name = ? AND version = ?");
/// A node that dies at it is forgotten after a minute. So is one that takes longer, and it may then be imported twice at
/// once: that costs a download and changes nothing, since chunks are named by their bytes and versions by their content,
/// and nothing is taken away.
const BEGIN_IMPORT: Query =
    Query::swap("INSERT INTO $.dataset_import (name, since) VALUES (?, toTimestamp(now())) IF NOT EXISTS USING TTL 60");
const END_IMPORT: Query = Query::swap("DELETE FROM $.dataset_import WHERE name = ? IF EXISTS");

/// Looking whether a chunk is there moves no bytes.
const LOOKUPS_AT_ONCE: usize = 16;

pub struct CassandraDatasets {
    session: Session,
    permits: ChunkPermits,
}

impl CassandraDatasets {
    pub fn new(session: Session, permits: ChunkPermits) -> Self {
        Self { session, permits }
    }

    async fn put_chunk(&self, hash: ChunkHash, bytes: Bytes) -> Result<(), PortError> {
        let _permit = self.permits.one().await;
        let packed = blocking(move || codec::pack(&bytes).map_err(|error| error.at(&format!("chunk {hash}")))).await?;
        self.session.write(PUT_CHUNK, (hash.0.as_slice(), packed)).await
    }

    async fn read_chunk(&self, query: Query, hash: ChunkHash) -> Result<Option<Bytes>, PortError> {
        let row: Option<(Option<Vec<u8>>,)> = self.session.row(query, (hash.0.as_slice(),)).await?;
        let Some((packed,)) = row else { return Ok(None) };
        let place = self.chunk_place(hash);
        blocking(move || verified(hash, &packed.unwrap_or_default(), &place).map(Some)).await
    }

    async fn has_chunk(&self, hash: ChunkHash) -> Result<bool, PortError> {
        let row: Option<(Vec<u8>,)> = self.session.row(HAS_CHUNK, (hash.0.as_slice(),)).await?;
        Ok(row.is_some())
    }

    async fn version(&self, name: &str, version: &str) -> Result<Option<Manifest>, PortError> {
        let row: Option<(Option<Vec<u8>>,)> = self.session.row(MANIFEST, (name, version)).await?;
        let Some((bytes,)) = row else { return Ok(None) };
        let place = format!("{}, dataset {name}", self.session.place());
        let manifest: Manifest = codec::decode(&bytes.unwrap_or_default()).map_err(|error| error.at(&place))?;
        if (manifest.name.as_str(), manifest.version.as_str()) != (name, version) {
            let found = manifest.name;
            return Err(PortError::Corrupt(format!("{place}: the manifest of {found} is there")));
        }
        Ok(Some(manifest))
    }

    fn chunk_place(&self, hash: ChunkHash) -> String {
        format!("{}, chunk {hash}", self.session.place())
    }
}

#[async_trait]
impl DatasetStore for CassandraDatasets {
    async fn put_chunks(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), PortError> {
        let checked = chunks.to_vec();
        blocking(move || checked.iter().try_for_each(|(hash, bytes)| check(*hash, bytes))).await?;
        let puts = chunks.iter().cloned().map(|(hash, bytes)| self.put_chunk(hash, bytes));
        stream::iter(puts).buffer_unordered(self.permits.at_once()).try_collect().await
    }

    async fn get_chunk(&self, hash: ChunkHash) -> Result<Bytes, PortError> {
        let _permit = self.permits.one().await;
        // One copy may lack it, or be damaged, when others are not.
        if let Ok(Some(chunk)) = self.read_chunk(ANY_CHUNK, hash).await {
            return Ok(chunk);
        }
        let chunk = self.read_chunk(GET_CHUNK, hash).await?;
        chunk.ok_or_else(|| PortError::NotFound(format!("{} is not stored", self.chunk_place(hash))))
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), PortError> {
        let Manifest { name, version, .. } = manifest;
        let bytes = codec::encode(manifest).map_err(|error| error.at(&format!("dataset {name}")))?;
        let chunks: Vec<ChunkHash> = manifest.chunks().collect();
        let lookups = chunks.into_iter().map(async |hash| Ok::<_, PortError>((hash, self.has_chunk(hash).await?)));
        let mut lookups = stream::iter(lookups).buffer_unordered(LOOKUPS_AT_ONCE);
        while let Some((hash, is_there)) = lookups.try_next().await? {
            if !is_there {
                return Err(PortError::Rejected(format!("dataset {name}: its chunk {hash} is not stored")));
            }
        }
        self.session.write(PUT_MANIFEST, (name, version, bytes, version)).await
    }

    async fn manifest(&self, name: &str) -> Result<Option<Manifest>, PortError> {
        let row: Option<(String, Option<String>)> = self.session.row(CURRENT, (name,)).await?;
        match row {
            Some((name, Some(version))) => self.version(&name, &version).await,
            _ => Ok(None),
        }
    }

    async fn manifests(&self) -> Result<Vec<Manifest>, PortError> {
        let rows: Vec<(String, Option<String>)> = self.session.rows(ALL_CURRENT, ()).await?;
        let mut manifests = Vec::new();
        for (name, version) in rows {
            let Some(version) = version else { continue };
            match self.version(&name, &version).await {
                Ok(manifest) => manifests.extend(manifest),
                Err(error @ (PortError::Corrupt(_) | PortError::Rejected(_))) => {
                    tracing::error!(%error, "a dataset is left out of the list");
                }
                Err(error) => return Err(error),
            }
        }
        manifests.sort_by(|a: &Manifest, b| a.name.cmp(&b.name));
        Ok(manifests)
    }

    async fn begin_import(&self, name: &str) -> Result<bool, PortError> {
        self.session.applied(BEGIN_IMPORT, (name,)).await
    }

    async fn end_import(&self, name: &str) -> Result<(), PortError> {
        self.session.applied(END_IMPORT, (name,)).await.map(drop)
    }
}

/// Hashing and packing a chunk takes milliseconds, which no other task of the thread shall wait for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PortError::Unavailable(format!("a chunk was not worked on: {error}"))))
}

fn check(hash: ChunkHash, bytes: &[u8]) -> Result<(), PortError> {
    if bytes.len() > CHUNK_BYTES {
        let length = bytes.len();
        return Err(PortError::Rejected(format!("chunk {hash} has {length} bytes, more than {CHUNK_BYTES}")));
    }
    if ChunkHash::of(bytes) != hash {
        return Err(PortError::Rejected(format!("the bytes given as chunk {hash} have another hash")));
    }
    Ok(())
}

fn verified(hash: ChunkHash, packed: &[u8], place: &str) -> Result<Bytes, PortError> {
    let bytes = codec::unpack(packed, CHUNK_BYTES).map_err(|error| error.at(place))?;
    if ChunkHash::of(&bytes) != hash {
        return Err(PortError::Corrupt(format!("{place} has the bytes of another; import the dataset again")));
    }
    Ok(bytes.into())
}
