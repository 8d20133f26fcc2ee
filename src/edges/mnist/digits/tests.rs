//! The built-in digits are those that the script made, and all of them.

use std::collections::HashSet;

use super::read;

#[test]
fn ten_thousand_distinct_digits_are_built_in() {
    let digits = read().expect("the built-in files are good");
    digits.check().expect("the dataset is consistent");
    assert_eq!((digits.height, digits.width, digits.classes), (28, 28, 10));
    assert_eq!((digits.train.labels.len(), digits.test.labels.len()), (8_004, 1_996));

    let images = digits.train.images.chunks(28 * 28).chain(digits.test.images.chunks(28 * 28));
    assert_eq!(images.collect::<HashSet<_>>().len(), 10_000);
}

#[test]
fn a_fifth_of_each_digit_is_for_testing() {
    let digits = read().expect("the built-in files are good");
    let count = |labels: &[u8], digit| labels.iter().filter(|label| **label == digit).count();
    for digit in 0..10 {
        let (train, test) = (count(&digits.train.labels, digit), count(&digits.test.labels, digit));
        assert_eq!(test, (train + test) / 5, "digit {digit}");
    }
}
