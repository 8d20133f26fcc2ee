//! The data directory of a node, and the lock that keeps other processes out of it.
//!
//! The file `lock` is locked by whoever uses the directory, so the lock ends with its process, however that ends. In
//! the file stands who it is, for people and for the command line, which talks to that process instead.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

const LOCK_FILE: &str = "lock";

/// The holder is always written in this length at once, so that a reader never sees half of it.
const HOLDER_BYTES: usize = 512;

/// [`DataDir::holder`] takes the lock for an instant; that shall turn nobody away.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A data directory that this process holds until it drops this.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
    holder: Holder,
}

/// Who holds a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// RFC 3339, UTC.
    pub since: String,
    /// Of its HTTP API, like `http://127.0.0.1:5000`, once it listens.
    pub address: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "data directory {} is in use by {}; stop it, or choose another one: [node] data_dir",
        .path.display(),
        in_use_by(.holder.as_ref())
    )]
    InUse { path: PathBuf, holder: Option<Holder> },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Creates the directory, for its owner alone, if it is not there, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        create_private(path).map_err(failed_to("create", path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(failed_to("open", &lock_path))?;
        for tried in 1.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tried < TRIES => thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::WouldBlock) => {
                    return Err(DataDirError::InUse { path: path.to_owned(), holder: Holder::read(&lock) });
                }
                Err(TryLockError::Error(source)) => return Err(failed_to("lock", &lock_path)(source)),
            }
        }
        let holder = Holder {
            pid: process::id(),
            since: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            address: None,
        };
        let held = Self { path: path.to_owned(), lock, holder };
        held.write_holder()?;
        Ok(held)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whoever asks for the holder where it listens.
    pub fn announce(&mut self, address: impl Into<String>) -> Result<(), DataDirError> {
        self.holder.address = Some(address.into());
        self.write_holder()
    }

    /// Who holds the directory just now, if anybody does.
    pub fn holder(path: &Path) -> Option<Holder> {
        let lock = File::open(path.join(LOCK_FILE)).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Holder::read(&lock),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn write_holder(&self) -> Result<(), DataDirError> {
        let written = self.holder.write(&self.lock);
        written.map_err(failed_to("write", &self.path.join(LOCK_FILE)))
    }
}

impl Holder {
    fn write(&self, mut file: &File) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        if bytes.len() >= HOLDER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address is too long"));
        }
        bytes.resize(HOLDER_BYTES - 1, b' ');
        bytes.push(b'\n');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)
    }

    fn read(mut file: &File) -> Option<Self> {
        let mut bytes = Vec::with_capacity(HOLDER_BYTES);
        file.seek(SeekFrom::Start(0)).ok()?;
        file.take(HOLDER_BYTES as u64).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kubeml (pid {}, ", self.pid)?;
        if let Some(address) = &self.address {
            write!(f, "{address}, ")?;
        }
        write!(f, "since {})", self.since)
    }
}

fn in_use_by(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path, source }
}
