//! Checkpoints and models: an entry in the index, and the bytes in pieces, one a partition.
//!
//! The entry is first, and the first entry wins: who has the same bytes writes the same pieces, who has others is
//! refused. So no piece is ever overwritten by another, and whatever a crash leaves is found through the index.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use kubeml_actors::{
    ports::{ArtifactStore, PortError},
    task::{ArtifactKey, ArtifactKind, ArtifactRef, TaskId},
};

use super::{
    chunks::ChunkPermits,
    places::{signed, unsigned},
    query::{Kind, Query},
    session::Session,
};

const PUT_ENTRY: Query = Query::swap(
    "INSERT INTO $.artifact_index (task_id, attempt, step, kind, length, pieces, hash) VALUES (?, ?, ?, ?, ?, ?, ?) \
     IF NOT EXISTS",
);
const ENTRY: Query = Query::read(
    "SELECT length, hash FROM $.artifact_index WHERE task_id = ? AND attempt = ? AND step = ? AND kind = ?",
);
const ENTRIES: Query =
    Query::read("SELECT attempt, step, kind, pieces FROM $.artifact_index WHERE task_id = ? AND attempt <= ?");
const REMOVE_ENTRY: Query =
    Query::swap("DELETE FROM $.artifact_index WHERE task_id = ? AND attempt = ? AND step = ? AND kind = ? IF EXISTS");
const PUT_PIECE: Query = Query::new(
    Kind::WriteChunk,
    "INSERT INTO $.artifact (task_id, attempt, step, kind, number, bytes) VALUES (?, ?, ?, ?, ?, ?)",
);
const PIECE: Query = Query::new(
    Kind::ReadChunk,
    "SELECT bytes FROM $.artifact WHERE task_id = ? AND attempt = ? AND step = ? AND kind = ? AND number = ?",
);
const REMOVE_PIECE: Query =
    Query::write("DELETE FROM $.artifact WHERE task_id = ? AND attempt = ? AND step = ? AND kind = ? AND number = ?");

/// With what goes around it, a piece stays below 1 MiB.
const PIECE_BYTES: usize = (1 << 20) - 1024;

pub struct CassandraArtifacts {
    session: Session,
    permits: ChunkPermits,
}

