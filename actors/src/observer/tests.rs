//! Verdicts over scripted registries.

use uuid::Uuid;

use super::*;
use crate::{context::Roles, timestamp::Timestamp};

const LEASE: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_millis(500);

fn incarnation(node: &str, boot: u128) -> Incarnation {
    Incarnation { node: node.to_owned(), boot: Uuid::from_u128(boot) }
}

fn row(of: &Incarnation, seq: u64) -> NodeRow {
    NodeRow {
        incarnation: of.clone(),
        seq,
        version: String::new(),
        address: None,
        roles: Roles { api: true, trainer: true },
        started_at: Timestamp(0),
        at: Timestamp(0),
        actors: Vec::new(),
        slots: Vec::new(),
    }
}

/// An observer that reads every half second.
struct Watch {
    observer: Observer,
    me: Incarnation,
    now: Duration,
    seq: u64,
}

impl Watch {
    fn new() -> Self {
        let me = incarnation("me", 1);
        Self { observer: Observer::new(me.clone(), LEASE, READ), me, now: Duration::ZERO, seq: 0 }
    }

    /// Reads the registry: this node's fresh heartbeat and `others`.
    fn read(&mut self, others: &[NodeRow]) {
        self.now += READ;
        self.seq += 1;
        let rows: Vec<NodeRow> = others.iter().cloned().chain([row(&self.me, self.seq)]).collect();
        self.observer.read(&rows, self.now);
    }

    /// Reads until `of` is dead, and says after how long.
    fn until_dead(&mut self, of: &Incarnation, rows: &[NodeRow]) -> Duration {
        let begun = self.now;
        while !self.observer.is_dead(of) {
            assert!(self.now - begun < 10 * LEASE, "it never is");
            self.read(rows);
        }
        self.now - begun
    }
}

#[test]
fn a_node_whose_heartbeat_moves_is_alive_for_ever() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    for seq in 0..100 {
        watch.read(&[row(&other, seq)]);
        assert!(!watch.observer.is_dead(&other));
    }
    assert!(watch.observer.is_alive(&other));
}

#[test]
fn a_silent_node_is_dead_after_a_lease_of_reads() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    watch.read(&[row(&other, 7)]);
    assert_eq!(watch.until_dead(&other, &[row(&other, 7)]), LEASE);
    assert!(!watch.observer.is_alive(&other));
    watch.read(&[row(&other, 8)]);
    assert!(!watch.observer.is_dead(&other), "it was paused, and is back");
    assert!(watch.observer.is_alive(&other));
}

#[test]
fn who_falls_silent_is_suspicious_before_and_for_a_while_after_it_is_dead() {
    let mut watch = Watch::new();
    let other = incarnation("other", 2);
    let read: Vec<bool> = (0..12)
        .map(|reads: u64| {
            watch.read(&[row(&other, reads.min(3))]);
            watch.observer.is_suspicious()
        })
        .collect();
    // The fourth read saw it move last: a lease is four reads.
    let suspicious: Vec<usize> = (0..12).filter(|reads| read[*reads]).collect();
    assert_eq!(suspicious, [5, 6, 7, 8, 9, 10]);
}

#[test]
fn an_owner_that_is_in_no_row_is_dead_after_a_lease() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    watch.read(&[]);
    assert_eq!(watch.until_dead(&other, &[]), LEASE);
}

#[test]
fn a_node_that_has_left_is_dead_at_once() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    watch.read(&[row(&other, 7)]);
    watch.read(&[row(&other, 8)]);
    watch.read(&[]);
    assert!(watch.observer.is_dead(&other));
}

#[test]
fn an_earlier_life_of_this_node_is_dead_and_this_one_never_is() {
    let (mut watch, earlier) = (Watch::new(), incarnation("me", 9));
    watch.read(&[row(&earlier, 7)]);
    assert_eq!(watch.until_dead(&earlier, &[row(&earlier, 7)]), LEASE / 2);
    assert!(!watch.observer.is_dead(&watch.me.clone()) && !watch.observer.has_double());
}

#[test]
fn a_live_node_of_the_same_name_is_told_of_and_not_taken_for_dead() {
    let (mut watch, double) = (Watch::new(), incarnation("me", 9));
    for seq in 0..10 {
        watch.read(&[row(&double, seq)]);
        assert!(!watch.observer.is_dead(&double));
    }
    assert!(watch.observer.has_double());
    assert_eq!(watch.until_dead(&double, &[row(&double, 9)]), LEASE);
}

#[test]
fn slow_heartbeats_are_read_slowly() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    let (lease, heartbeat) = (20 * READ, 4 * READ);
    watch.observer = Observer::new(watch.me.clone(), lease, heartbeat);
    let begun = watch.now;
    while !watch.observer.is_dead(&other) {
        watch.now += heartbeat - READ;
        watch.read(&[row(&other, 7)]);
        assert!(watch.now - begun < 3 * lease, "it never is");
    }
}

#[test]
fn an_outage_of_the_registry_kills_nobody() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    watch.read(&[row(&other, 7)]);
    for _ in 0..20 {
        watch.now += READ;
        watch.observer.read_failed();
        assert!(!watch.observer.is_dead(&other));
    }
    watch.read(&[row(&other, 7)]);
    assert_eq!(watch.until_dead(&other, &[row(&other, 7)]), LEASE, "watching begins again");
}

#[test]
fn a_pause_of_the_observer_kills_nobody() {
    let (mut watch, other) = (Watch::new(), incarnation("other", 2));
    watch.read(&[row(&other, 7)]);
    watch.now += 10 * LEASE;
    watch.read(&[row(&other, 7)]);
    assert!(!watch.observer.is_dead(&other));
    assert_eq!(watch.until_dead(&other, &[row(&other, 7)]), LEASE);
}

#[test]
fn observers_take_turns_and_the_first_is_at_once() {
    let dead = incarnation("dead", 99);
    let observers: Vec<Incarnation> = (1..=4).map(|boot| incarnation(&format!("node-{boot}"), boot)).collect();
    let mut delays: Vec<Duration> = observers
        .iter()
        .map(|me| {
            let mut watch =
                Watch { observer: Observer::new(me.clone(), LEASE, READ), me: me.clone(), now: READ, seq: 0 };
            let begun = watch.now + READ;
            while !watch.observer.is_dead(&dead) {
                let others = observers.iter().filter(|other| *other != me).map(|other| row(other, watch.seq));
                let rows: Vec<NodeRow> = others.chain([row(&dead, 5)]).collect();
                watch.read(&rows);
            }
            watch.now - begun - LEASE
        })
        .collect();
    delays.sort();
    assert_eq!(delays, [0, 1, 2, 3].map(|turn| TURN * turn));
}

#[test]
fn what_nobody_asks_about_any_more_is_forgotten() {
    let (mut watch, [kept, gone]) = (Watch::new(), [2, 3].map(|boot| incarnation("other", boot)));
    watch.read(&[]);
    assert!(!watch.observer.is_dead(&kept) && !watch.observer.is_dead(&gone));
    watch.observer.retain(std::slice::from_ref(&kept));
    assert!(watch.observer.watched.contains_key(&kept) && !watch.observer.watched.contains_key(&gone));
}
