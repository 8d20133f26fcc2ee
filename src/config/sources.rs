//! Everything a configuration is made from, gathered before it is looked at, so that `load` is a pure function.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::entries::collect;
use super::origin::{ENVIRONMENT_PREFIX, Origin};

/// What `load` reads. Within a kind of source the later wins; files < environment < overrides.
#[derive(Clone, Debug)]
pub struct Sources {
    pub files: Vec<SourceFile>,
    /// The whole environment: `KUBEML__*`, and what the default data directory depends on.
    pub environment: Vec<(OsString, OsString)>,
    /// What flags of the command line say.
    pub overrides: Vec<Override>,
    /// Processor cores, for the defaults that depend on them.
    pub cores: usize,
}

/// A configuration file, as it was found.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    /// Its contents, or why they could not be had.
    pub text: Result<String, String>,
}

/// A flag that stands for a key.
#[derive(Clone, Debug)]
pub struct Override {
    pub key: String,
    /// Written as in the environment: lists are comma-separated.
    pub value: String,
    /// As the user typed it: `--threads`.
    pub flag: String,
}

impl Default for Sources {
    /// No file, no environment, one core: the built-in defaults.
    fn default() -> Self {
        Self { files: Vec::new(), environment: Vec::new(), overrides: Vec::new(), cores: 1 }
    }
}

impl Sources {
    /// What this process was started with: its environment, its machine, and the files named by `--config`.
    pub fn from_process(config_files: &[PathBuf]) -> Self {
        let sources = Self {
            environment: std::env::vars_os().collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            ..Self::default()
        };
        config_files.iter().fold(sources, |sources, path| {
            sources.add_file(path, std::fs::read_to_string(path).map_err(|error| error.to_string()))
        })
    }

    /// Adds a file after those already there.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>, text: &str) -> Self {
        self.add_file(path.as_ref(), Ok(text.to_owned()))
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Adds what a flag of the command line says about `key`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString, flag: &str) -> Self {
        self.overrides.push(Override { key: key.to_owned(), value: value.to_string(), flag: flag.to_owned() });
        self
    }

    /// Whether any source has a value for `key`, rather than its default.
    pub fn has(&self, key: &str) -> bool {
        let (entries, _) = collect(self);
        entries.iter().any(|entry| entry.key == key && entry.origin != Origin::Default)
    }

    /// The sources that have something to say, in the order in which they win, for people to read.
    pub fn names(&self) -> Vec<String> {
        let files = self.files.iter().map(|file| file.path.display().to_string());
        let mut variables: Vec<String> =
            self.environment.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        variables.retain(|name| name.starts_with(ENVIRONMENT_PREFIX));
        variables.sort();
        let flags = self.overrides.iter().map(|over| over.flag.clone());
        std::iter::once("defaults".to_owned()).chain(files).chain(variables).chain(flags).collect()
    }

    /// The value of an environment variable that is not a key's, such as `HOME`; `None` when it is empty.
    pub(super) fn surroundings(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    fn add_file(mut self, path: &Path, text: Result<String, String>) -> Self {
        self.files.push(SourceFile { path: path.to_owned(), text });
        self
    }
}
