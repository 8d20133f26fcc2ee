//! What may be committed after which settlements.

use proptest::prelude::*;

use super::*;

#[test]
fn the_first_unsettled_message_holds_back_all_after_it() {
    let ledger = Ledger::default();
    let read: Vec<Receipt> = (10..14).map(|offset| ledger.read(0, offset)).collect();
    let other = ledger.read(1, 5);
    ledger.settle(read[1]);
    ledger.settle(read[3]);
    assert_eq!(sorted(ledger.commits()), [(0, 10), (1, 5)]);
    assert_eq!(ledger.commits(), [], "told once");
    ledger.settle(read[0]);
    assert_eq!(ledger.commits(), [(0, 12)]);
    ledger.settle(read[2]);
    ledger.settle(read[2]);
    ledger.settle(other);
    assert_eq!(sorted(ledger.commits()), [(0, 14), (1, 6)]);
}

#[test]
fn what_may_not_have_arrived_is_told_again() {
    let ledger = Ledger::default();
    let read = [ledger.read(0, 10), ledger.read(1, 5)];
    ledger.settle(read[0]);
    let told = sorted(ledger.commits());
    assert_eq!(told, [(0, 11), (1, 5)]);
    ledger.tell_again();
    assert_eq!(sorted(ledger.commits()), told);
    assert_eq!(ledger.commits(), [], "once");
}

#[test]
fn what_was_read_before_partitions_were_taken_away_is_forgotten() {
    let ledger = Ledger::default();
    let lease = ledger.lend();
    let before = ledger.read(0, 7);
    ledger.revoked(lease);
    ledger.settle(before);
    assert_eq!(ledger.commits(), []);
    let again = ledger.read(0, 7);
    ledger.settle(before);
    assert_eq!(ledger.commits(), [(0, 7)], "another owner's receipt settles nothing");
    ledger.settle(again);
    assert_eq!(ledger.commits(), [(0, 8)]);
}

#[test]
fn a_client_that_ends_late_takes_nothing_from_its_successor() {
    let ledger = Ledger::default();
    let hanging = ledger.lend();
    let lost = ledger.read(0, 7);
    ledger.lend();
    ledger.settle(lost);
    assert_eq!(ledger.commits(), []);
    let unsettled = ledger.read(0, 7);
    ledger.revoked(hanging);
    ledger.settle(ledger.read(0, 8));
    assert_eq!(ledger.commits(), [(0, 7)], "what it reads again is not settled yet");
    ledger.settle(unsettled);
    assert_eq!(ledger.commits(), [(0, 9)]);
}

#[test]
fn memory_is_bounded_by_giving_up_the_oldest() {
    let ledger = Ledger::default();
    let count = i64::try_from(UNSETTLED_MAX).unwrap() + 10;
    for offset in 0..count {
        ledger.read(0, offset);
    }
    assert_eq!(ledger.commits(), [(0, 10)]);
}

fn sorted(mut commits: Vec<(i32, i64)>) -> Vec<(i32, i64)> {
    commits.sort_unstable();
    commits
}

proptest! {
    #[test]
    fn nothing_unsettled_is_ever_committed(settled in proptest::collection::vec(0_usize..20, 0..40)) {
        let ledger = Ledger::default();
        let read: Vec<Receipt> = (0..20).map(|offset| ledger.read(0, offset)).collect();
        let (mut open, mut last) = ((0..20).collect::<BTreeSet<i64>>(), -1);
        for index in settled {
            ledger.settle(read[index]);
            open.remove(&read[index].offset);
            if let [(_, commit)] = ledger.commits()[..] {
                prop_assert!(commit > last && open.first().is_none_or(|first| commit <= *first));
                last = commit;
            }
        }
    }
}
