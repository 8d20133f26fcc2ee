//! Damaged, foreign and newer files are told apart, and named.

use kubeml_actors::{
    dataset::ChunkHash,
    ports::{DatasetStore, PortError, TaskFilter},
    task::{TaskRecord, TaskState},
};
use redb::{Database, TableDefinition};

use super::*;
use crate::codec;

const FORMATS: TableDefinition<'static, &str, u64> = TableDefinition::new("formats");

/// Changes a file that nobody has open.
fn tamper<K: redb::Key + 'static, V: redb::Value + 'static>(
    path: &Path,
    table: TableDefinition<'_, K, V>,
    change: impl FnOnce(&mut redb::Table<'_, K, V>),
) {
    let database = Database::create(path).expect("nobody has it open");
    let transaction = database.begin_write().expect("nobody writes");
    change(&mut transaction.open_table(table).expect("it is of this type"));
    transaction.commit().expect("there is room");
}

fn opening_error(path: &Path) -> PortError {
    RedbState::open(path).err().expect("it must not open")
}

#[test]
fn a_newer_file_is_refused_by_name() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    drop(open_state(directory.path()));
    tamper(&path, FORMATS, |formats| drop(formats.insert("state", 99).expect("it is writable")));
    let expected = format!(
        "{} has its state in format 99, newer than the 2 that this version of kubeml knows; start the version that \
         wrote it, or a newer one",
        path.display()
    );
    assert_eq!(opening_error(&path), PortError::Rejected(expected));
}

#[test]
fn a_file_of_before_the_first_release_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    drop(open_state(directory.path()));
    tamper(&path, FORMATS, |formats| drop(formats.insert("state", 1).expect("it is writable")));
    let PortError::Rejected(error) = opening_error(&path) else { panic!("it opened") };
    assert!(error.contains("before the first release") && error.contains("move the data directory away"), "{error}");
    tamper(&path, FORMATS, |formats| {
        assert_eq!(
            redb::ReadableTable::get(formats, "state").expect("it is readable").map(|version| version.value()),
            Some(1)
        );
    });
}

#[test]
fn foreign_files_are_refused_by_name() {
    let directory = directory();
    let text = directory.path().join("text");
    fs::write(&text, "not a database, but long enough to be mistaken for one".repeat(1000)).expect("there is room");
    let other = directory.path().join("other.redb");
    tamper(&other, TableDefinition::<&str, u64>::new("something"), |_| ());
    let datasets = directory.path().join("datasets.redb");
    drop(RedbDatasets::open(&datasets).expect("it opens"));
    for path in [text, other, datasets] {
        let before = fs::read(&path).expect("it is readable");
        let PortError::Rejected(error) = opening_error(&path) else { panic!("{}", path.display()) };
        assert!(error.starts_with(&format!("{} is not a file of kubeml's", path.display())), "{error}");
        assert!(error.ends_with("move it away"), "{error}");
        // redb notes in files of its own that they are open.
        let is_redb = path.extension().is_some_and(|extension| extension == "redb");
        assert!(is_redb || fs::read(&path).expect("it is readable") == before);
    }
}

#[test]
fn an_open_file_is_not_opened_twice() {
    let directory = directory();
    let _open = open_state(directory.path());
    let error = opening_error(&directory.path().join("state.redb"));
    assert!(matches!(&error, PortError::Unavailable(text) if text.contains("is open in another process")), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let directory = directory();
    let path = directory.path().join("nowhere/state.redb");
    assert!(opening_error(&path).to_string().starts_with(&path.display().to_string()));
}

#[test]
fn no_damage_makes_opening_panic() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    drop(open_state(directory.path()));
    let good = fs::read(&path).expect("it is readable");
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut damaged = good.clone();
        for byte in damaged.iter_mut().skip(at).take(64) {
            *byte ^= 0x55;
        }
        fs::write(&path, &damaged).expect("there is room");
        drop(RedbState::open(&path));
        fs::write(&path, &good[..at]).expect("there is room");
        drop(RedbState::open(&path));
    }
}

#[tokio::test]
async fn a_damaged_record_is_corrupt_and_hides_no_other() -> Kept {
    let directory = directory();
    let path = directory.path().join("state.redb");
    let state = open_state(directory.path());
    let (good, bad) = (samples::record(1), samples::record(2));
    state.insert(&good, &[]).await?;
    state.insert(&bad, &[samples::fact(bad.id, 0, 0)]).await?;
    drop(state);
    tamper(&path, tables::TASKS, |table| {
        let mut bytes = codec::encode(&bad).expect("it is short");
        bytes[100] ^= 1;
        table.insert(bad.id.0.as_u128(), bytes.as_slice()).expect("it is writable");
    });
    let state = open_state(directory.path());
    let Err(PortError::Corrupt(text)) = state.get(bad.id).await else { panic!("it is damaged") };
    assert!(text.starts_with(&format!("{}, task {}: a task record is damaged", path.display(), bad.id)), "{text}");
    let next = TaskRecord { state: TaskState::Running, ..samples::next(&bad) };
    assert!(matches!(state.compare_and_set(&next, &[]).await, Err(PortError::Corrupt(_))));
    assert_eq!(state.list(&TaskFilter::default(), None, 10).await?.records, std::slice::from_ref(&good));
    assert_eq!(state.queue(&TaskState::ALL, 10).await?, [good]);
    Ok(())
}

#[tokio::test]
async fn a_damaged_fact_is_a_gap() -> Kept {
    let directory = directory();
    let state = open_state(directory.path());
    let task = TaskId::fresh();
    state.append(&[0, 1, 2].map(|n| samples::fact(task, 1, n))).await?;
    drop(state);
    tamper(&directory.path().join("state.redb"), tables::EVENTS, |table| {
        let key = (task.0.as_u128(), Seq::new(1, 1).0);
        table.insert(key, (2, b"no fact".as_slice())).expect("it is writable");
    });
    let state = open_state(directory.path());
    let page = state.read_all(&Position::default(), 10).await?;
    assert_eq!((page.entries.len(), page.gap), (2, true));
    let page = state.read_all(&Position::single(1), 1).await?;
    assert_eq!((page.entries.len(), page.gap), (1, true));
    assert_eq!(state.read_task(task, None, 10).await?, [0, 2].map(|n| samples::fact(task, 1, n)));
    Ok(())
}

#[tokio::test]
async fn a_damaged_chunk_is_corrupt() -> Kept {
    let directory = directory();
    let path = directory.path().join("datasets.redb");
    let chunk = samples::noise(1000, 1);
    let hash = ChunkHash::of(&chunk);
    let packed = codec::pack(&chunk).expect("it is short");
    let mut flipped = packed.clone();
    flipped[500] ^= 1;
    let other = codec::pack(&samples::noise(1000, 2)).expect("it is short");
    for damaged in [&flipped, &other, &packed[..900].to_vec(), &Vec::new()] {
        let store = RedbDatasets::open(&path)?;
        store.put_chunks(&[(hash, chunk.clone())]).await?;
        drop(store);
        tamper(&path, TableDefinition::<[u8; 32], &[u8]>::new("chunks"), |table| {
            table.insert(hash.0, damaged.as_slice()).expect("it is writable");
        });
        let answer = RedbDatasets::open(&path)?.get_chunk(hash).await;
        assert!(matches!(answer, Err(PortError::Corrupt(_))), "{answer:?}");
    }
    // To import it again is the cure.
    let store = RedbDatasets::open(&path)?;
    store.put_chunks(&[(hash, chunk.clone())]).await?;
    assert_eq!(store.get_chunk(hash).await?, chunk);
    Ok(())
}
