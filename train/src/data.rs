//! The images and labels of one dataset, in memory, shared cheaply.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::TrainError;

/// One-channel images of equal size with their labels, in a train and a test split. A clone shares the bytes.
#[derive(Clone)]
pub struct Data(Arc<DataParts>);

/// What [`Data::new`] checks and takes over.
pub struct DataParts {
    /// Rows of an image, at least 1.
    pub height: usize,
    /// Columns of an image, at least 1.
    pub width: usize,
    /// Labels are below this, 2 to 1,000.
    pub classes: usize,
    pub train: Split,
    pub test: Split,
    /// The dataset's content hash, as its owner writes it; kept in checkpoints and compared, never interpreted.
    pub hash: String,
}

/// Images `[n, height, width]`, one byte a pixel, and labels `[n]`; shared with whoever has them already.
#[derive(Clone, Default)]
pub struct Split {
    pub images: Bytes,
    pub labels: Bytes,
}

impl Split {
    /// Samples in the split.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Data {
    /// Takes the parts over. Fails with [`TrainError::InvalidData`], which lists every problem.
    pub fn new(parts: DataParts) -> Result<Self, TrainError> {
        let mut problems = Vec::new();
        let pixels = parts.height.checked_mul(parts.width).filter(|&pixels| pixels > 0 && pixels <= 1 << 20);
        if pixels.is_none() {
            let (height, width) = (parts.height, parts.width);
            problems.push(format!("images of {height} x {width} pixels are not between 1 and 1048576 pixels"));
        }
        if !(2..=1_000).contains(&parts.classes) {
            problems.push(format!("{} classes are not between 2 and 1000", parts.classes));
        }
        if parts.hash.is_empty() || parts.hash.len() > 256 || parts.hash.contains(['\n', '\r']) {
            problems.push("the dataset's hash must be one line of 1 to 256 bytes".to_string());
        }
        for (name, split) in [("train", &parts.train), ("test", &parts.test)] {
            check_split(name, split, pixels, parts.classes, &mut problems);
        }
        if problems.is_empty() { Ok(Data(Arc::new(parts))) } else { Err(TrainError::InvalidData { problems }) }
    }

    pub fn height(&self) -> usize {
        self.0.height
    }

    pub fn width(&self) -> usize {
        self.0.width
    }

    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.0.height * self.0.width
    }

    pub fn classes(&self) -> usize {
        self.0.classes
    }

    pub fn train(&self) -> &Split {
        &self.0.train
    }

    pub fn test(&self) -> &Split {
        &self.0.test
    }

    pub fn hash(&self) -> &str {
        &self.0.hash
    }
}

fn check_split(name: &str, split: &Split, pixels: Option<usize>, classes: usize, problems: &mut Vec<String>) {
    if split.is_empty() {
        problems.push(format!("the {name} split is empty"));
    }
    if split.len() > u32::MAX as usize {
        problems.push(format!("{} {name} samples are more than {}", split.len(), u32::MAX));
    }
    if let Some(pixels) = pixels
        && Some(split.images.len()) != split.len().checked_mul(pixels)
    {
        let (labels, bytes) = (split.len(), split.images.len());
        problems.push(format!("{labels} {name} labels need {} image bytes, found {bytes}", labels * pixels));
    }
    if let Some(at) = split.labels.iter().position(|&label| usize::from(label) >= classes) {
        let label = split.labels[at];
        problems.push(format!("{name} label {label} at {at} is not below {classes} classes"));
    }
}
