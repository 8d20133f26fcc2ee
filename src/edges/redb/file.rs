//! One redb file: opened with a check of what it is, closed after an I/O error or a panic, opened again at the next
//! use.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use kubeml_actors::ports::PortError;
use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::edges::files::sync_dir;

/// redb's own default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// What the file is, and in which version its tables are. Each value in them has its own format.
const FORMATS: TableDefinition<'static, &str, u64> = TableDefinition::new("formats");

/// Files with older tables were never released.
const FIRST_RELEASE: u64 = 2;

/// The kind of a file: which tables it has, and in which version.
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) version: u64,
    pub(super) create_tables: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// Why something with the file could not be done.
#[derive(Debug)]
pub(super) enum Fault {
    /// For whoever asked; the transaction is as good as before.
    Refused(PortError),
    /// The transaction is lost.
    Storage(StorageError),
}

pub(super) struct StoreFile {
    path: PathBuf,
    format: Format,
    /// Empty after an I/O error or a panic: redb refuses everything from then on until the file is opened again.
    /// Whoever uses it holds the lock for reading, and never twice.
    database: RwLock<Option<Database>>,
}

impl StoreFile {
    pub(super) fn open(path: &Path, format: Format) -> Result<Self, PortError> {
        let file = Self { path: path.to_owned(), format, database: RwLock::new(None) };
        drop(file.opened()?);
        Ok(file)
    }

    /// What errors call the file.
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Blocks; so do all that follow.
    pub(super) fn read<T>(&self, query: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, PortError> {
        self.using(|database| query(&database.begin_read()?))
    }

    /// Commits durably if `change` says so.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(T, Commit), Fault>,
    ) -> Result<T, PortError> {
        self.using(|database| {
            let transaction = database.begin_write()?;
            let (changed, commit) = change(&transaction)?;
            match commit {
                Commit::Needed => transaction.commit()?,
                Commit::Nothing => transaction.abort()?,
            }
            Ok(changed)
        })
    }

    /// Runs redb, and closes the file when it cannot be used any more.
    fn using<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, PortError> {
        let open = self.opened()?;
        let database = open.as_ref().ok_or_else(|| PortError::Unavailable(format!("{} is closed", self.place())))?;
        let (error, is_usable) = match catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => {
                let is_lost = matches!(fault, Fault::Storage(StorageError::Io(_) | StorageError::PreviousIo));
                (self.explained(fault), !is_lost)
            }
            Err(panic) => (self.damaged(&panic_text(&*panic)), false),
        };
        drop(open);
        if !is_usable {
            self.close();
        }
        Err(error)
    }

    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, PortError> {
        loop {
            let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if open.is_some() {
                return Ok(open);
            }
            drop(open);
            let mut closed = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if closed.is_none() {
                // redb checks a page when it reads it, and some of its checks panic.
                let opened = catch_unwind(AssertUnwindSafe(|| self.open_database()));
                *closed = Some(opened.unwrap_or_else(|panic| Err(self.damaged(&panic_text(&*panic))))?);
            }
        }
    }

    /// Waits for its other users.
    fn close(&self) {
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closing writes once more, and after a panic may panic.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open.take())));
    }

    fn open_database(&self) -> Result<Database, PortError> {
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&self.path);
        let database = opened.map_err(|error| self.opening_failed(error))?;
        self.format.check(&self.place(), &database).map_err(|fault| self.explained(fault))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let named = sync_dir(parent.unwrap_or(Path::new(".")));
        named.map_err(|error| self.unavailable(&error))?;
        Ok(database)
    }

    fn explained(&self, fault: Fault) -> PortError {
        match fault {
            Fault::Refused(error) => error,
            Fault::Storage(StorageError::Corrupted(what)) => self.damaged(&what),
            Fault::Storage(error) => self.unavailable(&error),
        }
    }

    fn unavailable(&self, error: &dyn std::error::Error) -> PortError {
        PortError::Unavailable(format!("{}: {error}", self.place()))
    }

    fn damaged(&self, what: &str) -> PortError {
        let place = self.place();
        PortError::Corrupt(format!("{place} is damaged: {what}; put back a copy of it, or move it away to start anew"))
    }

    fn opening_failed(&self, error: DatabaseError) -> PortError {
        let place = self.place();
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                PortError::Unavailable(format!("{place} is open in another process: stop that one first"))
            }
            DatabaseError::UpgradeRequired(version) => PortError::Rejected(format!(
                "{place} is in format {version} of redb, which this version of kubeml cannot read: start the version \
                 that wrote it"
            )),
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                PortError::Rejected(format!("{place} is not a file of kubeml's ({error}): move it away"))
            }
            DatabaseError::Storage(StorageError::Corrupted(what)) => self.damaged(&what),
            error => self.unavailable(&error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Needed,
    /// The transaction has changed nothing.
    Nothing,
}

impl Format {
    fn check(&self, place: &str, database: &Database) -> Result<(), Fault> {
        let transaction = database.begin_write()?;
        let is_new = transaction.list_tables()?.next().is_none();
        let mut changed = is_new;
        {
            let mut formats = transaction.open_table(FORMATS)?;
            if !is_new && formats.get(self.name)?.is_none() {
                let text = format!("{place} is not a file of kubeml's {}: move it away", self.name);
                return Err(Fault::Refused(PortError::Rejected(text)));
            }
            let stored = formats.get(self.name)?.map(|version| version.value());
            match stored {
                Some(stored) if stored > self.version => {
                    return Err(Fault::Refused(newer_file(place, self.name, stored, self.version)));
                }
                Some(stored) if stored < FIRST_RELEASE => {
                    return Err(Fault::Refused(unreleased_file(place, self.name)));
                }
                stored if stored != Some(self.version) => {
                    formats.insert(self.name, self.version)?;
                    changed = true;
                }
                _ => {}
            }
        }
        (self.create_tables)(&transaction)?;
        if changed { Ok(transaction.commit()?) } else { Ok(transaction.abort()?) }
    }
}

fn unreleased_file(place: &str, name: &str) -> PortError {
    PortError::Rejected(format!(
        "{place} holds {name} of a version of kubeml before the first release, which is not read any more; move the data \
         directory away to start anew"
    ))
}

fn newer_file(place: &str, name: &str, stored: u64, known: u64) -> PortError {
    PortError::Rejected(format!(
        "{place} has its {name} in format {stored}, newer than the {known} that this version of kubeml knows; start \
         the version that wrote it, or a newer one"
    ))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "redb panicked".to_owned())
}

impl From<PortError> for Fault {
    fn from(error: PortError) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => Self::Storage(error),
            error => Self::Refused(PortError::Unavailable(error.to_string())),
        }
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => Self::Storage(error),
            error => Self::Refused(PortError::Rejected(format!("not a file of this version of kubeml's: {error}"))),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => Self::Storage(error),
            error => Self::Refused(PortError::Unavailable(error.to_string())),
        }
    }
}
