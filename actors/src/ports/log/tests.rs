//! Positions of logs with several partitions.

use super::*;

fn place(partition: u32, counter: u64) -> Place {
    Place { partition, counter }
}

#[test]
fn a_position_includes_what_was_read() {
    let mut position = Position::default();
    assert!(!position.includes(place(0, 1)));
    position.advance(place(1, 3));
    assert_eq!(position, Position(vec![0, 3]));
    assert!(position.includes(place(1, 3)) && !position.includes(place(1, 4)) && !position.includes(place(0, 1)));
    position.advance(place(1, 2));
    assert_eq!(position, Position(vec![0, 3]), "it never goes back");
}

#[test]
fn the_order_of_reading_partitions_does_not_matter() {
    let places = [place(0, 1), place(1, 1), place(0, 2)];
    let read = |order: [usize; 3]| {
        let mut position = Position::default();
        order.into_iter().for_each(|index| position.advance(places[index]));
        position
    };
    assert_eq!(read([0, 1, 2]), read([1, 0, 2]));
    assert_eq!(read([0, 2, 1]).to_string(), "2-1");
}

#[test]
fn positions_are_ordered_in_part() {
    let (left, right, both) = (Position(vec![2, 0]), Position(vec![0, 2]), Position(vec![2, 2]));
    assert!(!left.covers(&right) && !right.covers(&left));
    assert!(both.covers(&left) && both.covers(&right) && both.covers(&Position::default()));
    assert!(Position::default().covers(&Position(vec![0, 0])));
}
