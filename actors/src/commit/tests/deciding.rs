//! Conflicts, stale knowledge, and the ends of patience.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_decision_that_was_overtaken_is_made_again_from_what_is_there() {
    let (bench, fence) = Bench::running().await;
    bench.fated([Fate::Overtake(vec![Input::RequestCancel]), Fate::Overtake(vec![save(bench.id, fence, 11)])]);
    let record = bench.must(start(fence)).await;
    assert!(record.cancel_requested && record.started_at.is_some());
    assert_eq!(record.resume_step(), 11);
    assert_eq!(bench.metrics.cas_conflicts.get(), 2);
    assert_eq!(bench.record().await, record);
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_decision_may_come_out_otherwise() {
    let (bench, fence) = Bench::running().await;
    bench.fated([Fate::Overtake(vec![Input::RequestCancel])]);
    let record = bench.must(end(fence)).await;
    assert_eq!(record.state, TaskState::Cancelled, "a release of what is to be cancelled cancels it");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_stale_knowledge_is_looked_into_once() {
    let (bench, fence) = Bench::running().await;
    let stale = bench.record().await;
    bench.must(reap(fence)).await;
    let next = bench.committer.commit_from(stale.clone(), &claim(2)).await.unwrap();
    assert_eq!(next.record.attempt, 2, "it was running when it was last seen");

    let refused = bench.committer.commit_from(stale, &claim(3)).await;
    assert_eq!(refused.map(|next| next.record.version), Err(Refused::AlreadyRunning.into()));
}

#[tokio::test(start_paused = true)]
async fn stale_knowledge_that_takes_the_input_costs_a_conflict_only() {
    let (bench, fence) = Bench::running().await;
    let stale = bench.record().await;
    bench.must(Input::RequestCancel).await;
    let next = bench.committer.commit_from(stale, &save(bench.id, fence, 12)).await.unwrap();
    assert!(next.record.cancel_requested, "what others wrote stays");
    assert_eq!(bench.metrics.cas_conflicts.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_waited_for_and_then_told_of() {
    let (bench, fence) = Bench::running().await;
    let before = bench.record().await;
    for unread in [0, u32::MAX] {
        bench.fated(vec![Fate::Fail; 1_000]);
        bench.store.unread.set(unread);
        let begun = Instant::now();
        let outcome = bench.committer.commit_from(before.clone(), &save(bench.id, fence, 12)).await;
        assert_eq!(outcome.map(|next| next.record.version), Err(away().into()));
        let waited = begun.elapsed();
        assert!(waited >= PATIENCE && waited < PATIENCE + 3 * SECOND, "{waited:?}");
        let tries = 1_000 - bench.store.fates.lock().unwrap().len();
        assert!(tries < 200, "{tries} tries are a storm");
    }
    assert_eq!(bench.record().await, before);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_rejects_for_good_is_told_at_once() {
    let bench = Bench::new().await;
    bench.fated([Fate::Reject]);
    let begun = Instant::now();
    let outcome = bench.committer.commit(bench.id, &claim(1)).await;
    assert!(matches!(outcome, Err(CommitError::Port(PortError::Rejected(_)))), "{outcome:?}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_there_is_named() {
    let bench = Bench::new().await;
    let unknown = inputs::submitted(bench.record().await.created_at);
    let missing = Err(CommitError::NoSuchTask(unknown.id));
    assert_eq!(bench.committer.commit(unknown.id, &Input::RequestCancel).await, missing);
    assert_eq!(bench.committer.commit_from(unknown.clone(), &claim(1)).await, missing);
    assert_eq!(bench.committer.commit_from(unknown.clone(), &Input::Announce).await, missing, "after a refusal");
    bench.fated([Fate::Fail]);
    assert_eq!(bench.committer.commit_from(unknown, &claim(1)).await, missing, "after an unknown outcome");
}

#[tokio::test(start_paused = true)]
async fn the_fence_counts_what_it_keeps_out() {
    let (bench, stale) = Bench::running().await;
    let newest = bench.newest().await;
    bench.must(reap(stale)).await;
    bench.must(claim(2)).await;
    let of_the_owner = [
        (start(stale), "start"),
        (save(bench.id, stale, 20), "checkpoint"),
        (lose(stale, &newest), "checkpoint"),
        (finish(bench.id, stale), "finish"),
        (end(stale), "end_attempt"),
        (Input::ConfirmCancel { fence: stale }, "cancel"),
    ];
    for (input, operation) in of_the_owner {
        let counter = bench.metrics.fenced.with_label_values(&[operation]);
        let before = counter.get();
        let outcome = bench.committer.commit(bench.id, &input).await;
        assert_eq!(outcome.map(|next| next.record.version), Err(Refused::StaleFence.into()), "{input:?}");
        assert_eq!(counter.get(), before + 1, "{operation}");
    }
    let before = bench.fenced();
    for input in [claim(3), reap(stale), Input::Announce] {
        assert!(bench.committer.commit(bench.id, &input).await.is_err());
    }
    assert_eq!(bench.fenced(), before, "others carry no fence, or somebody else's");
}

#[tokio::test(start_paused = true)]
async fn transitions_are_counted_once_each() {
    let (bench, fence) = Bench::running().await;
    let count = |from, to| bench.metrics.task_transitions.with_label_values(&[from, to]).get();
    assert_eq!(count("pending", "running"), 1);
    bench.fated([Fate::LoseReply]);
    bench.must(end(fence)).await;
    assert_eq!(count("running", "pending"), 1);
    assert_eq!(bench.metrics.task_retries.with_label_values(&["drained"]).get(), 1);
    bench.must(Input::RequestCancel).await;
    assert_eq!(count("pending", "cancelled"), 1);
    assert_eq!(bench.metrics.task_queue_seconds.get_sample_count(), 1, "first claims only");
}
