//! The outbox: the terminal fact first, then the note that it is written.

use super::*;

async fn cancelled() -> (Bench, TaskRecord) {
    let bench = Bench::new().await;
    let record = bench.must(Input::RequestCancel).await;
    assert_eq!(record.state, TaskState::Cancelled);
    (bench, record)
}

#[tokio::test(start_paused = true)]
async fn announcing_again_changes_nothing() {
    let (bench, record) = cancelled().await;
    let (first, second) = tokio::join!(bench.committer.announce(&record), bench.committer.announce(&record));
    assert_eq!((first, second), (Ok(()), Ok(())));
    let announced = bench.record().await;
    assert!(announced.announced);
    assert_eq!(bench.committer.announce(&record).await, Ok(()), "from what was known before");
    assert_eq!(bench.committer.announce(&announced).await, Ok(()), "from what is known now");
    assert_eq!(bench.record().await, announced);
    assert_eq!(bench.facts().await.len(), 1, "one terminal fact");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_announced_before_the_end() {
    let (bench, _) = Bench::running().await;
    let told = bench.facts().await.len();
    let outcome = bench.committer.announce(&bench.record().await).await;
    assert_eq!(outcome, Err(Refused::NotEnded.into()));
    assert_eq!(bench.facts().await.len(), told);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_is_waited_for() {
    let (bench, record) = cancelled().await;
    bench.log.unwritten.set(5);
    assert_eq!(bench.committer.announce(&record).await, Ok(()));
    assert_eq!(bench.facts().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_is_not_noted_as_written() {
    let (bench, record) = cancelled().await;
    bench.log.unwritten.set(u32::MAX);
    let begun = Instant::now();
    assert!(matches!(bench.committer.announce(&record).await, Err(CommitError::Port(PortError::Unavailable(_)))));
    assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
    assert!(!bench.record().await.announced);
    bench.log.unwritten.set(0);
    assert_eq!(bench.committer.announce(&record).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_note_that_fails_leaves_a_fact_that_is_written_again_without_harm() {
    let (bench, record) = cancelled().await;
    bench.fated(vec![Fate::Fail; 1_000]);
    assert!(bench.committer.announce(&record).await.is_err());
    assert_eq!(bench.facts().await.len(), 1);
    bench.fated([]);
    assert_eq!(bench.committer.announce(&record).await, Ok(()));
    assert!(bench.record().await.announced);
    assert_eq!(bench.facts().await.len(), 1);
}
