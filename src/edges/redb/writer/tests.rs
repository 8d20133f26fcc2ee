//! Operations share a commit, and nothing else.

use std::{
    path::Path,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::future::join_all;
use kubeml_actors::{task::TaskRecord, testing::contracts::samples};
use redb::StorageError;
use tokio::task::unconstrained;

use super::*;
use crate::{
    codec,
    edges::redb::{file::Format, tables::create},
};

struct Bench {
    _directory: tempfile::TempDir,
    file: Arc<StoreFile>,
    writer: Arc<Writer>,
    commits: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let file = Arc::new(open(&directory.path().join("state.redb")));
        let commits = Arc::new(AtomicU64::new(0));
        let counter = commits.clone();
        let count = move |_| _ = counter.fetch_add(1, Ordering::Relaxed);
        let writer = Arc::new(Writer::start(file.clone(), count).expect("a thread starts"));
        Self { _directory: directory, file, writer, commits }
    }

    /// Has the writer do all of `acts` in one batch, and gives their answers in order.
    async fn together(&self, acts: Vec<Act>) -> Vec<Result<(), PortError>> {
        // What the writer takes alone and is busy with while the others gather behind it.
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let writer = self.writer.clone();
        let busy = move |_: &mut Tables<'_>| {
            begun.send(()).expect("the test listens");
            let _ = released.recv();
            Ok(())
        };
        let busy = tokio::spawn(async move { writer.write(busy).await });
        has_begun.recv().await.expect("the writer is there");
        let mut answers = pin!(unconstrained(join_all(acts.into_iter().map(|act| self.writer.write(act)))));
        assert!(futures::poll!(&mut answers).is_pending());
        drop(release);
        busy.await.expect("it does not panic").expect("it does nothing");
        answers.await
    }

    fn has(&self, record: &TaskRecord) -> bool {
        let stored = self.file.write(|transaction| {
            let stored = Tables::open(transaction, "the test's file")?.record(record.id)?;
            Ok((stored, Commit::Nothing))
        });
        stored.expect("it reads").as_ref() == Some(record)
    }
}

type Act = Box<dyn Fn(&mut Tables<'_>) -> Result<(), Fault> + Send>;

fn open(path: &Path) -> StoreFile {
    let format = Format { name: "state", version: 2, create_tables: create };
    StoreFile::open(path, format).expect("it opens")
}

fn put(record: &TaskRecord) -> Act {
    let (record, bytes) = (record.clone(), codec::encode(record).expect("it is short"));
    Box::new(move |tables| tables.put_record(None, &record, &bytes))
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let bench = Bench::new();
    let records: Vec<TaskRecord> = (0..100).map(samples::record).collect();
    let answers = bench.together(records.iter().map(put).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(records.iter().all(|record| bench.has(record)));
    // What held the others up, and all the others.
    assert_eq!(bench.commits.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_operation_that_is_refused_does_not_spoil_its_neighbours() {
    let bench = Bench::new();
    let (before, after) = (samples::record(1), samples::record(2));
    let refused = PortError::Rejected("no".to_owned());
    let refusal = refused.clone();
    let refuse: Act = Box::new(move |_| Err(refusal.clone().into()));
    assert_eq!(bench.together(vec![put(&before), refuse, put(&after)]).await, [Ok(()), Err(refused), Ok(())]);
    assert!(bench.has(&before) && bench.has(&after));
}

#[tokio::test]
async fn an_operation_that_breaks_the_transaction_does_not_spoil_its_neighbours() {
    let breaking: [Act; 2] = [
        Box::new(|_| Err(StorageError::Corrupted("a page".to_owned()).into())),
        Box::new(|tables| {
            let record = samples::record(3);
            tables.put_record(None, &record, b"half of it")?;
            panic!("in the middle");
        }),
    ];
    for act in breaking {
        let bench = Bench::new();
        let (before, after) = (samples::record(1), samples::record(2));
        let answers = bench.together(vec![put(&before), act, put(&after)]).await;
        assert!(matches!(answers.as_slice(), [Ok(()), Err(PortError::Corrupt(_)), Ok(())]), "{answers:?}");
        assert!(bench.has(&before) && bench.has(&after));
    }
}

#[tokio::test]
async fn an_io_error_is_told_to_all_and_the_file_is_opened_again() {
    let bench = Bench::new();
    let (neighbour, later) = (samples::record(1), samples::record(2));
    let fail: Act = Box::new(|_| Err(StorageError::Io(std::io::ErrorKind::StorageFull.into()).into()));
    let answers = bench.together(vec![put(&neighbour), fail]).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(PortError::Unavailable(_)))), "{answers:?}");
    assert!(!bench.has(&neighbour));
    assert_eq!(bench.writer.write(put(&later)).await, Ok(()));
    assert!(bench.has(&later));
}

#[tokio::test]
async fn a_writer_that_is_dropped_finishes_what_was_asked() {
    let Bench { _directory, file, writer, .. } = Bench::new();
    let record = samples::record(1);
    let asked = tokio::spawn({
        let (writer, put) = (writer.clone(), put(&record));
        async move { writer.write(put).await }
    });
    tokio::task::yield_now().await;
    asked.abort();
    let _ = asked.await;
    drop(Arc::into_inner(writer).expect("it has no other user"));
    let stored = file.write(|transaction| Ok((Tables::open(transaction, "")?.record(record.id)?, Commit::Nothing)));
    assert_eq!(stored, Ok(Some(record)));
}
