//! `[telemetry]`: what this process says about itself on stderr.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::reader::Table;
use super::value::Choice;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// A level, or directives as `tracing_subscriber::EnvFilter` reads them; checked.
    pub log: String,
    pub format: Format,
    /// Each write to the task store is appended here as a line of JSON.
    pub history: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

impl Choice for Format {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("human", Self::Human), ("json", Self::Json)];
}

impl Telemetry {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let allowed =
            "a level (off, error, warn, info, debug, trace), or directives such as \"info,kubeml::http=debug\"";
        Self {
            log: table.key("log").only(allowed, |log: &String| are_directives(log)).get(),
            format: table.key("format").get(),
            history: table.key("history").get(),
        }
    }
}

/// `EnvFilter` takes a lone word for a target, so a mistyped level would turn logging off: here it must be a level.
fn are_directives(log: &str) -> bool {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    log.split(',').all(|part| part.contains('=') || is_level(part.trim())) && EnvFilter::try_new(log).is_ok()
}
