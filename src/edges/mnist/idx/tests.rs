//! Good files, every kind of bad file, and any bytes at all.

use std::io::{Read, Write};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::{Images, Problem, read_images, read_labels, unpacked};

fn images_of(bytes: &[u8]) -> Result<Images, Problem> {
    read_images(unpacked(bytes).expect("bytes in memory can be read"))
}

fn labels_of(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    read_labels(unpacked(bytes).expect("bytes in memory can be read"))
}

fn images_file(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
    let words = [0x803, count, height, width];
    words.iter().flat_map(|word: &u32| word.to_be_bytes()).chain(pixels.iter().copied()).collect()
}

fn labels_file(count: u32, labels: &[u8]) -> Vec<u8> {
    let words = [0x801, count];
    words.iter().flat_map(|word: &u32| word.to_be_bytes()).chain(labels.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

#[test]
fn plain_and_gzipped_files_read_alike() {
    let images = images_file(2, 2, 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let expected = Images { count: 2, height: 2, width: 3, pixels: (1..=12).collect() };
    assert_eq!(images_of(&images).unwrap(), expected);
    assert_eq!(images_of(&gzip(&images)).unwrap(), expected);

    let labels = labels_file(3, &[0, 9, 5]);
    assert_eq!(labels_of(&labels).unwrap(), [0, 9, 5]);
    assert_eq!(labels_of(&gzip(&labels)).unwrap(), [0, 9, 5]);
}

#[test]
fn a_gzip_file_of_several_members_is_one_file() {
    let file = images_file(1, 1, 4, &[1, 2, 3, 4]);
    let members = [gzip(&file[..10]), gzip(&file[10..])].concat();
    assert_eq!(images_of(&members).unwrap().pixels, [1, 2, 3, 4]);
}

#[test]
fn a_bad_images_file_is_told_from_a_good_one() {
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", vec![], "expected a header of 16 bytes, found 0"),
        ("cut in its header", images_file(1, 1, 1, &[])[..15].to_vec(), "expected a header of 16 bytes, found 15"),
        (
            "labels",
            labels_file(9, &[1; 9]),
            "expected magic number 0x00000803 at offset 0, found 0x00000801: this is no IDX file of images",
        ),
        ("no images", images_file(0, 28, 28, &[]), "expected at least 1 of images, found 0 at offset 4"),
        ("no rows", images_file(1, 0, 28, &[]), "expected images of at least 1x1 pixels, found 0x28 at offset 8"),
        ("no columns", images_file(1, 28, 0, &[]), "expected images of at least 1x1 pixels, found 28x0 at offset 8"),
        (
            "beyond any size",
            images_file(u32::MAX, u32::MAX, u32::MAX, &[0; 64]),
            "expected at most 1073741824 bytes, found a header that says 4294967295 images of 18446744073709551615 bytes in all",
        ),
        ("truncated", images_file(2, 2, 2, &[0; 7]), "expected 24 bytes after the header says 2 images, found 23"),
        ("trailing", images_file(2, 2, 2, &[0; 9]), "expected 24 bytes after the header says 2 images, found more"),
    ];
    for (name, file, expected) in cases {
        assert_eq!(images_of(&file).unwrap_err().to_string(), expected, "{name}");
        assert_eq!(images_of(&gzip(&file)).unwrap_err().to_string(), expected, "{name}, gzipped");
    }
}

#[test]
fn a_bad_labels_file_is_told_from_a_good_one() {
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("cut in its header", labels_file(1, &[])[..7].to_vec(), "expected a header of 8 bytes, found 7"),
        (
            "images",
            images_file(1, 1, 1, &[0]),
            "expected magic number 0x00000801 at offset 0, found 0x00000803: this is no IDX file of labels",
        ),
        ("no labels", labels_file(0, &[]), "expected at least 1 of labels, found 0 at offset 4"),
        ("truncated", labels_file(4, &[1, 2, 3]), "expected 12 bytes after the header says 4 labels, found 11"),
        ("trailing", labels_file(2, &[1, 2, 3]), "expected 10 bytes after the header says 2 labels, found more"),
        ("no digit", labels_file(3, &[9, 10, 200]), "expected a label from 0 to 9 at offset 9, found 10"),
    ];
    for (name, file, expected) in cases {
        assert_eq!(labels_of(&file).unwrap_err().to_string(), expected, "{name}");
        assert_eq!(labels_of(&gzip(&file)).unwrap_err().to_string(), expected, "{name}, gzipped");
    }
}

#[test]
fn a_cut_download_says_how_much_there_is() {
    let packed = gzip(&images_file(100, 10, 10, &noise(10_000)));
    let problem = images_of(&packed[..packed.len() / 2]).unwrap_err();
    assert!(
        matches!(problem, Problem::Truncated { expected: 10_016, found: 17..10_016, .. }),
        "expected a truncated body, found {problem:?}"
    );
}

#[test]
fn damage_behind_the_last_pixel_is_seen() {
    let packed = gzip(&images_file(1, 2, 2, &[1, 2, 3, 4]));
    let mut wrong_checksum = packed.clone();
    wrong_checksum[packed.len() - 8] ^= 1;
    for (name, file) in [
        ("checksum", wrong_checksum),
        ("cut checksum", packed[..packed.len() - 3].to_vec()),
        ("garbage", [packed.as_slice(), b"garbage"].concat()),
    ] {
        let problem = images_of(&file).unwrap_err();
        assert!(matches!(problem, Problem::Unreadable { offset: 20, .. }), "{name}: {problem:?}");
    }
}

#[test]
fn a_decompression_bomb_is_read_one_byte_too_far_and_no_further() {
    let announced = 1_000;
    let bomb = gzip(&[images_file(1, 10, 100, &[]), vec![0; 50_000_000]].concat());
    let mut taken = 0;
    let counting = unpacked(bomb.as_slice()).unwrap();
    let problem = read_images(Counting { input: counting, taken: &mut taken }).unwrap_err();
    assert!(matches!(problem, Problem::Trailing { expected: 1_016, .. }), "{problem:?}");
    assert_eq!(taken, 16 + announced + 1);
}

struct Counting<'a, R> {
    input: R,
    taken: &'a mut usize,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        *self.taken += count;
        Ok(count)
    }
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpacked(bytes.as_slice()).map(read_images);
        let _ = unpacked(bytes.as_slice()).map(read_labels);
    }

    #[test]
    fn any_bytes_after_a_true_header_are_read_or_refused(
        count in 0_u32..4, height in 0_u32..4, width in 0_u32..4, body in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let fits = body.len() == (count * height * width) as usize && !body.is_empty();
        prop_assert_eq!(images_of(&images_file(count, height, width, &body)).is_ok(), fits);
    }

    #[test]
    fn a_file_with_one_byte_changed_is_read_or_refused(
        gzipped in any::<bool>(), index in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let good = images_file(3, 4, 5, &noise(60));
        let mut file = if gzipped { gzip(&good) } else { good };
        let at = index.index(file.len());
        file[at] = to;
        if let Ok(images) = images_of(&file) {
            prop_assert_eq!(images.pixels.len() as u32, images.count * images.height * images.width);
        }
    }
}
