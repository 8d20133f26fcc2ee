//! The in-memory adapters keep the contracts, and a few promises of their own.

use std::sync::Arc;

use super::*;
use crate::{
    ports::{DeadLetter, EventLog, Hint, Position, TaskBus},
    task::TaskId,
    testing::contracts::{self, State, samples},
};

const CACHE_BYTES: u64 = 4 << 20;

mod state {
    use super::*;

    contracts::task_store!(opened());
    contracts::event_log!(opened());

    fn opened() -> impl AsyncFn() -> State {
        let state = Arc::new(InMemoryState::new());
        async move || State::of(state.clone())
    }
}

mod datasets {
    use super::*;

    contracts::dataset_store!({
        let store = Arc::new(InMemoryDatasetStore::new());
        async move || store.clone()
    });
}

mod artifacts {
    use super::*;

    contracts::artifact_store!({
        let store = Arc::new(InMemoryArtifactStore::new());
        async move || store.clone()
    });
}

mod cache {
    use super::*;

    contracts::chunk_cache!(async || Arc::new(InMemoryCache::new(CACHE_BYTES)));
    contracts::remembering_chunk_cache!(async || Arc::new(InMemoryCache::new(CACHE_BYTES)));

    #[tokio::test]
    async fn the_oldest_chunks_make_room() -> contracts::Kept {
        contracts::chunk_cache::holds_at_most(&InMemoryCache::new(50_500), 50_500).await
    }
}

mod no_cache {
    use super::*;

    contracts::chunk_cache!(async || Arc::new(NoCache));
}

mod bus {
    use super::*;

    contracts::task_bus!(async || Arc::new(InProcessBus::new(10)));

    #[tokio::test]
    async fn a_waiting_hint_is_held_once() {
        let bus = InProcessBus::new(10);
        let [a, b] = [TaskId::fresh(), TaskId::fresh()].map(|task| Hint { task, model: None });
        [a, b, a, a].into_iter().for_each(|hint| bus.publish(hint));
        assert_eq!([bus.receive().await, bus.receive().await], [Ok(a), Ok(b)]);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, bus.receive()).await.is_err());
    }

    #[test]
    fn the_newest_letters_are_kept() {
        let bus = InProcessBus::new(2);
        let letter = |detail: &str| DeadLetter { topic: "task", reason: "unreadable", detail: detail.to_owned() };
        ["1", "2", "3"].into_iter().for_each(|detail| bus.bury(letter(detail)));
        assert_eq!(bus.letters(), [letter("2"), letter("3")]);
    }
}

mod source {
    use super::*;

    contracts::dataset_source!(async || {
        Arc::new(FixedSource::new([samples::dataset("a", 1), samples::dataset("b", 2)]))
    });
}

#[tokio::test]
async fn positions_count_the_facts_that_were_taken() -> contracts::Kept {
    let log = InMemoryState::new();
    let task = TaskId::fresh();
    assert_eq!(*log.head().borrow(), Position::single(0));
    log.append(&[samples::fact(task, 1, 0), samples::fact(task, 0, 0), samples::fact(task, 1, 1)]).await?;
    let page = log.read_all(&Position::default(), 10).await?;
    let positions: Vec<u64> = page.entries.iter().map(|entry| entry.position.counter(0)).collect();
    assert_eq!(positions, [1, 2]);
    Ok(())
}
