//! Finds what was written for no key: unknown keys, sections and environment variables.

use std::collections::BTreeSet;

use super::entries::{Entry, Raw};
use super::origin::{Origin, variable_of};
use super::problem::Problem;
use super::settings::Settings;
use super::suggest::{nearest, nearest_key};

/// A problem for each entry that no key was read from. Of an unknown table only the header is named, not what is in it.
/// The tables in `open` have been checked by who reads them.
pub fn unknown_entries(entries: &[Entry], known: &Settings, open: &BTreeSet<String>) -> Vec<Problem> {
    let known = Known { keys: known.iter().map(|setting| setting.key.as_str()).collect(), open };
    let strangers = entries.iter().filter(|entry| known.is_first_stranger(entry));
    strangers.map(|entry| known.problem(entry)).collect()
}

struct Known<'k> {
    keys: Vec<&'k str>,
    open: &'k BTreeSet<String>,
}

impl Known<'_> {
    fn is_key(&self, path: &str) -> bool {
        self.keys.contains(&path)
    }

    fn is_section(&self, path: &str) -> bool {
        self.keys.iter().any(|key| is_below(key, path))
    }

    /// Whether the entry is unknown, and the table around it is not: that one is named then.
    fn is_first_stranger(&self, entry: &Entry) -> bool {
        let is_known = match entry.raw {
            Raw::Section if self.open.contains(&entry.key) => true,
            _ if self.open.iter().any(|table| is_below(&entry.key, table)) => true,
            Raw::Section => self.is_section(&entry.key) || self.is_key(&entry.key),
            Raw::Toml(_) | Raw::TooLarge | Raw::Text(_) => self.is_key(&entry.key),
        };
        let is_among_known = |table: &String| table.is_empty() || self.is_section(table);
        !is_known && entry.within.as_ref().is_none_or(is_among_known)
    }

    fn problem(&self, entry: &Entry) -> Problem {
        let Entry { key, raw, origin, .. } = entry;
        let is_variable = matches!(origin, Origin::Environment { .. });
        let (wrong, help) = if self.is_section(key) {
            ("a section, not a key".to_owned(), format!("its keys are {}", self.keys_of(key)))
        } else if is_variable {
            ("unknown variable".to_owned(), self.did_you_mean(key, variable_of))
        } else if matches!(raw, Raw::Section) {
            ("unknown section".to_owned(), self.which_section(key))
        } else {
            ("unknown key".to_owned(), self.did_you_mean(key, str::to_owned))
        };
        // A variable is its key in another dress: named once.
        let key = if is_variable { String::new() } else { key.clone() };
        Problem { origin: origin.clone(), key, wrong, help }
    }

    fn did_you_mean(&self, key: &str, dress: impl Fn(&str) -> String) -> String {
        match nearest_key(key, self.keys.iter().copied()) {
            Some(near) => format!("did you mean {}?", dress(near)),
            None if self.is_section(parent(key)) => {
                format!("the keys of [{}] are {}", parent(key), self.keys_of(parent(key)))
            }
            None => format!("the sections are {}", self.sections().join(", ")),
        }
    }

    fn which_section(&self, path: &str) -> String {
        let sections = self.sections();
        match nearest(path, sections.iter().map(String::as_str)) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("the sections are {}", sections.join(", ")),
        }
    }

    fn sections(&self) -> Vec<String> {
        let sections: BTreeSet<&str> = self.keys.iter().map(|key| parent(key)).collect();
        sections.into_iter().map(str::to_owned).collect()
    }

    fn keys_of(&self, section: &str) -> String {
        let keys = self.keys.iter().filter(|key| is_below(key, section));
        keys.map(|key| &key[section.len() + 1..]).collect::<Vec<_>>().join(", ")
    }
}

fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}
