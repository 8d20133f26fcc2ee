//! The four files of the real MNIST: their names, and what pins their contents.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{hashed::Hashed, idx};

#[derive(Debug)]
pub struct Original {
    /// As published, without `.gz`.
    pub name: &'static str,
    /// Unpacked.
    pub bytes: u64,
    /// Of the unpacked bytes: mirrors pack them differently.
    pub sha256: &'static str,
}

/// Training images and labels, test images and labels: the order of everything that handles four files.
pub const ORIGINALS: [Original; 4] = [
    Original {
        name: "train-images-idx3-ubyte",
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
    Original {
        name: "train-labels-idx1-ubyte",
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Original {
        name: "t10k-images-idx3-ubyte",
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Original {
        name: "t10k-labels-idx1-ubyte",
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
];

impl Original {
    /// Where the file is in `dir`: under its own name or with `.gz`, whichever it really is.
    pub fn find(&self, dir: &Path) -> Option<PathBuf> {
        [self.name.to_owned(), self.file_name()].iter().map(|name| dir.join(name)).find(|path| path.is_file())
    }

    /// Under which it is downloaded and cached.
    pub fn file_name(&self) -> String {
        format!("{}.gz", self.name)
    }

    /// The SHA-256 of a file's unpacked bytes, of which no more are read than could be right.
    pub fn sha256_of(&self, path: &Path) -> io::Result<String> {
        let unpacked = idx::unpacked(BufReader::new(File::open(path)?))?;
        let mut hashed = Hashed::new(unpacked.take(self.bytes + 1));
        io::copy(&mut hashed, &mut io::sink())?;
        Ok(hashed.finish())
    }
}
