//! Takes the sources apart into entries: what was written, for which key, where. Nothing is judged here but syntax.

use std::ffi::OsStr;
use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::origin::{Origin, key_of};
use super::problem::Problem;
use super::sources::{SourceFile, Sources};

/// The built-in defaults: the bottom layer, and the documentation of every key.
pub const EMBEDDED: &str = include_str!("../../config/embedded.toml");

/// Something that was written for a key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Dotted: `http.listen`.
    pub key: String,
    pub raw: Raw,
    pub origin: Origin,
    /// The table of the file around it, "" at the top; variables and flags stand alone.
    pub within: Option<String>,
}

/// What was written, before anybody knows which type it should have.
#[derive(Clone, Debug)]
pub enum Raw {
    /// A table of a TOML file; its contents are entries of their own.
    Section,
    /// A value of a TOML file.
    Toml(toml::Value),
    /// A number of a TOML file that fits into no type.
    TooLarge,
    /// The text of an environment variable or flag.
    Text(String),
}

/// Every entry of every source, the weakest source first, and what could not be read.
pub fn collect(sources: &Sources) -> (Vec<Entry>, Vec<Problem>) {
    let mut collected = Collected::default();
    collected.toml(EMBEDDED, |_| Origin::Default);
    for (nth, file) in sources.files.iter().enumerate() {
        collected.file(nth, file);
    }
    for (variable, value) in &sources.environment {
        collected.variable(variable, value);
    }
    for (nth, flag) in sources.overrides.iter().enumerate() {
        let origin = Origin::Flag { nth, flag: flag.flag.clone() };
        collected.text(flag.key.clone(), &flag.value, origin);
    }
    (collected.entries, collected.problems)
}

#[derive(Default)]
struct Collected {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Collected {
    fn file(&mut self, nth: usize, file: &SourceFile) {
        let path = file.path.display().to_string();
        match &file.text {
            Ok(text) => self.toml(text, |line| Origin::File { nth, line, path: path.clone() }),
            Err(error) => {
                let origin = Origin::File { nth, line: 0, path };
                self.problem(origin, "", format!("cannot read this file: {error}"));
            }
        }
    }

    fn variable(&mut self, variable: &OsStr, value: &OsStr) {
        let variable = variable.to_string_lossy().into_owned();
        let Some(key) = key_of(&variable) else { return };
        let origin = Origin::Environment { variable };
        match value.to_str() {
            Some(text) => self.text(key, text, origin),
            None => self.problem(origin, &key, "the value is not valid UTF-8".to_owned()),
        }
    }

    /// Reads a TOML document; after a syntax error it goes on with what can be understood.
    fn toml(&mut self, text: &str, origin_of: impl Fn(usize) -> Origin) {
        let line_at = |span: Range<usize>| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        let origin_at = |span| origin_of(line_at(span));
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = origin_at(error.span().unwrap_or(0..0));
            self.problem(origin, "", format!("not valid TOML: {}", error.message()));
        }
        self.table("", root.into_inner(), &origin_at);
    }

    fn table(&mut self, path: &str, table: DeTable<'_>, origin_at: &impl Fn(Range<usize>) -> Origin) {
        for (name, value) in table {
            let origin = origin_at(name.span());
            let key = below(path, name.get_ref());
            let (raw, inner) = match value.into_inner() {
                DeValue::Table(inner) => (Raw::Section, inner),
                value => (raw_value(value), DeTable::default()),
            };
            self.entries.push(Entry { key: key.clone(), raw, origin, within: Some(path.to_owned()) });
            self.table(&key, inner, origin_at);
        }
    }

    fn text(&mut self, key: String, text: &str, origin: Origin) {
        self.entries.push(Entry { key, raw: Raw::Text(text.to_owned()), origin, within: None });
    }

    fn problem(&mut self, origin: Origin, key: &str, wrong: String) {
        self.problems.push(Problem { origin, key: key.to_owned(), wrong, help: String::new() });
    }
}

/// The path of `name` in the table at `path`. A name that TOML must quote stays quoted: `"http.listen"` is one name and
/// cannot pass for two.
fn below(path: &str, name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let name = if is_bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn raw_value(value: DeValue<'_>) -> Raw {
    let value = ValueDeserializer::from(Spanned::new(0..0, value));
    // Too large a number is all that TOML's grammar lets through and its data model does not.
    toml::Value::deserialize(value).map_or(Raw::TooLarge, Raw::Toml)
}
