//! Lines and events of several kinds.

use super::*;

#[test]
fn lines_and_events_tell_the_same() {
    let lines = "starting\nepoch 1 0.571 105078 0.9432\nepoch 2 0.5 120000.5 0.96\nepoch 3 wrong\n";
    let events = r#"{"kind":"progress","samples_per_second":7.0}
{"kind":"epoch_finished","samples_per_second":105078.0,"val_accuracy":0.9432}
{"kind":"epoch_finished","samples_per_second":120000.5,"val_accuracy":0.96}
not json"#;
    let epochs = Epochs::of_lines(lines);
    assert_eq!(epochs, Epochs::of_events(events));
    assert_eq!((epochs.count(), epochs.accuracy()), (2, Some(0.96)));
    assert_eq!(epochs.speeds().collect::<Vec<_>>(), [105_078.0, 120_000.5]);
}

#[test]
fn the_median_lies_in_the_middle() {
    for (values, expected) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 5.0], 5.0), (vec![2.0, 1.0], 2.0)] {
        assert_eq!(median(values), expected);
    }
}
