//! What the files do beyond the contracts: crashes, damage, other people's files, and agreement with the reference.

mod damage;
mod reference;

use std::{fs, path::Path};

use kubeml_actors::{
    event::Seq,
    ports::{EventLog, LogPage, Position, TaskStore},
    task::TaskId,
    testing::contracts::{Kept, samples},
};
use tempfile::TempDir;

use super::{
    file::Commit,
    tables::{Tables, encoded},
    *,
};

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room")
}

fn open_state(directory: &Path) -> RedbState {
    RedbState::open(&directory.join("state.redb")).expect("it opens")
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() -> Kept {
    let (living, crashed) = (directory(), directory());
    let state = open_state(living.path());
    let mut record = samples::record(1);
    state.insert(&record, &[samples::fact(record.id, 0, 0)]).await?;
    for n in 0..5 {
        record = samples::next(&record);
        state.compare_and_set(&record, &[samples::fact(record.id, 1, n)]).await?;
        // As a process leaves its file when it is killed just now.
        let copied = fs::copy(living.path().join("state.redb"), crashed.path().join("state.redb"));
        copied.expect("there is room");
        let reopened = open_state(crashed.path());
        assert_eq!(reopened.get(record.id).await?, Some(record.clone()));
        assert_eq!(reopened.read_task(record.id, Some(Seq::QUEUED), 100).await?.len() as u64, n + 1);
        assert_eq!(*reopened.head().borrow(), Position::single(n + 2));
    }
    Ok(())
}

#[tokio::test]
async fn positions_count_the_facts_that_were_taken() -> Kept {
    let directory = directory();
    let state = open_state(directory.path());
    let task = TaskId::fresh();
    assert_eq!(*state.head().borrow(), Position::single(0));
    state.append(&[samples::fact(task, 1, 0), samples::fact(task, 0, 0), samples::fact(task, 1, 1)]).await?;
    let page = state.read_all(&Position::default(), 10).await?;
    let positions: Vec<u64> = page.entries.iter().map(|entry| entry.position.counter(0)).collect();
    assert_eq!(positions, [1, 2]);
    Ok(())
}

/// Whoever has read further than the head takes the log for another one.
#[tokio::test]
async fn what_is_committed_is_not_read_before_the_head_tells_of_it() -> Kept {
    let directory = directory();
    let state = open_state(directory.path());
    let task = TaskId::fresh();
    state.append(&[samples::fact(task, 0, 0)]).await?;
    let place = state.file.place();
    let next = encoded(&[samples::fact(task, 1, 0)], &place)?;
    state.file.write(|transaction| {
        Tables::open(transaction, &place)?.take_facts(&next)?;
        Ok(((), Commit::Needed))
    })?;
    assert_eq!(*state.head().borrow(), Position::single(1));
    assert_eq!(state.read_all(&Position::default(), 10).await?.entries.len(), 1);
    assert_eq!(state.read_all(&Position::single(1), 10).await?, LogPage::default());
    state.append(&[samples::fact(task, 1, 1)]).await?;
    assert_eq!(state.read_all(&Position::single(1), 10).await?.entries.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_went_away_does_not_take_its_write_back() -> Kept {
    let directory = directory();
    let state = open_state(directory.path());
    let record = samples::record(1);
    tokio::select! {
        biased;
        inserted = state.insert(&record, &[]) => drop(inserted?),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(state.get_settled(record.id).await?, Some(record));
    Ok(())
}
