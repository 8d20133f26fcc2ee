//! Which offsets may be committed: never one behind which something is not settled yet.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[cfg(test)]
mod tests;

/// Of a partition. What is never settled is given up beyond this: hints may be lost.
pub const UNSETTLED_MAX: usize = 4_096;

/// Shared by who reads, who settles, and the callback that takes partitions away.
#[derive(Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    partitions: HashMap<i32, Partition>,
    /// Grows when partitions are taken away: what was read before is not ours to commit.
    era: u64,
    lease: u64,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(u64);

#[derive(Default)]
struct Partition {
    unsettled: BTreeSet<i64>,
    /// After the last one read.
    next: i64,
    /// What was told last.
    committed: Option<i64>,
}

/// A message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub partition: i32,
    pub offset: i64,
    era: u64,
}

impl Ledger {
    pub fn read(&self, partition: i32, offset: i64) -> Receipt {
        let mut books = self.lock();
        let era = books.era;
        let book = books.partitions.entry(partition).or_default();
        book.unsettled.insert(offset);
        book.next = book.next.max(offset + 1);
        if book.unsettled.len() > UNSETTLED_MAX {
            book.unsettled.pop_first();
        }
        Receipt { partition, offset, era }
    }

    pub fn settle(&self, receipt: Receipt) {
        let mut books = self.lock();
        if receipt.era != books.era {
            return;
        }
        if let Some(book) = books.partitions.get_mut(&receipt.partition) {
            book.unsettled.remove(&receipt.offset);
        }
    }

    /// Whether it can still be settled.
    pub fn is_current(&self, receipt: Receipt) -> bool {
        receipt.era == self.lock().era
    }

    /// The next offset of each partition where it has grown since the last time.
    pub fn commits(&self) -> Vec<(i32, i64)> {
        let mut books = self.lock();
        let grown = books.partitions.iter_mut().filter_map(|(partition, book)| {
            let next = book.unsettled.first().copied().unwrap_or(book.next);
            let has_grown = book.committed.is_none_or(|committed| committed < next);
            // Nothing was settled before the first one read.
            has_grown.then(|| book.committed.replace(next))?;
            Some((*partition, next))
        });
        grown.collect()
    }

    /// What was told may not have arrived: all of it is told again.
    pub fn tell_again(&self) {
        self.lock().partitions.values_mut().for_each(|book| book.committed = None);
    }

    /// Begins anew for another client: from now on the one before takes nothing away, however late it ends.
    pub fn lend(&self) -> Lease {
        let mut books = self.lock();
        books.forget();
        books.lease += 1;
        Lease(books.lease)
    }

    /// Partitions have been taken away from the client that has the lease.
    pub fn revoked(&self, lease: Lease) {
        let mut books = self.lock();
        if books.lease == lease.0 {
            books.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn forget(&mut self) {
        self.era += 1;
        drop(mem::take(&mut self.partitions));
    }
}
