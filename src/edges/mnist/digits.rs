//! `mnist-10k`: 10,000 real digits of MNIST's training set, built into the binary.
//!
//! `scripts/make_mnist_10k.py` made the files; it says from what, and `digits/LICENSE` under which terms.

use kubeml_actors::dataset::RawDataset;

use super::dataset::{self, Error, IdxFile};

#[cfg(test)]
mod tests;

pub const NAME: &str = "mnist-10k";

pub fn read() -> Result<RawDataset, Error> {
    let files = [
        built_in("train-images-idx3-ubyte.gz", include_bytes!("digits/train-images-idx3-ubyte.gz")),
        built_in("train-labels-idx1-ubyte.gz", include_bytes!("digits/train-labels-idx1-ubyte.gz")),
        built_in("t10k-images-idx3-ubyte.gz", include_bytes!("digits/t10k-images-idx3-ubyte.gz")),
        built_in("t10k-labels-idx1-ubyte.gz", include_bytes!("digits/t10k-labels-idx1-ubyte.gz")),
    ];
    dataset::read(NAME, files)
}

fn built_in(name: &str, bytes: &'static [u8]) -> IdxFile<'static> {
    IdxFile { name: format!("the built-in {name}"), bytes: Box::new(bytes), sha256: None }
}
