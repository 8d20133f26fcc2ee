//! Downloads MNIST's files from a mirror into the cache directory.
//!
//! What has arrived is in `NAME.gz.part`, where the next attempt resumes, in this process or a later one. `NAME.gz`
//! appears only once its contents are proved to be MNIST's, so the mirror need not be trusted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kubeml_actors::ports::{FetchProgress, Fetching};
use reqwest::{
    Client, ClientBuilder, Response, StatusCode,
    header::{CONTENT_RANGE, RANGE},
};

use super::originals::Original;
use part::Part;

mod part;
#[cfg(test)]
mod tests;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Without a single byte arriving.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections to one file in one call; after the first only if the one before brought something.
const CONNECTIONS_MAX: usize = 8;

#[derive(Clone)]
pub struct Downloader {
    client: Client,
    /// The address that file names are appended to.
    mirror: Arc<str>,
    dir: Arc<Path>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot set up HTTPS: {cause}")]
    Client { cause: String },
    #[error("cannot reach {url}: {cause}")]
    Unreachable { url: String, cause: String },
    #[error("cannot download {url}: expected status 200, or 206 from byte {offset}, found {found}")]
    Refused { url: String, offset: u64, found: String },
    #[error("cannot download {url}: cut off after {received} bytes: {cause}")]
    Cut { url: String, received: u64, cause: String },
    #[error("cannot download {url}: expected at most {expected} bytes, found more")]
    TooLong { url: String, expected: u64 },
    #[error("cannot download {url}: expected SHA-256 {expected} of its unpacked bytes, found {found}")]
    Hash { url: String, expected: &'static str, found: String },
    #[error("cannot write {}: {source}", path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

impl Downloader {
    pub fn new(mirror: &str, dir: &Path) -> Result<Self, Error> {
        Self::with_client(client(), mirror, dir)
    }

    fn with_client(client: ClientBuilder, mirror: &str, dir: &Path) -> Result<Self, Error> {
        let client = client.build().map_err(|error| Error::Client { cause: causes(&error) })?;
        Ok(Self { client, mirror: mirror.trim_end_matches('/').into(), dir: dir.into() })
    }

    /// Sees to it that the cache directory holds `original`, and returns its path.
    pub async fn fetch(&self, original: &'static Original, progress: &FetchProgress) -> Result<PathBuf, Error> {
        let target = self.dir.join(original.file_name());
        let url = format!("{}/{}", self.mirror, original.file_name());
        if is_original(original, &target).await {
            return Ok(target);
        }
        let mut part = Part::open(&target).await?;
        // Once more under the part's lock: another process may have been first.
        if is_original(original, &target).await {
            return Ok(target);
        }
        let transfer = Transfer { client: &self.client, url, original, progress };
        transfer.fill(&mut part).await?;
        part.publish(&target).await?;
        Ok(target)
    }
}

fn client() -> ClientBuilder {
    // Refused if a provider is installed already, and then that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(IDLE_TIMEOUT)
}

/// One file on its way into its part.
struct Transfer<'a> {
    client: &'a Client,
    url: String,
    original: &'static Original,
    progress: &'a FetchProgress,
}

impl Transfer<'_> {
    /// Fills the part until its contents are right.
    async fn fill(&self, part: &mut Part) -> Result<(), Error> {
        for _ in 1..CONNECTIONS_MAX {
            let before = part.length();
            match self.attempt(part).await {
                Err(Error::Cut { .. }) if part.length() > before => {}
                // What an earlier attempt left was not this file's beginning: once more, from the start.
                Err(Error::Hash { .. }) if before > 0 => {}
                settled => return settled,
            }
        }
        self.attempt(part).await
    }

    async fn attempt(&self, part: &mut Part) -> Result<(), Error> {
        if let Some(response) = self.request(part).await? {
            self.receive(response, part).await?;
        }
        self.verify(part).await
    }

    /// `None` if the server has nothing after what the part already holds.
    async fn request(&self, part: &mut Part) -> Result<Option<Response>, Error> {
        let offset = part.length();
        let request = match offset {
            0 => self.client.get(&self.url),
            _ => self.client.get(&self.url).header(RANGE, format!("bytes={offset}-")),
        };
        let unreachable = |error| Error::Unreachable { url: self.url.clone(), cause: causes(&error) };
        let response = request.send().await.map_err(|error| unreachable(error.without_url()))?;
        match response.status() {
            StatusCode::OK => part.clear().await?,
            StatusCode::PARTIAL_CONTENT if starts_at(&response, offset) => {}
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => return Ok(None),
            status => {
                return Err(Error::Refused { url: self.url.clone(), offset, found: status.to_string() });
            }
        }
        Ok(Some(response))
    }

    async fn receive(&self, mut response: Response, part: &mut Part) -> Result<(), Error> {
        let total = response.content_length().map(|rest| part.length() + rest);
        loop {
            self.report(part.length(), total);
            let outcome = response.chunk().await.map_err(reqwest::Error::without_url);
            match outcome {
                Ok(Some(chunk)) => part.append(&chunk).await?,
                Ok(None) => return part.flush().await,
                Err(error) => {
                    part.flush().await?;
                    let (url, received) = (self.url.clone(), part.length());
                    return Err(Error::Cut { url, received, cause: causes(&error) });
                }
            }
            // Compressed, it is shorter than what it unpacks to.
            if part.length() > self.original.bytes {
                part.clear().await?;
                return Err(Error::TooLong { url: self.url.clone(), expected: self.original.bytes });
            }
        }
    }

    async fn verify(&self, part: &mut Part) -> Result<(), Error> {
        let expected = self.original.sha256;
        let found = match sha256_of(self.original, part.path()).await {
            Ok(found) => found,
            Err(error) => format!("none ({error})"),
        };
        if found == expected {
            return Ok(());
        }
        part.clear().await?;
        Err(Error::Hash { url: self.url.clone(), expected, found })
    }

    fn report(&self, bytes_done: u64, bytes_total: Option<u64>) {
        self.progress.report(Fetching { item: self.original.file_name(), bytes_done, bytes_total });
    }
}

/// Whether a partial answer begins where we asked it to: `Content-Range: bytes 100-199/200`.
fn starts_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

async fn is_original(original: &'static Original, path: &Path) -> bool {
    sha256_of(original, path).await.is_ok_and(|found| found == original.sha256)
}

async fn sha256_of(original: &'static Original, path: &Path) -> std::io::Result<String> {
    let path = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || original.sha256_of(&path));
    hashing.await.unwrap_or_else(|join| Err(std::io::Error::other(join)))
}

/// An error with all its causes: reqwest's own text says only that the request failed.
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
