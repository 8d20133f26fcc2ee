//! Quantiles by their definition, times by those that `date` tells.

use super::*;

#[test]
fn a_quantile_is_a_sample_that_enough_others_do_not_exceed() {
    let mut samples = Samples::default();
    assert_eq!(samples.median(), Duration::ZERO);
    (1..=100).rev().for_each(|millis| samples.add(Duration::from_millis(millis)));
    let millis = |sample: Duration| sample.as_millis();
    assert_eq!((millis(samples.median()), millis(samples.p99()), millis(samples.max())), (50, 99, 100));
    let mut few = Samples::default();
    [3, 1, 2].into_iter().for_each(|seconds| few.add(Duration::from_secs(seconds)));
    assert_eq!((few.count(), few.median().as_secs(), few.p99().as_secs()), (3, 2, 3));
}

#[test]
fn durations_are_told_in_three_digits_or_so() {
    let shown = |micros| Shown(Duration::from_micros(micros)).to_string();
    assert_eq!([12_340, 4_567_000, 157_400_000].map(shown), ["12.3 ms", "4.57 s", "157 s"]);
}

#[test]
fn times_are_read_as_they_are_told() {
    let cases = [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("2024-02-29T12:34:56.789Z", 1_709_210_096_789_000),
        ("2024-03-01T00:00:00.5Z", 1_709_251_200_500_000),
        ("2026-11-23T22:44:02.123Z", 1_795_473_842_123_000),
    ];
    for (text, micros) in cases {
        assert_eq!(micros_of(text).unwrap(), micros, "{text}");
    }
    for garbage in ["", "Z", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-00T00:00:00Z", "1900-01-01T00:00:00Z"] {
        assert!(micros_of(garbage).is_err(), "{garbage:?}");
    }
}
