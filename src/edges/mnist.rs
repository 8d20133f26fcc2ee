//! Where MNIST comes from: `mnist`, the real 70,000 images from files or a mirror, and `mnist-10k`, built in.
//!
//! `mnist` is looked for in `[datasets.mnist] dir`, where any four files of its format will do; then in the cache
//! directory; then, if `[datasets.mnist] download` is true, at the mirror. What is cached must be MNIST to the byte.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use kubeml_actors::{
    dataset::RawDataset,
    ports::{DatasetSource, FetchProgress, PortError},
};

use self::{
    dataset::{Error as ReadError, IdxFile},
    download::{Downloader, Error as DownloadError},
    originals::{ORIGINALS, Original},
};
use crate::config::Mnist;

mod dataset;
mod digits;
mod download;
mod hashed;
mod idx;
mod originals;
#[cfg(test)]
mod tests;

const NAME: &str = "mnist";
/// File names like `train-images-idx3-ubyte.gz` are appended to it.
const PUBLIC_MIRROR: &str = "https://storage.googleapis.com/cvdf-datasets/mnist";
const INSTEAD: &str = "pass --dataset mnist-10k";

pub struct MnistSource {
    config: Mnist,
    cache_dir: PathBuf,
    mirror: String,
}

/// The user's cache directory for MNIST; inside `data_dir` if the environment names none.
pub fn cache_dir(data_dir: &Path) -> PathBuf {
    cache_dir_of(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"), data_dir)
}

/// A relative `XDG_CACHE_HOME` is to be ignored, says the XDG base directory specification.
fn cache_dir_of(xdg_cache_home: Option<OsString>, home: Option<OsString>, data_dir: &Path) -> PathBuf {
    let xdg = xdg_cache_home.map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = home.filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".cache"));
    match xdg.or(home) {
        Some(caches) => caches.join("kubeml").join(NAME),
        None => data_dir.join("cache").join(NAME),
    }
}

#[async_trait]
impl DatasetSource for MnistSource {
    fn names(&self) -> Vec<String> {
        vec![NAME.to_owned(), digits::NAME.to_owned()]
    }

    async fn fetch(&self, name: &str, progress: &FetchProgress) -> Result<RawDataset, PortError> {
        match name {
            NAME => self.mnist(progress).await,
            digits::NAME => blocking(digits::read).await?.map_err(|error| PortError::Corrupt(error.to_string())),
            _ => {
                let names = self.names().join(", ");
                Err(PortError::NotFound(format!("there is no dataset {name}; there are {names}")))
            }
        }
    }
}

impl MnistSource {
    pub fn new(config: Mnist, cache_dir: PathBuf) -> Self {
        Self { config, cache_dir, mirror: PUBLIC_MIRROR.to_owned() }
    }

    async fn mnist(&self, progress: &FetchProgress) -> Result<RawDataset, PortError> {
        let mut looked = Vec::new();
        if let Some(dir) = self.config.dir.clone() {
            match blocking(move || read_dir(&dir)).await? {
                Err(error @ Error::Missing { .. }) => looked.push(error.to_string()),
                outcome => return outcome.map_err(PortError::from),
            }
        }
        let cache_dir = self.cache_dir.clone();
        match blocking(move || read_cache(&cache_dir)).await? {
            Err(error @ Error::Missing { .. }) => looked.push(error.to_string()),
            Err(error) if self.config.download => tracing::warn!(%error, "the cached copy is downloaded again"),
            outcome => return outcome.map_err(PortError::from),
        }
        if !self.config.download {
            looked.push("[datasets.mnist] download is false".to_owned());
            return Err(nowhere(&looked));
        }
        if let Err(error) = self.download(progress).await {
            looked.push(error.to_string());
            return Err(nowhere(&looked));
        }
        let cache_dir = self.cache_dir.clone();
        blocking(move || read_cache(&cache_dir)).await?.map_err(PortError::from)
    }

    async fn download(&self, progress: &FetchProgress) -> Result<(), DownloadError> {
        tracing::info!(mirror = %self.mirror, "downloading MNIST");
        let downloader = Downloader::new(&self.mirror, &self.cache_dir)?;
        for original in &ORIGINALS {
            downloader.fetch(original, progress).await?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} lacks {}", dir.display(), names.join(", "))]
    Missing { dir: PathBuf, names: Vec<&'static str> },
    #[error("{0}; download it again or {INSTEAD}")]
    Read(#[from] ReadError),
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        match error {
            Error::Missing { .. } => Self::NotFound(error.to_string()),
            Error::Read(_) => Self::Corrupt(error.to_string()),
        }
    }
}

fn nowhere(looked: &[String]) -> PortError {
    let looked = looked.join("; ");
    PortError::NotFound(format!("cannot find MNIST: {looked}; set [datasets.mnist] dir to its files or {INSTEAD}"))
}

/// Any four files of MNIST's format.
fn read_dir(dir: &Path) -> Result<RawDataset, Error> {
    let paths = locate(dir, |original| original.find(dir))?;
    read(&paths, |_| None)
}

/// The real MNIST, as it was downloaded.
fn read_cache(dir: &Path) -> Result<RawDataset, Error> {
    let paths = locate(dir, |original| Some(dir.join(original.file_name())).filter(|path| path.is_file()))?;
    read(&paths, |original| Some(original.sha256))
}

fn read(paths: &[PathBuf; 4], pin: impl Fn(&Original) -> Option<&'static str>) -> Result<RawDataset, Error> {
    let open = |index: usize| IdxFile::open(&paths[index], pin(&ORIGINALS[index]));
    Ok(dataset::read(NAME, [open(0)?, open(1)?, open(2)?, open(3)?])?)
}

fn locate(dir: &Path, find: impl Fn(&Original) -> Option<PathBuf>) -> Result<[PathBuf; 4], Error> {
    let found = ORIGINALS.each_ref().map(find);
    let missing = ORIGINALS.iter().zip(&found).filter(|(_, path)| path.is_none());
    let names: Vec<_> = missing.map(|(original, _)| original.name).collect();
    match found {
        [Some(a), Some(b), Some(c), Some(d)] => Ok([a, b, c, d]),
        _ => Err(Error::Missing { dir: dir.to_owned(), names }),
    }
}

/// Unpacking and hashing take a while: not on a thread that serves others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PortError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(|join| PortError::Unavailable(format!("reading a dataset was given up: {join}")))
}
