//! Writes that fail, and writes whose reply is lost.

use super::*;

/// Each input that a running attempt, or somebody else, may make of a running task.
async fn of_a_running_task(bench: &Bench, fence: Fence) -> Vec<Input> {
    let newest = bench.newest().await;
    vec![
        start(fence),
        save(bench.id, fence, 12),
        lose(fence, &newest),
        finish(bench.id, fence),
        end(fence),
        reap(fence),
        Input::RequestCancel,
    ]
}

async fn happens_once(index: usize, fates: &[Fate]) {
    let (bench, fence) = Bench::running().await;
    let input = of_a_running_task(&bench, fence).await.swap_remove(index);
    let before = bench.record().await;
    bench.fated(fates.to_vec());
    let next = bench.committer.commit(bench.id, &input).await;
    let after = bench.record().await;
    assert_eq!(next.map(|next| next.record), Ok(after.clone()), "{input:?} under {fates:?}");
    assert_eq!(after.version, before.version + 1, "{input:?} under {fates:?}");
    assert!(bench.store.fates.lock().unwrap().is_empty(), "everything foreseen has happened");
    assert_eq!(bench.fenced(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_write_happens_once_though_calls_fail_and_replies_are_lost() {
    for index in 0..7 {
        let fates = [
            vec![Fate::Fail],
            vec![Fate::LoseReply],
            vec![Fate::Late],
            vec![Fate::Twice],
            vec![Fate::Fail, Fate::Fail, Fate::LoseReply],
        ];
        for fates in fates {
            happens_once(index, &fates).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_an_end_and_its_announcement_happen_once_though_replies_are_lost() {
    let bench = Bench::new().await;
    bench.fated([Fate::LoseReply]);
    let claimed = bench.must(claim(7)).await;
    assert_eq!((claimed.attempt, claimed.no_progress), (1, 1), "charged once");
    bench.must(Input::RequestCancel).await;
    bench.fated([Fate::LoseReply]);
    let cancelled = bench.must(Input::ConfirmCancel { fence: claimed.fence().unwrap() }).await;
    bench.fated([Fate::LoseReply]);
    bench.committer.announce(&cancelled).await.unwrap();
    let record = bench.record().await;
    assert_eq!((record.state, record.announced, record.version), (TaskState::Cancelled, true, 5));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_known_by_its_effect_after_others_have_written() {
    for index in 1..4 {
        let (bench, fence) = Bench::running().await;
        let input = of_a_running_task(&bench, fence).await.swap_remove(index);
        let others = if matches!(input, Input::Finish { .. }) { Input::Announce } else { Input::RequestCancel };
        let before = bench.record().await;
        bench.fated([Fate::LoseReplyThen(vec![others])]);
        let next = bench.committer.commit(bench.id, &input).await;
        let after = bench.record().await;
        assert_eq!(next.map(|next| next.record), Ok(after.clone()), "{input:?}");
        assert_eq!(after.version, before.version + 2, "{input:?} was written once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_known_by_its_nonce_and_anothers_is_not_taken_for_it() {
    let bench = Bench::new().await;
    bench.fated([Fate::LoseReplyThen(vec![Input::RequestCancel])]);
    let claimed = bench.must(claim(7)).await;
    assert_eq!((claimed.attempt, claimed.cancel_requested), (1, true));

    let bench = Bench::new().await;
    bench.fated([Fate::Fail, Fate::Overtake(vec![claim(8)])]);
    let lost = bench.committer.commit(bench.id, &claim(7)).await;
    assert_eq!(lost.map(|next| next.record.attempt), Err(Refused::AlreadyRunning.into()));
    assert_eq!(bench.record().await.owner.map(|owner| owner.nonce), Some(Uuid::from_u128(8)));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_reaped_before_its_reply_is_made_again() {
    let bench = Bench::new().await;
    let fence = Fence { attempt: 1, nonce: Uuid::from_u128(7) };
    bench.fated([Fate::LoseReplyThen(vec![reap(fence)])]);
    let claimed = bench.must(claim(7)).await;
    assert_eq!((claimed.state, claimed.attempt), (TaskState::Running, 2));
}

#[tokio::test(start_paused = true)]
async fn a_start_is_repeated_with_the_same_facts() {
    let (bench, fence) = Bench::running().await;
    let told = bench.facts().await.len();
    bench.fated([Fate::LoseReplyThen(vec![Input::RequestCancel])]);
    let next = bench.committer.commit(bench.id, &start(fence)).await.unwrap();
    assert!(next.record.cancel_requested && next.record.started_at.is_some());
    assert_eq!(bench.facts().await.len(), told, "facts older than the checkpoints' are not taken");
}

#[tokio::test(start_paused = true)]
async fn an_end_after_which_others_claimed_is_refused_and_not_repeated() {
    let (bench, fence) = Bench::running().await;
    bench.fated([Fate::LoseReplyThen(vec![claim(8)])]);
    let outcome = bench.committer.commit(bench.id, &end(fence)).await;
    assert_eq!(outcome.map(|next| next.record.version), Err(Refused::StaleFence.into()));
    let record = bench.record().await;
    assert_eq!((record.state, record.attempt), (TaskState::Running, 2), "the newer attempt is left alone");
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_while_an_outcome_is_unknown_are_repeated() {
    let (bench, fence) = Bench::running().await;
    let record = bench.record().await;
    bench.fated([Fate::LoseReply]);
    bench.store.unread.set(3);
    let next = bench.committer.commit_from(record.clone(), &save(bench.id, fence, 12)).await.unwrap();
    assert_eq!(next.record.version, record.version + 1);
}
