//! Four IDX files make a dataset: each is read and checked, then they are checked against each other.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use bytes::Bytes;
use kubeml_actors::dataset::{RawDataset, RawSplit};

use super::{
    hashed::Hashed,
    idx::{self, Images, Problem},
};

#[cfg(test)]
mod tests;

const CLASSES: u32 = 10;

/// One IDX file, plain or gzipped, not yet read.
pub struct IdxFile<'a> {
    /// What errors call it: its path, for a file on disk.
    pub name: String,
    pub bytes: Box<dyn BufRead + 'a>,
    /// Of the unpacked bytes, hexadecimal; none if any contents will do.
    pub sha256: Option<&'static str>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {file}: {source}")]
    Open { file: String, source: io::Error },
    #[error("cannot read {file}: {problem}")]
    Content { file: String, problem: Problem },
    #[error("cannot read {file}: expected SHA-256 {expected} of its unpacked bytes, found {found}")]
    Hash { file: String, expected: &'static str, found: String },
    #[error(
        "cannot read {labels_file}: expected {images} labels at offset 4, one for each image of {images_file}, found {labels}"
    )]
    Counts { images_file: String, images: u32, labels_file: String, labels: usize },
    #[error("cannot read {file}: expected images of {}x{} pixels at offset 8, as in {other}, found {}x{}", .expected.0, .expected.1, .found.0, .found.1)]
    Shapes { file: String, other: String, expected: (u32, u32), found: (u32, u32) },
}

impl<'a> IdxFile<'a> {
    pub fn open(path: &Path, sha256: Option<&'static str>) -> Result<Self, Error> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self { name, bytes: Box::new(BufReader::with_capacity(1 << 16, file)), sha256 }),
            Err(source) => Err(Error::Open { file: name, source }),
        }
    }

    fn images(self) -> Result<Images, Error> {
        self.read(|input| idx::read_images(input))
    }

    fn labels(self) -> Result<Vec<u8>, Error> {
        self.read(|input| idx::read_labels(input))
    }

    /// Reads the file with `parse`, which reads to its end, and then compares the hash of all that went by.
    fn read<T>(self, parse: impl FnOnce(&mut dyn Read) -> Result<T, Problem>) -> Result<T, Error> {
        let Self { name: file, bytes, sha256 } = self;
        let mut input = idx::unpacked(bytes).map_err(|source| Error::Open { file: file.clone(), source })?;
        let content = |problem| Error::Content { file: file.clone(), problem };
        let Some(expected) = sha256 else {
            return parse(&mut input).map_err(content);
        };
        let mut hashed = Hashed::new(input);
        let parsed = parse(&mut hashed).map_err(content)?;
        match hashed.finish() {
            found if found == expected => Ok(parsed),
            found => Err(Error::Hash { file, expected, found }),
        }
    }
}

/// In the order of [`super::originals::ORIGINALS`]: training images and labels, test images and labels.
pub fn read(name: &str, files: [IdxFile<'_>; 4]) -> Result<RawDataset, Error> {
    let [train_images, train_labels, test_images, test_labels] = files;
    let (train_name, test_name) = (train_images.name.clone(), test_images.name.clone());
    let (train_images, train_labels) = read_split(train_images, train_labels)?;
    let (test_images, test_labels) = read_split(test_images, test_labels)?;

    let (expected, found) = ((train_images.height, train_images.width), (test_images.height, test_images.width));
    if expected != found {
        return Err(Error::Shapes { file: test_name, other: train_name, expected, found });
    }
    Ok(RawDataset {
        name: name.to_owned(),
        classes: CLASSES,
        height: train_images.height,
        width: train_images.width,
        train: RawSplit { images: Bytes::from(train_images.pixels), labels: train_labels },
        test: RawSplit { images: Bytes::from(test_images.pixels), labels: test_labels },
    })
}

fn read_split(images: IdxFile<'_>, labels: IdxFile<'_>) -> Result<(Images, Bytes), Error> {
    let (images_file, labels_file) = (images.name.clone(), labels.name.clone());
    let images = images.images()?;
    let labels = labels.labels()?;
    if images.count as usize != labels.len() {
        return Err(Error::Counts { images_file, images: images.count, labels_file, labels: labels.len() });
    }
    Ok((images, Bytes::from(labels)))
}
