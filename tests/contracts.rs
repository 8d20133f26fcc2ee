//! The adapters of an embedded node keep the contracts of their ports.

use std::{path::Path, sync::Arc};

use kubeml::edges::{
    files::FileArtifacts,
    memory_cache::MokaChunkCache,
    redb::{RedbDatasets, RedbState},
};
use kubeml_actors::testing::contracts;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

mod redb_state {
    use kubeml_actors::testing::contracts::State;

    use super::*;

    contracts::task_store!(opened());
    contracts::event_log!(opened());

    fn opened() -> impl AsyncFn() -> State {
        let directory = directory();
        async move || State::of(Arc::new(open(directory.path())))
    }

    fn open(directory: &Path) -> RedbState {
        RedbState::open(&directory.join("state.redb")).expect("it opens")
    }
}

mod redb_after_kill {
    use std::{
        env,
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use kubeml_actors::{
        ports::{EventLog, Position, TaskStore},
        task::{TaskId, TaskState},
        testing::contracts::samples,
    };

    use super::*;

    /// Set for the process that is killed.
    const STATE: &str = "KUBEML_TEST_KILLED_STATE";

    #[tokio::test]
    async fn what_was_answered_survives_kill_9() -> contracts::Kept {
        if let Some(path) = env::var_os(STATE) {
            let state = RedbState::open(Path::new(&path))?;
            // Several at a time, so that it is killed amid commits.
            let insert = || insert_for_ever(&state);
            return tokio::try_join!(insert(), insert(), insert(), insert()).map(|_| ());
        }
        let directory = directory();
        let path = directory.path().join("state.redb");
        let mut answered = Vec::new();
        for round in 1..=5 {
            answered.extend(killed_after(20 * round, &path));
            let state = RedbState::open(&path)?;
            for id in &answered {
                assert!(state.get(*id).await?.is_some(), "round {round}: {id}");
                assert_eq!(state.read_task(*id, None, 10).await?, [samples::fact(*id, 0, 0)]);
            }
            let stored = state.counts().await?[&TaskState::Pending];
            let page = state.read_all(&Position::default(), usize::MAX).await?;
            assert_eq!((page.entries.len() as u64, page.gap), (stored, false));
            assert_eq!(state.queue(&TaskState::ALL, usize::MAX).await?.len() as u64, stored);
        }
        Ok(())
    }

    /// Prints an id once its insert is answered.
    async fn insert_for_ever(state: &RedbState) -> contracts::Kept {
        loop {
            let record = samples::record(1);
            state.insert(&record, &[samples::fact(record.id, 0, 0)]).await?;
            println!("answered {}", record.id);
        }
    }

    fn killed_after(answers: usize, path: &Path) -> Vec<TaskId> {
        let mut child = Command::new(env::current_exe().expect("a test has a file"))
            .args(["redb_after_kill::what_was_answered_survives_kill_9", "--exact", "--nocapture"])
            .env(STATE, path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let mut ids = lines.filter_map(|line| line.split("answered ").nth(1)?.parse().ok());
        let mut answered: Vec<TaskId> = ids.by_ref().take(answers).collect();
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        answered.extend(ids);
        answered
    }
}

mod redb_datasets {
    use super::*;

    contracts::dataset_store!({
        let directory = directory();
        async move || Arc::new(RedbDatasets::open(&directory.path().join("datasets.redb")).expect("it opens"))
    });
}

mod file_artifacts {
    use super::*;

    contracts::artifact_store!({
        let directory = directory();
        async move || Arc::new(FileArtifacts::open(directory.path()).expect("it opens"))
    });
}

mod moka_chunk_cache {
    use super::*;

    contracts::chunk_cache!(async || Arc::new(MokaChunkCache::new(4 << 20)));
    contracts::remembering_chunk_cache!(async || Arc::new(MokaChunkCache::new(4 << 20)));

    #[tokio::test]
    async fn chunks_make_room_for_chunks() -> contracts::Kept {
        contracts::chunk_cache::holds_at_most(&MokaChunkCache::new(50_500), 50_500).await
    }
}
