//! Where the source looks, in which order, and what it says when it finds nothing or something bad.

use std::{io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;

/// A server that nobody listens at.
const DEAD_MIRROR: &str = "http://127.0.0.1:1";

/// Two training images and one test image of 2x2 pixels, by name.
fn tiny_files() -> [(&'static str, Vec<u8>); 4] {
    [
        ("train-images-idx3-ubyte", idx(&[0x803, 2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("train-labels-idx1-ubyte", idx(&[0x801, 2], &[3, 4])),
        ("t10k-images-idx3-ubyte", idx(&[0x803, 1, 2, 2], &[9, 9, 9, 9])),
        ("t10k-labels-idx1-ubyte", idx(&[0x801, 1], &[5])),
    ]
}

fn idx(words: &[u32], body: &[u8]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).chain(body.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write_gzipped(dir: &Path) {
    for (name, bytes) in tiny_files() {
        std::fs::write(dir.join(format!("{name}.gz")), gzip(&bytes)).unwrap();
    }
}

struct Place {
    dir: TempDir,
    cache: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), cache: TempDir::new().unwrap() }
    }

    async fn fetch(&self, download: bool) -> Result<RawDataset, PortError> {
        let config = Mnist { dir: Some(self.dir.path().into()), download };
        let source = MnistSource { config, cache_dir: self.cache.path().into(), mirror: DEAD_MIRROR.to_owned() };
        source.fetch("mnist", &FetchProgress::ignored()).await
    }
}

#[tokio::test]
async fn files_in_the_directory_may_be_plain_gzipped_and_others_than_the_originals() {
    let place = Place::new();
    let [train_images, train_labels, test_images, test_labels] = tiny_files();
    for (name, bytes) in [train_images, test_labels] {
        std::fs::write(place.dir.path().join(name), bytes).unwrap();
    }
    for (name, bytes) in [train_labels, test_images] {
        std::fs::write(place.dir.path().join(format!("{name}.gz")), gzip(&bytes)).unwrap();
    }
    let mnist = place.fetch(false).await.unwrap();
    mnist.check().unwrap();
    assert_eq!((mnist.name.as_str(), mnist.classes, mnist.height, mnist.width), ("mnist", 10, 2, 2));
    assert_eq!((&mnist.train.labels[..], &mnist.test.labels[..]), (&[3, 4][..], &[5][..]));
}

#[tokio::test]
async fn every_place_that_was_looked_at_is_named() {
    let place = Place::new();
    write_gzipped(place.dir.path());
    std::fs::remove_file(place.dir.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
    let all = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte";
    let expected = format!(
        "cannot find MNIST: {} lacks t10k-images-idx3-ubyte; {} lacks {all}; [datasets.mnist] download is false; \
         set [datasets.mnist] dir to its files or pass --dataset mnist-10k",
        place.dir.path().display(),
        place.cache.path().display(),
    );
    assert_eq!(place.fetch(false).await, Err(PortError::NotFound(expected)));
}

#[tokio::test]
async fn a_mirror_out_of_reach_is_nothing_found() {
    let Err(PortError::NotFound(text)) = Place::new().fetch(true).await else {
        panic!("expected nothing to be found");
    };
    assert!(text.contains("cannot reach http://127.0.0.1:1/train-images-idx3-ubyte.gz: "), "{text}");
    assert!(text.ends_with("or pass --dataset mnist-10k"), "{text}");
}

#[tokio::test]
async fn a_bad_file_in_the_directory_is_an_error_and_not_passed_over() {
    let place = Place::new();
    write_gzipped(place.dir.path());
    let path = place.dir.path().join("train-images-idx3-ubyte.gz");
    let mut cut = idx(&[0x803, 60_000, 28, 28], &[]);
    cut.resize(1_048_576, 0);
    std::fs::write(&path, gzip(&cut)).unwrap();
    let expected = format!(
        "cannot read {}: expected 47040016 bytes after the header says 60000 images, found 1048576; \
         download it again or pass --dataset mnist-10k",
        path.display()
    );
    assert_eq!(place.fetch(true).await, Err(PortError::Corrupt(expected)));
}

#[tokio::test]
async fn the_cache_holds_the_originals_or_nothing() {
    let place = Place::new();
    write_gzipped(place.cache.path());
    let Err(PortError::Corrupt(text)) = place.fetch(false).await else {
        panic!("expected a wrong hash");
    };
    assert!(text.contains("train-images-idx3-ubyte.gz: expected SHA-256 ba891046"), "{text}");
    let downloaded = place.fetch(true).await;
    assert!(matches!(&downloaded, Err(PortError::NotFound(text)) if text.contains("cannot reach")), "{downloaded:?}");
}

#[tokio::test]
async fn the_built_in_digits_need_no_file() {
    let source = MnistSource::new(Mnist { dir: None, download: false }, PathBuf::new());
    let digits = source.fetch("mnist-10k", &FetchProgress::ignored()).await.unwrap();
    assert_eq!((digits.name.as_str(), digits.train.labels.len()), ("mnist-10k", 8_004));
}

#[tokio::test]
async fn an_unknown_name_is_told_the_known_ones() {
    let source = MnistSource::new(Mnist { dir: None, download: false }, PathBuf::new());
    let expected = PortError::NotFound("there is no dataset emnist; there are mnist, mnist-10k".to_owned());
    assert_eq!(source.fetch("emnist", &FetchProgress::ignored()).await, Err(expected));
}

#[test]
fn the_cache_directory_follows_the_environment() {
    let cases = [
        (Some("/caches"), Some("/home/ada"), "/caches/kubeml/mnist"),
        (Some("relative"), Some("/home/ada"), "/home/ada/.cache/kubeml/mnist"),
        (None, Some("/home/ada"), "/home/ada/.cache/kubeml/mnist"),
        (None, Some(""), "/data/cache/mnist"),
        (None, None, "/data/cache/mnist"),
    ];
    for (xdg, home, expected) in cases {
        let found = cache_dir_of(xdg.map(OsString::from), home.map(OsString::from), Path::new("/data"));
        assert_eq!(found, Path::new(expected), "XDG_CACHE_HOME={xdg:?} HOME={home:?}");
    }
}
