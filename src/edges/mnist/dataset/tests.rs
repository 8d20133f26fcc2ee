//! What four files must have in common.

use super::{IdxFile, read};

fn file<'a>(name: &str, words: &[u32], body: &[u8]) -> IdxFile<'a> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).chain(body.iter().copied()).collect();
    IdxFile { name: name.to_owned(), bytes: Box::new(std::io::Cursor::new(bytes)), sha256: None }
}

fn images<'a>(name: &str, count: u32, side: u32) -> IdxFile<'a> {
    file(name, &[0x803, count, side, side], &vec![7; (count * side * side) as usize])
}

fn labels<'a>(name: &str, count: u32) -> IdxFile<'a> {
    file(name, &[0x801, count], &vec![3; count as usize])
}

#[test]
fn four_files_make_a_dataset() {
    let dataset = read("tiny", [images("a", 3, 2), labels("b", 3), images("c", 1, 2), labels("d", 1)]).unwrap();
    dataset.check().unwrap();
    assert_eq!((dataset.name.as_str(), dataset.classes, dataset.height, dataset.width), ("tiny", 10, 2, 2));
    assert_eq!((&dataset.train.images[..], &dataset.train.labels[..]), (&[7; 12][..], &[3; 3][..]));
    assert_eq!((&dataset.test.images[..], &dataset.test.labels[..]), (&[7; 4][..], &[3; 1][..]));
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let cases = [
        (
            "counts",
            [images("a", 3, 2), labels("b", 2), images("c", 1, 2), labels("d", 1)],
            "cannot read b: expected 3 labels at offset 4, one for each image of a, found 2",
        ),
        (
            "shapes",
            [images("a", 3, 2), labels("b", 3), images("c", 1, 4), labels("d", 1)],
            "cannot read c: expected images of 2x2 pixels at offset 8, as in a, found 4x4",
        ),
        (
            "order",
            [labels("a", 30), images("b", 30, 2), images("c", 1, 2), labels("d", 1)],
            "cannot read a: expected magic number 0x00000803 at offset 0, found 0x00000801: this is no IDX file of images",
        ),
    ];
    for (name, files, expected) in cases {
        assert_eq!(read("tiny", files).unwrap_err().to_string(), expected, "{name}");
    }
}

#[test]
fn a_pinned_file_is_read_only_if_it_is_the_one() {
    let with = |sha256| {
        let pinned = IdxFile { sha256: Some(sha256), ..labels("b", 1) };
        read("tiny", [images("a", 1, 2), pinned, images("c", 1, 2), labels("d", 1)])
    };
    let right = "1e023d46f646a9594224597ffeb38a1e2137e06d2eebb1f6ca8a772dd766deab";
    let wrong = "0000000000000000000000000000000000000000000000000000000000000000";
    with(right).unwrap();
    let expected = format!("cannot read b: expected SHA-256 {wrong} of its unpacked bytes, found {right}");
    assert_eq!(with(wrong).unwrap_err().to_string(), expected);
}