type KeyColumns = (uuid::Uuid, i32, i64, &'static str);

impl CassandraArtifacts {
    pub fn new(session: Session, permits: ChunkPermits) -> Self {
        Self { session, permits }
    }

    async fn entry(&self, key: ArtifactKey) -> Result<Option<(u64, Vec<u8>)>, PortError> {
        let row: Option<(i64, Vec<u8>)> = self.session.row(ENTRY, columns(key)).await?;
        Ok(row.map(|(length, hash)| (unsigned(length), hash)))
    }

    async fn put_entry(&self, artifact: &ArtifactRef) -> Result<(), PortError> {
        let (task, attempt, step, kind) = columns(artifact.key);
        let (length, hash) = (signed(artifact.bytes), artifact.hash.as_slice());
        let values = (task, attempt, step, kind, length, pieces_of(artifact.bytes), hash);
        if self.session.applied(PUT_ENTRY, values).await? {
            return Ok(());
        }
        match self.entry(artifact.key).await? {
            Some((bytes, hash)) if bytes == artifact.bytes && hash == artifact.hash => Ok(()),
            Some(_) => {
                Err(PortError::Rejected(format!("{} is already there with other bytes", self.place(artifact.key))))
            }
            None => Err(PortError::Unavailable(format!("{} was just removed", self.place(artifact.key)))),
        }
    }

    async fn put_piece(&self, key: ArtifactKey, number: i32, bytes: Bytes) -> Result<(), PortError> {
        let _permit = self.permits.one().await;
        let (task, attempt, step, kind) = columns(key);
        self.session.write(PUT_PIECE, (task, attempt, step, kind, number, bytes)).await
    }

    async fn piece(&self, key: ArtifactKey, number: i32) -> Result<Bytes, PortError> {
        let _permit = self.permits.one().await;
        let (task, attempt, step, kind) = columns(key);
        let row: Option<(Option<Vec<u8>>,)> = self.session.row(PIECE, (task, attempt, step, kind, number)).await?;
        let missing = || PortError::Corrupt(format!("{} lacks its piece {number}", self.place(key)));
        row.and_then(|(bytes,)| bytes).map(Bytes::from).ok_or_else(missing)
    }

    async fn remove(&self, key: ArtifactKey, pieces: i32) -> Result<(), PortError> {
        let (task, attempt, step, kind) = columns(key);
        for number in 0..pieces {
            self.session.write(REMOVE_PIECE, (task, attempt, step, kind, number)).await?;
        }
        // The entry goes last: until then the pieces are found again through it.
        self.session.applied(REMOVE_ENTRY, columns(key)).await.map(drop)
    }

    fn place(&self, key: ArtifactKey) -> String {
        let ArtifactKey { task, attempt, step, kind } = key;
        format!("{}, artifact {task}/{attempt}-{step}.{}", self.session.place(), kind_name(kind))
    }
}

#[async_trait]
impl ArtifactStore for CassandraArtifacts {
    async fn put(&self, key: ArtifactKey, bytes: Bytes) -> Result<ArtifactRef, PortError> {
        let artifact = ArtifactRef { key, hash: *blake3::hash(&bytes).as_bytes(), bytes: bytes.len() as u64 };
        self.put_entry(&artifact).await?;
        let pieces = pieces(&bytes).into_iter().map(|(number, piece)| self.put_piece(key, number, piece));
        stream::iter(pieces).buffer_unordered(self.permits.at_once()).try_collect::<()>().await?;
        Ok(artifact)
    }

    async fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, PortError> {
        let ArtifactRef { key, hash, bytes: length } = *artifact;
        let place = self.place(key);
        let other = || PortError::Corrupt(format!("{place} has not the {length} bytes that it is asked for"));
        let entry = self.entry(key).await?.ok_or_else(|| PortError::NotFound(format!("{place} is not there")))?;
        if entry != (length, hash.to_vec()) {
            return Err(other());
        }
        let pieces = (0..pieces_of(length)).map(|number| self.piece(key, number));
        let mut pieces = stream::iter(pieces).buffered(self.permits.at_once());
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() as u64 != length || *blake3::hash(&bytes).as_bytes() != hash {
            return Err(other());
        }
        Ok(bytes.freeze())
    }

    async fn prune(&self, task: TaskId, attempt: u32, keep: &[ArtifactKey]) -> Result<(), PortError> {
        let attempt = i32::try_from(attempt).unwrap_or(i32::MAX);
        let rows: Vec<(i32, i64, String, i32)> = self.session.rows(ENTRIES, (task.0, attempt)).await?;
        for (attempt, step, kind, pieces) in rows {
            let Some(kind) = kind_of(&kind) else { continue };
            let key = ArtifactKey { task, attempt: unsigned(attempt.into()) as u32, step: unsigned(step), kind };
            if !keep.contains(&key) {
                self.remove(key, pieces).await?;
            }
        }
        Ok(())
    }
}

fn columns(key: ArtifactKey) -> KeyColumns {
    (key.task.0, i32::try_from(key.attempt).unwrap_or(i32::MAX), signed(key.step), kind_name(key.kind))
}

fn kind_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Checkpoint => "checkpoint",
        ArtifactKind::FinalModel => "final",
        ArtifactKind::BestModel => "best",
    }
}

fn kind_of(name: &str) -> Option<ArtifactKind> {
    let kinds = [ArtifactKind::Checkpoint, ArtifactKind::FinalModel, ArtifactKind::BestModel];
    kinds.into_iter().find(|kind| kind_name(*kind) == name)
}

fn pieces_of(length: u64) -> i32 {
    i32::try_from(length.div_ceil(PIECE_BYTES as u64)).unwrap_or(i32::MAX)
}

fn pieces(bytes: &Bytes) -> Vec<(i32, Bytes)> {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    (0..).zip(starts.map(|start| bytes.slice(start..bytes.len().min(start + PIECE_BYTES)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_many_as_are_counted() {
        for (length, expected) in [(0, 0), (1, 1), (PIECE_BYTES, 1), (PIECE_BYTES + 1, 2), (3 << 20, 4)] {
            let bytes = Bytes::from(vec![7; length]);
            let pieces = pieces(&bytes);
            assert_eq!((pieces.len() as i32, pieces_of(length as u64)), (expected, expected));
            assert_eq!(pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>(), length);
            assert!((0..).zip(&pieces).all(|(number, piece)| piece.0 == number));
        }
    }

    #[test]
    fn kinds_survive_their_names() {
        for kind in [ArtifactKind::Checkpoint, ArtifactKind::FinalModel, ArtifactKind::BestModel] {
            assert_eq!(kind_of(kind_name(kind)), Some(kind));
        }
        assert_eq!(kind_of("other"), None);
    }
}
