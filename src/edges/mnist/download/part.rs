//! A file that is still being downloaded, held by one process at a time.

use std::{
    fs::{OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{fs::File, io::AsyncWriteExt};

use super::Error;

/// Between two looks at whether the other process has finished.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Never removed, only emptied or renamed: whoever waits for its lock has it open already.
pub struct Part {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Part {
    /// The part of `target`, with what is already there. Waits while another process works on it.
    pub async fn open(target: &Path) -> Result<Self, Error> {
        let path = target.with_added_extension("part");
        match Self::open_locked(target, &path).await {
            Ok((file, length)) => Ok(Self { file, path, length }),
            Err(source) => Err(Error::Disk { path, source }),
        }
    }

    async fn open_locked(target: &Path, path: &Path) -> io::Result<(File, u64)> {
        if let Some(dir) = target.parent() {
            std::fs::create_dir_all(dir)?;
        }
        loop {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            match file.try_lock() {
                Ok(()) => {
                    let length = file.metadata()?.len();
                    return Ok((File::from_std(file), length));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let outcome = self.file.write_all(bytes).await;
        self.length += bytes.len() as u64;
        self.disk(outcome)
    }

    /// Until then the last bytes may be on their way: tokio writes in the background.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let outcome = self.file.flush().await;
        self.disk(outcome)
    }

    pub async fn clear(&mut self) -> Result<(), Error> {
        let outcome = self.file.set_len(0).await;
        self.length = 0;
        self.disk(outcome)
    }

    /// Gives the finished part its name. A crash may lose it, never show a half: readers verify what they read.
    pub async fn publish(self, target: &Path) -> Result<(), Error> {
        let outcome = tokio::fs::rename(&self.path, target).await;
        self.disk(outcome)
    }

    fn disk(&self, outcome: io::Result<()>) -> Result<(), Error> {
        outcome.map_err(|source| Error::Disk { path: self.path.clone(), source })
    }
}
