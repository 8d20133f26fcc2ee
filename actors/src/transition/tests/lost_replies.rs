//! Whether a write has happened whose reply was lost, told from the record as it reads later.

use std::time::Duration;

use uuid::Uuid;

use super::life::{Life, close_epoch, dataset, end, finish, lose, reap, save, start};
use crate::{
    event::EventKind,
    task::{FailureKind, Fence},
    transition::{Input, Next, Refused, landed},
};

/// The op id of a write that is not the last one.
const EARLIER: Uuid = Uuid::from_u128(0xfeed);

#[test]
fn the_last_write_is_known_by_its_op_id() {
    let life = Life::running();
    let fence = life.fence();
    for input in [start(fence, 1), reap(fence), Input::RequestCancel, Input::Announce] {
        assert!(landed(&life.record, life.record.op_id, &input));
        assert!(!landed(&life.record, EARLIER, &input));
    }
}

#[test]
fn an_owners_write_is_known_by_its_effect_after_somebody_else_has_written() {
    let mut life = Life::submitted();
    let by_me = super::life::claim(7);
    life.must(&by_me);
    let fence = life.fence();
    let (first, second) = (save(fence, 5, 1), close_epoch(fence, 1, 2));
    life.must(&first);
    life.must(&second);
    life.must(&Input::RequestCancel);
    assert!(landed(&life.record, EARLIER, &by_me));
    assert!(landed(&life.record, EARLIER, &first));
    assert!(landed(&life.record, EARLIER, &second));
    assert!(!landed(&life.record, EARLIER, &save(fence, 15, 4)));
    life.must(&finish(fence));
    life.must(&Input::Announce);
    assert!(landed(&life.record, EARLIER, &finish(fence)));
}

#[test]
fn anothers_claim_of_the_same_attempt_is_not_mine() {
    let life = Life::running();
    assert!(!landed(&life.record, EARLIER, &super::life::claim(99)));
}

#[test]
fn anothers_result_and_checkpoint_are_not_mine() {
    let mut life = Life::running();
    let mine = life.fence();
    life.reap();
    life.claim();
    life.save(5);
    assert!(!landed(&life.record, EARLIER, &save(mine, 5, 1)));
    life.finish();
    assert!(!landed(&life.record, EARLIER, &finish(mine)));
}

#[test]
fn a_lost_checkpoint_is_lost_once_however_often_the_reply_is() {
    let mut life = Life::running();
    life.save(5);
    life.close_epoch(1);
    life.reap();
    life.claim();
    let fence = life.fence();
    let newest = life.record.newest_checkpoint().expect("two were saved").artifact;
    let input = lose(fence, newest, 1);
    assert!(!landed(&life.record, EARLIER, &input));
    life.must(&input);
    life.must(&Input::RequestCancel);
    assert!(landed(&life.record, EARLIER, &input));
    assert_eq!(life.refused(&input), Refused::AlreadySo);
    assert_eq!(life.record.resume_step(), 5);
    assert!(
        !landed(&life.record, EARLIER, &lose(Fence { attempt: 1, ..fence }, newest, 1)),
        "a stale one never landed"
    );
}

#[test]
fn a_repeated_start_writes_the_same_facts() {
    let mut life = Life::running();
    life.reap();
    life.claim();
    let mut used = dataset("mnist-10k");
    used.instead_of = Some("mnist cannot be had".to_owned());
    let input = Input::Start { fence: life.fence(), dataset: used, n: 1 };
    let Next { facts: first, .. } = life.decide(&input).expect("the attempt starts");
    life.must(&input);
    life.must(&Input::RequestCancel);
    let Next { record, facts: again } = life.decide(&input).expect("starting again is harmless");
    assert_eq!(first, again);
    assert_eq!((&record.dataset, record.started_at), (&life.record.dataset, life.record.started_at));
    let kinds: Vec<&str> = first.iter().map(|fact| fact.kind.as_str()).collect();
    assert_eq!(kinds, ["resumed", "log"]);
    assert!(matches!(&first[1].kind, EventKind::Log { message, .. } if message.contains("mnist cannot be had")));
}

#[test]
fn what_ends_an_attempt_or_asks_for_it_is_decided_again() {
    let mut life = Life::running();
    let fence = life.fence();
    let ended = end(fence, FailureKind::Crashed, Duration::ZERO);
    life.must(&ended);
    life.claim();
    assert!(!landed(&life.record, EARLIER, &ended));
    assert_eq!(life.refused(&ended), Refused::StaleFence);
    life.must(&Input::RequestCancel);
    life.save(5);
    assert!(!landed(&life.record, EARLIER, &Input::RequestCancel));
    assert_eq!(life.refused(&Input::RequestCancel), Refused::AlreadySo);
}
