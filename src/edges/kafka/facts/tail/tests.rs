//! A reader goes on wherever it stopped, whatever the order of the partitions was for it.

use kubeml_actors::{task::TaskId, testing::contracts::samples};

use super::*;

fn place(partition: u32, counter: u64) -> Place {
    Place { partition, counter }
}

fn tail(capacity: usize, places: &[Place]) -> Tail {
    let mut tail = Tail::new(Position::default(), capacity);
    for place in places {
        tail.push(*place, samples::fact(TaskId::fresh(), place.partition, place.counter), false);
    }
    tail
}

fn positions(page: Option<LogPage>) -> Option<Vec<String>> {
    page.map(|page| page.entries.iter().map(|entry| entry.position.to_string()).collect())
}

const PLACES: [Place; 4] = [
    Place { partition: 0, counter: 1 },
    Place { partition: 1, counter: 1 },
    Place { partition: 0, counter: 2 },
    Place { partition: 1, counter: 5 },
];

#[test]
fn positions_run_from_where_the_reader_stopped() {
    let tail = tail(10, &PLACES);
    let page = |after: &str, limit| positions(tail.page(&after.parse().expect("it is one"), limit));
    assert_eq!(page("0-0", 9), Some(vec!["1-0".into(), "1-1".into(), "2-1".into(), "2-5".into()]));
    assert_eq!(page("0-0", 2), Some(vec!["1-0".into(), "1-1".into()]));
    assert_eq!(page("0-1", 9), Some(vec!["1-1".into(), "2-1".into(), "2-5".into()]), "it heard partition 1 first");
    assert_eq!(page("2-4", 9), Some(vec!["2-5".into()]));
    assert_eq!(page("2-5", 9), Some(vec![]));
    assert_eq!(page("99-99", 9), Some(vec![]), "beyond the end");
}

#[test]
fn what_was_dropped_is_not_denied() {
    let tail = tail(2, &PLACES);
    assert_eq!(positions(tail.page(&Position::default(), 9)), None);
    assert_eq!(positions(tail.page(&Position(vec![1, 0]), 9)), None);
    let rest = tail.page(&Position(vec![1, 1]), 9);
    assert_eq!(positions(rest), Some(vec!["2-1".into(), "2-5".into()]));
    assert_eq!(tail.start, {
        let mut start = Position::default();
        start.advance(place(0, 1));
        start.advance(place(1, 1));
        start
    });
}

#[test]
fn a_page_with_a_hole_says_so() {
    let mut tail = Tail::new(Position::default(), 10);
    for (counter, is_after_hole) in [(1, false), (2, true), (3, false)] {
        tail.push(place(0, counter), samples::fact(TaskId::fresh(), 1, counter), is_after_hole);
    }
    let gap = |after, limit| tail.page(&Position::single(after), limit).map(|page| page.gap);
    assert_eq!(gap(0, 9), Some(true));
    assert_eq!(gap(0, 1), Some(false));
    assert_eq!(gap(1, 1), Some(true));
    assert_eq!(gap(2, 9), Some(false));
}
