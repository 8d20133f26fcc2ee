//! Checkpoints and models as files: `<task>/<attempt>-<step>.<kind>`.
//!
//! A file gets its name only when its bytes are on the disk, and is never written again. What a crash leaves behind is
//! in `tmp/`, which is emptied at the start.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use kubeml_actors::{
    ports::{ArtifactStore, PortError},
    task::{ArtifactKey, ArtifactKind, ArtifactRef, TaskId},
};

#[cfg(test)]
mod tests;

/// The artifact store of an embedded node. Only one may use a directory at a time; [`super::data_dir`] sees to that.
#[derive(Clone)]
pub struct FileArtifacts {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    unfinished: PathBuf,
    /// Numbers unfinished files, so that two writers of one artifact never share one.
    written: AtomicU64,
    /// Held while names appear and disappear: a directory is not removed between its making and its first file.
    names: Mutex<()>,
}

impl FileArtifacts {
    /// Opens the directory or creates it, and removes what an earlier process did not finish. Blocks.
    pub fn open(root: &Path) -> Result<Self, PortError> {
        let unfinished = root.join("tmp");
        let ready = fs::create_dir_all(&unfinished).and_then(|()| {
            fs::remove_dir_all(&unfinished)?;
            fs::create_dir(&unfinished)?;
            sync_dir(root)
        });
        ready.map_err(|error| unavailable("prepare", &unfinished, &error))?;
        let (root, written, names) = (root.to_owned(), AtomicU64::new(0), Mutex::new(()));
        Ok(Self { inner: Arc::new(Inner { root, unfinished, written, names }) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(PortError::Unavailable(format!("{}: {error}", self.inner.root.display()))))
    }
}

#[async_trait]
impl ArtifactStore for FileArtifacts {
    async fn put(&self, key: ArtifactKey, bytes: Bytes) -> Result<ArtifactRef, PortError> {
        self.blocking(move |inner| inner.put(key, &bytes)).await
    }

    async fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, PortError> {
        let artifact = *artifact;
        self.blocking(move |inner| inner.get(&artifact)).await
    }

    async fn prune(&self, task: TaskId, attempt: u32, keep: &[ArtifactKey]) -> Result<(), PortError> {
        let keep = keep.to_vec();
        self.blocking(move |inner| {
            let directory = inner.directory(task);
            inner.prune(&directory, task, attempt, &keep).map_err(|error| unavailable("prune", &directory, &error))
        })
        .await
    }
}

impl Inner {
    fn directory(&self, task: TaskId) -> PathBuf {
        self.root.join(task.to_string())
    }

    fn path(&self, key: ArtifactKey) -> PathBuf {
        self.directory(key.task).join(file_name(key))
    }

    fn put(&self, key: ArtifactKey, bytes: &[u8]) -> Result<ArtifactRef, PortError> {
        let artifact = ArtifactRef { key, hash: *blake3::hash(bytes).as_bytes(), bytes: bytes.len() as u64 };
        let unfinished = self.unfinished.join(self.written.fetch_add(1, Ordering::Relaxed).to_string());
        let written = write_durably(&unfinished, bytes).map_err(|error| unavailable("write", &unfinished, &error));
        let named = written.and_then(|()| self.name(&unfinished, &artifact));
        if named != Ok(Named::Now) {
            // Whatever remains of it goes at the next start.
            let _ = fs::remove_file(&unfinished);
        }
        named.map(|_| artifact)
    }

    /// Gives a finished file its name, durably.
    fn name(&self, finished: &Path, artifact: &ArtifactRef) -> Result<Named, PortError> {
        let (directory, path) = (self.directory(artifact.key.task), self.path(artifact.key));
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            return match self.get(artifact) {
                Ok(_) => Ok(Named::Before),
                Err(PortError::Corrupt(_)) => {
                    Err(PortError::Rejected(format!("{} is already there with other bytes", path.display())))
                }
                Err(error) => Err(error),
            };
        }
        let named = (|| {
            if !directory.exists() {
                fs::create_dir(&directory)?;
                sync_dir(&self.root)?;
            }
            fs::rename(finished, &path)?;
            sync_dir(&directory)
        })();
        named.map_err(|error| unavailable("write", &path, &error))?;
        Ok(Named::Now)
    }

    fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, PortError> {
        let path = self.path(artifact.key);
        match read_of_length(&path, artifact.bytes) {
            Ok(Some(bytes)) if *blake3::hash(&bytes).as_bytes() == artifact.hash => Ok(bytes.into()),
            Ok(_) => {
                let (path, length) = (path.display(), artifact.bytes);
                Err(PortError::Corrupt(format!("{path} has not the {length} bytes that it is asked for")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(PortError::NotFound(format!("{} is not there", path.display())))
            }
            Err(error) => Err(unavailable("read", &path, &error)),
        }
    }

    fn prune(&self, directory: &Path, task: TaskId, attempt: u32, keep: &[ArtifactKey]) -> io::Result<()> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let files = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files?,
        };
        let mut remaining = 0;
        for file in files {
            let file = file?;
            let key = file.file_name().to_str().and_then(|name| key_of(task, name));
            match key {
                Some(key) if key.attempt <= attempt && !keep.contains(&key) => fs::remove_file(file.path())?,
                _ => remaining += 1,
            }
        }
        if remaining == 0 { fs::remove_dir(directory) } else { Ok(()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Now,
    /// The artifact had been stored already.
    Before,
}

fn file_name(key: ArtifactKey) -> String {
    format!("{}-{}.{}", key.attempt, key.step, kind_name(key.kind))
}

/// The key whose [`file_name`] this is.
fn key_of(task: TaskId, name: &str) -> Option<ArtifactKey> {
    let (numbers, kind) = name.split_once('.')?;
    let (attempt, step) = numbers.split_once('-')?;
    let kinds = [ArtifactKind::Checkpoint, ArtifactKind::FinalModel, ArtifactKind::BestModel];
    let kind = kinds.into_iter().find(|known| kind_name(*known) == kind)?;
    Some(ArtifactKey { task, attempt: attempt.parse().ok()?, step: step.parse().ok()?, kind })
}

fn kind_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Checkpoint => "checkpoint",
        ArtifactKind::FinalModel => "final",
        ArtifactKind::BestModel => "best",
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file's bytes, unless there are more or less than expected.
fn read_of_length(path: &Path, expected: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != expected {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// New, renamed and removed names survive a power failure only when their directory has been written.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn unavailable(doing: &str, path: &Path, error: &io::Error) -> PortError {
    PortError::Unavailable(format!("cannot {doing} {}: {error}", path.display()))
}
