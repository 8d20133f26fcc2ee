//! The breaker's table.

use super::*;

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Call {
    Succeeds,
    /// With the longest wait that chance allows.
    Fails,
    /// Nobody hears of it again.
    IsLost,
}
use Call::{Fails, IsLost, Succeeds};

/// Calls at milliseconds, one after the other: `o` let through, `x` refused; and whether it is closed in the end.
fn played(calls: &[(u64, Call)]) -> (String, bool) {
    let (start, mut breaker) = (Instant::now(), Breaker::default());
    let mut let_through = String::new();
    for (at, call) in calls {
        let now = start + Duration::from_millis(*at);
        let Ok(ticket) = breaker.admit(now) else {
            let_through.push('x');
            continue;
        };
        let_through.push('o');
        match call {
            Succeeds => drop(breaker.succeeded(ticket)),
            Fails => drop(breaker.failed(ticket, now, 1.0)),
            IsLost => {}
        }
    }
    (let_through, matches!(breaker.state, State::Closed { .. }))
}

#[test]
fn it_opens_after_three_failures_in_a_row_and_then_one_call_tries() {
    type Case = (&'static [(u64, Call)], &'static str, bool);
    const OPENED: [(u64, Call); 3] = [(0, Fails), (0, Fails), (0, Fails)];
    let table: [Case; 5] = [
        (&[(0, Fails), (1, Fails)], "", true),
        (&[(0, Fails), (1, Fails), (2, Succeeds), (3, Fails), (4, Fails)], "", true),
        (&OPENED, "", false),
        (&OPENED, "x", false),
        (&OPENED, "xo", true),
    ];
    let after = [(499, Succeeds), (500, Succeeds)];
    for (calls, then, closed) in table {
        let calls = [calls, &after[..then.len()]].concat();
        let through = calls.len() - then.len();
        assert_eq!(played(&calls), ("o".repeat(through) + then, closed), "{calls:?}");
    }
}

#[test]
fn while_one_call_tries_the_others_are_refused() {
    let calls = [(0, Fails), (0, Fails), (0, Fails), (500, IsLost), (501, Succeeds), (6_499, Succeeds)];
    assert_eq!(played(&calls), ("ooooxx".to_owned(), false));
}

#[test]
fn a_try_of_which_nobody_hears_again_makes_way_for_another() {
    let calls = [(0, Fails), (0, Fails), (0, Fails), (500, IsLost), (6_500, Succeeds), (6_501, Succeeds)];
    assert_eq!(played(&calls), ("oooooo".to_owned(), true));
}

#[test]
fn each_try_that_fails_doubles_the_wait_and_a_success_forgets_it() {
    let (start, mut breaker) = (Instant::now(), Breaker::default());
    let mut now = start;
    let mut wait_after_failure = |breaker: &mut Breaker| loop {
        now += Duration::from_mins(1);
        let ticket = breaker.admit(now).expect("the wait is over");
        if let Change::Opened { wait } = breaker.failed(ticket, now, 1.0) {
            return wait.as_millis();
        }
    };
    let waits: Vec<u128> = (0..8).map(|_| wait_after_failure(&mut breaker)).collect();
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    let ticket = breaker.admit(start + Duration::from_hours(1)).expect("the wait is over");
    assert_eq!(breaker.succeeded(ticket), Change::Closed);
    assert_eq!(wait_after_failure(&mut breaker), 500);
}

#[test]
fn chance_spreads_the_wait_from_nothing_to_all_of_it() {
    for (chance, wait) in [(0.0, 0), (0.5, 250), (1.0, 500)] {
        let (now, mut breaker) = (Instant::now(), Breaker::default());
        let changes = [(); 3].map(|()| {
            let ticket = breaker.admit(now).expect("it is closed");
            breaker.failed(ticket, now, chance)
        });
        assert_eq!(changes, [Change::None, Change::None, Change::Opened { wait: Duration::from_millis(wait) }]);
    }
}

#[test]
fn calls_from_before_a_change_say_nothing_about_now() {
    let (now, mut breaker) = (Instant::now(), Breaker::default());
    let mut tickets: Vec<Ticket> = (0..6).map(|_| breaker.admit(now).expect("it is closed")).collect();
    for ticket in tickets.drain(..3) {
        let _ = breaker.failed(ticket, now, 1.0);
    }
    let opened = breaker.state;
    assert_eq!(breaker.failed(tickets.remove(0), now, 1.0), Change::None);
    assert_eq!(breaker.succeeded(tickets.remove(0)), Change::None);
    assert_eq!(breaker.state, opened);
    let tried = breaker.admit(now + Duration::from_secs(1)).expect("the wait is over");
    assert_eq!(breaker.failed(tickets.remove(0), now, 1.0), Change::None);
    assert_eq!(breaker.succeeded(tried), Change::Closed);
}
